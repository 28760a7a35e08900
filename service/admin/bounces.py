"""Where a mail server hands over what came back: one report per request."""

from aiohttp import web

from service.admin.access import Refused
from service.admin.deps import DEPS

MOST_BYTES = 1 << 20
_TYPES = {"message/rfc822", "message/delivery-status", "multipart/report"}

routes = web.RouteTableDef()


@routes.post("/api/admin/bounces")
async def take(request: web.Request) -> web.Response:
    """Take in a bounce or a complaint; ``recipient`` is the envelope's. Repeating it changes nothing."""
    intake = request.app[DEPS].bounces
    if intake is None:
        raise Refused(503, "BOUNCE_ADDRESS is not configured")
    if request.content_type not in _TYPES:
        raise Refused(415, "Send the mail as it arrived, with Content-Type: message/rfc822")
    raw = await _whole(request)
    if not raw:
        raise Refused(400, "The body is empty; send the mail as it arrived")
    taken = await intake.take(raw, request.query.get("recipient"))
    return web.json_response(
        {"success": True, "kind": taken.kind, "deliveryId": taken.delivery, "news": taken.news}
    )


async def _whole(request: web.Request) -> bytes:
    raw = bytearray()
    async for piece in request.content.iter_chunked(1 << 16):
        raw += piece
        if len(raw) > MOST_BYTES:
            raise Refused(413, f"A report has at most {MOST_BYTES} bytes")
    return bytes(raw)
