"""/u/{token} and /preferences/{token}: the links at the end of every mail.

GET shows a page and changes nothing, because mail scanners follow links. POST makes the change, needs no
session, may be repeated, and responds alike for an unknown token.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import asyncpg
from aiohttp import web
from babel.core import negotiate_locale
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from service import zones
from service.dashboard.replica import preferences_from_json
from service.engine import queries
from service.messages import choices
from service.messages.eligibility import Overrides, blocked_by_preferences
from service.messages.kind import Channel, MessageKind
from service.messages.mail.words import LANGUAGES, Words, words_for
from service.web import params
from service.web.audit import transaction
from service.web.auth import Handler, failure
from service.web.deps import DEPS
from service.web.recipients.preference_form import (
    TIMES,
    PreferenceForm,
    RecipientSettings,
    Switch,
    choosable,
    read_preferences,
    switch_name,
)
from service.web.static import PAGES, style

_SQL = queries.load(__file__)
_CSP = (
    "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none';"
    " img-src data:"
)

_ONE_CLICK: web.RequestKey[bool] = web.RequestKey("one_click", bool)

routes = web.RouteTableDef()


@web.middleware
async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Say on a page, in the browser's language, that something fails now, as while the database is away.

    A one-click request comes from a mail server, which reads the status: it gets no page.
    """
    if not request.path.startswith(("/u/", "/preferences/")):
        return await handler(request)
    try:
        return await handler(request)
    except Exception as problem:
        status, text = failure(request, problem)
        if status < 500:
            raise
        if request.get(_ONE_CLICK):
            return web.Response(status=status, text=f"{text}\n")
        words, acting = _words_for_browser(request), request.method == "POST"
        return _page(request, words, "unavailable.html", status, again=request.path_qs, acting=acting)


@cache
def _pages(words: Words) -> Environment:
    """The pages in one language."""
    pages = Environment(
        loader=FileSystemLoader(PAGES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        extensions=["jinja2.ext.i18n"],
    )
    pages.install_gettext_translations(words.catalogue, newstyle=True)  # type: ignore[attr-defined]
    pages.globals["w"] = words
    return pages


def effective(
    preferences: Mapping[str, Any], overrides: Overrides, kinds: Iterable[MessageKind]
) -> dict[Switch, bool]:
    """Which switches are on, by the rules of eligibility."""
    stored = preferences_from_json(dict(preferences))
    return {
        (kind.name, channel): blocked_by_preferences(stored, kind, channel, overrides) is None
        for kind in kinds
        for channel in Channel
    }


@routes.get("/pages.css")
async def stylesheet(_request: web.Request) -> web.Response:
    """The stylesheet of these pages."""
    return style("pages.css")


# ── Unsubscribing ───────────────────────────────────────────────────────────────────────────────────────────


@routes.get("/u/{token}")
async def confirm_unsubscribe(request: web.Request) -> web.Response:
    """Ask for confirmation. The page does not depend on the token, which is not looked up."""
    everything = request.query.get("all") == "1"
    return _page(request, _words_for_browser(request), "unsubscribe.html", everything=everything)


@routes.post("/u/{token}")
async def unsubscribe(request: web.Request) -> web.Response:
    """Stop this kind of mail (also RFC 8058's ``List-Unsubscribe=One-Click``), or all with ``scope=all``."""
    form = await params.form(request)
    request[_ONE_CLICK] = form.get("List-Unsubscribe") == "One-Click"
    everything = form.get("scope") == "all"
    holder = await _holder(request)
    if holder is not None:
        kinds = [*request.app[DEPS].kinds, "*"] if everything else [holder["kind"]]
        async with transaction(request) as connection:
            await choices.unsubscribe(connection, holder["user_id"], kinds)
    return _page(request, _words_for_browser(request), "stopped.html", everything=everything)


# ── Preferences ─────────────────────────────────────────────────────────────────────────────────────────────


@routes.get("/preferences/{token}")
async def show_preferences(request: web.Request) -> web.Response:
    """The current preferences; for an unknown token those of a new user."""
    holder = await _holder(request)
    switches = await _switches(request, holder)
    return _preferences(request, holder, PreferenceForm(switches, await _settings(request, holder)))


@routes.post("/preferences/{token}")
async def save_preferences(request: web.Request) -> web.Response:
    """Store only what has changed, so that everything else still follows the dashboard.

    An invalid value, such as an unknown zone, stores nothing and shows the page again, with the typed value.
    """
    deps, holder = request.app[DEPS], await _holder(request)
    before, switches = await _settings(request, holder), await _switches(request, holder)
    submitted = read_preferences(await params.form(request), before, deps.kinds.values(), deps.hours)
    form = replace(submitted, switches={**switches, **submitted.switches})
    if form.problems:
        return _preferences(request, holder, form)
    if holder is not None:
        changed = {
            (kind, str(channel)): enabled
            for (kind, channel), enabled in submitted.switches.items()
            if enabled != switches[kind, channel]
        }
        settings = form.settings if form.settings != before else None
        await _store(request, holder["user_id"], changed, settings)
    return _preferences(request, holder, form, saved=True)


async def _holder(request: web.Request) -> asyncpg.Record | None:
    token = request.match_info["token"]
    if not token.isascii() or not token.isprintable():
        return None
    return await request.app[DEPS].pool.fetchrow(_SQL["holder"], token)


async def _switches(request: web.Request, holder: asyncpg.Record | None) -> dict[Switch, bool]:
    kinds = request.app[DEPS].kinds.values()
    if holder is None:
        return effective({}, {}, kinds)
    rows = await request.app[DEPS].pool.fetch(_SQL["overrides"], holder["user_id"])
    overrides = {(row["kind"], row["channel"]): row["enabled"] for row in rows}
    return effective(holder["preferences"], overrides, kinds)


async def _settings(request: web.Request, holder: asyncpg.Record | None) -> RecipientSettings:
    if holder is None:
        return RecipientSettings(now=await request.app[DEPS].pool.fetchval(_SQL["now"]))
    names = ("locale", "quiet_start", "quiet_end", "paused_until")
    return RecipientSettings(
        **{name: holder[name] for name in names},
        timezone=zones.canonical_name(holder["timezone"]),
        dashboard_timezone=holder["dashboard_timezone"],
        dashboard_locale=holder["dashboard_locale"],
        hours=choosable(holder["hours"], request.app[DEPS].hours),
        now=holder["now"],
    )


async def _store(
    request: web.Request,
    user_id: str,
    changed: choices.Choices,
    settings: RecipientSettings | None = None,
) -> None:
    """Store the changes with one entry in the audit log; without changes there is no entry."""
    async with transaction(request) as connection:
        details: dict[str, Any] = {}
        if changed:
            details = await choices.store(connection, "preferences", user_id, changed)
        if settings:
            await _store_settings(connection, user_id, settings)
            details["settings"] = settings.described()
        await choices.record(connection, "preferences", user_id, details)


async def _store_settings(connection: asyncpg.Connection, user_id: str, settings: RecipientSettings) -> None:
    quiet = (settings.quiet_start, settings.quiet_end)
    arguments = (settings.timezone, settings.locale, *quiet, dict(settings.hours), settings.paused_until)
    await connection.execute(_SQL["store_settings"], user_id, *arguments)


def _preferences(
    request: web.Request,
    holder: asyncpg.Record | None,
    form: PreferenceForm,
    *,
    saved: bool = False,
) -> web.Response:
    kinds, offered = request.app[DEPS].kinds, request.app[DEPS].hours
    arguments = form.settings.locale or form.settings.dashboard_locale
    words = words_for(arguments) if holder else _words_for_browser(request)
    return _page(
        request,
        words,
        "preferences.html",
        kinds=kinds.values(),
        shown=" ".join(switch_name(kind, channel) for kind in kinds for channel in Channel),
        form=form,
        saved=saved,
        hours={name: sorted(offered[name]) for name, kind in kinds.items() if kind.postponable},
        times=TIMES,
        zones=zones.places(),
        languages={tag: words_for(tag).locale.get_display_name() for tag in LANGUAGES},
    )


def _words_for_browser(request: web.Request) -> Words:
    """The language of the browser: it does not depend on the token."""
    accepted_languages = request.headers.get("Accept-Language", "").split(",")
    tags = [piece.partition(";")[0].strip() for piece in accepted_languages]
    return words_for(negotiate_locale(tags, list(LANGUAGES), sep="-") or "en")


def _page(request: web.Request, words: Words, template: str, status: int = 200, **facts: Any) -> web.Response:
    token = request.match_info["token"]
    text = (
        _pages(words)
        .get_template(template)
        .render(token=token, frontend_url=request.app[DEPS].frontend_url, **facts)
    )
    headers = {"Content-Security-Policy": _CSP, "X-Robots-Tag": "noindex"}
    return web.Response(status=status, text=text, content_type="text/html", headers=headers)
