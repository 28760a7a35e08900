"""/api/admin/jobs and /api/admin/runs: what the jobs do, and telling them what to do."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import asyncpg
from aiohttp import web

from service.engine.run import RunState
from service.web import audit, params
from service.web.auth import HttpRefusal
from service.web.deps import DEPS, ROLE, Manager, Role
from service.web.idempotency import Answer, RunOutcome, in_steps, once, run_once

_STATES = frozenset(RunState)
_FAILED = {"failed", "dead"}
_UNDER_WAY = {"pending", "running"}

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
    asked = await params.read(request, params.RunBody)
    if asked.dry_run:
        return await _rehearsed(request, asked)
    if asked.wait:
        return await _waited(request, asked)

    begun: list[Any] = []

    async def act(connection: asyncpg.Connection) -> Answer:
        begun.append(await _begin(request, asked, connection))
        return 202, _told(begun[0].id, begun[0].state, {})

    answer = await once(request, act)
    for run in begun:
        await _manager(request).carry_out(run)
    return answer


async def _rehearsed(request: web.Request, asked: params.RunBody) -> web.Response:
    result = await _manager(request).run_job(asked.job_type, asked.job_name, asked.request)
    status, told = _outcome(result.run_id, result.state, result.counts).answer
    if result.sample:
        told["sample"] = result.sample
    return web.json_response(told, status=202 if status == 200 and not asked.wait else status)


async def _waited(request: web.Request, asked: params.RunBody) -> web.Response:
    manager = _manager(request)

    async def begin(connection: asyncpg.Connection) -> Any:
        return await _begin(request, asked, connection)

    async def carry_out(run: Any) -> RunOutcome:
        result = await manager.carry_out(run)
        return _outcome(result.run_id, result.state, result.counts)

    async def told(run_id: int) -> RunOutcome:
        found = await manager.progress(run_id)
        if found is None:
            raise HttpRefusal(404, "Unknown run")
        return _outcome(run_id, found["state"], found["counts"])

    return await run_once(request, begin, carry_out, told)


async def _begin(request: web.Request, asked: params.RunBody, connection: asyncpg.Connection) -> Any:
    run = await _manager(request).request_run(connection, asked.job_type, asked.job_name, asked.request)
    named = {"job_type", "job_name"}
    given = asked.model_dump(mode="json", by_alias=True, exclude_defaults=True, exclude=named)
    what = {"job": f"{asked.job_type}.{asked.job_name}", **given, "run": run.id}
    await audit.remark(request, "run", connection, **what)
    return run


def _outcome(run_id: int | None, state: str, counts: Mapping[str, int]) -> RunOutcome:
    told = _told(run_id, state, counts)
    if state in _FAILED:
        return RunOutcome((500, told | {"success": False, "error": "The job failed"}), over=True)
    return RunOutcome((200, told), over=state not in _UNDER_WAY)


def _told(run_id: int | None, state: str, counts: Mapping[str, int]) -> dict[str, Any]:
    return {"success": True, "runId": run_id, "state": str(state), "counts": dict(counts)}


@routes.post("/api/admin/jobs/restart")
async def restart(request: web.Request) -> web.Response:
    """Stop and start the loops of a job type."""
    asked = await params.read(request, params.RestartBody)

    async def act() -> Answer:
        found = await _manager(request).restart(asked.job_type)
        await audit.remark(request, "restart", jobType=asked.job_type)
        return 200, {"success": True, "jobType": asked.job_type, "data": found}

    return await in_steps(request, act, repeatable=True)


@routes.post("/api/admin/jobs/schedule")
async def schedule(request: web.Request) -> web.Response:
    """Run a job once, later."""
    asked = await params.read(request, params.ScheduleBody)
    delay = timedelta(milliseconds=asked.delay_ms)

    async def act(connection: asyncpg.Connection) -> Answer:
        planned = await _manager(request).schedule_once(asked.job_type, asked.job_name, delay, connection)
        what = {"job": planned.job, "run": planned.id, "delayMs": asked.delay_ms}
        await audit.remark(request, "schedule", connection, **what)
        told = {"id": planned.id, "state": str(planned.state), "runAt": params.iso(planned.not_before)}
        return 201, {"success": True, **told}

    return await once(request, act)


@routes.delete("/api/admin/jobs/schedule/{id}")
async def unschedule(request: web.Request) -> web.Response:
    """Take back a scheduled single run."""
    run_id = params.path_id(request)

    async def act(connection: asyncpg.Connection) -> Answer:
        if not await _manager(request).unschedule(run_id, connection):
            raise HttpRefusal(404, "No scheduled run of this id is waiting")
        await audit.remark(request, "unschedule", connection, run=run_id)
        return 200, {"success": True}

    return await once(request, act)


@routes.post("/api/admin/jobs/{type}/{name}/pause")
async def pause(request: web.Request) -> web.Response:
    """Let a job's slots pass."""
    asked, where = await params.read(request, params.PauseBody), request.match_info
    job, who = (where["type"], where["name"]), audit.who(request)

    async def act(connection: asyncpg.Connection) -> Answer:
        await _manager(request).pause(*job, who, asked.reason, asked.until, connection)
        return 200, {"success": True, "paused": True}

    return await _seen(request, await once(request, act))


@routes.post("/api/admin/jobs/{type}/{name}/resume")
async def resume(request: web.Request) -> web.Response:
    """End a pause."""
    where = request.match_info

    async def act(connection: asyncpg.Connection) -> Answer:
        await _manager(request).resume(where["type"], where["name"], audit.who(request), connection)
        return 200, {"success": True, "paused": False}

    return await _seen(request, await once(request, act))


async def _seen(request: web.Request, answer: web.Response) -> web.Response:
    await _manager(request).refresh()
    return answer


@routes.post("/api/admin/jobs/{type}/{name}/backfill")
async def backfill(request: web.Request) -> web.Response:
    """Derive the periods of a range again; with ``preview`` only tell which they are."""
    asked, where = await params.read(request, params.BackfillBody), request.match_info
    params.in_order(asked.since, asked.until)
    job = (where["type"], where["name"])
    if asked.preview:
        found = await _manager(request).backfill(*job, asked.since, asked.until, None)
        return web.json_response({"success": True, "preview": True, **found})

    async def act(connection: asyncpg.Connection) -> Answer:
        done = await _manager(request).backfill(*job, asked.since, asked.until, connection)
        what = {"job": ".".join(job), "from": str(asked.since), "to": str(asked.until), "run": done["runId"]}
        await audit.remark(request, "backfill", connection, **what)
        return 202, {"success": True, "preview": False, **done}

    return await once(request, act)


@routes.get("/api/admin/jobs/history")
async def history(request: web.Request) -> web.Response:
    """Runs, newest first; page on with ``before``."""
    name = request.query.get("jobName")
    if name and "jobType" not in request.query:
        raise HttpRefusal(400, "jobName needs jobType")
    size = params.limit(request)
    runs = await _manager(request).history(
        request.query.get("jobType"), size, name=name, before=params.before(request),
        state=params.one_of(request, "state", _STATES),
    )  # fmt: skip
    return web.json_response({"success": True, "data": runs, "next": params.following(runs, size)})


@routes.get("/api/admin/runs/{id}")
async def one_run(request: web.Request) -> web.Response:
    """One run with its attempts, reasons and messages. Tracebacks may hold people's data: for admins only."""
    found = await _manager(request).run(params.path_id(request), tracebacks=request[ROLE] is Role.ADMIN)
    if found is None:
        raise HttpRefusal(404, "Unknown run")
    return web.json_response({"success": True, "data": found})


@routes.post("/api/admin/runs/{id}/cancel")
async def cancel(request: web.Request) -> web.Response:
    """Ask a run to stop."""
    manager, run_id = _manager(request), params.path_id(request)
    if await manager.progress(run_id) is None:
        raise HttpRefusal(404, "Unknown run")

    async def act(connection: asyncpg.Connection) -> Answer:
        if not await manager.cancel(run_id, connection):
            raise HttpRefusal(409, "The run has ended")
        await audit.remark(request, "cancel-run", connection, run=run_id)
        return 202, {"success": True}

    return await once(request, act)


@routes.post("/api/admin/runs/{id}/retry")
async def retry(request: web.Request) -> web.Response:
    """Put a run that failed back to where it stopped."""
    manager, run_id = _manager(request), params.path_id(request)
    if await manager.progress(run_id) is None:
        raise HttpRefusal(404, "Unknown run")

    async def act(connection: asyncpg.Connection) -> Answer:
        if why_not := await manager.retry(run_id, connection):
            raise HttpRefusal(409, why_not)
        await audit.remark(request, "retry-run", connection, run=run_id)
        return 202, {"success": True}

    return await once(request, act)


@routes.post("/api/admin/runs/{id}/waive")
async def waive(request: web.Request) -> web.Response:
    """Leave a run that failed as it is."""
    manager, run_id = _manager(request), params.path_id(request)
    asked = await params.read(request, params.WaiveBody)
    if await manager.progress(run_id) is None:
        raise HttpRefusal(404, "Unknown run")

    async def act(connection: asyncpg.Connection) -> Answer:
        if why_not := await manager.waive(run_id, audit.who(request), asked.reason, connection):
            raise HttpRefusal(409, why_not)
        return 200, {"success": True}

    return await once(request, act)
