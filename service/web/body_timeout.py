"""Timeouts for receiving a request: its head and its body."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog
from aiohttp import web

log = structlog.get_logger()

HEAD = 75.0
"""Seconds to receive a request's head, and to keep an idle connection: longer than proxies keep theirs."""
BODY = 30.0
"""Seconds to receive the whole body."""


@web.middleware
async def body_timeout(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Drop a client that sends its body too slowly: it could hold a connection for ever."""
    if request.content.is_eof():
        return await handler(request)
    timer = asyncio.get_running_loop().call_later(BODY, _hang_up, request)
    request.content.on_eof(timer.cancel)
    try:
        return await handler(request)
    finally:
        timer.cancel()


def _hang_up(request: web.Request) -> None:
    log.info("slow_client", method=request.method)
    if request.transport:
        request.transport.abort()
