"""/console/jobs: schedules and past slots of each job; run, pause and resume it.

Single runs and backfills are in ``plans``.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from aiohttp import web

from service.analytics.statistic import DERIVED
from service.engine import queries
from service.engine.run import Pause, RunRequest
from service.errors import AlreadyRunning, BadRequest, ReleaseTooOld, SourceUnavailable
from service.web import audit, params
from service.web.auth import HttpRefusal, failure
from service.web.console.jobs.calendar import (
    DUE,
    PAUSED,
    JobClock,
    clock_of,
    days_around,
    next_slot,
    span_of,
    upcoming,
    warnings,
)
from service.web.console.pages import database_now, fetch, page, see_other
from service.web.deps import DEPS, AdminDeps, Manager

_SQL = queries.load(__file__)
_DAYS = 7
_MONTH = timedelta(days=31)
_MAX_RUNS = 30
_ORDER = ("reminder", "analytics")
_HERE = "/console/jobs"
_REMOVES_SESSIONS = "analytics.dataCleanup"
"""The job that removes sessions from the dashboard; removing many of them needs a confirmation."""

routes = web.RouteTableDef()


def job_ids(manager: Manager) -> Iterator[str]:
    """The ids of this service's jobs, reminders first."""
    types = manager.get_status()["jobs"]
    for job_type in _ORDER:
        yield from (f"{job_type}.{name}" for name in types.get(job_type, {}).get("activeJobs", ()))


async def clocks(deps: AdminDeps, rows: Sequence[Mapping[str, Any]]) -> dict[str, JobClock]:
    """The clock of each job by its id. ``rows``: with job, cron and mode."""
    places = await deps.manager.places()
    return {
        row["job"]: clock_of(
            row["cron"],
            row["mode"],
            deps.jobs.get(row["job"]),
            places,
            deps.service_zone,
        )
        for row in rows
    }


# ── Showing ─────────────────────────────────────────────────────────────────────────────────────────────────


@routes.get("/console/jobs")
async def jobs(request: web.Request) -> web.Response:
    """Every job with its schedule, and the newest runs of all."""
    deps = request.app[DEPS]
    now = await database_now(request)
    ids = list(job_ids(deps.manager))
    rows = {row["job"]: row for row in await fetch(request, _SQL["definitions"], ids)}
    clocks_ = await clocks(deps, list(rows.values()))
    next_slots = await asyncio.to_thread(
        lambda: {job: next_slot(clock, now) for job, clock in clocks_.items()}
    )
    return page(
        request,
        "jobs.html",
        now=now,
        jobs=[
            {**rows[job], **_description(deps, job), "clock": clocks_[job], "next": next_slots[job]}
            for job in ids
            if job in rows
        ],
        runs=await fetch(request, _SQL["newest"], ids, _MAX_RUNS),
    )


@routes.get("/console/jobs/{type}/{name}")
async def job(request: web.Request) -> web.Response:
    """One job."""
    return await job_page(request, _form(request.query))


async def job_page(
    request: web.Request,
    form: "RunForm | None" = None,
    *,
    dry: Mapping[str, Any] | None = None,
    backfill: Mapping[str, Any] | None = None,
    problem: Exception | None = None,
    fields: Mapping[str, str] | None = None,
) -> web.Response:
    """The page of a job. ``backfill``: the periods it would recompute; ``fields``: the form as sent."""
    deps, (row, description) = request.app[DEPS], await find_job(request)
    now, zone = await database_now(request), deps.service_zone
    clock = (await clocks(deps, [row]))[row["job"]]
    since, until = span_of(now, zone, _DAYS)
    decided = await fetch(request, _SQL["slots"], row["job"], since)
    due, clock_changes, upcoming_slot = await asyncio.to_thread(
        lambda: (upcoming(clock, now, until), warnings(clock, now, now + _MONTH), next_slot(clock, now))
    )
    pause = Pause(row["paused_at"], row["paused_until"])
    slots = [(slot["nominal_at"], slot["state"]) for slot in decided]
    slots += [(at, PAUSED if pause.covers(at) else DUE) for at in due]
    status, text = failure(request, problem) if problem else (200, "")
    return page(
        request,
        "job.html",
        status=status,
        path=_HERE + "/",
        job={**row, **description},
        address=f"{_HERE}/{description['type']}/{description['name']}",
        now=now,
        clock=clock,
        days=days_around(slots, now, zone, _DAYS),
        due=due[:6],
        next=upcoming_slot,
        clock_changes=clock_changes,
        exceptions=[slot for slot in decided if slot["state"] in {"skipped", "missed", "failed", "dead"}],
        runs=await fetch(request, _SQL["newest"], [row["job"]], _MAX_RUNS),
        planned=await fetch(request, _SQL["planned"], row["job"]),
        derives=row["job"] in DERIVED,
        confirms=row["job"] == _REMOVES_SESSIONS,
        form=form or RunForm(),
        dry=dry,
        backfill=backfill,
        problem=text,
        fields=fields or {},
    )


async def find_job(request: web.Request) -> tuple[Mapping[str, Any], dict[str, str]]:
    """The registered job of the path, and its description. Raises HttpRefusal."""
    path, deps = request.match_info, request.app[DEPS]
    job_id = f"{path['type']}.{path['name']}"
    rows = await fetch(request, _SQL["definitions"], [job_id])
    if not rows or job_id not in set(job_ids(deps.manager)):
        raise HttpRefusal(404, "There is no job of this name")
    return rows[0], _description(deps, job_id)


def _description(deps: AdminDeps, job_id: str) -> dict[str, str]:
    job_type, _, name = job_id.partition(".")
    job = deps.jobs.get(job_id)
    return {"type": job_type, "name": name, "about": job.about if job else ""}


# ── Running ─────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class RunForm:
    """The form of a manual run. ``at``: as typed, UTC; empty: now. ``confirm``: many rows may be removed."""

    user: str = ""
    at: str = ""
    force: bool = False
    confirm: bool = False

    @property
    def moment(self) -> datetime | None:
        """The chosen time; None: now. Raises BadRequest."""
        return params.optional_instant("The moment", self.at)


def _form(query: Mapping[str, object]) -> RunForm:
    return RunForm(
        str(query.get("user", "")).strip()[:200],
        str(query.get("at", "")).strip()[:40],
        force=query.get("force") == "on",
        confirm=query.get("confirm") == "on",
    )


_REFUSALS = (BadRequest, AlreadyRunning, ReleaseTooOld, SourceUnavailable)


@routes.post("/console/jobs/{type}/{name}/dry-run")
async def dry_run(request: web.Request) -> web.Response:
    """Dry run: show counts and a sample, and a form to run it for real."""
    form, path = _form(await params.form(request)), request.match_info
    await find_job(request)
    try:
        result = await request.app[DEPS].manager.run_job(
            path["type"], path["name"], _request(form, dry_run=True)
        )
    except _REFUSALS as problem:
        return await job_page(request, form, problem=problem)
    await audit.record(request, "dry-run", **_run_details(request, form))
    outcome = {
        "state": str(result.state),
        "counts": dict(result.counts),
        "sample": result.sample,
        "error": result.error,
    }
    return await job_page(request, form, dry=outcome)


@routes.post("/console/jobs/{type}/{name}/run")
async def run(request: web.Request) -> web.Response:
    """Run it now, and show the run's page."""
    form, path = _form(await params.form(request)), request.match_info
    manager, _ = request.app[DEPS].manager, await find_job(request)
    try:
        async with audit.transaction(request) as connection:
            run = await manager.request_run(
                connection, path["type"], path["name"], _request(form, wait=False)
            )
            await audit.record(request, "run", connection, **_run_details(request, form), run=run.id)
    except _REFUSALS as problem:
        return await job_page(request, form, problem=problem)
    await manager.carry_out(run)
    return see_other(f"/console/runs/{run.id}")


def _request(form: RunForm, *, dry_run: bool = False, wait: bool = True) -> RunRequest:
    return RunRequest(
        dry_run=dry_run, as_of=form.moment, user_id=form.user or None, force=form.force, confirm=form.confirm,
        wait=wait,
    )  # fmt: skip


def _run_details(request: web.Request, form: RunForm) -> dict[str, Any]:
    path = request.match_info
    job_id = f"{path['type']}.{path['name']}"
    details = {"job": job_id, "userId": form.user or None, "asOf": form.at or None, "force": form.force}
    return details | ({"confirm": True} if form.confirm else {})


# ── Pausing ─────────────────────────────────────────────────────────────────────────────────────────────────


@routes.post("/console/jobs/{type}/{name}/pause")
async def pause(request: web.Request) -> web.Response:
    """Pause a job until a time, or until it is resumed."""
    form, path = await params.form(request), request.match_info
    fields = {name: form.get(name, "").strip()[:500] for name in ("who", "reason", "until")}
    await find_job(request)
    try:
        until = _pause_end(fields, await database_now(request))
    except BadRequest as problem:
        return await job_page(request, problem=problem, fields=fields)
    actor = audit.actor(request, fields["who"][:100])
    await request.app[DEPS].manager.pause(path["type"], path["name"], actor, fields["reason"], until)
    return see_other(f"{_HERE}/{path['type']}/{path['name']}#pause")


def _pause_end(fields: Mapping[str, str], now: datetime) -> datetime | None:
    """When the pause ends; None: when the job is resumed. Raises BadRequest."""
    if not fields["who"] or not fields["reason"]:
        raise BadRequest("Say who pauses it and why: others will ask")
    until = params.optional_instant("Until", fields["until"])
    if until and until <= now:
        raise BadRequest("Until lies in the past; choose a later moment, or leave it empty")
    return until


@routes.post("/console/jobs/{type}/{name}/resume")
async def resume(request: web.Request) -> web.Response:
    """Resume a paused job."""
    path = request.match_info
    await find_job(request)
    await request.app[DEPS].manager.resume(path["type"], path["name"], audit.actor(request))
    return see_other(f"{_HERE}/{path['type']}/{path['name']}#pause")
