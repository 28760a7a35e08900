"""JobManager: the original's interface, a thin layer over trigger, runner and ledger.

Method names are Python's, result names are the original's (``isInitialized``, ``activeJobs``, …); fields may
be added, none is renamed. The manager holds no state but the last snapshot: everything else is in the ledger.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Any, Protocol
from zoneinfo import ZoneInfo

import asyncpg
from aiohttp import web

from service.analytics import rollups
from service.analytics.statistic import DERIVED, WITH_MONTHS, Statistic
from service.clock import Clock, SystemClock
from service.dashboard.doubts import Doubt
from service.engine import queries
from service.engine.conditions import Condition, ConditionSeverity
from service.engine.database_errors import FAILURES
from service.engine.job import Job, JobType, find
from service.engine.ledger import Ledger, Run
from service.engine.run import RunRequest, RunResult, Trigger
from service.engine.schedule import Schedule
from service.engine.single_flight import SingleFlight
from service.engine.unsettled import UnsettledSlot, not_retried, not_waived, unsettled_of
from service.errors import BadRequest, UnknownJobType
from service.manager.backfill import period_name, periods_to_derive
from service.manager.conditions import to_json as condition_json
from service.manager.health import Check, Checks, broken_check, database_check, silent_check, type_check
from service.manager.run_json import run_json
from service.manager.runs import newest_runs, run_details, run_row
from service.manager.skip_shares import unusual_shares
from service.manager.status import StatusSnapshot
from service.messages.reason import Reason
from service.zones import iso_or_none

_SQL = queries.load(__file__)
_UTC = ZoneInfo("UTC")
LONGEST_DELAY = timedelta(days=30)
"""The longest delay of ``schedule_once``."""
_DEADLINE = 3.0
"""Seconds after which health no longer waits for our PostgreSQL."""
_RESIDENTS_TTL = 60.0
"""Seconds for which the people of each zone need not be counted again: only about how many matters."""
_MOST_NAMED = 3
"""How many failed slots of one job health lists."""


class ManualRunner(Protocol):
    """The part of ``engine.runner.Runner`` that runs a job on demand."""

    async def run_manual(self, job_id: str, request: RunRequest, /) -> RunResult: ...
    async def request(self, connection: asyncpg.Connection, job_id: str, request: RunRequest, /) -> Any: ...
    async def carry_out(self, run: Any, /) -> RunResult: ...


async def _nothing() -> None:
    """The default of ``open`` and ``close``: the caller runs the loops."""


async def _no_checks() -> Mapping[str, Check]:
    return {}


async def _no_conditions() -> Sequence[Condition]:
    return ()


def _no_problem() -> str | None:
    return None


class JobManager:
    """Start, stop, watch and run the jobs.

    ``open`` starts the loops and ``close`` stops them; the pair can be repeated.
    ``checks`` adds health checks (loops, mail, dashboard), ``doubts`` what may be a mistake at the dashboard
    and makes nothing unhealthy. ``database`` returns why our PostgreSQL cannot be used although it answers,
    or None. ``conditions`` tells what is wrong now. ``schedules`` decide when a last success is stale.
    ``service_zone``: the zone of service days.
    """

    def __init__(
        self,
        pool: asyncpg.Pool,
        ledger: Ledger,
        runner: ManualRunner,
        jobs: Mapping[str, Job],
        *,
        schedules: Mapping[str, Schedule] | None = None,
        open: Callable[[], Awaitable[None]] = _nothing,  # noqa: A002 - the pair open/close says it best
        close: Callable[[], Awaitable[None]] = _nothing,
        checks: Checks = _no_checks,
        database: Callable[[], str | None] = _no_problem,
        doubts: Callable[[], Sequence[Doubt]] = tuple,
        conditions: Callable[[], Awaitable[Sequence[Condition]]] = _no_conditions,
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
        self._doubts = doubts
        self._conditions = conditions
        self._clock = clock or SystemClock()
        self._zone = service_zone
        self._initialized = False
        self._gate = asyncio.Lock()
        self._snapshot = StatusSnapshot(self._jobs)
        self._last_checks: dict[str, Check] = {}
        self._ledger_checks = SingleFlight(self._type_checks, deadline=_DEADLINE)
        self._residents = SingleFlight(self._count_residents, deadline=_DEADLINE, ttl=_RESIDENTS_TTL)

    # ── Start and stop ──────────────────────────────────────────────────────────────────────────────────────

    async def initialize(self) -> None:
        """Start the jobs. A second call does nothing; after ``shutdown`` it starts them again."""
        async with self._gate:
            if not self._initialized:
                await self._open()
                self._initialized = True
        await self.refresh()

    async def shutdown(self) -> None:
        """Stop the jobs gracefully: another process continues the current run. May be repeated."""
        async with self._gate:
            if self._initialized:
                self._initialized = False
                await self._close()

    async def restart(self, job_type: str) -> dict[str, Any]:
        """Stop and start the loops that serve a job type; raises UnknownJobType.

        The loops are shared, so the other type pauses for a moment too; no run is lost or repeated.
        """
        self._require_type(job_type)
        async with self._gate:
            if self._initialized:
                await self._close()
            self._initialized = False
            await self._open()
            self._initialized = True
        await self.refresh()
        return self._status(JobType(job_type))

    async def cleanup_ctx(self, _app: web.Application) -> AsyncIterator[None]:
        """Start and stop with an aiohttp application: ``app.cleanup_ctx.append(manager.cleanup_ctx)``."""
        await self.initialize()
        try:
            yield
        finally:
            await self.shutdown()

    # ── Actions ─────────────────────────────────────────────────────────────────────────────────────────────

    async def run_job(self, job_type: str, name: str, request: RunRequest = RunRequest()) -> RunResult:
        """Run a job now, with the same code and ledger as on schedule: no message is sent twice for a period.

        Raises UnknownJobType, UnknownJob, AlreadyRunning, BadRequest.
        """
        return await self._runner.run_manual(find(self._jobs, job_type, name).id, request)

    async def request_run(
        self, connection: asyncpg.Connection, job_type: str, name: str, request: RunRequest = RunRequest()
    ) -> Any:
        """The first half of ``run_job``, in a transaction; ``carry_out`` is the second. Raises the same."""
        return await self._runner.request(connection, find(self._jobs, job_type, name).id, request)

    async def carry_out(self, run: Any) -> RunResult:
        """Wait for the end of a run of ``request_run``; without its ``wait`` a free runner takes it."""
        return await self._runner.carry_out(run)

    async def schedule_once(
        self, job_type: str, name: str, delay: timedelta, connection: asyncpg.Connection | None = None
    ) -> Run:
        """Run a job once after ``delay`` (0 to 30 days); it is stored and survives a restart."""
        job = find(self._jobs, job_type, name)
        if not timedelta(0) <= delay <= LONGEST_DELAY:
            raise BadRequest("delayMs must lie between 0 and 2592000000 (30 days)")
        return await self._ledger.request(job.id, Trigger.ONCE, delay=delay, connection=connection)

    async def unschedule(self, run_id: int, connection: asyncpg.Connection | None = None) -> bool:
        """Cancel a run of ``schedule_once``. False: there is none, or it has started."""
        return await (connection or self._pool).fetchval(_SQL["cancel_once"], run_id) is not None

    async def pause(
        self,
        job_type: str,
        name: str,
        actor: str,
        reason: str,
        until: datetime | None = None,
        connection: asyncpg.Connection | None = None,
    ) -> None:
        """Skip a job's slots (reason ``paused``) until resumed, or until ``until``.

        ``connection``: in its transaction; then ``get_status`` shows it after the next ``refresh``.
        """
        await self._ledger.pause(find(self._jobs, job_type, name).id, actor, reason, until, connection)
        if connection is None:
            await self.refresh()

    async def resume(
        self, job_type: str, name: str, actor: str, connection: asyncpg.Connection | None = None
    ) -> None:
        """End a pause. Skipped slots are not caught up. ``connection``: as for ``pause``."""
        await self._ledger.resume(find(self._jobs, job_type, name).id, actor, connection)
        if connection is None:
            await self.refresh()

    async def backfill(
        self, job_type: str, name: str, since: date, until: date, connection: asyncpg.Connection | None
    ) -> dict[str, Any]:
        """Derive a statistic's periods of these dates (both included) again, and those that are missing.

        ``connection``: marks them in its transaction and requests a run; None: only lists them.
        Raises UnknownJobType, UnknownJob, BadRequest (nothing that can be derived, no period, too many).
        """
        job = find(self._jobs, job_type, name)
        statistic = DERIVED.get(job.id)
        if statistic is None:
            names = ", ".join(sorted(id_.partition(".")[2] for id_ in DERIVED))
            raise BadRequest(f"{job.name} derives no figures from stored days; use one of {names}")
        now = await self._ledger.now(connection)
        periods = await periods_to_derive(connection or self._pool, statistic, since, until, now, self._zone)
        if connection is not None:
            for derived in (statistic, *(WITH_MONTHS if statistic is Statistic.MONTHLY else ())):
                await rollups.mark_all_stale(connection, derived, [*periods.missing, *periods.again])
            options = {"from": since.isoformat(), "to": until.isoformat()}
            run = await self._ledger.request(job.id, Trigger.BACKFILL, options=options, connection=connection)
        return {
            "statistic": str(statistic),
            "missing": [period_name(statistic, period) for period in periods.missing],
            "again": [period_name(statistic, period) for period in periods.again],
            "runId": run.id if connection is not None else None,
        }

    # ── Status ──────────────────────────────────────────────────────────────────────────────────────────────

    async def refresh(self) -> None:
        """Take a new snapshot for ``get_status``."""
        rows = await self._pool.fetch(_SQL["overview"], list(self._jobs))
        snapshot = StatusSnapshot(self._jobs, {row["job"]: row for row in rows}, self._clock.now())
        former, self._snapshot = self._snapshot, replace(snapshot, skip_shares=self._snapshot.skip_shares)
        if snapshot.last_ends != former.last_ends:
            shares = await self._pool.fetch(_SQL["skip_shares"], list(self._jobs), list(Reason))
            self._snapshot = replace(snapshot, skip_shares=unusual_shares(map(dict, shares)))

    def get_status(self) -> dict[str, Any]:
        """``{isInitialized, warnings, jobs: {reminder: {isRunning, activeJobs, …}, analytics: …}}``.

        The last snapshot, taken at ``asOf`` (null: none yet); ``refresh`` takes a new one.
        """
        return {
            "isInitialized": self._initialized,
            "asOf": iso_or_none(self._snapshot.as_of),
            "warnings": self._all_warnings(),
            "jobs": {str(kind): self._status(kind) for kind in JobType},
        }

    async def health_check(self) -> dict[str, Any]:
        """``{status: healthy|unhealthy, timestamp, warnings, conditions, checks}``; takes seconds at most
        and never raises for a database that is down or keeps silent: then it tells what this process still
        knows. ``conditions``: what is wrong now, ``{key, subject, severity, since, people, what}``.
        ``warnings``: what may be a mistake, ``{what, remedy, …}``; they make nothing unhealthy.
        """
        others = asyncio.gather(self._checks(), self._conditions())
        try:
            checks = {**await self._ledger_checks.get(), "database": database_check(self._database())}
        except FAILURES as error:
            checks = {**self._known_checks(error), "database": silent_check(error)}
        further, conditions = await others
        checks |= further
        failing = {"unhealthy", "error"} | ({"stopped"} if self._initialized else set())
        idle = {str(kind) for kind in JobType if not self._snapshot.jobs_of(kind)}
        healthy = self._initialized and all(
            check["status"] not in failing or name in idle for name, check in checks.items()
        )
        if any(condition.severity is ConditionSeverity.PROBLEM for condition in conditions):
            healthy = False
        return {
            "status": "healthy" if healthy else "unhealthy",
            "timestamp": iso_or_none(self._clock.now()),
            "warnings": self._all_warnings(),
            "conditions": [condition_json(condition) for condition in conditions],
            "checks": checks,
        }

    async def get_job_statistics(self) -> dict[str, Any]:
        """``{timestamp, overview: {totalJobTypes, runningJobTypes, totalActiveJobs}, details}``."""
        await self.refresh()
        details = {str(kind): self._status(kind) for kind in JobType}
        runs: dict[JobType, Counter[str]] = {kind: Counter() for kind in JobType}
        for row in await self._pool.fetch(_SQL["states"], list(self._jobs)):
            runs[self._jobs[row["job"]].type][row["state"]] += row["n"]
        for kind in JobType:
            details[str(kind)]["runs"] = dict(runs[kind])
        return {
            "timestamp": iso_or_none(self._clock.now()),
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
        return await newest_runs(self._pool, pattern, limit, before, state)

    async def progress(self, run_id: int) -> dict[str, Any] | None:
        """One run as ``history`` shows it; None: unknown."""
        row = await run_row(self._pool, run_id)
        return None if row is None else run_json(row)

    async def run(self, run_id: int, *, tracebacks: bool = False) -> dict[str, Any] | None:
        """One run with its attempts, the reasons for not sending, and the states of its messages.

        ``tracebacks``: include full ones, which may hold people's data. None: unknown.
        """
        return await run_details(self._pool, run_id, tracebacks=tracebacks)

    async def cancel(self, run_id: int, connection: asyncpg.Connection | None = None) -> bool:
        """Ask a run to stop: a pending one at once, a running one at its next page. False: it has ended."""
        return await self._ledger.cancel(run_id, connection)

    async def retry(self, run_id: int, connection: asyncpg.Connection | None = None) -> str | None:
        """Retry a failed run from its cursor; a statistic also after its deadline.

        Returns why that is impossible; None: it is done.
        """
        job = self._jobs.get((await self._row(run_id, connection))["job"])
        if job is None:
            return "Nobody runs the job of this run any more; waive it"
        allowed = None if job.type is JobType.REMINDER else job.timeout
        if await self._ledger.retry(run_id, allowed, connection):
            return None
        return not_retried(await self._row(run_id, connection))

    async def waive(
        self, run_id: int, actor: str, reason: str, connection: asyncpg.Connection | None = None
    ) -> str | None:
        """Accept a failed run as it is, and out of health. Returns why not; None: it is done."""
        if await self._ledger.waive(run_id, actor, reason, connection):
            return None
        return not_waived(await self._row(run_id, connection))

    async def _row(self, run_id: int, connection: asyncpg.Connection | None) -> dict[str, Any]:
        row = await run_row(connection or self._pool, run_id)
        if row is None:
            raise BadRequest(f"There is no run {run_id}")
        return dict(row)

    async def replicas(self) -> list[dict[str, Any]]:
        """The processes that were alive in the last five minutes: name, version, started, seen, vitals."""
        return [dict(row) for row in await self._ledger.replicas()]

    async def places(self) -> list[tuple[str, dict[str, int]]]:
        """Where people live, and the hours that some chose; see ``Ledger.places``."""
        return await self._ledger.places()

    # ── Internal ────────────────────────────────────────────────────────────────────────────────────────────

    def _require_type(self, job_type: str) -> None:
        if job_type not in set(JobType):
            raise UnknownJobType(job_type)

    def _all_warnings(self) -> list[dict[str, Any]]:
        doubts = ({"what": doubt.what, "remedy": doubt.remedy} for doubt in self._doubts())
        return [*(share.to_json() for share in self._snapshot.skip_shares), *doubts]

    def _status(self, kind: JobType) -> dict[str, Any]:
        return self._snapshot.type_status(kind, running=self._initialized)

    def _known_checks(self, error: Exception) -> dict[str, Check]:
        """The checks of the jobs while the ledger cannot be read: their last ones, with their age."""
        at = self._snapshot.as_of
        age = self._clock.now() - at if at else None
        return {
            str(kind): broken_check(
                len(self._snapshot.jobs_of(kind)), error, self._last_checks.get(str(kind)), age
            )
            for kind in JobType
        }

    async def _type_checks(self) -> dict[str, Check]:
        await self.refresh()
        now = await self._ledger.now()
        unsettled = await self.unsettled(now)
        self._last_checks = {
            str(kind): type_check(
                self._snapshot, kind, self._schedules, now, unsettled, running=self._initialized
            )
            for kind in JobType
        }
        return self._last_checks

    async def unsettled(self, now: datetime) -> dict[str, list[UnsettledSlot]]:
        """Slots that failed, by job id, the oldest first."""
        unsettled: dict[str, list[UnsettledSlot]] = {}
        for row in await self._pool.fetch(_SQL["unsettled"], list(self._jobs), _MOST_NAMED):
            about_people = self._jobs[row["job"]].type is JobType.REMINDER
            people = await self._people(row["zones"]) if about_people else None
            slot = unsettled_of({**row, "people": people}, now, stale=about_people)
            unsettled.setdefault(row["job"], []).append(slot)
        return unsettled

    async def _people(self, slot_group: Sequence[str] | None) -> int:
        """About how many people a slot is for. ``slot_group``: zones, some with an hour; None: everybody."""
        residents = await self._residents.get()
        zones = residents if slot_group is None else {zone.partition("@")[0] for zone in slot_group}
        return sum(residents.get(zone, 0) for zone in zones)

    async def _count_residents(self) -> dict[str, int]:
        return {row["timezone"]: row["n"] for row in await self._pool.fetch(_SQL["residents"])}
