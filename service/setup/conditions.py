"""Looks at what is wrong every few seconds, and records it as conditions for all who read them."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta

import asyncpg
import structlog

from service.dashboard.sync import Sync
from service.engine import conditions, gates, queries
from service.engine.conditions import Condition, ConditionSeverity
from service.engine.database_errors import FAILURES
from service.engine.job import Job
from service.engine.loops import first_of
from service.engine.schedule import Schedule
from service.engine.single_flight import SingleFlight
from service.engine.supervisor import Supervisor
from service.engine.unsettled import UnsettledSlot
from service.manager import conditions as judged
from service.manager.health import last_slots

_SQL = queries.load(judged.__file__)
_EVERY = 10.0
_DEADLINE = 3.0
_STALE_COPY = timedelta(minutes=10)
_STALE_PASSES = 4
_OF_PROCESS = (
    "loop_restarting",
    "loop_stalled",
    "mail_refused",
    "inbox_refused",
    "dashboard_problem",
    "process_unfit",
    "bounces_unread",
    "doubt",
)
_SHARED = (*judged.OF_JOBS, *judged.OF_PROGRESS, "lock_wait", "copy_stale", "gate_shut")
log = structlog.get_logger()


class ConditionWatch:
    """What is wrong, as this process sees it.

    ``problems``: what it knows by itself, by key, in a sentence each (None: nothing). ``unsettled``: slots
    that failed, by job. ``schedules``: by job. ``sync_interval``: seconds between two passes of the copy.
    """

    def __init__(
        self,
        pool: asyncpg.Pool,
        owner: str,
        jobs: Mapping[str, Job],
        schedules: Mapping[str, Schedule],
        supervisor: Supervisor,
        sync: Sync,
        problems: Mapping[str, Callable[[], str | None]],
        unsettled: Callable[[datetime], Awaitable[Mapping[str, Sequence[UnsettledSlot]]]],
        sync_interval: float,
    ) -> None:
        self._pool = pool
        self._owner = owner
        self._jobs = jobs
        self._schedules = schedules
        self._supervisor = supervisor
        self._sync = sync
        self._problems = problems
        self._unsettled = unsettled
        self._stale_copy = max(_STALE_COPY, _STALE_PASSES * timedelta(seconds=sync_interval))
        self._known: list[Condition] = []
        self._known_at: float | None = None
        self._looks = SingleFlight(self._look, deadline=_DEADLINE)

    async def serve(self, stop: asyncio.Event) -> None:
        """Look every ten seconds until ``stop``."""
        while not stop.is_set():
            await self.report()
            await first_of(_EVERY, stop)

    async def report(self) -> list[Condition]:
        """What is wrong now; while the database does not answer, what this process still knows."""
        clock = asyncio.get_running_loop().time
        try:
            self._known = await self._looks.get()
            self._known_at = clock()
        except FAILURES as error:
            log.warning("what is wrong cannot be looked at", error=type(error).__name__)
            return [*self._own(), *self._unseen(clock()), *self._others()]
        return self._known

    def _others(self) -> list[Condition]:
        """What the last look found that this process does not know by itself."""
        return [c for c in self._known if c.key not in (*_OF_PROCESS, "not_looked")]

    def _unseen(self, now: float) -> list[Condition]:
        """Too long without a look: what was known before is no longer what is."""
        if self._known_at is not None and now - self._known_at < conditions.TIME_TO_LIVE.total_seconds():
            return []
        self._known = []
        what = "our PostgreSQL does not say what is wrong: it does not answer, or takes too long"
        return [Condition("not_looked", self._owner, details={"what": what})]

    async def _look(self) -> list[Condition]:
        own = self._own()
        looked_at = [(key, self._owner) for key in _OF_PROCESS]
        shared = await self._shared()
        for name in ("loop_restarting", "loop_stalled"):
            looked_at += [(name, f"{self._owner}/{loop}") for loop in self._supervisor.watched]
        await conditions.record(self._pool, [*own, *shared], [*looked_at, *((key, None) for key in _SHARED)])
        return await conditions.current(self._pool)

    # ── What this process knows ─────────────────────────────────────────────────────────────────────────────

    def _own(self) -> list[Condition]:
        found = [
            Condition(key, self._owner, details={"what": what})
            for key, problem in self._problems.items()
            if (what := problem())
        ]
        if doubts := self._sync.doubts:
            what = "; ".join(doubt.sentence for doubt in doubts)
            found.append(Condition("doubt", self._owner, ConditionSeverity.WARNING, details={"what": what}))
        return [*found, *self._of_loops()]

    def _of_loops(self) -> list[Condition]:
        found = []
        for loop in self._supervisor.watched.values():
            subject, details = f"{self._owner}/{loop.name}", {"loop": loop.name, "process": self._owner}
            if loop.state == "restarting":
                what = f"the loop {loop.name} of {self._owner} is restarted: {loop.last_error}"
                found.append(Condition("loop_restarting", subject, details=details | {"what": what}))
            elif (seconds := self._supervisor.stalled(loop)) is not None:
                found.append(Condition("loop_stalled", subject, details=details | {"seconds": seconds}))
        return found

    # ── What the database shows ─────────────────────────────────────────────────────────────────────────────

    async def _shared(self) -> list[Condition]:
        async with self._pool.acquire() as connection:
            now: datetime = await connection.fetchval("SELECT service.now()")
            jobs = await connection.fetch(_SQL["jobs"], list(self._jobs))
            limits = (judged.LEASE_LIMIT, judged.PROGRESS_LIMIT, judged.MESSAGE_LIMIT)
            progress = await connection.fetchrow(_SQL["progress"], *limits)
            locks = await connection.fetch(_SQL["locks"], judged.LOCK_LIMIT)
            copy = await connection.fetch(_SQL["copy"], self._stale_copy)
            shut = await gates.current(connection)
        unsettled = await self._unsettled(now)
        assert progress
        return [
            *(c for row in jobs for c in self._of_job(row, now, unsettled)),
            *judged.progress_conditions(progress),
            *judged.lock_conditions(locks),
            *judged.copy_conditions(copy),
            *judged.gate_conditions(shut),
        ]

    def _of_job(
        self, row: asyncpg.Record, now: datetime, unsettled: Mapping[str, Sequence[UnsettledSlot]]
    ) -> list[Condition]:
        schedule = self._schedules.get(row["job"])
        slots = last_slots(schedule, row["mode"], now) if schedule else []
        return judged.job_conditions(row["job"], row, now, slots, unsettled.get(row["job"], ()))
