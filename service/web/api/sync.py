"""/api/admin/sync: read everything at the dashboard again, or confirm that it lost rows on purpose."""

import asyncpg
from aiohttp import web

from service.dashboard import full_sync, reconciliation
from service.dashboard.profiles.shapes import Collection
from service.errors import AlreadyRunning, BadRequest
from service.web import audit, params
from service.web.auth import HttpRefusal
from service.web.deps import DEPS
from service.web.idempotency import Answer, once

routes = web.RouteTableDef()


@routes.post("/api/admin/sync")
async def sync(request: web.Request) -> web.Response:
    """Ask for it; whichever process synchronises does it, and health shows how far it is."""
    body = await params.read(request, params.SyncBody)
    if body.full == (body.confirm_loss is not None):
        raise BadRequest("Say one of full and confirmLoss")

    async def act(connection: asyncpg.Connection) -> Answer:
        if body.confirm_loss is None:
            tables = await request_full(connection, audit.actor(request), body.reason)
            return 202, {"success": True, "tables": tables}
        rows = await confirm_loss(connection, body.confirm_loss, audit.actor(request), body.reason, body.rows)
        return 202, {"success": True, "tables": [body.confirm_loss], "confirmed": rows}

    answer = await once(request, act)
    request.app[DEPS].wake_sync()
    return answer


async def request_full(connection: asyncpg.Connection, actor: str, reason: str) -> list[str]:
    """Have every row read again, with an audit entry; returns the tables. Raises HttpRefusal."""
    try:
        return await full_sync.request(connection, actor, reason)
    except (AlreadyRunning, BadRequest) as problem:
        raise HttpRefusal(409, str(problem)) from None


async def confirm_loss(
    connection: asyncpg.Connection, table: str, actor: str, reason: str, rows: int | None
) -> int:
    """Accept that rows were deleted, with an audit entry; returns how many. Raises HttpRefusal."""
    try:
        return await reconciliation.confirm_loss(connection, Collection(table), actor, reason, rows)
    except BadRequest as problem:
        raise HttpRefusal(409, str(problem)) from None
