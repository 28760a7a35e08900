"""The runner: claims a run, lets its job work in steps under a lease, and records how it ended."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, cast

import asyncpg
import structlog

from service.clock import Clock
from service.engine.context import DryContext, LedgerContext, Resources
from service.engine.database import long_statements
from service.engine.database_errors import is_transient, undo_at_end
from service.engine.job import Job
from service.engine.ledger import Ledger, Run
from service.engine.loops import first_of, gets_on
from service.engine.run import JobRules, RunRequest, RunResult, RunState, Tick, Trigger
from service.engine.run_end import REFUSED, RunEnd, StopReason
from service.errors import (
    AlreadyRunning,
    JobOff,
    LeaseLost,
    NotYet,
    SchemaUnknown,
    SourceUnavailable,
)
from service.tracing import UNTRACED, Span, Tracer, Value
from service.zones import current_groups

log = structlog.get_logger()

_LOOK = 1.0
"""Seconds between two looks whether somebody asked a run to stop."""


@dataclass(frozen=True, slots=True)
class RunnerSettings:
    """``rules``: what operators may tune in jobs. ``clock_zone``: one zone for all local dates
    (``REMINDER_TIME_MODE=service``), else None. ``jitter``: the longest random delay of a claim, which
    spreads runs over processes. ``idle``: seconds between two polls for work.
    """

    rules: JobRules = field(default_factory=JobRules)
    clock_zone: str | None = None
    jitter: timedelta = timedelta(0)
    idle: float = 5.0


async def _nothing_required(_needs: frozenset[str]) -> None:
    return


class Runner:
    """Runs what is due. ``refresh`` brings the copy of the dashboard up to date before a run.

    Its argument is the instant of which the copy must not be older (None: any age will do). It raises
    DashboardBusy, instead of waiting, while another process updates the copy and it is older.

    ``require``: raises DashboardIncomplete while the dashboard lacks something that a job needs, and JobOff
    if the mapping file says that it has none.
    ``wake`` is set when something may be due. ``resources``: what jobs may use besides the database.
    ``tracer``: gets a span for every run and its steps.
    """

    def __init__(
        self,
        pool: asyncpg.Pool,
        ledger: Ledger,
        jobs: dict[str, Job],
        *,
        refresh: Callable[[datetime | None], Awaitable[Any]],
        clock: Clock,
        wake: asyncio.Event,
        resources: Resources,
        require: Callable[[frozenset[str]], Awaitable[None]] = _nothing_required,
        settings: RunnerSettings = RunnerSettings(),
        tracer: Tracer = UNTRACED,
    ) -> None:
        self._pool = pool
        self._ledger = ledger
        self._jobs = jobs
        self.refresh = refresh
        self._require = require
        self._clock = clock
        self._end = RunEnd(ledger, clock)
        self._wake = wake
        self._resources = resources
        self._settings = settings
        self._tracer = tracer
        self._stop = asyncio.Event()
        self._over = asyncio.Event()
        self.running: dict[int, Run] = {}

    # ── Claiming ────────────────────────────────────────────────────────────────────────────────────────────

    async def run_one(self) -> Run | None:
        """Claim and execute one run. None: nothing is due."""
        jitter = self._settings.jitter * random.random()  # noqa: S311 — spreads replicas, hides nothing
        run = await self._ledger.claim(jitter, self.running)
        if run is None:
            return None
        await self._carry_out(run)
        return await self._ledger.get(run.id)

    async def serve(self, stop: asyncio.Event) -> None:
        """Run what comes due until ``stop``.

        Then every run of this process, also one that somebody waits for, is released at its cursor.
        """
        self._stop = stop
        while not stop.is_set():
            self._wake.clear()
            if await self.run_one() is None:
                await first_of(self._settings.idle, stop, self._wake)
        while self.running:
            self._over.clear()
            await self._over.wait()

    async def run_manual(self, job_id: str, request: RunRequest = RunRequest()) -> RunResult:
        """Run a job now, for each user's local date at ``as_of`` (default: now).

        Raises BadRequest, AlreadyRunning, and DashboardIncomplete while the dashboard lacks something that
        the job needs.
        """
        if request.dry_run:
            tick = self.dry_tick(job_id, request.as_of or await self._ledger.now(), request.user_id)
            return await self.dry_run(replace(tick, force=request.force, confirm=request.confirm))
        async with self._pool.acquire() as connection, connection.transaction():
            run = await self.request(cast("asyncpg.Connection", connection), job_id, request)
        return await self.carry_out(run)

    async def request(
        self, connection: asyncpg.Connection, job_id: str, request: RunRequest = RunRequest()
    ) -> Run:
        """Request a run in a transaction: it is committed together with whatever else is written there.

        ``wait``: this process claims the run at once, for ``carry_out``. Raises as ``run_manual`` does.
        """
        await self._require(self._jobs[job_id].needs)
        now = await self._ledger.now(connection)
        request.check_time(now)
        options = {
            "userId": request.user_id,
            "force": request.force,
            "asOf": request.as_of.isoformat() if request.as_of else None,
        }
        if request.confirm:
            options["confirm"] = True
        run = await self._ledger.request(
            job_id, Trigger.MANUAL, request.as_of or now, options, connection=connection
        )
        if not request.wait:
            return run
        claimed = await self._ledger.claim_requested(run, connection)
        if claimed is None:
            raise AlreadyRunning(f"{job_id} is already running")
        return claimed

    async def carry_out(self, run: Run) -> RunResult:
        """Execute a requested run; one that nobody waits for is left to the next free runner."""
        if run.state is RunState.PENDING:
            self._wake.set()
            return RunResult(run.id, str(run.state), {})
        await self._carry_out(run)
        result = await self._ledger.get(run.id)
        assert result is not None
        return RunResult(run.id, str(result.state), result.counts, error=result.error)

    async def dry_run(self, tick: Tick) -> RunResult:
        """The result that a run would have now; nothing is written.

        Raises SourceUnavailable, SchemaUnknown, JobOff.
        """
        job = self._jobs[tick.job]
        await self._prepared(job)
        async with self._pool.acquire() as connection:
            context = DryContext(cast("asyncpg.Connection", connection), self._ledger, tick, self._resources)
            transaction = connection.transaction()
            await transaction.start()
            try:
                async with undo_at_end(transaction.rollback), long_statements(connection):
                    await job.work(context)
            except (NotYet, *REFUSED) as error:
                return RunResult(None, str(RunState.FAILED), dict(context.counts), error=str(error))
        return RunResult(None, str(RunState.SUCCEEDED), dict(context.counts), context.examples)

    def dry_tick(
        self, job_id: str, as_of: datetime, user_id: str | None = None, trigger: Trigger = Trigger.MANUAL
    ) -> Tick:
        """The tick of a run that writes nothing; ``user_id``: for one user."""
        return Tick(
            job=job_id,
            run_id=0,
            as_of=as_of,
            zones=None,
            trigger=trigger,
            user_id=user_id,
            dry_run=True,
            clock_zone=self._settings.clock_zone,
            rules=self._settings.rules,
        )

    async def refreshed(self, job: Job) -> SourceUnavailable | SchemaUnknown | JobOff | None:
        """Update the copy of the dashboard for a job. Returns why that is impossible; None: it is done."""
        try:
            await self._prepared(job)
        except (SourceUnavailable, SchemaUnknown, JobOff) as error:
            return error
        return None

    async def _prepared(self, job: Job, since: datetime | None = None) -> None:
        """Refresh the copy and check what the job needs. ``since``: see ``refresh``."""
        await self.refresh(since)
        await self._require(job.needs)

    # ── One run ─────────────────────────────────────────────────────────────────────────────────────────────

    async def _carry_out(self, run: Run) -> None:
        self.running[run.id] = run
        started = self._clock.monotonic()
        span = self._tracer.start(f"run {run.job}", _traced(run))
        work = asyncio.ensure_future(self._work(run, span))
        beat = asyncio.ensure_future(self._beat(run, work))
        try:
            await self._settle(run, work, beat)
        except LeaseLost as error:
            log.warning("run lost", job=run.job, run=run.id, error=str(error))
        finally:
            for task in (beat, work):
                task.cancel()
            await asyncio.gather(beat, work, return_exceptions=True)
            del self.running[run.id]
            self._over.set()
            await asyncio.shield(self._tell(run, self._clock.monotonic() - started, span))

    async def _settle(
        self, run: Run, work: "asyncio.Future[Sequence[str]]", beat: "asyncio.Future[StopReason]"
    ) -> None:
        """Wait for the work and record how it ended; hand it over if this process stops before."""
        stopping = asyncio.ensure_future(self._stop.wait())
        ends = cast("list[asyncio.Future[Any]]", [work, beat, stopping])
        try:
            async with asyncio.timeout(self._jobs[run.job].timeout.total_seconds()):
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if not (work.done() or beat.done()):
                return await self._hand_over(run, work)
            end = _end_of(work, beat)
        except asyncio.CancelledError:
            await self._hand_over(run, work)
            raise
        except LeaseLost:
            raise
        except Exception as error:  # noqa: BLE001 — recorded once, here, with its traceback; other runs continue
            work.cancel()
            await self._end.write(run, partial(self._end.failed, run, error), error)
        else:
            await self._end.write(run, partial(self._end.ended, run, end))
        finally:
            stopping.cancel()
        return None

    async def _hand_over(self, run: Run, work: "asyncio.Future[Sequence[str]]") -> None:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        await asyncio.shield(self._end.hand_over(run))

    async def _beat(self, run: Run, work: "asyncio.Future[Sequence[str]]") -> StopReason:
        """Renew the lease on a connection of its own; give up after 0.8 of a lease without success.

        Between two heartbeats, look whether somebody asked the run to stop.
        """
        lease = self._ledger.lease.total_seconds()
        last_beat = self._clock.monotonic()
        while True:
            await asyncio.sleep(min(_LOOK, lease / 3))
            try:
                async with asyncio.timeout(lease / 3):
                    if self._clock.monotonic() - last_beat < lease / 3:
                        cancelled_at = await self._ledger.cancel_requested(run)
                    else:
                        cancelled_at = await self._ledger.heartbeat(run)
                        last_beat = self._clock.monotonic()
                gets_on()
            except LeaseLost:
                work.cancel()
                return StopReason.LEASE_LOST
            except Exception as error:
                if not is_transient(error):
                    raise
                cancelled_at = None
            if cancelled_at:
                work.cancel()
                return StopReason.CANCELLED
            if self._clock.monotonic() - last_beat > 0.8 * lease:
                work.cancel()
                return StopReason.LEASE_LOST

    async def _work(self, run: Run, span: Span) -> Sequence[str]:
        """Do the work of a run. Returns tracebacks of people whose failure did not stop it."""
        job = self._jobs[run.job]
        with span.child("refresh"):
            await self._prepared(job, run.nominal_at)
        context = LedgerContext(
            self._pool, self._ledger, run, self._tick(run), self._resources, run.cursor, span
        )
        await job.work(context)
        return context.errors

    def _tick(self, run: Run) -> Tick:
        options = run.options
        return Tick(
            job=run.job,
            run_id=run.id,
            as_of=run.nominal_at,
            zones=None if run.zones is None else current_groups(run.zones),
            trigger=run.trigger,
            user_id=options.get("userId"),
            force=bool(options.get("force")),
            confirm=bool(options.get("confirm")),
            halvings=run.halvings,
            clock_zone=self._settings.clock_zone,
            rules=self._settings.rules,
        )

    async def _tell(self, run: Run, seconds: float, span: Span) -> None:
        try:
            result = await self._ledger.get(run.id)
        except Exception as error:
            span.end("lost")
            if not is_transient(error):
                raise
            return
        if result:
            span.note({"jobs.run.state": str(result.state), "jobs.run.users": result.done})
            log.info(
                "run ended",
                job=run.job,
                run=run.id,
                slot=run.nominal_at.isoformat(),
                trigger=str(run.trigger),
                state=str(result.state),
                seconds=round(seconds, 3),
                users=result.done,
                **{f"n_{name}": n for name, n in sorted(result.counts.items())},
            )
        span.end(_failure(run, result))


# ── Pure parts ──────────────────────────────────────────────────────────────────────────────────────────────


def _end_of(
    work: "asyncio.Future[Sequence[str]]", beat: "asyncio.Future[StopReason]"
) -> Sequence[str] | StopReason:
    """The result of the work, or why it was stopped. Raises what the work raised."""
    if beat.done() and not (work.done() and not work.cancelled() and work.exception() is None):
        return beat.result()
    return work.result()


def _traced(run: Run) -> dict[str, Value]:
    """The attributes of a run's span; not its options, which may name a person."""
    return {
        "jobs.job": run.job,
        "jobs.run.id": run.id,
        "jobs.run.trigger": str(run.trigger),
        "jobs.run.slot": run.nominal_at.isoformat(),
        "jobs.run.attempt": run.attempt,
    }


def _failure(run: Run, result: Run | None) -> str | None:
    """How this attempt failed; None: it did not."""
    if result is None or result.epoch != run.epoch:
        return "lost"
    return str(result.state) if result.state in {RunState.FAILED, RunState.DEAD} else None
