"""/console/jobs/…: schedule a single run, cancel it, and backfill past periods."""

from collections.abc import Mapping
from datetime import date, datetime, timedelta

from aiohttp import web

from service.engine import queries
from service.errors import BadRequest
from service.web import audit, params
from service.web.auth import HttpRefusal
from service.web.console.jobs.views import find_job, job_page
from service.web.console.pages import database_now, see_other
from service.web.deps import DEPS
from service.zones import iso_or_none

_SQL = queries.load(__file__)
_MAX_DELAY = timedelta(days=30)

routes = web.RouteTableDef()


# ── Single runs ─────────────────────────────────────────────────────────────────────────────────────────────


@routes.post("/console/jobs/{type}/{name}/schedule")
async def schedule(request: web.Request) -> web.Response:
    """Schedule a single run, in some minutes or at a time."""
    fields, (row, _) = await _form_fields(request, "minutes", "moment"), await find_job(request)
    deps, path = request.app[DEPS], request.match_info
    try:
        delay = delay_of(fields, await database_now(request))
        async with audit.transaction(request) as connection:
            run = await deps.manager.schedule_once(path["type"], path["name"], delay, connection)
            details = {"job": row["job"], "run": run.id, "at": iso_or_none(run.not_before)}
            await audit.record(request, "schedule", connection, **details)
    except BadRequest as problem:
        return await job_page(request, problem=problem, fields=fields)
    return see_other(f"{_page(request)}#once")


def delay_of(fields: Mapping[str, str], now: datetime) -> timedelta:
    """The delay from now until the run. Pure; raises BadRequest."""
    minutes, at = fields["minutes"], params.optional_instant("The moment of the run", fields["moment"])
    if bool(minutes) == (at is not None):
        raise BadRequest("Say in how many minutes, or at which moment; one of them")
    if at is not None:
        delay = at - now
    elif minutes.isascii() and minutes.isdigit() and len(minutes) < 9:
        delay = timedelta(minutes=int(minutes))
    else:
        raise BadRequest("Minutes are a whole number")
    if delay < timedelta(0):
        raise BadRequest("The moment of the run lies in the past; choose a later one, or run it now")
    if delay > _MAX_DELAY:
        raise BadRequest(f"A run can be planned {_MAX_DELAY.days} days ahead at most")
    return delay


@routes.post("/console/jobs/{type}/{name}/unschedule")
async def unschedule(request: web.Request) -> web.Response:
    """Cancel a scheduled run before it begins."""
    run, (row, _) = (await _form_fields(request, "run"))["run"], await find_job(request)
    deps = request.app[DEPS]
    valid = run.isascii() and run.isdigit() and len(run) < 19
    if not valid or await deps.pool.fetchval(_SQL["once"], int(run), row["job"]) is None:
        raise HttpRefusal(404, "This job has no planned run of this number")
    async with audit.transaction(request) as connection:
        if not await deps.manager.unschedule(int(run), connection):
            raise HttpRefusal(409, "The run has begun already; its own page can cancel it")
        await audit.record(request, "unschedule", connection, job=row["job"], run=int(run))
    return see_other(f"{_page(request)}#once")


# ── Backfill ────────────────────────────────────────────────────────────────────────────────────────────────


@routes.post("/console/jobs/{type}/{name}/backfill")
async def backfill(request: web.Request) -> web.Response:
    """Show the periods of a range; with ``confirm`` start the run that recomputes them, and show it."""
    fields, (row, _) = await _form_fields(request, "from", "to", "confirm"), await find_job(request)
    deps, job = request.app[DEPS], (request.match_info["type"], request.match_info["name"])
    try:
        since, until = dates_of(fields)
        if fields["confirm"] != "on":
            periods = await deps.manager.backfill(*job, since, until, None)
            return await job_page(request, backfill=periods, fields=fields)
        async with audit.transaction(request) as connection:
            result = await deps.manager.backfill(*job, since, until, connection)
            details = {"job": row["job"], "from": str(since), "to": str(until), "run": result["runId"]}
            await audit.record(request, "backfill", connection, **details)
    except BadRequest as problem:
        return await job_page(request, problem=problem, fields=fields)
    return see_other(f"/console/runs/{result['runId']}")


def dates_of(fields: Mapping[str, str]) -> tuple[date, date]:
    """The first and last date of the form, both included. Pure; raises BadRequest."""
    if not fields["from"] or not fields["to"]:
        raise BadRequest("Say the first and the last date")
    since, until = (
        params.parse_date("The first date", fields["from"]),
        params.parse_date("The last date", fields["to"]),
    )
    if since > until:
        raise BadRequest(f"The first date ({since}) lies after the last ({until}); exchange them")
    return since, until


async def _form_fields(request: web.Request, *names: str) -> dict[str, str]:
    form = await params.form(request)
    return {name: form.get(name, "").strip()[:100] for name in names}


def _page(request: web.Request) -> str:
    path = request.match_info
    return f"/console/jobs/{path['type']}/{path['name']}"
