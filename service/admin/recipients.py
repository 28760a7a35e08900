"""/u/{token} and /preferences/{token}: the links at the end of every mail.

GET shows a page and changes nothing, because mail scanners follow links. POST acts, needs no session, may be
repeated, and answers the same for a token that nobody has.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
from aiohttp import web
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from service.admin.deps import DEPS
from service.domain.dashboard import Kind
from service.store import queries

_SQL = queries.load(__file__)
_PAGES = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "pages"), autoescape=True, undefined=StrictUndefined
)
_CSP = (
    "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none';"
    " img-src data:"
)
_REMINDERS = {Kind.DEADLINES, Kind.DAILY, Kind.INACTIVE, Kind.BREAKS}


@dataclass(frozen=True)
class Choice:
    """One line of the preference page."""

    kind: str
    title: str
    hint: str
    on: bool


_WORDS = {
    Kind.DEADLINES: (
        "Deadline reminders",
        "When a goal is due in a week, tomorrow or today, or has passed its date",
    ),
    Kind.DAILY: ("Daily check-in", "In the evening, when a streak is about to end"),
    Kind.WEEKLY: ("Weekly review", "Your week on one page, on Sunday"),
    Kind.INACTIVE: ("Reminders after a pause", "A few, when you have not been here for days"),
    Kind.BREAKS: ("Break reminders", "During long focus sessions"),
    Kind.MONTHLY: ("Monthly report", "The month before, on the first"),
}

routes = web.RouteTableDef()


def effective(preferences: Mapping[str, Any], overrides: Mapping[tuple[str, str], bool]) -> dict[Kind, bool]:
    """Which kinds of mail somebody gets: own decisions first (most specific wins), then the dashboard's."""
    return {kind: _one(kind, preferences, overrides) for kind in Kind}


def _one(kind: Kind, preferences: Mapping[str, Any], overrides: Mapping[tuple[str, str], bool]) -> bool:
    for key in ((str(kind), "email"), (str(kind), "*"), ("*", "email"), ("*", "*")):
        if key in overrides:
            return overrides[key]
    if preferences.get("email") is False:
        return False
    if preferences.get("reminders") is False and kind in _REMINDERS:
        return False
    own = preferences.get("kinds", {}).get(str(kind))
    return own is True if kind is Kind.BREAKS else own is not False


@routes.get("/pages.css")
async def stylesheet(_request: web.Request) -> web.Response:
    """The look of these pages, the same for everybody."""
    text = (Path(__file__).parent / "pages" / "pages.css").read_text("utf-8")
    return web.Response(text=text, content_type="text/css", headers={"Cache-Control": "public, max-age=3600"})


@routes.get("/u/{token}")
async def ask(request: web.Request) -> web.Response:
    """Ask once more. Tells nothing that the token would have to be looked up for."""
    return _page(request, "unsubscribe.html", everything=request.query.get("all") == "1")


@routes.post("/u/{token}")
async def unsubscribe(request: web.Request) -> web.Response:
    """Stop this kind of mail (also RFC 8058's ``List-Unsubscribe=One-Click``), or all with ``scope=all``."""
    form = await request.post()
    everything = form.get("scope") == "all"
    holder = await _holder(request)
    if holder is not None:
        kinds = [*map(str, Kind), "*"] if everything else [holder["kind"]]
        await _store(request, holder["user_id"], dict.fromkeys(kinds, False), "unsubscribe")
    return _page(request, "stopped.html", everything=everything)


@routes.get("/preferences/{token}")
async def show(request: web.Request) -> web.Response:
    """The switches as they stand; for an unknown token as they stand for somebody new."""
    holder = await _holder(request)
    return _preferences(request, await _state(request, holder), saved=False)


@routes.post("/preferences/{token}")
async def change(request: web.Request) -> web.Response:
    """Store what differs from before, so that untouched switches still follow the dashboard."""
    form = await request.post()
    wanted = {kind: form.get(str(kind)) == "on" for kind in Kind}
    holder = await _holder(request)
    if holder is not None:
        now = await _state(request, holder)
        changed = {str(kind): on for kind, on in wanted.items() if on != now[kind]}
        await _store(request, holder["user_id"], changed, "preferences")
    return _preferences(request, wanted, saved=True)


async def _holder(request: web.Request) -> asyncpg.Record | None:
    token = request.match_info["token"]
    if not token.isascii() or not token.isprintable():
        return None
    return await request.app[DEPS].pool.fetchrow(_SQL["holder"], token)


async def _state(request: web.Request, holder: asyncpg.Record | None) -> dict[Kind, bool]:
    if holder is None:
        return effective({}, {})
    rows = await request.app[DEPS].pool.fetch(_SQL["overrides"], holder["user_id"])
    overrides = {(row["kind"], row["channel"]): row["enabled"] for row in rows}
    return effective(holder["preferences"], overrides)


async def _store(request: web.Request, user_id: str, decided: Mapping[str, bool], act: str) -> None:
    if not decided:
        return
    async with request.app[DEPS].pool.acquire() as connection, connection.transaction():
        tag = await connection.execute(_SQL["store"], user_id, list(decided), list(decided.values()), act)
        if not tag.endswith(" 0"):
            await connection.execute(_SQL["remark"], act, {"user": user_id, "decided": dict(decided)})


def _preferences(request: web.Request, state: Mapping[Kind, bool], *, saved: bool) -> web.Response:
    choices = [Choice(str(kind), *_WORDS[kind], on=state[kind]) for kind in Kind]
    return _page(request, "preferences.html", choices=choices, saved=saved)


def _page(request: web.Request, template: str, **facts: Any) -> web.Response:
    token = request.match_info["token"]
    text = _PAGES.get_template(template).render(
        token=token, frontend_url=request.app[DEPS].frontend_url, **facts
    )
    headers = {"Content-Security-Policy": _CSP, "X-Robots-Tag": "noindex"}
    return web.Response(text=text, content_type="text/html", headers=headers)
