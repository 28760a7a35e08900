"""The ledger: which slots are decided, which process owns which run, and how far each run has come.

The main operations: materialise, claim, heartbeat, step, finish."""

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any, cast

import asyncpg
import structlog

from service.engine import queries, schema
from service.engine.database import Connection, long_statements
from service.engine.run import Pause, PlannedRun, RunState, Trigger
from service.engine.schema import SCHEMA, SchemaRange
from service.errors import AlreadyRunning, LeaseLost, ReleaseTooOld, RunCancelled

log = structlog.get_logger()
_SQL = queries.load(__file__)
_NOTHING = timedelta(0)


@dataclass(frozen=True, slots=True)
class JobDefinition:
    """What the ledger knows about a job. ``schedule_hash`` changes when the schedule or its clock does.

    ``catch_up``: how far back a changed schedule begins at most, where the one it replaces stands earlier.
    """

    job: str
    cron: str
    mode: str
    schedule_hash: str
    timeout: timedelta
    max_attempts: int
    exclusive: bool = True
    catch_up: timedelta = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Run:
    """What a worker needs of a run; instants are aware, UTC. ``epoch`` is the fence: each claim raises it."""

    id: int
    job: str
    trigger: Trigger
    nominal_at: datetime
    zones: tuple[str, ...] | None
    options: dict[str, Any]
    state: RunState
    reason: str | None
    attempt: int
    epoch: int
    not_before: datetime
    deadline_at: datetime | None
    cursor: str
    halvings: int
    done: int
    counts: dict[str, int]
    error: str | None


_COLUMNS = tuple(field.name for field in fields(Run))


def _run(row: asyncpg.Record) -> Run:
    values = {name: row[name] for name in _COLUMNS}
    zones = values["zones"]
    return Run(
        **{
            **values,
            "trigger": Trigger(values["trigger"]),
            "state": RunState(values["state"]),
            "zones": None if zones is None else tuple(zones),
        }
    )


def _still_ours(run: Run, row: asyncpg.Record | None) -> datetime | None:
    """When somebody asked the run to stop, if any. Raises LeaseLost if the row is not there."""
    if row is None:
        raise LeaseLost(f"run {run.id} of {run.job} is no longer ours (epoch {run.epoch})")
    return row["cancel_requested_at"]  # type: ignore[no-any-return]


async def _check_fence(connection: Connection, run: Run, query: str) -> None:
    if _still_ours(run, await connection.fetchrow(_SQL[query], run.id, run.epoch)):
        raise RunCancelled(f"somebody asked run {run.id} of {run.job} to stop")


class Ledger:
    """The ledger as one process sees it.

    ``owner``: the process's unique name. ``lease``: how long a claim lasts without a heartbeat. ``latest``:
    the latest time that the database's clock may plausibly show (None: unknown); see ``clock_watch``.
    """

    def __init__(
        self,
        pool: asyncpg.Pool,
        owner: str,
        lease: timedelta,
        latest: Callable[[], datetime | None] = lambda: None,
    ) -> None:
        self._pool = pool
        self.owner = owner
        self.lease = lease
        self._latest = latest
        self._definitions: dict[str, JobDefinition] = {}

    async def now(self, connection: Connection | None = None) -> datetime:
        """The database's time, which decides what is due."""
        return await (connection or self._pool).fetchval(_SQL["now"])  # type: ignore[no-any-return]

    async def register(self, definitions: Sequence[JobDefinition]) -> None:
        """Register jobs. Only registered jobs are claimed.

        A new job starts now; a changed schedule begins where the one it replaces stands.
        """
        for d in definitions:
            schedule = (d.job, d.cron, d.mode, d.schedule_hash)
            await self._pool.execute(_SQL["register"], *schedule, d.timeout, d.max_attempts, SCHEMA)
            await self._pool.execute(_SQL["register_schedule"], *schedule, d.catch_up, SCHEMA)
            await self._pool.execute(_SQL["show_watermark"], d.job)
        self._definitions = {d.job: d for d in definitions}

    async def materialise(self, job: str, plan: Callable[[datetime, datetime], Sequence[PlannedRun]]) -> int:
        """Decide every slot in (watermark, now]: ``plan(after, until)`` is pure. Returns the rows written.

        Several processes may call it at once: one does the work, the others return 0. A process whose
        schedule was closed decides nothing.
        """
        hash_ = self._definitions[job].schedule_hash
        async with self._pool.acquire() as connection, connection.transaction():
            row = await connection.fetchrow(_SQL["lock_definition"], job, SCHEMA, self._latest(), hash_)
            if row is None or row["now"] <= row["materialized_through"]:
                return 0
            planned = plan(row["materialized_through"], row["now"])
            pause = Pause(row["paused_at"], row["paused_until"])
            count = await self._insert(connection, job, planned, pause) if planned else 0
            await connection.execute(_SQL["move_watermark"], job, row["now"], hash_)
            return count

    async def close_schedules(self) -> list[str]:
        """Close schedules that no process has shown for ten minutes while another one is in force.

        Returns the jobs whose schedule in this process is closed: it decides none of their slots.
        """
        for row in await self._pool.fetch(_SQL["close_schedules"], SCHEMA):
            log.info("schedule closed", job=row["job"], schedule=row["schedule_hash"])
        own = list(self._definitions.values())
        names = [d.job for d in own], [d.schedule_hash for d in own]
        return [row["job"] for row in await self._pool.fetch(_SQL["closed_schedules"], *names)]

    async def turn_back(self) -> int:
        """Undo what was decided while the database's clock was ahead; returns how many runs were forgotten.

        Runs that did something stay. Does nothing while no watermark lies in the future.
        """
        async with self._pool.acquire() as connection, connection.transaction():
            row = await connection.fetchrow(_SQL["turn_back"], SCHEMA)
            assert row
            if row["ahead"]:
                await connection.execute(_SQL["forget_missed"])
            return int(row["undone"])

    async def _insert(
        self,
        connection: Connection,
        job: str,
        planned: Sequence[PlannedRun],
        pause: Pause,
    ) -> int:
        def state(run: PlannedRun) -> tuple[str, str | None]:
            paused = pause.covers(run.at) and not run.missed
            return ("skipped", "paused") if paused else (run.state, run.reason)

        tag = await connection.execute(
            _SQL["insert_slots"],
            job,
            self._definitions[job].exclusive,
            [str(run.trigger) for run in planned],
            [run.at for run in planned],
            [run.local for run in planned],
            [None if run.zones is None else ",".join(run.zones) for run in planned],
            [state(run)[0] for run in planned],
            [state(run)[1] for run in planned],
            [run.deadline_at for run in planned],
        )
        return int(tag.rpartition(" ")[2])

    async def claim(self, jitter: timedelta = _NOTHING, held: Collection[int] = ()) -> Run | None:
        """Claim one run: one whose lease expired first, else the oldest that has been due for ``jitter``.

        None: nothing to do. Overdue runs become ``missed``, exhausted ones ``dead``, those that failed are
        retried when it is time, first. ``held``: what this process works on; what else it owns it claimed
        without hearing so.
        """
        latest = self._latest()
        await self._pool.execute(_SQL["cancel_pending"])
        await self._pool.execute(_SQL["miss_overdue"], latest)
        await self._pool.execute(_SQL["bury_exhausted"], latest)
        jobs = list(self._definitions)
        lease = (self.owner, self.lease, jobs)
        for due in await self._pool.fetch(_SQL["due_retries"], jobs, SCHEMA, latest):
            await self._pool.execute(_SQL["retry"], due["id"], None, "by itself")
        try:
            row = await self._pool.fetchrow(_SQL["claim_orphan"], *lease, SCHEMA, latest, list(held))
            row = row or await self._pool.fetchrow(_SQL["claim"], *lease, jitter, SCHEMA, latest)
        except asyncpg.UniqueViolationError:
            return None  # another process claimed another run of this job in the same moment
        return None if row is None else _run(row)

    async def claim_requested(self, run: Run, connection: Connection | None = None) -> Run | None:
        """Claim the run that was just requested. None: another process owns it, or another run of the job is
        running; then the transaction of ``connection`` must be rolled back. Raises ReleaseTooOld, and
        AlreadyRunning where a gate stops the job.
        """
        executor = connection or self._pool
        values = (run.id, self.owner, self.lease, SCHEMA, self._latest())
        try:
            row = await executor.fetchrow(_SQL["claim_requested"], *values)
        except asyncpg.UniqueViolationError:
            return None
        if row is None and (problem := (await schema.read_range(executor)).problem):
            raise ReleaseTooOld(problem)
        if row is None and (gate := await executor.fetchrow(_SQL["gate_of_job"], run.job)):
            raise AlreadyRunning(
                f"{run.job} is stopped by gate {gate['id']} ({gate['scope']},"
                f" since {gate['since']:%Y-%m-%d %H:%M} UTC); gates open {gate['id']} lets it go on"
            )
        return None if row is None else _run(row)

    async def heartbeat(
        self, run: Run, connection: asyncpg.Connection | asyncpg.Pool | None = None
    ) -> datetime | None:
        """Extend the lease. Returns when a cancellation was requested, if any. Raises LeaseLost: stop now."""
        row = await (connection or self._pool).fetchrow(_SQL["heartbeat"], run.id, run.epoch, self.lease)
        return _still_ours(run, row)

    async def cancel_requested(self, run: Run) -> datetime | None:
        """When somebody asked the run to stop; None: nobody did."""
        return await self._pool.fetchval(_SQL["cancel_requested"], run.id)  # type: ignore[no-any-return]

    @asynccontextmanager
    async def step(self, run: Run) -> AsyncIterator[asyncpg.Connection]:
        """A transaction that holds the fence: what is written in it counts only if the run is still ours.

        Raises LeaseLost, and RunCancelled once somebody has asked the run to stop, also before the commit.
        """
        async with self._pool.acquire() as connection, connection.transaction():
            await _check_fence(connection, run, "fence")
            yield cast("asyncpg.Connection", connection)
            await _check_fence(connection, run, "fence_again")

    @asynccontextmanager
    async def long_step(self, run: Run) -> AsyncIterator[asyncpg.Connection]:
        """A ``step`` whose statements may take as long as a statistic needs."""
        async with self.step(run) as connection, long_statements(connection):
            yield connection

    async def advance(
        self, connection: asyncpg.Connection, run: Run, cursor: str, done: int, counts: Mapping[str, int]
    ) -> None:
        """Record progress inside a ``step``: ``done`` more users, ``counts`` added up by name.

        A cursor that moves gives the run all its attempts again.
        """
        await connection.execute(_SQL["advance"], run.id, cursor, done, dict(counts))

    async def finish(
        self,
        run: Run,
        state: RunState,
        *,
        reason: str | None = None,
        error: str | None = None,
        counts: Mapping[str, int] | None = None,
    ) -> None:
        """End a run. Raises LeaseLost when it is not ours any more."""
        await self._fenced("finish", run, str(state), reason, error, None if counts is None else dict(counts))

    async def fail(self, run: Run, error: str) -> None:
        """End a run by an error of its own: it is retried by itself, in shorter pages after the third."""
        await self._fenced("fail", run, error)

    async def retry_later(self, run: Run, pause: timedelta, error: str) -> None:
        """Put a run back after a transient failure; ``dead`` when its attempts are used up.

        It waits for ``pause`` times the number of attempts since its cursor last moved.
        """
        await self._fenced("retry_later", run, pause, error)

    async def wait_for_dashboard(self, run: Run, delay: timedelta, error: str) -> None:
        """Put a run back while the dashboard is down: no attempt is used up, the lateness limit decides."""
        await self._fenced("wait_for_dashboard", run, delay, error)

    async def wait_for(self, run: Run, delay: timedelta, reason: str) -> None:
        """Put a run back until its dependency is available: no attempt is used up."""
        await self._fenced("wait_for", run, delay, reason)

    async def release(self, run: Run) -> None:
        """Release a run to another process at once, at its cursor, without using up an attempt."""
        await self._fenced("release", run)

    async def held(self) -> int:
        """How many runs, messages and leases this process holds."""
        return await self._pool.fetchval(_SQL["held"], self.owner)  # type: ignore[no-any-return]

    async def _fenced(self, query: str, run: Run, *values: Any) -> None:
        if await self._pool.fetchval(_SQL[query], run.id, run.epoch, *values) is None:
            raise LeaseLost(f"run {run.id} of {run.job} is no longer ours (epoch {run.epoch})")

    async def request(
        self,
        job: str,
        trigger: Trigger,
        nominal_at: datetime | None = None,
        options: Mapping[str, Any] | None = None,
        *,
        request_key: str | None = None,
        delay: timedelta = _NOTHING,
        connection: Connection | None = None,
    ) -> Run:
        """Request a run (manual, or once after ``delay``); the same request key returns the same run.

        ``nominal_at`` None: the time at which it is due. ``connection``: in its transaction.
        Raises AlreadyRunning for a manual run of a running job.
        """
        executor = connection or self._pool
        if trigger is Trigger.MANUAL and await executor.fetchval(_SQL["running"], job) is not None:
            raise AlreadyRunning(f"{job} is already running")
        values = (job, str(trigger), nominal_at, dict(options or {}), request_key, delay)
        row = await executor.fetchrow(_SQL["request"], *values)
        row = row or await executor.fetchrow(_SQL["requested"], job, request_key)
        assert row is not None
        return _run(row)

    async def cancel(self, run_id: int, connection: Connection | None = None) -> bool:
        """Cancel a pending run, ask a running one to stop. False: it has ended, or there is none."""
        return await (connection or self._pool).fetchval(_SQL["cancel"], run_id) is not None

    async def retry(
        self, run_id: int, allowed: timedelta | None = None, connection: Connection | None = None
    ) -> bool:
        """Put a failed or dead run back to pending at its cursor. False: it is neither, or it is too late.

        ``allowed``: a new deadline from now, for jobs that may run late; None: the old deadline applies.
        """
        values = (run_id, allowed, "by hand")
        return await (connection or self._pool).fetchval(_SQL["retry"], *values) is not None

    async def waive(self, run_id: int, actor: str, reason: str, connection: Connection | None = None) -> bool:
        """Accept a failed or dead run as it is. False: it is neither, or it was waived before."""
        return await (connection or self._pool).fetchval(_SQL["waive"], run_id, actor, reason) is not None

    async def get(self, run_id: int) -> Run | None:
        """One run by its id."""
        row = await self._pool.fetchrow(_SQL["get"], run_id)
        return None if row is None else _run(row)

    async def pause(
        self,
        job: str,
        actor: str,
        reason: str,
        until: datetime | None = None,
        connection: Connection | None = None,
    ) -> bool:
        """Skip coming slots, indefinitely or until an instant. False: no such job."""
        executor = connection or self._pool
        return await executor.fetchval(_SQL["pause"], job, actor, reason, until) is not None

    async def resume(self, job: str, actor: str, connection: Connection | None = None) -> bool:
        """End a pause; slots that passed meanwhile stay skipped. False: no such job."""
        return await (connection or self._pool).fetchval(_SQL["resume"], job, actor) is not None

    async def definitions(self) -> list[asyncpg.Record]:
        """Every job as registered, with ``paused``."""
        return await self._pool.fetch(_SQL["definitions"])

    async def places(self) -> list[tuple[str, dict[str, int]]]:
        """Where people live, and the hours of the day that some chose for a kind: (zone, kind → hour)."""
        return [(row["timezone"], row["hours"]) for row in await self._pool.fetch(_SQL["places"])]

    async def beat_replica(self, version: str, vitals: Mapping[str, Any] | None = None) -> None:
        """Write this process's heartbeat: its release, the schema that it knows, and its runtime metrics."""
        await self._pool.execute(_SQL["beat_replica"], self.owner, version, dict(vitals or {}), SCHEMA)

    async def schema_range(self) -> SchemaRange:
        """Which releases may work with the database."""
        return await schema.read_range(self._pool)

    async def replicas(self) -> list[asyncpg.Record]:
        """The processes that were alive in the last five minutes."""
        return await self._pool.fetch(_SQL["replicas"])
