"""The deadline of every answer, also while a database keeps silent: after it the answer says so (503)."""

import asyncio

from aiohttp import web

from service.web.auth import Handler, HttpRefusal, route_of

READING = 15.0
"""Seconds until an answer begins."""
ACTING = 120.0
"""The same for what changes something, and for what decides about many people before it answers."""
_DECIDING = {"/api/admin/forecast", "/api/admin/users/{id}/explain", "/api/admin/preview"}
_AWAITED = {
    "/api/admin/jobs/run",
    "/api/admin/jobs/restart",
    "/api/admin/test-send",
    "/api/admin/users/{id}/data",
    "/console/people/{id}/data",
    "/console/jobs/{type}/{name}/dry-run",
    "/console/mails/{template}/test-send",
}
"""These wait for the end of a run, of the loops or of a mail, each of which has a limit of its own, or read
somebody's data, which may lie in many files."""
_STARTED: web.RequestKey[bool] = web.RequestKey("answer_started", bool)


def seconds_for(method: str, route: str) -> float | None:
    """The deadline of a request; None: its handler has one of its own. Pure."""
    if route in _AWAITED:
        return None
    return READING if method in {"GET", "HEAD"} and route not in _DECIDING else ACTING


async def note_start(request: web.Request, _response: web.StreamResponse) -> None:
    """``app.on_response_prepare``: an answer that has begun takes as long as its reader."""
    request[_STARTED] = True


@web.middleware
async def deadline(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Raise HttpRefusal (503) for an answer that has not begun at its deadline."""
    seconds = seconds_for(request.method, route_of(request))
    if seconds is None:
        return await handler(request)
    answer = asyncio.ensure_future(handler(request))
    try:
        await asyncio.wait({answer}, timeout=seconds)
        if answer.done() or request.get(_STARTED):
            return await answer
    except asyncio.CancelledError:
        answer.cancel()
        await asyncio.gather(answer, return_exceptions=True)
        raise
    # It gives its connection back by itself, for which a silent database may take seconds more.
    answer.cancel()
    answer.add_done_callback(_forget)
    raise HttpRefusal(503, f"No answer within {seconds:.0f} seconds: a database keeps silent; try again soon")


def _forget(answer: "asyncio.Future[web.StreamResponse]") -> None:
    if not answer.cancelled():
        answer.exception()  # mark it as retrieved: the client has got its answer
