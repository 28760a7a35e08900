"""Whether the database's clock can be trusted: it moves as this host's monotonic clock does.

What is due, late or over is decided by the database's clock. If that runs away, even for seconds, every slot
of the time it skips would be missed. So each process keeps what the clocks said when it last looked, and the
statements that decide by time are given the latest instant that is plausible. When the clock has moved
otherwise, the gate ``clock`` is shut for all processes. A step that the host's wall clock makes too is
believed: the host slept, or both were set.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum, auto

import asyncpg
import structlog

from service.clock import Clock
from service.engine import gates
from service.engine.gates import Cause, Scope

log = structlog.get_logger()

TOLERANCE = timedelta(seconds=120)
"""How much further than the monotonic clock the database's may have moved."""
_APART = 30.0
"""Seconds between two looks that agree, which open the gate."""
_SLOWEST = 10.0
"""An answer that took longer, in seconds, says nothing about the time."""


@dataclass(frozen=True, slots=True)
class Look:
    """What the clocks said at one moment: the database's, this host's wall clock (both aware), and seconds of
    its monotonic clock."""

    database: datetime
    wall: datetime
    monotonic: float


class Verdict(Enum):
    """RIGHT: go on. WRONG: the clock ran away. UNSURE: it seems to be right again, one look is not enough."""

    RIGHT = auto()
    WRONG = auto()
    UNSURE = auto()


def expected(earlier: Look, monotonic: float) -> datetime:
    """What the database's clock should say, by the monotonic clock since an earlier look."""
    return earlier.database + timedelta(seconds=monotonic - earlier.monotonic)


def agrees(earlier: Look | None, look: Look) -> bool:
    """Whether a look is as an earlier one lets expect, or as the host's wall clock says."""
    if abs(look.database - look.wall) <= TOLERANCE:
        return True
    return earlier is not None and abs(look.database - expected(earlier, look.monotonic)) <= TOLERANCE


class ClockWatch:
    """What one process knows about the database's clock. Pure but for the clock that it is given."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._trusted: Look | None = None
        self._agreed_at: float | None = None
        self._stopped = False

    def latest(self) -> datetime | None:
        """The latest instant that the database's clock may plausibly show now; None: nothing is known."""
        if self._trusted is None:
            return None
        return expected(self._trusted, self._clock.monotonic()) + TOLERANCE

    def note_stop(self) -> None:
        """The gate is shut."""
        self._stopped = True

    def judge(self, database: datetime, *, stopped: bool) -> Verdict:
        """Judge what the database's clock says now. ``stopped``: whether the gate is shut.

        A process that has just started has nothing to compare with: it believes the clock unless the gate is
        shut. When somebody has opened the gate, the clock is believed as it is.
        """
        look = Look(database, self._clock.now(), self._clock.monotonic())
        opened, self._stopped = self._stopped and not stopped, stopped
        first = self._trusted is None and not stopped
        if not (opened or first or agrees(self._trusted, look)):
            self._agreed_at = None
            return Verdict.WRONG
        if stopped:
            self._agreed_at = look.monotonic if self._agreed_at is None else self._agreed_at
            if look.monotonic - self._agreed_at < _APART:
                return Verdict.UNSURE
        self._trusted, self._agreed_at = look, None
        return Verdict.RIGHT


class ClockGuard:
    """Shuts the gate ``clock`` when the database's clock has run away, and opens it when it is right again.

    ``now`` asks the database; ``turn_back`` undoes what was decided while its clock was ahead.
    """

    def __init__(
        self,
        pool: asyncpg.Pool,
        watch: ClockWatch,
        clock: Clock,
        owner: str,
        now: Callable[[], Awaitable[datetime]],
        turn_back: Callable[[], Awaitable[int]],
    ) -> None:
        self._pool = pool
        self._watch = watch
        self._clock = clock
        self._owner = owner
        self._now = now
        self._turn_back = turn_back

    async def check(self) -> bool:
        """Look at the clocks; whether slots may be decided."""
        gate = next((g for g in await gates.current(self._pool) if g.scope is Scope.CLOCK), None)
        asked = self._clock.monotonic()
        database = await self._now()
        if self._clock.monotonic() - asked > _SLOWEST:
            return gate is None
        verdict = self._watch.judge(database, stopped=gate is not None)
        if verdict is Verdict.WRONG and gate is None:
            await self._stop(database)
        if verdict is Verdict.RIGHT and gate is not None:
            await gates.open_gate(self._pool, gate.id, self._owner)
            log.warning("the database's clock is right again")
        if verdict is Verdict.RIGHT and (undone := await self._turn_back()):
            log.warning("slots that were decided ahead of time are undone", runs=undone)
        return verdict is Verdict.RIGHT

    async def _stop(self, database: datetime) -> None:
        wall = self._clock.now()
        details = {"database": database.isoformat(), "host": wall.isoformat()}
        await gates.shut(self._pool, Scope.CLOCK, Cause.CLOCK, by=self._owner, details=details)
        self._watch.note_stop()
        log.error("the database's clock ran away: nothing is decided or claimed", **details)
