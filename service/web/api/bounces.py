"""Where a mail server hands over what came back: one report per request."""

import asyncpg
from aiohttp import web

from service.web import audit
from service.web.auth import HttpRefusal
from service.web.deps import DEPS
from service.web.idempotency import Answer, once

MOST_BYTES = 1 << 20
_TYPES = {"message/rfc822", "message/delivery-status", "multipart/report"}

routes = web.RouteTableDef()


@routes.post("/api/admin/bounces")
async def take(request: web.Request) -> web.Response:
    """Take in a bounce or a complaint; ``recipient`` is the envelope's. Repeating it changes nothing.

    Only what was news is in the audit log.
    """
    intake = request.app[DEPS].bounces
    if intake is None:
        raise HttpRefusal(503, "BOUNCE_ADDRESS is not configured")
    if request.content_type not in _TYPES:
        raise HttpRefusal(415, "Send the mail as it arrived, with Content-Type: message/rfc822")
    raw = await _whole(request)
    if not raw:
        raise HttpRefusal(400, "The body is empty; send the mail as it arrived")

    async def act(connection: asyncpg.Connection) -> Answer:
        taken = await intake.take(raw, request.query.get("recipient"), connection)
        if taken.news:
            what = {"kind": taken.kind, "delivery": taken.delivery}
            await audit.remark(request, "bounce", connection, **what)
        told = {"kind": taken.kind, "deliveryId": taken.delivery, "news": taken.news}
        return 200, {"success": True, **told}

    return await once(request, act, content=raw)


async def _whole(request: web.Request) -> bytes:
    raw = bytearray()
    async for piece in request.content.iter_chunked(1 << 16):
        raw += piece
        if len(raw) > MOST_BYTES:
            raise HttpRefusal(413, f"A report has at most {MOST_BYTES} bytes")
    return bytes(raw)
