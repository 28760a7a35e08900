"""/api/admin/preview and /api/admin/test-send: what a job would write, before anybody gets it."""

from dataclasses import asdict

from aiohttp import web

from service.messages.preview import PreviewRequest
from service.web import audit, params
from service.web.deps import DEPS
from service.web.idempotency import Answer, in_steps

routes = web.RouteTableDef()


def _ask(asked: params.PreviewBody) -> PreviewRequest:
    return PreviewRequest(
        asked.job_type, asked.job_name, asked.user_id, asked.at, asked.variant, asked.locale
    )


@routes.post("/api/admin/preview")
async def preview(request: web.Request) -> web.Response:
    """The mail that a job would write to somebody, or a sample of it."""
    asked = await params.read(request, params.PreviewBody)
    found = await request.app[DEPS].previewer.preview(_ask(asked))
    return web.json_response({"success": True, "data": asdict(found)})


@routes.post("/api/admin/test-send")
async def test_send(request: web.Request) -> web.Response:
    """The same, sent once to an address, marked as a test."""
    asked = await params.read(request, params.TestSendBody)
    previewer = request.app[DEPS].previewer

    async def act() -> Answer:
        message_id = await previewer.send_test(_ask(asked), asked.to, audit.who(request))
        return 200, {"success": True, "messageId": message_id}

    return await in_steps(request, act, repeatable=False)
