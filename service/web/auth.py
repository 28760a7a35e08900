"""Authentication and roles, JSON errors, and security headers."""

import hmac
import math
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import structlog
from aiohttp import web

from service.engine.database_errors import PoolExhausted, is_transient
from service.errors import (
    AlreadyRunning,
    ArchiveDamaged,
    BadRequest,
    DashboardBusy,
    MailRefused,
    NothingToSay,
    ReleaseTooOld,
    SchemaUnknown,
    SourceUnavailable,
    UnknownJob,
    UnknownJobType,
    UnknownUser,
)
from service.web.deps import DEPS, ROLE, AdminDeps, Role
from service.web.wrong_tokens import WrongTokens

log = structlog.get_logger()

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_LOOPBACK = {"127.0.0.1", "localhost", "::1"}
_STATUS: dict[type[Exception], int] = {
    BadRequest: 400,
    UnknownJobType: 404,
    UnknownJob: 404,
    UnknownUser: 404,
    AlreadyRunning: 409,
    NothingToSay: 409,
    ArchiveDamaged: 500,
    MailRefused: 502,
    SourceUnavailable: 503,
    DashboardBusy: 503,
    ReleaseTooOld: 503,
    SchemaUnknown: 503,
}
_INVALID_TEXT = (
    asyncpg.exceptions.CharacterNotInRepertoireError,
    asyncpg.exceptions.UntranslatableCharacterError,
)
"""PostgreSQL stores every character except NUL."""
_READ_ONLY_POSTS = {"/api/admin/preview"}
"""POST routes that change nothing; they use POST because the request does not fit into a query string."""
UNAVAILABLE = "The database cannot be reached now; try again soon"
"""What is told while our database is away."""
TOO_MANY_WRONG_TOKENS = "Too many wrong tokens came from this address; try again in a minute"
_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
}


WRONG_TOKENS: web.AppKey[WrongTokens] = web.AppKey("wrong_tokens", WrongTokens)


class HttpRefusal(Exception):
    """A 4xx or 503 response with a message for the caller."""

    def __init__(self, status: int, text: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.headers = headers or {}


def error(status: int, text: str, **fields: Any) -> web.Response:
    """The JSON body of every error."""
    return web.json_response({"success": False, "error": text} | fields, status=status)


@web.middleware
async def headers(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Add the security headers to every response; a page sets its own Content-Security-Policy."""
    response = await handler(request)
    if not response.prepared:
        add_security_headers(response)
    return response


def add_security_headers(response: web.StreamResponse) -> None:
    """Set the headers that are missing; call it before a streamed response is prepared."""
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)


@web.middleware
async def errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn every exception into ``{success: false, error}``."""
    try:
        return await handler(request)
    except Exception as problem:  # noqa: BLE001 - whatever it is, the caller gets an answer
        response = error(*failure(request, problem))
        if isinstance(problem, web.HTTPException) and (allow := problem.headers.get("Allow")):
            response.headers["Allow"] = allow
        if isinstance(problem, HttpRefusal):
            response.headers.update(problem.headers)
        return response


def failure(request: web.Request, problem: Exception) -> tuple[int, str]:
    """The status and message for an exception; details of unexpected ones go to the log only."""
    if answer := _client_failure(request, problem) or _database_failure(request, problem):
        return answer
    if status := next((_STATUS[kind] for kind in type(problem).__mro__ if kind in _STATUS), None):
        return status, str(problem)
    log.error("admin_error", path=route_of(request), exc_info=problem)
    return 500, "Internal error; the log has the details"


def _client_failure(request: web.Request, problem: Exception) -> tuple[int, str] | None:
    match problem:
        case HttpRefusal():
            return problem.status, str(problem)
        case web.HTTPException():
            return problem.status, problem.reason
        case web.RequestPayloadError():
            return 400, "The body cannot be read: it is not what its headers say"
        case ConnectionError() if request.transport is None:
            return 400, "The connection was lost"  # nobody receives it
    return None


def _database_failure(request: web.Request, problem: Exception) -> tuple[int, str] | None:
    if isinstance(problem, _INVALID_TEXT):
        # No id contains NUL, so there is no such resource; elsewhere the input is invalid.
        return (404, "Not Found") if "\0" in request.path else (400, "A text must not hold a NUL character")
    if is_transient(problem):
        log.warning("admin_unavailable", path=route_of(request), error=type(problem).__name__)
        return 503, str(problem) if isinstance(problem, PoolExhausted) else UNAVAILABLE
    return None


def route_of(request: web.Request) -> str:
    """The route's pattern, for logs and metrics: the path itself holds tokens and user ids."""
    resource = request.match_info.route.resource
    return resource.canonical if resource else "unknown"


def role_of(tokens: Mapping[str, str], presented: str) -> Role | None:
    """The role of a bearer token. Compares with every configured token, in constant time."""
    match: Role | None = None
    for token, role in tokens.items():
        if hmac.compare_digest(_bytes(token), _bytes(presented)):
            match = Role(role)
    return match


def _bytes(token: str) -> bytes:
    return token.encode("utf-8", "surrogateescape")


def allowed(role: Role, method: str, path: str) -> bool:
    """Whether a role may send this request. Pure."""
    if role is Role.ADMIN:
        return True
    if role is Role.DASHBOARD:
        return path.startswith("/api/users/")
    if path.startswith("/api/admin/users/") and path.endswith("/data"):
        return False  # a person's whole data is more than a viewer needs
    return path in _READ_ONLY_POSTS or (path.startswith("/api/admin/") and method in {"GET", "HEAD"})


def _protected(path: str) -> bool:
    return path.startswith(("/api/admin/", "/api/users/"))


@web.middleware
async def auth(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Bearer tokens for admin and inbox routes."""
    if not _protected(request.path):
        return await handler(request)
    deps = request.app[DEPS]
    role = tokenless_role(request, deps) if not deps.tokens else _token_role(request, deps)
    if not allowed(role, request.method, request.path):
        raise HttpRefusal(403, f"The role {role} may not do this")
    request[ROLE] = role
    return await handler(request)


def _token_role(request: web.Request, deps: AdminDeps) -> Role:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    role = role_of(deps.tokens, token.strip()) if scheme.lower() == "bearer" else None
    if role is not None:
        return role
    if wait := token and note_wrong_token(request, token, "bearer_token_refused"):
        raise HttpRefusal(429, TOO_MANY_WRONG_TOKENS, {"Retry-After": str(math.ceil(wait))})
    raise HttpRefusal(401, "Missing or unknown bearer token", {"WWW-Authenticate": "Bearer"})


def note_wrong_token(request: web.Request, token: str, event: str) -> float:
    """Note a wrong token; two lines a minute of an address are logged. Returns the seconds to wait.

    A right token is always let in: who guesses must not lock out others behind the same proxy.
    """
    address = request.remote or ""
    wrong = request.app[WRONG_TOKENS].note(address, token, request.app[DEPS].clock.monotonic())
    if wrong.notable:
        log.warning(event, remote=address, too_many=bool(wrong.wait))
    return wrong.wait


def tokenless_role(request: web.Request, deps: AdminDeps) -> Role:
    """The role while no token is configured: admin, from this machine only. Raises HttpRefusal."""
    if not deps.loopback:
        raise HttpRefusal(503, "ADMIN_TOKEN is not configured")
    # Only tools on this machine are let in: no web page, not even one that uses DNS rebinding.
    host = urlsplit(f"//{request.host}").hostname
    origin = request.headers.get("Origin")
    foreign = origin is not None and urlsplit(origin).netloc != request.host
    if host not in _LOOPBACK or foreign or request.headers.get("Sec-Fetch-Site") == "cross-site":
        raise HttpRefusal(403, "Without ADMIN_TOKEN only requests from this machine are answered")
    return Role.ADMIN
