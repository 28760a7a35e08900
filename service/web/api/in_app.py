"""/api/users/{id}/notifications: the in-app inbox, for dashboards that have none."""

from typing import Any

import asyncpg
from aiohttp import web

from service.engine import queries
from service.web import audit, params
from service.web.deps import DEPS
from service.web.idempotency import Answer, once

_SQL = queries.load(__file__)

routes = web.RouteTableDef()


@routes.get("/api/users/{id}/notifications")
async def inbox(request: web.Request) -> web.Response:
    """A user's notifications that are visible now."""
    pool, user, size = request.app[DEPS].pool, request.match_info["id"], params.limit(request)
    unread_only = params.one_of(request, "unread", frozenset({"true", "false"})) == "true"
    rows = await pool.fetch(_SQL["inbox"], user, unread_only, params.before(request), size)
    answer = {
        "success": True,
        "data": [_notification(row) for row in rows],
        "unread": await pool.fetchval(_SQL["unread"], user),
        "next": params.next_before(rows, size),
    }
    return web.json_response(answer)


@routes.post("/api/users/{id}/notifications/read")
async def mark_read(request: web.Request) -> web.Response:
    """Mark some or all notifications as read; repeating it changes nothing."""
    body, user = await params.read(request, params.ReadBody), request.match_info["id"]

    async def act(connection: asyncpg.Connection) -> Answer:
        changed = await connection.fetchval(_SQL["mark_read"], user, body.ids)
        if changed:
            await audit.record(request, "read", connection, userId=user, notifications=changed)
        unread = await connection.fetchval(_SQL["unread"], user)
        return 200, {"success": True, "changed": changed, "unread": unread}

    return await once(request, act)


def _notification(row: asyncpg.Record) -> dict[str, Any]:
    names = ("id", "type", "title", "message", "data", "priority", "action")
    return {name: row[name] for name in names} | params.times(row, "visible_from", "expires_at", "read_at")
