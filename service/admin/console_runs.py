"""/console/runs/{id}: how far a run has come, what it decided, and stopping it."""

from collections.abc import Mapping
from typing import Any

from aiohttp import web

from service.admin import audit, body
from service.admin.access import Refused
from service.admin.console import fetch, page, rendered, see_other
from service.admin.deps import DEPS, AdminDeps
from service.admin.events import follow
from service.admin.run_view import ACTIVE, progress
from service.domain.zones import used_groups
from service.store import queries

_SQL = queries.load(__file__)
_WATCH = 5
_PEOPLE = 50

routes = web.RouteTableDef()


@routes.get("/console/runs/{id}")
async def run(request: web.Request) -> web.Response:
    """One run. While it lasts the page watches it."""
    told = await _told(request)
    return page(request, "run.html", watch=_WATCH if told["active"] else 0, here="/console/jobs/", **told)


@routes.get("/console/runs/{id}/events")
async def events(request: web.Request) -> web.StreamResponse:
    """The run to its end, as server-sent events: each brings what the page tells of it."""

    async def html(_found: Mapping[str, Any]) -> str:
        return rendered(request, "run_told.html", **await _told(request))

    return await follow(request, body.path_id(request), html)


async def _told(request: web.Request) -> dict[str, Any]:
    deps, run_id = request.app[DEPS], body.path_id(request)
    rows = await fetch(request, _SQL["run"], run_id)
    if not rows:
        raise Refused(404, "There is no run of this number; runs are kept for 400 days at least")
    row = rows[0]
    reason = request.query.get("reason", "")[:100]
    found = await deps.manager.run(run_id) or {"reasons": {}, "deliveries": {}}
    people = await fetch(request, _SQL["people"], run_id, reason, _PEOPLE) if reason else []
    job_type, _, name = row["job"].partition(".")
    return {
        "run": row,
        "job": {"type": job_type, "name": name},
        "now": row["now"],
        "active": row["state"] in ACTIVE,
        "progress": progress(row, await _expected(deps, row), row["now"]),
        "reasons": found["reasons"],
        "messages": found["deliveries"],
        "attempts": await fetch(request, _SQL["attempts"], run_id),
        "reason": reason,
        "people": people,
    }


async def _expected(deps: AdminDeps, row: Mapping[str, Any]) -> int | None:
    """How many will be looked at, about: of a reminder all people of its zones, else as many as last time."""
    if row["total"] is not None:
        return int(row["total"])
    if row["options"].get("userId"):
        return 1
    if row["job"].startswith("reminder."):
        groups = None if row["zones"] is None else used_groups(row["zones"])
        zones = None if groups is None else [group.partition("@")[0] for group in groups]
        return int(await deps.pool.fetchval(_SQL["population"], zones))
    return row["usual"]  # type: ignore[no-any-return]


@routes.post("/console/runs/{id}/cancel")
async def cancel(request: web.Request) -> web.Response:
    """Ask it to stop: what it has planned stays, the rest is left."""
    run_id = body.path_id(request)
    async with audit.acting(request) as connection:
        if not await request.app[DEPS].manager.cancel(run_id, connection):
            raise Refused(409, "The run has ended already; there is nothing to cancel")
        await audit.remark(request, "cancel-run", connection, run=run_id)
    return see_other(f"/console/runs/{run_id}")
