"""/console/runs/{id}: a run's progress and results; cancel it, or retry or waive a failed one."""

from collections.abc import Mapping
from typing import Any

from aiohttp import web

from service.engine import queries
from service.web import audit, params
from service.web.api.run_events import follow
from service.web.auth import HttpRefusal
from service.web.console.pages import fetch, page, render, see_other
from service.web.console.runs.progress import ACTIVE, progress
from service.web.deps import DEPS, AdminDeps
from service.zones import current_groups

_SQL = queries.load(__file__)
_REFRESH_WITHOUT_SCRIPT = 5
_MAX_PEOPLE = 50
_MAX_REASON = 500
_UNKNOWN = "There is no run of this number; runs are kept for 400 days at least"

routes = web.RouteTableDef()


@routes.get("/console/runs/{id}")
async def run(request: web.Request) -> web.Response:
    """One run. The page updates itself until the run ends."""
    content = await _run_content(request)
    return page(
        request,
        "run.html",
        watch=_REFRESH_WITHOUT_SCRIPT if content["active"] else 0,
        path="/console/jobs/",
        **content,
    )


@routes.get("/console/runs/{id}/events")
async def events(request: web.Request) -> web.StreamResponse:
    """Server-sent events until the run ends; each has the updated part of the page."""

    async def html(_run: Mapping[str, Any]) -> str:
        return render(request, "run_content.html", **await _run_content(request))

    return await follow(request, params.path_id(request), html)


async def _run_content(request: web.Request) -> dict[str, Any]:
    deps, run_id = request.app[DEPS], params.path_id(request)
    rows = await fetch(request, _SQL["run"], run_id)
    if not rows:
        raise HttpRefusal(404, _UNKNOWN)
    row = rows[0]
    reason = request.query.get("reason", "")[:100]
    details = await deps.manager.run(run_id) or {"reasons": {}, "deliveries": {}}
    people = await fetch(request, _SQL["people"], run_id, reason, _MAX_PEOPLE) if reason else []
    job_type, _, name = row["job"].partition(".")
    return {
        "run": row,
        "job": {"type": job_type, "name": name},
        "now": row["now"],
        "active": row["state"] in ACTIVE,
        "progress": progress(row, await _expected(deps, row), row["now"]),
        "reasons": details["reasons"],
        "messages": details["deliveries"],
        "attempts": await fetch(request, _SQL["attempts"], run_id),
        "reason": reason,
        "people": people,
        "unsettled": row["unsettled_since"] is not None and row["state"] not in ACTIVE,
        "too_late": _too_late(row),
    }


def _too_late(row: Mapping[str, Any]) -> bool:
    """Whether a reminder's deadline has passed, so that its messages would be stale."""
    late = row["deadline_at"] is not None and row["deadline_at"] < row["now"]
    return late and row["job"].startswith("reminder.")


async def _expected(deps: AdminDeps, row: Mapping[str, Any]) -> int | None:
    """An estimate of the total: for a reminder all people of its zones, else as many as last time."""
    if row["total"] is not None:
        return int(row["total"])
    if row["options"].get("userId"):
        return 1
    if row["job"].startswith("reminder."):
        groups = None if row["zones"] is None else current_groups(row["zones"])
        zones = None if groups is None else [group.partition("@")[0] for group in groups]
        return int(await deps.pool.fetchval(_SQL["population"], zones))
    return row["usual"]  # type: ignore[no-any-return]


@routes.post("/console/runs/{id}/cancel")
async def cancel(request: web.Request) -> web.Response:
    """Cancel a run: what it has planned stays, the rest is not done."""
    run_id = params.path_id(request)
    async with audit.transaction(request) as connection:
        if not await request.app[DEPS].manager.cancel(run_id, connection):
            raise HttpRefusal(409, "The run has ended already; there is nothing to cancel")
        await audit.record(request, "cancel-run", connection, run=run_id)
    return see_other(f"/console/runs/{run_id}")


async def _run_id(request: web.Request) -> int:
    run_id = params.path_id(request)
    if await request.app[DEPS].manager.progress(run_id) is None:
        raise HttpRefusal(404, _UNKNOWN)
    return run_id


@routes.post("/console/runs/{id}/retry")
async def retry(request: web.Request) -> web.Response:
    """Retry a failed run from where it stopped."""
    run_id = await _run_id(request)
    async with audit.transaction(request) as connection:
        if problem := await request.app[DEPS].manager.retry(run_id, connection):
            raise HttpRefusal(409, problem)
        await audit.record(request, "retry-run", connection, run=run_id)
    return see_other(f"/console/runs/{run_id}")


@routes.post("/console/runs/{id}/waive")
async def waive(request: web.Request) -> web.Response:
    """Waive a failed run, with a reason."""
    run_id, form = await _run_id(request), await params.form(request)
    name, reason = form.get("who", "").strip()[:100], form.get("reason", "").strip()[:_MAX_REASON]
    if not name or not reason:
        raise HttpRefusal(400, "Say who waives it and why: others will ask")
    async with audit.transaction(request) as connection:
        if problem := await request.app[DEPS].manager.waive(
            run_id, audit.actor(request, name), reason, connection
        ):
            raise HttpRefusal(409, problem)
    return see_other(f"/console/runs/{run_id}")
