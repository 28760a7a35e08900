"""JobManager: the original's face, a thin one, over trigger, runner and ledger.

Method names are Python's, result names are the original's (``isInitialized``, ``activeJobs``, …); fields may
be added, none is renamed. The manager owns nothing but the last snapshot: what is true stands in the ledger.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Protocol
from zoneinfo import ZoneInfo

import asyncpg
import structlog
from aiohttp import web

from service.analytics import rollups
from service.analytics.statistic import CALENDARS, DERIVED, Statistic
from service.clock import Clock, SystemClock
from service.engine import queries
from service.engine.database_errors import FAILURES
from service.engine.job import Job, JobType, TimeMode, find
from service.engine.ledger import Ledger, Run
from service.engine.run import RunRequest, RunResult, Trigger, last_line
from service.engine.schedule import Schedule
from service.engine.unsettled import FAILED, Unsettled, not_retried, not_waived, unsettled_of
from service.errors import BadRequest, UnknownJobType

_SQL = queries.load(__file__)
_UTC = ZoneInfo("UTC")
LONGEST_DELAY = timedelta(days=30)
"""``schedule_once`` refuses to look further ahead."""
_MOST_PERIODS = 4000
_EARLIEST = date(1970, 1, 1)
_LAG = timedelta(minutes=5)
_PATIENCE = timedelta(minutes=15)
_LOOKS_BACK = tuple(timedelta(days=days) for days in (4, 20, 70))
"""How far the last slots are looked for: what comes often is found near."""
_NOTHING = timedelta(0)
_ZONES = (timedelta(hours=12), timedelta(hours=14))
"""A wall-clock time comes up to 12 hours later than in UTC, and up to 14 earlier."""

_ASKED = frozenset({"manual", None})
"""Triggers of runs that somebody asked for and was answered; a later run is as good."""
_MOST_NAMED = 3
"""Failed slots of one job that health names."""

log = structlog.get_logger()


class Runner(Protocol):
    """The part of ``engine.runner.Runner`` that runs a job on demand."""

    async def run_manual(self, job_id: str, asked: RunRequest, /) -> RunResult: ...
    async def request(self, connection: asyncpg.Connection, job_id: str, asked: RunRequest, /) -> Any: ...
    async def carry_out(self, run: Any, /) -> RunResult: ...


@dataclass(frozen=True, slots=True)
class Backfill:
    """Periods that have no row yet, and those that would be derived again."""

    missing: list[datetime]
    again: list[datetime]


Check = dict[str, Any]
Checks = Callable[[], Awaitable[Mapping[str, Check]]]
"""Further health checks by name, each at least ``{"status": "running|stopped|unhealthy|error", …}``."""


async def _nothing() -> None:
    """What opening and closing do where the caller runs the loops alone."""


async def _no_checks() -> Mapping[str, Check]:
    return {}


def _no_problem() -> str | None:
    return None


class JobManager:
    """Start, stop, watch and run the jobs.

    ``open`` starts the loops and ``close`` stops them; the pair can be repeated.
    ``checks`` adds health checks (loops, mail, dashboard). ``database`` says why our PostgreSQL is of no use
    although it answers; None: it is. ``schedules`` tell when a last success is stale.
    ``service_zone``: of service days.
    """

    def __init__(
        self,
        pool: asyncpg.Pool,
        ledger: Ledger,
        runner: Runner,
        jobs: Mapping[str, Job],
        *,
        schedules: Mapping[str, Schedule] | None = None,
        open: Callable[[], Awaitable[None]] = _nothing,  # noqa: A002 - the pair open/close says it best
        close: Callable[[], Awaitable[None]] = _nothing,
        checks: Checks = _no_checks,
        database: Callable[[], str | None] = _no_problem,
        clock: Clock | None = None,
        service_zone: ZoneInfo = _UTC,
    ) -> None:
        self._pool = pool
        self._ledger = ledger
        self._runner = runner
        self._jobs = dict(jobs)
        self._schedules = dict(schedules or {})
        self._open = open
        self._close = close
        self._checks = checks
        self._database = database
        self._clock = clock or SystemClock()
        self._zone = service_zone
        self._initialized = False
        self._gate = asyncio.Lock()
        self._rows: dict[str, asyncpg.Record] = {}
        self._as_of: datetime | None = None

    # ── Life ────────────────────────────────────────────────────────────────────────────────────────────────

    async def initialize(self) -> None:
        """Start the jobs. A second call does nothing; after ``shutdown`` it starts them again."""
        async with self._gate:
            if not self._initialized:
                await self._open()
                self._initialized = True
        await self.refresh()

    async def shutdown(self) -> None:
        """Stop the jobs gracefully: a running one goes on elsewhere from its cursor. May be repeated."""
        async with self._gate:
            if self._initialized:
                self._initialized = False
                await self._close()

    async def restart(self, job_type: str) -> dict[str, Any]:
        """Stop and start the loops that serve a job type; raises UnknownJobType.

        The loops are shared, so the other type pauses for the same moment; no run is lost or doubled.
        """
        self._require_type(job_type)
        async with self._gate:
            if self._initialized:
                await self._close()
            self._initialized = False
            await self._open()
            self._initialized = True
        await self.refresh()
        return self._type_status(JobType(job_type))

    async def cleanup_ctx(self, _app: web.Application) -> AsyncIterator[None]:
        """Live as long as a foreign aiohttp application: ``app.cleanup_ctx.append(manager.cleanup_ctx)``."""
        await self.initialize()
        try:
            yield
        finally:
            await self.shutdown()

    # ── Doing ───────────────────────────────────────────────────────────────────────────────────────────────

    async def run_job(self, job_type: str, name: str, asked: RunRequest = RunRequest()) -> RunResult:
        """Run a job now, by the same code and ledger as on schedule: the same period sends nothing twice.

        Raises UnknownJobType, UnknownJob, AlreadyRunning, BadRequest.
        """
        return await self._runner.run_manual(find(self._jobs, job_type, name).id, asked)

    async def request_run(
        self, connection: asyncpg.Connection, job_type: str, name: str, asked: RunRequest = RunRequest()
    ) -> Any:
        """The first half of ``run_job``, in a transaction; ``carry_out`` is the second. Raises the same."""
        return await self._runner.request(connection, find(self._jobs, job_type, name).id, asked)

    async def carry_out(self, run: Any) -> RunResult:
        """Wait for the end of a run of ``request_run``; without its ``wait`` a free runner takes it."""
        return await self._runner.carry_out(run)

    async def schedule_once(
        self, job_type: str, name: str, delay: timedelta, connection: asyncpg.Connection | None = None
    ) -> Run:
        """Run a job once after ``delay`` (0 to 30 days), stored: a restart does not forget it."""
        job = find(self._jobs, job_type, name)
        if not timedelta(0) <= delay <= LONGEST_DELAY:
            raise BadRequest("delayMs must lie between 0 and 2592000000 (30 days)")
        return await self._ledger.request(job.id, Trigger.ONCE, delay=delay, connection=connection)

    async def unschedule(self, run_id: int, connection: asyncpg.Connection | None = None) -> bool:
        """Take back a run of ``schedule_once``. False: there is none, or it has begun."""
        return await (connection or self._pool).fetchval(_SQL["cancel_once"], run_id) is not None

    async def pause(
        self,
        job_type: str,
        name: str,
        who: str,
        reason: str,
        until: datetime | None = None,
        connection: asyncpg.Connection | None = None,
    ) -> None:
        """Let a job's slots pass as ``skipped`` (reason ``paused``) until resumed, or until ``until``.

        ``connection``: in its transaction; ``get_status`` shows it after the next ``refresh`` then.
        """
        await self._ledger.pause(find(self._jobs, job_type, name).id, who, reason, until, connection)
        if connection is None:
            await self.refresh()

    async def resume(
        self, job_type: str, name: str, who: str, connection: asyncpg.Connection | None = None
    ) -> None:
        """End a pause. What passed meanwhile is not made up for. ``connection``: as for ``pause``."""
        await self._ledger.resume(find(self._jobs, job_type, name).id, who, connection)
        if connection is None:
            await self.refresh()

    async def backfill(
        self, job_type: str, name: str, since: date, until: date, connection: asyncpg.Connection | None
    ) -> dict[str, Any]:
        """Derive a statistic's periods of these dates (both included) again, and those that are missing.

        ``connection``: marks them in its transaction and requests a run; None: only tells which they are.
        Raises UnknownJobType, UnknownJob, BadRequest (nothing that can be derived, no period, too many).
        """
        job = find(self._jobs, job_type, name)
        statistic = DERIVED.get(job.id)
        if statistic is None:
            known = ", ".join(sorted(id_.partition(".")[2] for id_ in DERIVED))
            raise BadRequest(f"{job.name} derives no figures from stored days; use one of {known}")
        told = await self._periods(connection or self._pool, statistic, since, until)
        if connection is not None:
            await rollups.mark(connection, statistic, [*told.missing, *told.again])
            options = {"from": since.isoformat(), "to": until.isoformat()}
            run = await self._ledger.request(job.id, Trigger.BACKFILL, options=options, connection=connection)
        return {
            "statistic": str(statistic),
            "missing": [_period(statistic, one) for one in told.missing],
            "again": [_period(statistic, one) for one in told.again],
            "runId": run.id if connection is not None else None,
        }

    async def _periods(
        self, reading: asyncpg.Connection | asyncpg.Pool, statistic: Statistic, since: date, until: date
    ) -> Backfill:
        if since < _EARLIEST:
            raise BadRequest(f"from ({since}) is out of reach: use a date from {_EARLIEST} on")
        calendar, zone = CALENDARS[statistic], _UTC if statistic is Statistic.BEHAVIOUR else self._zone
        now: datetime = await reading.fetchval(_SQL["now"])
        over = calendar.before(now.astimezone(zone).replace(tzinfo=None))
        periods = calendar.between(since, until, over, _MOST_PERIODS)
        if not periods:
            raise BadRequest(f"no {statistic} period from {since} to {until} is over yet")
        if len(periods) > _MOST_PERIODS:
            raise BadRequest(f"from and to hold more than {_MOST_PERIODS} periods; choose a shorter range")
        there = await rollups.there(reading, statistic, periods[0], periods[-1])
        return Backfill([p for p in periods if p not in there], [p for p in periods if p in there])

    # ── Telling ─────────────────────────────────────────────────────────────────────────────────────────────

    async def refresh(self) -> None:
        """Take a new snapshot for ``get_status``."""
        rows = await self._pool.fetch(_SQL["overview"], list(self._jobs))
        self._rows = {row["job"]: row for row in rows}
        self._as_of = self._clock.now()

    def get_status(self) -> dict[str, Any]:
        """``{isInitialized, jobs: {reminder: {isRunning, activeJobs, jobCount, …}, analytics: …}}``.

        The last snapshot, taken at ``asOf`` (null: none yet); ``refresh`` takes a new one.
        """
        return {
            "isInitialized": self._initialized,
            "asOf": _iso(self._as_of),
            "jobs": {str(kind): self._type_status(kind) for kind in JobType},
        }

    async def health_check(self) -> dict[str, Any]:
        """``{status: healthy|unhealthy, timestamp, checks}``; never raises for a database that is down."""
        try:
            await self.refresh()
            now = await self._pool.fetchval(_SQL["now"])
            unsettled = await self._unsettled(now)
            checks = {str(kind): self._type_check(kind, now, unsettled) for kind in JobType}
            checks["database"] = self._database_check()
        except FAILURES as error:
            checks = {str(kind): self._broken(kind, error) for kind in JobType}
            checks["database"] = {"status": "error", "details": {"error": type(error).__name__}}
        checks |= await self._checks()
        bad = {"unhealthy", "error"} | ({"stopped"} if self._initialized else set())
        idle = {str(kind) for kind in JobType if not self._named(kind)}
        well = self._initialized and all(c["status"] not in bad or n in idle for n, c in checks.items())
        return {
            "status": "healthy" if well else "unhealthy",
            "timestamp": _iso(self._clock.now()),
            "checks": checks,
        }

    async def get_job_statistics(self) -> dict[str, Any]:
        """``{timestamp, overview: {totalJobTypes, runningJobTypes, totalActiveJobs}, details}``."""
        await self.refresh()
        details = {str(kind): self._type_status(kind) for kind in JobType}
        for kind in JobType:
            details[str(kind)]["runs"] = self._runs_by_state(kind)
        return {
            "timestamp": _iso(self._clock.now()),
            "overview": {
                "totalJobTypes": len(details),
                "runningJobTypes": sum(1 for status in details.values() if status["isRunning"]),
                "totalActiveJobs": sum(status["jobCount"] for status in details.values()),
            },
            "details": details,
        }

    async def history(
        self,
        job_type: str | None = None,
        limit: int = 50,
        *,
        name: str | None = None,
        before: int | None = None,
        state: str | None = None,
    ) -> list[dict[str, Any]]:
        """Runs, newest first, as the API shows them. Raises UnknownJobType, UnknownJob."""
        pattern = "%"
        if job_type is not None:
            self._require_type(job_type)
            pattern = find(self._jobs, job_type, name).id if name else f"{job_type}.%"
        rows = await self._pool.fetch(_SQL["history"], pattern, limit, before, state)
        return [run_json(row) for row in rows]

    async def progress(self, run_id: int) -> dict[str, Any] | None:
        """One run as ``history`` shows it; None: unknown."""
        row = await self._pool.fetchrow(_SQL["run"], run_id)
        return None if row is None else run_json(row)

    async def run(self, run_id: int, *, tracebacks: bool = False) -> dict[str, Any] | None:
        """One run with its attempts, the reasons of those left out, and the states of its messages.

        ``tracebacks``: whole ones, which may hold people's data, beside their last lines. None: unknown.
        """
        row = await self._pool.fetchrow(_SQL["run"], run_id)
        if row is None:
            return None
        reasons = await self._pool.fetch(_SQL["run_reasons"], run_id)
        messages = await self._pool.fetch(_SQL["run_deliveries"], run_id)
        deliveries: dict[str, dict[str, int]] = {}
        for message in messages:
            deliveries.setdefault(message["channel"], {})[message["state"]] = message["n"]
        attempts = await self._pool.fetch(_SQL["run_attempts"], run_id)
        return run_json(row) | {
            "reasons": {r["reason"]: r["n"] for r in reasons},
            "deliveries": deliveries,
            "attempts": [_attempt(one, traceback=tracebacks) for one in attempts],
            "traceback": row["error"] if tracebacks else None,
        }

    async def cancel(self, run_id: int, connection: asyncpg.Connection | None = None) -> bool:
        """Ask a run to stop: a pending one at once, a running one at its next page. False: it has ended."""
        return await self._ledger.cancel(run_id, connection)

    async def retry(self, run_id: int, connection: asyncpg.Connection | None = None) -> str | None:
        """Put a run that failed back to where it stopped; a statistic also after its time.

        Returns why that cannot be done, None: it is done.
        """
        job = self._jobs.get((await self._row(run_id, connection))["job"])
        if job is None:
            return "Nobody runs the job of this run any more; waive it"
        allowed = None if job.type is JobType.REMINDER else job.timeout
        if await self._ledger.retry(run_id, allowed, connection):
            return None
        return not_retried(await self._row(run_id, connection))

    async def waive(
        self, run_id: int, who: str, reason: str, connection: asyncpg.Connection | None = None
    ) -> str | None:
        """Leave a run that failed as it is: it is red no more. Returns why not, None: it is done."""
        if await self._ledger.waive(run_id, who, reason, connection):
            return None
        return not_waived(await self._row(run_id, connection))

    async def _row(self, run_id: int, connection: asyncpg.Connection | None) -> dict[str, Any]:
        row = await (connection or self._pool).fetchrow(_SQL["run"], run_id)
        if row is None:
            raise BadRequest(f"There is no run {run_id}")
        return dict(row)

    async def replicas(self) -> list[dict[str, Any]]:
        """The processes that were alive in the last five minutes: name, version, started, seen, vitals."""
        return [dict(row) for row in await self._ledger.replicas()]

    async def places(self) -> list[tuple[str, dict[str, int]]]:
        """Where people live, and the hours that some chose; see ``Ledger.places``."""
        return await self._ledger.places()

    # ── Inside ──────────────────────────────────────────────────────────────────────────────────────────────

    def _require_type(self, job_type: str) -> None:
        if job_type not in set(JobType):
            raise UnknownJobType(job_type)

    def _named(self, kind: JobType) -> list[Job]:
        return [job for job in self._jobs.values() if job.type is kind]

    def _type_status(self, kind: JobType) -> dict[str, Any]:
        jobs = self._named(kind)
        return {
            "isRunning": self._initialized and bool(jobs),
            "activeJobs": [job.name for job in jobs],
            "jobCount": len(jobs),
            "jobs": {job.name: self._job_status(job) for job in jobs},
        }

    def _job_status(self, job: Job) -> dict[str, Any]:
        row = self._rows.get(job.id)
        if row is None:
            return {"schedule": job.schedule, "mode": str(job.mode), "paused": False, "lastRun": None}
        return {
            "schedule": row["cron"],
            "mode": row["mode"],
            "paused": row["paused"],
            "pausedBy": row["paused_by"] if row["paused"] else None,
            "pausedReason": row["paused_reason"] if row["paused"] else None,
            "pausedUntil": _iso(row["paused_until"]) if row["paused"] else None,
            "running": row["states"].get("running", 0),
            "pending": row["states"].get("pending", 0),
            "decidedUntil": _iso(row["materialized_through"]),
            "lastSuccessAt": _iso(row["last_success_at"]),
            "lastRun": _last_run(row),
        }

    def _runs_by_state(self, kind: JobType) -> dict[str, int]:
        total: dict[str, int] = {}
        for job in self._named(kind):
            row = self._rows.get(job.id)
            for state, n in (row["states"] if row else {}).items():
                total[state] = total.get(state, 0) + n
        return total

    async def _unsettled(self, now: datetime) -> dict[str, list[Unsettled]]:
        """Slots that failed, by job id, the oldest first."""
        found: dict[str, list[Unsettled]] = {}
        for row in await self._pool.fetch(_SQL["unsettled"], list(self._jobs), _MOST_NAMED):
            stale = self._jobs[row["job"]].type is JobType.REMINDER
            found.setdefault(row["job"], []).append(unsettled_of(dict(row), now, stale=stale))
        return found

    def _type_check(self, kind: JobType, now: datetime, unsettled: Mapping[str, list[Unsettled]]) -> Check:
        jobs = self._named(kind)
        failed = {job.name: unsettled[job.id] for job in jobs if job.id in unsettled}
        problems = {job.name: found for job in jobs if (found := self._problems(job, now, unsettled))}
        if not self._initialized or not jobs:
            status = "stopped"
        else:
            status = "unhealthy" if problems else "running"
        details = {
            "problems": problems,
            "jobs": [job.name for job in jobs],
            "unsettled": {name: [one.to_json() for one in slots] for name, slots in failed.items()},
        }
        return {"status": status, "activeJobs": len(jobs), "details": details}

    def _database_check(self) -> Check:
        problem = self._database()
        if problem:
            return {"status": "unhealthy", "details": {"problem": problem}}
        return {"status": "running", "details": {}}

    def _broken(self, kind: JobType, error: Exception) -> Check:
        details = {"error": type(error).__name__}
        return {"status": "error", "activeJobs": len(self._named(kind)), "details": details}

    def _problems(self, job: Job, now: datetime, unsettled: Mapping[str, Sequence[Unsettled]]) -> list[str]:
        row = self._rows.get(job.id)
        if row is None:
            return ["not registered in the ledger"]
        schedule = self._schedules.get(job.id)
        slots = last_slots(schedule, row["mode"], now) if schedule else []
        return problems_of(row, now, slots, unsettled.get(job.id, ()))


def last_slots(schedule: Schedule, mode: str, now: datetime) -> list[datetime]:
    """Since when (UTC) the two newest slots that passed everywhere may have been run; fewer where rare.

    A user-local slot comes at as many instants as there are zones: it has passed with the last of them.
    """
    late, early = _ZONES if mode == TimeMode.USER else (_NOTHING, _NOTHING)
    found: list[datetime] = []
    for reach in _LOOKS_BACK:
        found = [slot.at - early for slot in schedule.slots(_UTC, now - reach, now - late)][-2:]
        if len(found) == 2:
            break
    return found


def problems_of(
    row: Mapping[str, Any] | asyncpg.Record,
    now: datetime,
    slots: list[datetime],
    unsettled: Sequence[Unsettled] = (),
) -> list[str]:
    """What is wrong with a job, in sentences; pure. ``row``: of the query ``overview``.

    ``slots``: see ``last_slots``. A success older than both is stale; a pause excuses that. ``unsettled``:
    slots that failed; a run that somebody asked for and was told about counts until the next one.
    """
    found = [one.sentence for one in unsettled]
    if row["last_state"] in FAILED and row.get("last_trigger") in _ASKED and not row.get("last_waived_at"):
        found.append(f"the last run {row['last_state']}")
    if now - row["materialized_through"] > _LAG:
        found.append("the schedule was not looked at for more than 5 minutes")
    if row["oldest_pending"] and now - row["oldest_pending"] > _PATIENCE:
        found.append("a due run has been waiting for more than 15 minutes")
    since = row["last_success_at"] or row["first_created"]
    if since and len(slots) == 2 and since < slots[0] and not row["paused"]:
        found.append(f"the last success is stale: none since {_iso(since)}")
    return found


def run_json(row: Mapping[str, Any] | asyncpg.Record) -> dict[str, Any]:
    """A run as the API shows it. Instants are ISO 8601 in UTC; ``nominalLocal`` is a wall-clock time."""
    job_type, _, name = row["job"].partition(".")
    local = row["nominal_local"]
    return {
        "id": row["id"],
        "jobType": job_type,
        "jobName": name,
        "trigger": row["trigger"],
        "state": row["state"],
        "reason": row["reason"],
        "nominalAt": _iso(row["nominal_at"]),
        "nominalLocal": local.isoformat() if local else None,
        "zones": row["zones"],
        "options": row["options"],
        "attempt": row["attempt"],
        "done": row["done"],
        "total": row["total"],
        "counts": row["counts"],
        "error": last_line(row["error"]),
        "notBefore": _iso(row["not_before"]),
        "cancelRequestedAt": _iso(row["cancel_requested_at"]),
        "waivedAt": _iso(row["waived_at"]),
        "waivedBy": row["waived_by"],
        "waivedReason": row["waived_reason"],
        "createdAt": _iso(row["created_at"]),
        "startedAt": _iso(row["started_at"]),
        "finishedAt": _iso(row["finished_at"]),
    }


def _attempt(row: asyncpg.Record, *, traceback: bool) -> dict[str, Any]:
    return {
        "process": row["owner"],
        "state": row["state"],
        "reason": row["reason"],
        "startedAt": _iso(row["started_at"]),
        "endedAt": _iso(row["ended_at"]),
        "error": last_line(row["error"]),
        "traceback": row["error"] if traceback else None,
    }


def _last_run(row: asyncpg.Record) -> dict[str, Any] | None:
    if row["last_id"] is None:
        return None
    return {
        "id": row["last_id"],
        "state": row["last_state"],
        "trigger": row["last_trigger"],
        "nominalAt": _iso(row["last_nominal_at"]),
        "finishedAt": _iso(row["last_finished_at"]),
        "error": last_line(row["last_error"]),
    }


def _period(statistic: Statistic, period: datetime) -> str:
    return f"{period.isoformat()}Z" if statistic is Statistic.BEHAVIOUR else period.date().isoformat()


def _iso(at: datetime | None) -> str | None:
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z") if at else None
