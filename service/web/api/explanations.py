"""/api/admin/users/{id}/explain: why a user did or did not get a message, or will."""

from datetime import datetime

from aiohttp import web

from service.errors import BadRequest
from service.web.deps import DEPS

routes = web.RouteTableDef()


@routes.get("/api/admin/users/{id}/explain")
async def explain(request: web.Request) -> web.Response:
    """What is recorded, the verdict of every rule, and a conclusion in words. ``at``: default now."""
    explainer = request.app[DEPS].explainer
    name = request.query.get("job", "")
    if not name:
        raise BadRequest("job is missing; use one like goalDeadlines")
    explanation = await explainer.explain(name, request.match_info["id"], _instant(request.query.get("at")))
    return web.json_response({"success": True, "data": explanation})


def _instant(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise BadRequest("at is not a time; use 2026-03-10T09:00:00Z") from None
    if at.tzinfo is None:
        raise BadRequest("at has no zone; use 2026-03-10T09:00:00Z")
    return at
