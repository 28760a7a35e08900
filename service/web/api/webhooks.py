"""/webhooks/{provider}: what a provider of mail reports. The provider proves who it is; there is no token."""

from aiohttp import web

from service.messages.mail.providers.provider_event import EventKind, WebhookRefusal
from service.web import audit, params
from service.web.auth import HttpRefusal
from service.web.deps import DEPS

MAX_BYTES = 512 * 1024
_WORTH_AN_ENTRY = frozenset({EventKind.FAILED, EventKind.COMPLAINT})
"""That mail arrived is told of each."""

routes = web.RouteTableDef()


@routes.post("/webhooks/{provider}")
async def receive(request: web.Request) -> web.Response:
    """Process a webhook; repeating it changes nothing. News of failures is in the audit log."""
    webhooks, name = request.app[DEPS].webhooks, request.match_info["provider"]
    provider = webhooks.providers.get(name) if webhooks else None
    if webhooks is None or provider is None:
        raise HttpRefusal(404, "There is no such webhook, or its provider is not configured")
    body = await params.read_bytes(request, MAX_BYTES)
    try:
        events = await provider.events(request.headers, body)
    except WebhookRefusal as refusal:
        raise HttpRefusal(refusal.status, str(refusal)) from None
    results = []
    async with audit.transaction(request) as connection:
        for event in events:
            result = await webhooks.intake.process(event, connection)
            results.append(
                {
                    "kind": result.kind,
                    "about": result.about,
                    "deliveryId": result.delivery,
                    "news": result.news,
                }
            )
            if result.news and event.kind in _WORTH_AN_ENTRY:
                details = {"kind": result.kind, "about": result.about, "delivery": result.delivery}
                await audit.record_as(connection, name, "bounce", **details)
    return web.json_response({"success": True, "events": results})
