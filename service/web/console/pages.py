"""/console: the operators' pages. Access, sign-in, rendering and error pages.

Everything is served from here. Only pages that refresh themselves have scripts, and they work without them.
Signing in with the admin or the viewer token sets a session cookie (see ``service.web.console.session``);
without tokens the pages answer this machine only, as the API does.
"""

import hmac
import json
import math
import re
import secrets
from datetime import datetime
from functools import cache
from typing import Any, cast
from urllib.parse import urlencode, urlsplit

import structlog
from aiohttp import web
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from service.engine import queries
from service.web import audit, params
from service.web.auth import (
    TOO_MANY_WRONG_TOKENS,
    UNAVAILABLE,
    Handler,
    HttpRefusal,
    failure,
    note_wrong_token,
    role_of,
    tokenless_role,
)
from service.web.console import formatting as words
from service.web.console.session import LIFETIME, OPERATORS, OperatorSession, begin, resume
from service.web.deps import DEPS, ROLE, Role
from service.web.health import HEALTH
from service.web.static import PAGES, style

log = structlog.get_logger()

_SQL = queries.load(__file__)

HOME = "/console"
NAVIGATION = (
    ("/console", "Overview"),
    ("/console/jobs", "Jobs"),
    ("/console/messages", "Messages"),
    ("/console/people", "People"),
    ("/console/suppressions", "Suppressions"),
    ("/console/mails", "Mails"),
    ("/console/analytics", "Analytics"),
    ("/console/system", "System"),
)
"""The sections of the console: path and name."""

SESSION: web.RequestKey[OperatorSession] = web.RequestKey("session", OperatorSession)

_COOKIE = "console"
_SIGN_IN, _SIGN_OUT, _STYLE = "/console/sign-in", "/console/sign-out", "/console/console.css"
_WATCH = "/console/watch.js"
_PUBLIC = {_SIGN_IN, _STYLE, _WATCH}
_BACK = re.compile(r"/console(?:[/?][!-~]*)?")
_LOCAL_FORM_TOKEN = secrets.token_hex(32)
_POLICY = (
    "default-src 'none'; style-src 'self'; img-src data:; frame-src 'self'; form-action 'self';"
    " base-uri 'none'; frame-ancestors 'none'"
)
_SCRIPTED = f"{_POLICY}; script-src 'self'; connect-src 'self'"
HTMX = {
    "allowEval": False,
    "allowScriptTags": False,
    "includeIndicatorStyles": False,
    "historyEnabled": False,
    "selfRequestsOnly": True,
}
"""htmx settings that comply with the pages' Content-Security-Policy."""
_HEADERS = {
    # With no-referrer a browser sends "Origin: null" even to the same origin.
    "Referrer-Policy": "same-origin",
    "X-Robots-Tag": "noindex",
}

routes = web.RouteTableDef()


# ── Access ──────────────────────────────────────────────────────────────────────────────────────────────────


@web.middleware
async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Check the session, refuse forms of other sites, and show every error as a page."""
    if request.path != "/console" and not request.path.startswith("/console/"):
        return await handler(request)
    try:
        if request.path not in _PUBLIC:
            session = _session(request)
            if session is None:
                return _to_sign_in(request)
            request[SESSION], request[ROLE] = session, session.role
            if await _ended(request, session):
                return _to_sign_in(request)
        if request.method not in {"GET", "HEAD"}:
            await _check_form(request)
        return await handler(request)
    except Exception as problem:  # noqa: BLE001 - every exception becomes a page
        status, text = failure(request, problem)
        known = await request.app[HEALTH].get() if status == 503 else None
        response = page(request, "problem.html", status=status, text=text, health=known)
        response.headers.update(problem.headers if isinstance(problem, HttpRefusal) else {})
        return response


def _session(request: web.Request) -> OperatorSession | None:
    deps = request.app[DEPS]
    if not deps.tokens:
        return OperatorSession(tokenless_role(request, deps), _LOCAL_FORM_TOKEN)
    return resume(deps.tokens, request.cookies.get(_COOKIE, ""), deps.clock.now())


async def _ended(request: web.Request, session: OperatorSession) -> bool:
    ended = session.key and await request.app[DEPS].pool.fetchval(_SQL["session_ended"], session.key)
    return bool(ended)


def _to_sign_in(request: web.Request) -> web.Response:
    if "HX-Request" in request.headers:
        return _reload()
    back = request.path_qs if request.method == "GET" else HOME
    return see_other(_SIGN_IN if back == HOME else f"{_SIGN_IN}?{urlencode({'next': back})}")


def _reload() -> web.Response:
    """The answer to a script whose session has ended: reload the page, which leads to the sign-in."""
    return web.Response(status=204, headers={"HX-Refresh": "true"})


async def _check_form(request: web.Request) -> None:
    """Check that a form comes from our own page and from a role that may change things."""
    origin = urlsplit(request.headers.get("Origin", "")).netloc
    own = {request.host, urlsplit(request.app[DEPS].public_url).netloc}
    if not origin or origin not in own or request.headers.get("Sec-Fetch-Site") == "cross-site":
        raise HttpRefusal(403, "This form was not sent from here; behind a proxy, let it pass the Host on")
    session = request.get(SESSION)
    if session is None:
        return
    form_token = (await params.form(request)).get("form_token", "")
    if not hmac.compare_digest(form_token.encode(), session.form_token.encode()):
        raise HttpRefusal(403, "This form is from an earlier session; open its page again")
    if session.role is not Role.ADMIN and request.path != _SIGN_OUT:
        raise HttpRefusal(403, f"The role {session.role} may look, but not act")


# ── Pages ───────────────────────────────────────────────────────────────────────────────────────────────────


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(PAGES / "console"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= words.FILTERS
    return environment


def page(
    request: web.Request,
    template: str,
    *,
    status: int = 200,
    watch: int = 0,
    **context: Any,
) -> web.Response:
    """Render a page of the console; ``template`` extends ``layout.html``.

    ``watch``: the page refreshes itself; without scripts it is reloaded after this many seconds. 0: it does
    not refresh.
    """
    text = render(request, template, watch=watch, **context)
    headers = _HEADERS | {"Content-Security-Policy": _SCRIPTED if watch else _POLICY}
    return web.Response(text=text, status=status, content_type="text/html", headers=headers)


def render(request: web.Request, template: str, **context: Any) -> str:
    """Render a page, or a part of one, as HTML."""
    deps, session = request.app[DEPS], request.get(SESSION)
    common = {
        "session": session,
        "may_act": session is not None and session.role is Role.ADMIN,
        "local": not deps.tokens,
        "navigation": NAVIGATION,
        "path": request.path,
        "zone": deps.service_zone,
        "watch": 0,
        "htmx": json.dumps(HTMX),
    }
    return _environment().get_template(template).render(common | context)


async def health_of(request: web.Request) -> dict[str, Any]:
    """The health check. Raises HttpRefusal (503) if our database does not answer."""
    health = await request.app[HEALTH].get()
    if health["checks"]["database"]["status"] == "error":
        raise HttpRefusal(503, UNAVAILABLE)
    return health


async def fetch(request: web.Request, sql: str, *values: Any) -> list[dict[str, Any]]:
    """The rows of a query as dictionaries."""
    return [dict(row) for row in await request.app[DEPS].pool.fetch(sql, *values)]


async def database_now(request: web.Request) -> datetime:
    """The time of our database, which decides what is due."""
    return cast("datetime", await request.app[DEPS].pool.fetchval(_SQL["now"]))


def see_other(address: str) -> web.Response:
    """Redirect to another page, by GET."""
    return web.Response(status=303, headers={"Location": address})


@routes.get("/")
async def front_door(_request: web.Request) -> web.Response:
    """Redirect / to the console."""
    return see_other(HOME)


@routes.get(_STYLE)
async def stylesheet(_request: web.Request) -> web.Response:
    """The console's stylesheet."""
    return style("console/console.css")


@routes.get(_WATCH)
async def watch_script(_request: web.Request) -> web.Response:
    """The script that shows a notice while the service cannot be reached."""
    return web.Response(
        text=(PAGES / "console/watch.js").read_text("utf-8"),
        content_type="text/javascript",
        headers={"Cache-Control": "public, max-age=3600"},
    )


# ── Signing in and out ──────────────────────────────────────────────────────────────────────────────────────


@routes.get(_SIGN_IN)
async def sign_in_form(request: web.Request) -> web.Response:
    """The sign-in form."""
    back = _next_page(request.query.get("next", ""))
    if not request.app[DEPS].tokens:
        return see_other(back)
    return page(request, "sign_in.html", back=back, refused=False)


@routes.post(_SIGN_IN)
async def sign_in(request: web.Request) -> web.Response:
    """Start a session with the admin or the viewer token."""
    form, deps = await params.form(request), request.app[DEPS]
    token, back = form.get("token", "").strip(), _next_page(form.get("next", ""))
    role = role_of(deps.tokens, token)
    if role not in OPERATORS:
        if wait := note_wrong_token(request, token, "console_sign_in_refused"):
            raise HttpRefusal(429, TOO_MANY_WRONG_TOKENS, {"Retry-After": str(math.ceil(wait))})
        return page(request, "sign_in.html", status=403, back=back, refused=True)
    request[ROLE] = role
    await audit.record(request, "sign_in", remote=request.remote)
    response = see_other(back)
    response.set_cookie(
        _COOKIE,
        begin(token, deps.clock.now(), secrets.token_hex(16)),
        max_age=int(LIFETIME.total_seconds()),
        path="/console",
        httponly=True,
        samesite="Lax",  # a link from a chat or another tool opens the page that it names
        # Judged by what the browser sees: behind a proxy this process is reached without TLS.
        secure=request.headers.get("Origin", "").startswith("https:"),
    )
    log.info("console_sign_in", role=str(role), remote=request.remote)
    return response


@routes.post(_SIGN_OUT)
async def sign_out(request: web.Request) -> web.Response:
    """End the session, for every copy of its cookie, and delete the cookie."""
    session = request[SESSION]
    if session.key:
        async with audit.transaction(request) as connection:
            await connection.execute(_SQL["end_session"], session.key, session.expires)
            await audit.record(request, "sign_out", connection, remote=request.remote)
    response = see_other(_SIGN_IN)
    response.del_cookie(_COOKIE, path="/console", httponly=True, samesite="Lax")
    return response


def _next_page(address: str) -> str:
    """Where to go after signing in: a page of the console only, to prevent open redirects."""
    return address if _BACK.fullmatch(address) and not address.startswith(_SIGN_IN) else HOME
