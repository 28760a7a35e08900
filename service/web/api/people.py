"""/api/admin/users/{id}/data: export and erasure of one person's data."""

import asyncpg
from aiohttp import web

from service.web import audit
from service.web.deps import DEPS
from service.web.idempotency import Answer, once

routes = web.RouteTableDef()


@routes.get("/api/admin/users/{id}/data")
async def export(request: web.Request) -> web.Response:
    """Export everything that is stored about a person, by table."""
    data = await request.app[DEPS].people.export(request.match_info["id"])
    await audit.record(request, "export", userId=request.match_info["id"])
    return web.json_response({"success": True, "data": data})


@routes.delete("/api/admin/users/{id}/data")
async def erase(request: web.Request) -> web.Response:
    """Erase a person's data for good.

    If the process dies before the archive is cleared, a retry is answered with ``archivePending``: the
    archive is cleared later.
    """
    people, user_id = request.app[DEPS].people, request.match_info["id"]

    async def act(connection: asyncpg.Connection) -> Answer:
        deleted = await people.forget(connection, user_id, audit.actor(request))
        return 200, {"success": True, "data": {"deleted": deleted, "archivePending": True}}

    async def clear_archive(answer: Answer) -> Answer:
        pending = await people.clear_archive(user_id)
        return answer[0], {"success": True, "data": answer[1]["data"] | {"archivePending": pending}}

    return await once(request, act, after_commit=clear_archive)
