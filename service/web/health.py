"""The health check of the process, shared by requests: each look asks the database a dozen questions."""

from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from service.engine.single_flight import SingleFlight
from service.web.deps import AdminDeps

_TTL = 1.0
_DEADLINE = 10.0
"""Seconds; the check itself ends sooner."""
HEALTH: web.AppKey[SingleFlight[dict[str, Any]]] = web.AppKey("health", SingleFlight)


def shared_check(deps: AdminDeps) -> SingleFlight[dict[str, Any]]:
    """One look for all requests that come while it lasts, or within a second after."""
    return SingleFlight(deps.manager.health_check, deadline=_DEADLINE, ttl=_TTL)


@web.middleware
async def look_again(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """What a request may have changed, the next one sees."""
    try:
        return await handler(request)
    finally:
        if request.method not in {"GET", "HEAD"}:
            request.app[HEALTH].forget()
