"""The runner: claims a run, lets its job decide page by page, and applies the decisions once.

Effects, progress and the fence check of a page are one transaction: whoever takes over after a crash goes on
at the cursor, and whoever lost the lease writes nothing.
"""

import asyncio
import random
import traceback
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import Enum, auto
from functools import partial
from itertools import count
from typing import Any, Literal, cast

import asyncpg
import structlog

from service.clock import Clock
from service.dashboard.model import Channel, User
from service.engine.database import long_statements
from service.engine.database_errors import brief, first, passing, undone
from service.engine.job import AT_ONCE, Facts, Job, Page, Parts
from service.engine.ledger import Ledger, Run
from service.engine.run import Rules, RunState, Tick, Trigger
from service.engine.schedule import check_instant
from service.errors import (
    AlreadyRunning,
    ArchiveDamaged,
    BadRequest,
    CleanupRefused,
    DashboardBusy,
    DashboardIncomplete,
    JobOff,
    LeaseLost,
    NotYet,
    SchemaUnknown,
    SourceUnavailable,
)
from service.messages import eligibility, planning
from service.messages.decision import Decision, Message, Skip
from service.messages.eligibility import Known
from service.messages.mail.render import Notice
from service.messages.planning import Planned, Refusal, Stamp
from service.messages.reason import Reason
from service.tracing import UNTRACED, Span, Tracer, Value
from service.zones import used_groups

log = structlog.get_logger()

_TOO_MANY_ERRORS = 0.2
_DASHBOARD_PAUSE = timedelta(seconds=30)
_BUSY_PAUSE = timedelta(seconds=2)
_DEPENDENCY_PAUSE = timedelta(minutes=1)
_RETRY_PAUSE = timedelta(minutes=1)
"""For each attempt since the run last advanced."""
_WRITE_PAUSE = 1.0
"""Seconds between two tries to write how a run ended."""
_SAMPLE = 5
_REFUSED = (CleanupRefused, ArchiveDamaged)
"""What somebody must look at; its sentence is all that there is to say."""


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a manual run came to. A dry run has no ``run_id``; ``sample`` holds some of what it would send."""

    run_id: int | None
    state: str
    counts: dict[str, int]
    sample: list[dict[str, Any]] = field(default_factory=list)
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Applied:
    """A page, decided: what to plan, whom to refuse, and how often each thing happened."""

    planned: list[Planned]
    refused: list[Refusal]
    errors: list[str]


@dataclass(slots=True)
class RunDesk:
    """Where a statistic of one run works; see ``jobs.job.Desk``."""

    ledger: Ledger
    run: Run
    tick: Tick
    parts: Parts
    cursor: str
    span: Span = UNTRACED

    @asynccontextmanager
    async def step(self) -> AsyncIterator[asyncpg.Connection]:
        """A fenced transaction."""
        with self.span.child("step"):
            async with self.ledger.long_step(self.run) as connection:
                yield connection

    async def advance(
        self,
        connection: asyncpg.Connection,
        cursor: str,
        done: int = 0,
        counts: Mapping[str, int] | None = None,
    ) -> None:
        """Record progress."""
        await self.ledger.advance(connection, self.run, cursor, done, counts or {})
        self.cursor = cursor


@dataclass(slots=True)
class DryDesk:
    """Where a statistic is rehearsed: every step is a savepoint of one transaction that is rolled back."""

    connection: asyncpg.Connection
    tick: Tick
    parts: Parts
    cursor: str = ""
    counts: Counter[str] = field(default_factory=Counter)

    @asynccontextmanager
    async def step(self) -> AsyncIterator[asyncpg.Connection]:
        """A savepoint."""
        async with self.connection.transaction():
            yield self.connection

    async def advance(
        self,
        connection: asyncpg.Connection,
        cursor: str,
        done: int = 0,
        counts: Mapping[str, int] | None = None,
    ) -> None:
        """Count; nothing is kept."""
        self.cursor = cursor
        self.counts += Counter(counts or {})


async def _nothing_required(_needs: frozenset[str]) -> None:
    return


class _Stop(Enum):
    """Why a run is being stopped from outside."""

    LEASE = auto()
    ASKED = auto()


class Runner:
    """Runs what is due. ``refresh`` brings the copy of the dashboard up to date before a tick.

    It is told since when the copy must be fresh (None: as it is, it will do) and raises DashboardBusy where
    another process is at it and the copy is older: nobody waits for that process.

    ``require``: raises DashboardIncomplete while the dashboard lacks some of what a job needs, and JobOff
    where it need not have it.
    ``wake`` tells that something may be due, ``outbox_wake`` that there is something to send.
    ``notice`` words an in-app notification: (template, facts, locale) to title, message and button.
    ``resent``: kinds of mail that are sent once more when their receipt is unknown.
    ``spread``: over how long the mails of one slot leave.
    ``to_dashboard``: in-app notifications are also written into the dashboard's own inbox.
    ``clock_zone``: one zone for all local dates (``REMINDER_TIME_MODE=service``), else None.
    ``parts``: what statistics use beside the database.
    ``tracer``: told of every run and its steps.
    """

    def __init__(
        self,
        pool: asyncpg.Pool,
        ledger: Ledger,
        jobs: dict[str, Job],
        *,
        refresh: Callable[[datetime | None], Awaitable[Any]],
        mail_domain: str,
        clock: Clock,
        wake: asyncio.Event,
        outbox_wake: asyncio.Event,
        notice: Callable[[str, Mapping[str, Any], str], Notice],
        require: Callable[[frozenset[str]], Awaitable[None]] = _nothing_required,
        rules: Rules = Rules(),
        clock_zone: str | None = None,
        resent: frozenset[str] = frozenset(),
        spread: timedelta = timedelta(0),
        parts: Parts = Parts(),
        to_dashboard: bool = False,
        jitter: timedelta = timedelta(0),
        grace: timedelta = timedelta(seconds=20),
        idle: float = 5.0,
        tracer: Tracer = UNTRACED,
    ) -> None:
        self._pool = pool
        self._ledger = ledger
        self._jobs = jobs
        self._refresh = refresh
        self._require = require
        self._mail_domain = mail_domain
        self._clock = clock
        self._wake = wake
        self._outbox_wake = outbox_wake
        self._notice = notice
        self._rules = rules
        self._clock_zone = clock_zone
        self._resent = resent
        self._spread = spread
        self._parts = parts
        self._to_dashboard = to_dashboard
        self._jitter = jitter
        self._grace = grace
        self._idle = idle
        self._tracer = tracer
        self.running: dict[int, Run] = {}

    # ── Claiming ────────────────────────────────────────────────────────────────────────────────────────────

    async def run_one(self) -> Run | None:
        """Claim and carry out one run. None: nothing is due."""
        jitter = self._jitter * random.random()  # noqa: S311 — spreads replicas, hides nothing
        run = await self._ledger.claim(jitter)
        if run is None:
            return None
        await self._carry_out(run)
        return await self._ledger.get(run.id)

    async def serve(self, stop: asyncio.Event) -> None:
        """Run what comes due until ``stop``; the run at hand gets its grace, then goes to a peer."""
        stopping = asyncio.ensure_future(stop.wait())
        try:
            while not stop.is_set():
                self._wake.clear()
                turn = asyncio.ensure_future(self.run_one())
                await asyncio.wait({turn, stopping}, return_when=asyncio.FIRST_COMPLETED)
                if not turn.done():
                    await asyncio.wait({turn}, timeout=self._grace.total_seconds())
                if not turn.done():
                    turn.cancel()
                if await _result(turn) is None:
                    await _first(self._idle, stopping, self._wake)
        finally:
            stopping.cancel()

    async def run_manual(
        self,
        job_id: str,
        *,
        dry_run: bool = False,
        as_of: datetime | None = None,
        user_id: str | None = None,
        force: bool = False,
        confirm: bool = False,
        wait: bool = True,
    ) -> RunResult:
        """Run a job now, for each user's local date at ``as_of`` (default: now).

        ``dry_run`` decides and writes nothing; ``force`` (one user) sends even if it was sent before;
        ``confirm``: dataCleanup may remove more than 20 % of the dashboard's sessions.
        ``wait=False`` leaves the run to the next free runner. Raises BadRequest, AlreadyRunning, and
        DashboardIncomplete while the dashboard lacks some of what the job needs.
        """
        if dry_run:
            _check(as_of, user_id, force=force)
            at = as_of or await self._ledger.now()
            return await self._rehearse(job_id, at, user_id, force=force, confirm=confirm)
        async with self._pool.acquire() as lent, lent.transaction():
            run = await self.request(
                cast("asyncpg.Connection", lent), job_id,
                as_of=as_of, user_id=user_id, force=force, confirm=confirm, wait=wait,
            )  # fmt: skip
        return await self.carry_out(run)

    async def request(
        self,
        connection: asyncpg.Connection,
        job_id: str,
        *,
        as_of: datetime | None = None,
        user_id: str | None = None,
        force: bool = False,
        confirm: bool = False,
        wait: bool = True,
    ) -> Run:
        """Ask for a run in a transaction: what else is written in it holds exactly when the run is there.

        ``wait``: the run is this process's from the start, for ``carry_out``. Raises as ``run_manual`` does.
        """
        await self._require(self._jobs[job_id].needs)
        now = await self._ledger.now(connection)
        _check(as_of, user_id, force=force, latest=now)
        options = {"userId": user_id, "force": force, "asOf": as_of.isoformat() if as_of else None}
        if confirm:
            options["confirm"] = True
        run = await self._ledger.request(job_id, Trigger.MANUAL, as_of or now, options, connection=connection)
        if not wait:
            return run
        claimed = await self._ledger.claim_requested(run, connection)
        if claimed is None:
            raise AlreadyRunning(f"{job_id} is already running")
        return claimed

    async def carry_out(self, run: Run) -> RunResult:
        """See a run that was asked for to its end; one that nobody waits for is left to a free runner."""
        if run.state is RunState.PENDING:
            self._wake.set()
            return RunResult(run.id, str(run.state), {})
        await self._carry_out(run)
        ended = await self._ledger.get(run.id)
        assert ended is not None
        return RunResult(run.id, str(ended.state), ended.counts, error=ended.error)

    async def _rehearse(
        self, job_id: str, as_of: datetime, user_id: str | None, *, force: bool, confirm: bool
    ) -> RunResult:
        job = self._jobs[job_id]
        await self._prepared(job)
        tick = replace(self._rehearsal(job_id, as_of, user_id, force=force), confirm=confirm)
        if job.work:
            return await self._rehearse_work(job, tick)
        return await self._rehearse_decisions(job, tick)

    async def foresee(self, job_id: str, slot: datetime, zones: tuple[str, ...] | None) -> RunResult:
        """Decide a slot to come for the slot groups whose slot it is (None: everybody), as things stand now.

        Writes nothing. Raises SourceUnavailable, SchemaUnknown.
        """
        await self._prepared(self._jobs[job_id])
        tick = replace(self._rehearsal(job_id, slot, None, force=False), zones=zones, trigger=Trigger.CRON)
        return await self._rehearse_decisions(self._jobs[job_id], tick)

    async def _rehearse_decisions(self, job: Job, tick: Tick) -> RunResult:
        counts: Counter[str] = Counter()
        sample: list[dict[str, Any]] = []
        now = await self._ledger.now()
        async with self._pool.acquire() as reading, reading.transaction(readonly=True):
            async for page in job.read(cast("asyncpg.Connection", reading), tick, ""):
                applied = await self._decide(reading, job, tick, page, now)
                known = await planning.existing(
                    cast("asyncpg.Connection", reading), [p.dedupe_key for p in applied.planned]
                )
                counts += _counted(applied, {k for p in applied.planned if (k := _pair(p)) not in known})
                mails = [p for p in applied.planned if p.channel is Channel.EMAIL]
                sample += [self._shown(mail) for mail in mails[: _SAMPLE - len(sample)]]
        return RunResult(None, str(RunState.SUCCEEDED), dict(counts), sample)

    async def _rehearse_work(self, job: Job, tick: Tick) -> RunResult:
        assert job.work
        async with self._pool.acquire() as lent:
            desk = DryDesk(cast("asyncpg.Connection", lent), tick, self._parts)
            whole = lent.transaction()
            await whole.start()
            try:
                async with undone(whole.rollback), long_statements(lent):
                    await job.work(desk)
            except (NotYet, *_REFUSED) as error:
                return RunResult(None, str(RunState.FAILED), dict(desk.counts), error=str(error))
        return RunResult(None, str(RunState.SUCCEEDED), dict(desk.counts))

    async def decide_for(self, job_id: str, user_id: str, as_of: datetime) -> tuple[User, Decision] | None:
        """What a job says about one user at an instant; writes nothing. None: it does not look at them.

        Wishes, budgets and quiet hours are not asked: this is about what a mail would say. Raises BadRequest,
        SourceUnavailable, SchemaUnknown.
        """
        check_instant(as_of)
        await self._refresh(None)
        tick = self._rehearsal(job_id, as_of, user_id, force=False)
        async with self._pool.acquire() as reading, reading.transaction(readonly=True):
            return await self.decided(cast("asyncpg.Connection", reading), tick)

    async def decided(self, connection: asyncpg.Connection, tick: Tick) -> tuple[User, Decision] | None:
        """What a job says about the one user of a tick; an error of the job becomes a reason, as in a run."""
        job = self._jobs[tick.job]
        async for page in job.read(connection, tick, ""):
            for facts in page.facts:
                return facts.user, _ask(job, facts, tick)[0]
        return None

    async def refreshed(self, job: Job) -> SourceUnavailable | SchemaUnknown | JobOff | None:
        """Bring the copy of the dashboard up to date for a job; what stands against that, None: nothing."""
        try:
            await self._prepared(job)
        except (SourceUnavailable, SchemaUnknown, JobOff) as error:
            return error
        return None

    async def _prepared(self, job: Job, since: datetime | None = None) -> None:
        """The copy holds what the job rests on, as of ``since`` (None: as new as can be had soon)."""
        await self._refresh(since)
        await self._require(job.needs)

    def slot_tick(self, job_id: str, user_id: str, slot: datetime, trigger: Trigger) -> Tick:
        """The tick of a slot's run, for one user; nothing is written by it."""
        return replace(self._rehearsal(job_id, slot, user_id, force=False), trigger=trigger)

    def share(self, channel: Channel, dedupe_key: str) -> timedelta:
        """How long a message waits so that those of one slot are spread."""
        return planning.share(self._spread, channel, dedupe_key)

    def _rehearsal(self, job_id: str, as_of: datetime, user_id: str | None, *, force: bool) -> Tick:
        return Tick(
            job=job_id,
            run_id=0,
            as_of=as_of,
            zones=None,
            trigger=Trigger.MANUAL,
            user_id=user_id,
            force=force,
            dry_run=True,
            clock_zone=self._clock_zone,
            rules=self._rules,
        )

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
            await asyncio.shield(self._tell(run, self._clock.monotonic() - started, span))

    async def _settle(self, run: Run, work: "asyncio.Future[Applied]", beat: "asyncio.Future[_Stop]") -> None:
        """Wait for the work and write its end; every end but success has its own."""
        try:
            async with asyncio.timeout(self._jobs[run.job].timeout.total_seconds()):
                await asyncio.wait(
                    cast("list[asyncio.Future[Any]]", [work, beat]), return_when=asyncio.FIRST_COMPLETED
                )
            end = _end_of(work, beat)
        except asyncio.CancelledError:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
            await asyncio.shield(self._hand_over(run))
            raise
        except LeaseLost:
            raise
        except Exception as error:  # noqa: BLE001 — recorded once, here, with its traceback; other runs go on
            work.cancel()
            await self._write_end(run, partial(self._failed, run, error), error)
        else:
            await self._write_end(run, partial(self._ended, run, end))

    async def _write_end(
        self, run: Run, write: Callable[[], Awaitable[None]], error: Exception | None = None
    ) -> None:
        """Write how a run ended, again and again while the database fails, as long as the lease may be ours.

        ``error``: what ended it, for the log where that cannot be written; then a peer takes the run over
        when its lease is over. Raises LeaseLost.
        """
        lease = self._ledger.lease.total_seconds()
        until = self._clock.monotonic() + lease
        told = {"job": run.job, "run": run.id, "ended_by": brief(error) if error else None}
        for tries in count(1):
            try:
                async with asyncio.timeout(lease / 3):
                    return await write()
            except LeaseLost:
                if tries == 1:
                    raise
                return None  # it is written: only the answer was lost; or a peer has the run
            except Exception as failed:
                if not passing(failed):
                    log.error("the end of a run cannot be written", **told, error=brief(failed))  # noqa: TRY400
                    raise
                if self._clock.monotonic() > until:
                    log.error("the end of a run cannot be written", **told, error=brief(failed))  # noqa: TRY400
                    return None
                if tries == 1:
                    log.warning("the end of a run cannot be written yet", **told, error=brief(failed))
            await asyncio.sleep(min(_WRITE_PAUSE, lease / 10))
        return None

    async def _hand_over(self, run: Run) -> None:
        """Let a peer go on, as this process stops; where that cannot be written, when the lease is over."""
        try:
            async with asyncio.timeout(self._ledger.lease.total_seconds() / 3):
                await self._ledger.release(run)
        except Exception as error:  # noqa: BLE001 — the process stops: nothing may keep it
            log.warning("run not handed over", job=run.job, run=run.id, error=brief(error))

    async def _ended(self, run: Run, end: "Applied | _Stop") -> None:
        if isinstance(end, Applied):
            await self._succeed(run, end.errors)
        else:
            await self._stopped(run, end)

    async def _failed(self, run: Run, error: Exception) -> None:
        """What passes is waited for; the rest is the end of the run."""
        if isinstance(error, (SourceUnavailable, NotYet, JobOff)) or passing(error):
            return await self._put_back(run, error)
        if isinstance(error, SchemaUnknown):
            return await self._ledger.finish(
                run, RunState.FAILED, reason=str(Reason.SCHEMA_UNKNOWN), error=str(error)
            )
        if isinstance(error, _REFUSED):
            return await self._ledger.finish(run, RunState.FAILED, reason="refused", error=str(error))
        return await self._ledger.finish(run, RunState.FAILED, error=_traceback(error))

    async def _put_back(self, run: Run, error: Exception) -> None:
        """What passes is waited for; only trouble of our own uses up an attempt."""
        if isinstance(error, JobOff):
            await self._ledger.finish(run, RunState.SKIPPED, reason=str(error))
        elif isinstance(error, DashboardIncomplete):
            await self._hold(run, error)
        elif isinstance(error, DashboardBusy):
            await self._ledger.wait_for(run, _BUSY_PAUSE, str(error))
        elif isinstance(error, SourceUnavailable):
            await self._ledger.wait_for_dashboard(run, _DASHBOARD_PAUSE, str(error))
        elif isinstance(error, NotYet):
            await self._ledger.wait_for(run, _DEPENDENCY_PAUSE, str(error))
        else:
            await self._ledger.retry_later(run, _RETRY_PAUSE, _traceback(first(error)))

    async def _hold(self, run: Run, error: DashboardIncomplete) -> None:
        """A slot waits within its lateness; whoever asked for a run is told at once."""
        if run.trigger is Trigger.MANUAL:
            await self._ledger.finish(run, RunState.FAILED, reason="refused", error=str(error))
            return
        await self._ledger.wait_for(
            run, _DASHBOARD_PAUSE, f"waiting for {', '.join(error.names)} at the dashboard"
        )

    async def _succeed(self, run: Run, errors: Sequence[str]) -> None:
        now = await self._ledger.get(run.id)
        failed, looked = (now.counts.get(Reason.USER_ERROR, 0), now.done) if now else (0, 0)
        state = RunState.SUCCEEDED
        if failed:
            state = RunState.FAILED if failed > looked * _TOO_MANY_ERRORS else RunState.PARTIAL
        await self._ledger.finish(run, state, error=errors[0] if errors else None)

    async def _stopped(self, run: Run, why: _Stop) -> None:
        if why is _Stop.LEASE:
            raise LeaseLost(f"run {run.id} of {run.job}: the lease could not be kept")
        await self._ledger.finish(run, RunState.CANCELLED, reason="cancelled on request")

    async def _beat(self, run: Run, work: "asyncio.Future[Applied]") -> _Stop:
        """Keep the lease on a connection of its own. Without proof for 0.8 of it, the run is not ours."""
        lease = self._ledger.lease.total_seconds()
        proved = self._clock.monotonic()
        while True:
            await asyncio.sleep(lease / 3)
            try:
                async with asyncio.timeout(lease / 3):
                    asked = await self._ledger.heartbeat(run)
                proved = self._clock.monotonic()
            except LeaseLost:
                work.cancel()
                return _Stop.LEASE
            except Exception as error:
                if not passing(error):
                    raise
                asked = None
            if asked:
                work.cancel()
                return _Stop.ASKED
            if self._clock.monotonic() - proved > 0.8 * lease:
                work.cancel()
                return _Stop.LEASE

    async def _work(self, run: Run, span: Span) -> Applied:
        job = self._jobs[run.job]
        with span.child("refresh"):
            await self._prepared(job, run.nominal_at)
        tick = self._tick(run)
        if job.work:
            await job.work(RunDesk(self._ledger, run, tick, self._parts, run.cursor, span))
            return Applied([], [], [])
        errors: list[str] = []
        async with self._pool.acquire() as reading:
            async for page in job.read(cast("asyncpg.Connection", reading), tick, run.cursor):
                with span.child("step") as step:
                    errors += await self._apply(run, job, tick, page, step)
        return Applied([], [], errors)

    def _tick(self, run: Run) -> Tick:
        options = run.options
        return Tick(
            job=run.job,
            run_id=run.id,
            as_of=run.nominal_at,
            zones=None if run.zones is None else used_groups(run.zones),
            trigger=run.trigger,
            user_id=options.get("userId"),
            force=bool(options.get("force")),
            confirm=bool(options.get("confirm")),
            clock_zone=self._clock_zone,
            rules=self._rules,
        )

    async def _apply(self, run: Run, job: Job, tick: Tick, page: Page, step: Span = UNTRACED) -> list[str]:
        """One page in one transaction: fence, messages, reasons, progress."""
        stamp = Stamp(
            run_id=run.id,
            job=run.job,
            as_of=run.nominal_at,
            mail_domain=self._mail_domain,
            resent=self._resent,
            spread=self._spread,
            to_dashboard=self._to_dashboard,
            traceparent=step.traceparent,
        )
        async with self._ledger.step(run) as connection:
            if job.kind in eligibility.NUDGES:
                await planning.lock_budget(connection)
            now = await self._ledger.now()
            there = await planning.hold(connection, [facts.user.id for facts in page.facts])
            page = replace(page, facts=[facts for facts in page.facts if facts.user.id in there])
            applied = await self._decide(connection, job, tick, page, now)
            new = await planning.plan(connection, stamp, applied.planned)
            await planning.refuse(connection, stamp, applied.refused)
            await self._ledger.advance(connection, run, page.cursor, page.scanned, _counted(applied, new))
        step.note({"jobs.step.users": page.scanned, "jobs.step.planned": len(new)})
        self._outbox_wake.set()
        return applied.errors

    async def _decide(self, connection: Any, job: Job, tick: Tick, page: Page, now: datetime) -> Applied:
        """Ask the job about everybody on the page, then the rules that hold for all jobs."""
        contacts = await planning.contacts(connection, [facts.user for facts in page.facts], tick.as_of)
        applied = Applied([], [], [])
        for n, facts in enumerate(page.facts, 1):
            if n % AT_ONCE == 0:
                await asyncio.sleep(0)
            decision, error = _ask(job, facts, tick)
            if error:
                applied.errors.append(error)
            no = decision if isinstance(decision, Skip) else None
            if isinstance(decision, Message):
                planned, no = reach(decision, facts.user, contacts[facts.user.id], tick, now)
                applied.planned.extend(self._worded(one) for one in planned)
            if no:
                local_date = tick.local_date(facts.user.timezone)
                applied.refused.append(Refusal(facts.user.id, local_date, str(no.reason), no.detail))
        return applied

    def _shown(self, planned: Planned) -> dict[str, Any]:
        message = planned.message
        return {
            "userId": planned.user.id,
            "title": self._notice(message.template, message.in_app["facts"], planned.user.locale).title,
            "notBefore": planned.not_before.isoformat(),
        }

    def _worded(self, planned: Planned) -> Planned:
        """An in-app notification gets its words now, in its reader's language; a mail when it is sent."""
        if planned.channel is Channel.EMAIL:
            return planned
        message = planned.message
        notice = self._notice(message.template, message.in_app["facts"], planned.user.locale)
        return replace(planned, notice=notice)

    async def _tell(self, run: Run, seconds: float, span: Span) -> None:
        try:
            ended = await self._ledger.get(run.id)
        except Exception as error:
            span.end("lost")
            if not passing(error):
                raise
            return
        if ended:
            span.note({"jobs.run.state": str(ended.state), "jobs.run.users": ended.done})
            log.info(
                "run ended",
                job=run.job,
                run=run.id,
                slot=run.nominal_at.isoformat(),
                trigger=str(run.trigger),
                state=str(ended.state),
                seconds=round(seconds, 3),
                users=ended.done,
                **{f"n_{name}": n for name, n in sorted(ended.counts.items())},
            )
        span.end(_failure(run, ended))


# ── Pure parts ──────────────────────────────────────────────────────────────────────────────────────────────


def _check(
    as_of: datetime | None, user_id: str | None, *, force: bool, latest: datetime | None = None
) -> None:
    """Whether a run can be asked for like this; ``latest``: how far ahead it may look. Raises BadRequest."""
    if as_of is not None:
        check_instant(as_of)
        if latest and as_of > latest:
            raise BadRequest("asOf lies in the future: only a dry run can look there; add dryRun")
    if force and user_id is None:
        raise BadRequest("force needs userId: it is for one person")


def _end_of(work: "asyncio.Future[Applied]", beat: "asyncio.Future[_Stop]") -> "Applied | _Stop":
    """What the work came to, or why it was stopped; a stop cancels the work. Raises what the work raised."""
    if beat.done() and not (work.done() and not work.cancelled() and work.exception() is None):
        return beat.result()
    return work.result()


def _traceback(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


def _traced(run: Run) -> dict[str, Value]:
    """What a trace says about a run: its options may name a person."""
    return {
        "jobs.job": run.job,
        "jobs.run.id": run.id,
        "jobs.run.trigger": str(run.trigger),
        "jobs.run.slot": run.nominal_at.isoformat(),
        "jobs.run.attempt": run.attempt,
    }


def _failure(run: Run, ended: Run | None) -> str | None:
    """How this attempt failed, None: it did not."""
    if ended is None or ended.epoch != run.epoch:
        return "lost"
    return str(ended.state) if ended.state in {RunState.FAILED, RunState.DEAD} else None


def _ask(job: Job, facts: Facts, tick: Tick) -> tuple[Decision, str | None]:
    """One user's failure never stops the others: it becomes a reason and a traceback."""
    try:
        return job.decide(facts, tick), None
    except Exception as error:  # noqa: BLE001
        return Skip(facts.user.id, Reason.USER_ERROR, type(error).__name__), traceback.format_exc()


def reach(
    message: Message, user: User, known: Known, tick: Tick, now: datetime
) -> tuple[list[Planned], Skip | None]:
    """The message on each channel that is allowed, and the first rule that kept it off one.

    The rules and their order: ``contact.answers``.
    """
    on = eligibility.terms(message, tick, now)
    planned: list[Planned] = []
    refused: tuple[Reason, Channel] | None = None
    for channel in message.channels:
        at = eligibility.reach(message, user, channel, known, on)
        if isinstance(at, Reason):
            refused = refused or (at, channel)
        else:
            planned.append(Planned(message, channel, user, at, on.expires, on.key))
    if refused is None:
        return planned, None
    detail = f"Not on the channel {refused[1]}." if planned else ""
    return planned, Skip(user.id, refused[0], detail)


def _pair(planned: Planned) -> tuple[str, str]:
    return planned.dedupe_key, str(planned.channel)


def _counted(applied: Applied, new: set[tuple[str, str]]) -> Counter[str]:
    """What happened on a page, by name: planned mails, in-app messages, and each reason."""
    counts = Counter(refusal.reason for refusal in applied.refused)
    for planned in applied.planned:
        mail = planned.channel is Channel.EMAIL
        if _pair(planned) in new:
            counts["planned" if mail else "in_app"] += 1
        elif mail:
            counts[str(Reason.ALREADY_SENT)] += 1
    return counts


async def _result(turn: "asyncio.Future[Run | None]") -> Run | None:
    try:
        return await turn
    except asyncio.CancelledError:
        return None


async def _first(seconds: float, stopping: "asyncio.Future[Literal[True]]", wake: asyncio.Event) -> None:
    """Wait for the stop, for something to do, or for the time, whichever comes first."""
    waking = asyncio.ensure_future(wake.wait())
    try:
        await asyncio.wait([stopping, waking], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waking.cancel()
