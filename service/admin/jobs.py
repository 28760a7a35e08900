"""/api/admin/jobs and /api/admin/runs: what the jobs do, and telling them what to do."""

import json
from datetime import timedelta
from typing import Any

import asyncpg
from aiohttp import web

from service.admin import body
from service.admin.access import Refused, error
from service.admin.deps import DEPS, ROLE, Manager, Role
from service.admin.once import Answer, note, once, remark
from service.domain.run import RunState

_STATES = frozenset(RunState)
_FAILED = {"failed", "dead"}

routes = web.RouteTableDef()


def _manager(request: web.Request) -> Manager:
    return request.app[DEPS].manager


def _both(found: dict[str, Any], *, success: bool = True, status: int = 200) -> web.Response:
    # Some clients read the fields bare, some below data: both are in use.
    return web.json_response({**found, "success": success, "data": found}, status=status)


@routes.get("/api/admin/jobs/status")
async def status(request: web.Request) -> web.Response:
    """The jobs now."""
    manager = _manager(request)
    await manager.refresh()
    return _both(manager.get_status())


@routes.get("/api/admin/jobs/health")
async def health(request: web.Request) -> web.Response:
    """200 healthy, 503 not, with the reasons."""
    found = await _manager(request).health_check()
    well = found["status"] == "healthy"
    more = {} if well else {"error": "unhealthy"}
    return _both({**found, **more}, success=well, status=200 if well else 503)


@routes.get("/api/admin/jobs/statistics")
async def statistics(request: web.Request) -> web.Response:
    """Counts per type and job."""
    return _both(await _manager(request).get_job_statistics())


@routes.post("/api/admin/jobs/run")
async def run(request: web.Request) -> web.Response:
    """Run a job now; waits for its end unless told not to."""
    asked = await body.read(request, body.RunBody)
    result = await _manager(request).run_job(
        asked.job_type, asked.job_name, dry_run=asked.dry_run, as_of=asked.as_of, user_id=asked.user_id,
        force=asked.force, confirm=asked.confirm, wait=asked.wait,
    )  # fmt: skip
    if not asked.dry_run:
        given = asked.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        await note(request, "run", given | {"run": result.run_id, "state": str(result.state)})
    shown = {"runId": result.run_id, "state": str(result.state), "counts": dict(result.counts)}
    if result.state in _FAILED:
        return error(500, "The job failed", **shown)
    if sample := getattr(result, "sample", None):
        shown["sample"] = sample
    return web.json_response({"success": True, **shown}, status=200 if asked.wait else 202, dumps=_dumps)


def _dumps(value: Any) -> str:
    return json.dumps(value, default=str, ensure_ascii=False)


@routes.post("/api/admin/jobs/restart")
async def restart(request: web.Request) -> web.Response:
    """Stop and start the loops of a job type."""
    asked = await body.read(request, body.RestartBody)
    found = await _manager(request).restart(asked.job_type)
    await note(request, "restart", {"jobType": asked.job_type})
    return web.json_response({"success": True, "jobType": asked.job_type, "data": found})


@routes.post("/api/admin/jobs/schedule")
async def schedule(request: web.Request) -> web.Response:
    """Run a job once, later."""
    asked = await body.read(request, body.ScheduleBody)
    planned = await _manager(request).schedule_once(
        asked.job_type, asked.job_name, timedelta(milliseconds=asked.delay_ms)
    )
    what = {"job": planned.job, "run": planned.id, "delayMs": asked.delay_ms}
    await note(request, "schedule", what)
    answer = {
        "success": True,
        "id": planned.id,
        "state": str(planned.state),
        "runAt": body.iso(planned.not_before),
    }
    return web.json_response(answer, status=201)


@routes.delete("/api/admin/jobs/schedule/{id}")
async def unschedule(request: web.Request) -> web.Response:
    """Take back a scheduled single run."""
    if not await _manager(request).unschedule(body.path_id(request)):
        raise Refused(404, "No scheduled run of this id is waiting")
    await note(request, "unschedule", {"run": body.path_id(request)})
    return web.json_response({"success": True})


@routes.post("/api/admin/jobs/{type}/{name}/pause")
async def pause(request: web.Request) -> web.Response:
    """Let a job's slots pass."""
    asked = await body.read(request, body.PauseBody)
    where = request.match_info
    await _manager(request).pause(where["type"], where["name"], request[ROLE], asked.reason, asked.until)
    return web.json_response({"success": True, "paused": True})


@routes.post("/api/admin/jobs/{type}/{name}/resume")
async def resume(request: web.Request) -> web.Response:
    """End a pause."""
    where = request.match_info
    await _manager(request).resume(where["type"], where["name"], request[ROLE])
    return web.json_response({"success": True, "paused": False})


@routes.post("/api/admin/jobs/{type}/{name}/backfill")
async def backfill(request: web.Request) -> web.Response:
    """Derive the periods of a range again; with ``preview`` only tell which they are."""
    asked, where = await body.read(request, body.BackfillBody), request.match_info
    body.in_order(asked.since, asked.until)
    job = (where["type"], where["name"])
    if asked.preview:
        found = await _manager(request).backfill(*job, asked.since, asked.until, None)
        return web.json_response({"success": True, "preview": True, **found})

    async def act(connection: asyncpg.Connection) -> Answer:
        done = await _manager(request).backfill(*job, asked.since, asked.until, connection)
        what = {"job": ".".join(job), "from": str(asked.since), "to": str(asked.until), "run": done["runId"]}
        await remark(request, connection, "backfill", what)
        return 202, {"success": True, "preview": False, **done}

    return await once(request, act)


@routes.get("/api/admin/jobs/history")
async def history(request: web.Request) -> web.Response:
    """Runs, newest first; page on with ``before``."""
    name = request.query.get("jobName")
    if name and "jobType" not in request.query:
        raise Refused(400, "jobName needs jobType")
    size = body.limit(request)
    runs = await _manager(request).history(
        request.query.get("jobType"), size, name=name, before=body.before(request),
        state=body.one_of(request, "state", _STATES),
    )  # fmt: skip
    return web.json_response(
        {"success": True, "data": runs, "next": runs[-1]["id"] if len(runs) == size else None}
    )


@routes.get("/api/admin/runs/{id}")
async def one_run(request: web.Request) -> web.Response:
    """One run with its attempts, reasons and messages. Tracebacks may hold people's data: for admins only."""
    found = await _manager(request).run(body.path_id(request), tracebacks=request[ROLE] is Role.ADMIN)
    if found is None:
        raise Refused(404, "Unknown run")
    return web.json_response({"success": True, "data": found})


@routes.post("/api/admin/runs/{id}/cancel")
async def cancel(request: web.Request) -> web.Response:
    """Ask a run to stop."""
    run_id = body.path_id(request)
    if await _manager(request).run(run_id) is None:
        raise Refused(404, "Unknown run")
    if not await _manager(request).cancel(run_id):
        raise Refused(409, "The run has ended")
    await note(request, "cancel_run", {"run": run_id})
    return web.json_response({"success": True}, status=202)
