"""/api/admin/jobs and /api/admin/runs: status, history, and control of jobs and runs."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import asyncpg
from aiohttp import web

from service.engine.run import RunState, last_line
from service.web import audit, params
from service.web.auth import HttpRefusal
from service.web.deps import DEPS, ROLE, Manager, Role
from service.web.health import HEALTH
from service.web.idempotency import Answer, RunOutcome, once, once_with_lease, run_once
from service.zones import iso_or_none

_STATES = frozenset(RunState)
_FAILED = {"failed", "dead"}
_ACTIVE = {"pending", "running"}

routes = web.RouteTableDef()


def _manager(request: web.Request) -> Manager:
    return request.app[DEPS].manager


def _bare_and_nested(fields: dict[str, Any], *, success: bool = True, status: int = 200) -> web.Response:
    # Clients read the fields at the top level or below data: both are in use.
    return web.json_response({**fields, "success": success, "data": fields}, status=status)


@routes.get("/api/admin/jobs/status")
async def status(request: web.Request) -> web.Response:
    """The current status of all jobs."""
    manager = _manager(request)
    await manager.refresh()
    return _bare_and_nested(manager.get_status())


@routes.get("/api/admin/jobs/health")
async def health(request: web.Request) -> web.Response:
    """The health check, a second old at most: 200 if healthy, else 503 with the reasons."""
    report = await request.app[HEALTH].get()
    healthy = report["status"] == "healthy"
    error = {} if healthy else {"error": "unhealthy"}
    return _bare_and_nested({**report, **error}, success=healthy, status=200 if healthy else 503)


@routes.get("/api/admin/jobs/statistics")
async def statistics(request: web.Request) -> web.Response:
    """Counts per type and job."""
    return _bare_and_nested(await _manager(request).get_job_statistics())


@routes.post("/api/admin/jobs/run")
async def run(request: web.Request) -> web.Response:
    """Run a job now; waits for its end unless ``wait`` is false."""
    body = await params.read(request, params.RunBody)
    if body.dry_run:
        return await _dry_run(request, body)
    if body.wait:
        return await _run_and_wait(request, body)

    started: list[Any] = []

    async def act(connection: asyncpg.Connection) -> Answer:
        started.append(await _begin(request, body, connection))
        return 202, _run_fields(started[0].id, started[0].state, {})

    answer = await once(request, act)
    for run in started:
        await _manager(request).carry_out(run)
    return answer


async def _dry_run(request: web.Request, body: params.RunBody) -> web.Response:
    result = await _manager(request).run_job(body.job_type, body.job_name, body.request)
    status, answer = _outcome(result.run_id, result.state, result.counts, result.error).answer
    if status == 500:
        status, answer["error"] = 409, result.error  # nothing broke: it cannot run now
    if result.sample:
        answer["sample"] = result.sample
    return web.json_response(answer, status=202 if status == 200 and not body.wait else status)


async def _run_and_wait(request: web.Request, body: params.RunBody) -> web.Response:
    manager = _manager(request)

    async def begin(connection: asyncpg.Connection) -> Any:
        return await _begin(request, body, connection)

    async def carry_out(run: Any) -> RunOutcome:
        result = await manager.carry_out(run)
        return _outcome(result.run_id, result.state, result.counts, last_line(result.error))

    async def outcome_of(run_id: int) -> RunOutcome:
        current = await manager.progress(run_id)
        if current is None:
            raise HttpRefusal(404, "Unknown run")
        return _outcome(run_id, current["state"], current["counts"], current["error"])

    return await run_once(request, begin, carry_out, outcome_of)


async def _begin(request: web.Request, body: params.RunBody, connection: asyncpg.Connection) -> Any:
    run = await _manager(request).request_run(connection, body.job_type, body.job_name, body.request)
    job_fields = {"job_type", "job_name"}
    options = body.model_dump(mode="json", by_alias=True, exclude_defaults=True, exclude=job_fields)
    details = {"job": f"{body.job_type}.{body.job_name}", **options, "run": run.id}
    await audit.record(request, "run", connection, **details)
    return run


def _outcome(run_id: int | None, state: str, counts: Mapping[str, int], error: str | None) -> RunOutcome:
    fields = _run_fields(run_id, state, counts)
    if state in _FAILED:
        words = f"The job failed: {error}" if error else "The job failed"
        return RunOutcome((500, fields | {"success": False, "error": words}), ended=True)
    return RunOutcome((200, fields), ended=state not in _ACTIVE)


def _run_fields(run_id: int | None, state: str, counts: Mapping[str, int]) -> dict[str, Any]:
    return {"success": True, "runId": run_id, "state": str(state), "counts": dict(counts)}


@routes.post("/api/admin/jobs/restart")
async def restart(request: web.Request) -> web.Response:
    """Stop and start the loops of a job type."""
    body = await params.read(request, params.RestartBody)

    async def act() -> Answer:
        result = await _manager(request).restart(body.job_type)
        await audit.record(request, "restart", jobType=body.job_type)
        return 200, {"success": True, "jobType": body.job_type, "data": result}

    return await once_with_lease(request, act, repeatable=True)


@routes.post("/api/admin/jobs/schedule")
async def schedule(request: web.Request) -> web.Response:
    """Run a job once, later."""
    body = await params.read(request, params.ScheduleBody)
    delay = timedelta(milliseconds=body.delay_ms)

    async def act(connection: asyncpg.Connection) -> Answer:
        scheduled = await _manager(request).schedule_once(body.job_type, body.job_name, delay, connection)
        details = {"job": scheduled.job, "run": scheduled.id, "delayMs": body.delay_ms}
        await audit.record(request, "schedule", connection, **details)
        fields = {
            "id": scheduled.id,
            "state": str(scheduled.state),
            "runAt": iso_or_none(scheduled.not_before),
        }
        return 201, {"success": True, **fields}

    return await once(request, act)


@routes.delete("/api/admin/jobs/schedule/{id}")
async def unschedule(request: web.Request) -> web.Response:
    """Cancel a run that was scheduled once."""
    run_id = params.path_id(request)

    async def act(connection: asyncpg.Connection) -> Answer:
        if not await _manager(request).unschedule(run_id, connection):
            raise HttpRefusal(404, "No scheduled run of this id is waiting")
        await audit.record(request, "unschedule", connection, run=run_id)
        return 200, {"success": True}

    return await once(request, act)


@routes.post("/api/admin/jobs/{type}/{name}/pause")
async def pause(request: web.Request) -> web.Response:
    """Pause a job: its slots are skipped."""
    body, path = await params.read(request, params.PauseBody), request.match_info
    job, actor = (path["type"], path["name"]), audit.actor(request)

    async def act(connection: asyncpg.Connection) -> Answer:
        await _manager(request).pause(*job, actor, body.reason, body.until, connection)
        return 200, {"success": True, "paused": True}

    return await _refreshed(request, await once(request, act))


@routes.post("/api/admin/jobs/{type}/{name}/resume")
async def resume(request: web.Request) -> web.Response:
    """Resume a paused job."""
    path = request.match_info

    async def act(connection: asyncpg.Connection) -> Answer:
        await _manager(request).resume(path["type"], path["name"], audit.actor(request), connection)
        return 200, {"success": True, "paused": False}

    return await _refreshed(request, await once(request, act))


async def _refreshed(request: web.Request, answer: web.Response) -> web.Response:
    await _manager(request).refresh()
    return answer


@routes.post("/api/admin/jobs/{type}/{name}/backfill")
async def backfill(request: web.Request) -> web.Response:
    """Recompute the figures of a range; with ``preview`` only list its periods."""
    body, path = await params.read(request, params.BackfillBody), request.match_info
    params.check_order(body.since, body.until)
    job = (path["type"], path["name"])
    if body.preview:
        periods = await _manager(request).backfill(*job, body.since, body.until, None)
        return web.json_response({"success": True, "preview": True, **periods})

    async def act(connection: asyncpg.Connection) -> Answer:
        result = await _manager(request).backfill(*job, body.since, body.until, connection)
        details = {
            "job": ".".join(job),
            "from": str(body.since),
            "to": str(body.until),
            "run": result["runId"],
        }
        await audit.record(request, "backfill", connection, **details)
        return 202, {"success": True, "preview": False, **result}

    return await once(request, act)


@routes.get("/api/admin/jobs/history")
async def history(request: web.Request) -> web.Response:
    """Runs, newest first; ``before`` gets the next page."""
    name = request.query.get("jobName")
    if name and "jobType" not in request.query:
        raise HttpRefusal(400, "jobName needs jobType")
    size = params.limit(request)
    runs = await _manager(request).history(
        request.query.get("jobType"), size, name=name, before=params.before(request),
        state=params.one_of(request, "state", _STATES),
    )  # fmt: skip
    return web.json_response({"success": True, "data": runs, "next": params.next_before(runs, size)})


@routes.get("/api/admin/runs/{id}")
async def show_run(request: web.Request) -> web.Response:
    """A run with attempts, reasons and messages. Only admins see tracebacks: they may hold personal data."""
    data = await _manager(request).run(params.path_id(request), tracebacks=request[ROLE] is Role.ADMIN)
    if data is None:
        raise HttpRefusal(404, "Unknown run")
    return web.json_response({"success": True, "data": data})


@routes.post("/api/admin/runs/{id}/cancel")
async def cancel(request: web.Request) -> web.Response:
    """Request that a run stops."""
    manager, run_id = _manager(request), params.path_id(request)
    if await manager.progress(run_id) is None:
        raise HttpRefusal(404, "Unknown run")

    async def act(connection: asyncpg.Connection) -> Answer:
        if not await manager.cancel(run_id, connection):
            raise HttpRefusal(409, "The run has ended")
        await audit.record(request, "cancel-run", connection, run=run_id)
        return 202, {"success": True}

    return await once(request, act)


@routes.post("/api/admin/runs/{id}/retry")
async def retry(request: web.Request) -> web.Response:
    """Retry a failed run from where it stopped."""
    manager, run_id = _manager(request), params.path_id(request)
    if await manager.progress(run_id) is None:
        raise HttpRefusal(404, "Unknown run")

    async def act(connection: asyncpg.Connection) -> Answer:
        if problem := await manager.retry(run_id, connection):
            raise HttpRefusal(409, problem)
        await audit.record(request, "retry-run", connection, run=run_id)
        return 202, {"success": True}

    return await once(request, act)


@routes.post("/api/admin/runs/{id}/waive")
async def waive(request: web.Request) -> web.Response:
    """Waive a failed run: it stays failed, and health no longer reports it."""
    manager, run_id = _manager(request), params.path_id(request)
    body = await params.read(request, params.WaiveBody)
    if await manager.progress(run_id) is None:
        raise HttpRefusal(404, "Unknown run")

    async def act(connection: asyncpg.Connection) -> Answer:
        if problem := await manager.waive(run_id, audit.actor(request), body.reason, connection):
            raise HttpRefusal(409, problem)
        return 200, {"success": True}

    return await once(request, act)
