"""/api/admin/preview and /api/admin/test-send: a job's mail before anybody gets it."""

from dataclasses import asdict

from aiohttp import web

from service.messages.preview import PreviewRequest
from service.web import audit, params
from service.web.deps import DEPS
from service.web.idempotency import Answer, once_with_lease

routes = web.RouteTableDef()


def _preview_request(body: params.PreviewBody) -> PreviewRequest:
    return PreviewRequest(body.job_type, body.job_name, body.user_id, body.at, body.variant, body.locale)


@routes.post("/api/admin/preview")
async def preview(request: web.Request) -> web.Response:
    """The mail that a job would send to a user, or a sample of it."""
    body = await params.read(request, params.PreviewBody)
    mail = await request.app[DEPS].previewer.preview(_preview_request(body))
    return web.json_response({"success": True, "data": asdict(mail)})


@routes.post("/api/admin/test-send")
async def test_send(request: web.Request) -> web.Response:
    """Send that mail once to an address, marked as a test."""
    body = await params.read(request, params.TestSendBody)
    previewer = request.app[DEPS].previewer

    async def act() -> Answer:
        message_id = await previewer.send_test(_preview_request(body), body.to, audit.actor(request))
        return 200, {"success": True, "messageId": message_id}

    return await once_with_lease(request, act, repeatable=False)
