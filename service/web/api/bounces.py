"""/api/admin/bounces: what came to the bounce address, from a mail server; one mail per request."""

import asyncpg
from aiohttp import web

from service.engine import queries
from service.messages.mail.bounce_intake import UNSUBSCRIBE
from service.web import audit, params
from service.web.auth import HttpRefusal
from service.web.deps import DEPS
from service.web.idempotency import Answer, once

MAX_BYTES = 1 << 20
_TYPES = {"message/rfc822", "message/delivery-status", "multipart/report"}

_SQL = queries.load(__file__)

routes = web.RouteTableDef()


@routes.get("/api/admin/bounces")
async def counts(request: web.Request) -> web.Response:
    """How many mails came back or were complained about in the last days, by kind, domain and reason."""
    params.check_parameters(request, frozenset({"days"}))
    days = params.number(request, "days", 30, minimum=1, maximum=400) or 30
    rows = await request.app[DEPS].pool.fetch(_SQL["counts"], days)
    data = [
        {
            "kind": row["kind"],
            "domain": row["domain"],
            "state": row["state"],
            "reason": row["reason"],
            "messages": row["n"],
        }
        for row in rows
    ]
    return web.json_response({"success": True, "data": data})


@routes.post("/api/admin/bounces")
async def take(request: web.Request) -> web.Response:
    """Process a bounce, a complaint, or a mail that unsubscribes; ``recipient`` is the envelope's.

    Repeating it changes nothing. The audit log has an entry for what is new only; one who unsubscribes is its
    own actor.
    """
    intake = request.app[DEPS].bounces
    if intake is None:
        raise HttpRefusal(503, "BOUNCE_ADDRESS is not configured")
    if request.content_type not in _TYPES:
        raise HttpRefusal(415, "Send the mail as it arrived, with Content-Type: message/rfc822")
    raw = await params.read_bytes(request, MAX_BYTES)
    if not raw:
        raise HttpRefusal(400, "The body is empty; send the mail as it arrived")

    async def act(connection: asyncpg.Connection) -> Answer:
        report = await intake.process(raw, request.query.get("recipient"), connection)
        if report.news and report.kind != UNSUBSCRIBE:
            details = {"kind": report.kind, "about": report.about, "delivery": report.delivery}
            await audit.record(request, "bounce", connection, **details)
        fields = {
            "kind": report.kind,
            "about": report.about,
            "deliveryId": report.delivery,
            "matchedBy": report.matched_by,
            "news": report.news,
        }
        return 200, {"success": True, **fields}

    return await once(request, act, content=raw)
