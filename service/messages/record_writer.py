"""Dots and answers go to PostgreSQL in groups: one statement for all that came while the last one ran.

A dot is granted only by a commit. Answers are kept until PostgreSQL has taken them, so while it is away
there is at most one outstanding answer for each connection, and no mail is begun. A dot that was not granted
although its mark may have been committed is taken back like an answer.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import structlog

from service.engine.database_errors import FAILURES, is_transient
from service.engine.fault_log import FaultLog
from service.messages.delivery_state import DeliveryState
from service.messages.keep_writing import pause_after
from service.messages.outbox import ClaimedDelivery, Recorded, Settlement

log = structlog.get_logger()

_GATHER_SECONDS = 0.001
"""How long a group is gathered at the most, after the statement before it."""
_MOST = 500

Record = Callable[[Sequence[tuple[int, int]], Sequence[Settlement]], Awaitable[Recorded]]
"""``Outbox.record``."""


@dataclass(frozen=True, slots=True)
class _Dot:
    claimed: ClaimedDelivery
    granted: Callable[[bool], None]


@dataclass(frozen=True, slots=True)
class _Answer:
    settlement: Settlement
    written: Callable[[bool | None], None] | None


class RecordWriter:
    """Writes what connections ask for. ``connections``: how many there are at the most."""

    def __init__(self, record: Record, connections: int) -> None:
        self._record = record
        self._enough = max(1, connections * 9 // 10)
        self._writing = False
        self._dots: list[_Dot] = []
        self._answers: list[_Answer] = []
        self._wanted = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._ring: asyncio.TimerHandle | None = None
        self._fault = FaultLog("answers of the mail server are kept until they can be written")
        self.away = False
        self.back: Callable[[], None] = lambda: None
        """Called when PostgreSQL has taken something again."""

    @property
    def pending(self) -> int:
        """How many answers are not written yet."""
        return len(self._answers)

    def request_dot(self, claimed: ClaimedDelivery, granted: Callable[[bool], None]) -> None:
        """Mark the final dot of a mail; ``granted`` is called once it is known whether it may be written."""
        self._dots.append(_Dot(claimed, granted))
        self._want()

    def settle(self, settlement: Settlement, written: Callable[[bool | None], None] | None = None) -> None:
        """Write a result; ``written`` is called when it is: False if the mail was not ours any more.

        None: PostgreSQL refuses this result by a bug of ours, and it is left to the end of the lease.
        """
        self._answers.append(_Answer(settlement, written))
        self._want()

    def _want(self) -> None:
        self._idle.clear()
        if not self._writing:
            self._gather()

    def _gather(self) -> None:
        """Write at once if nearly all connections ask, and soon if not.

        Those whose dots were just granted will ask again presently. Without waiting for them, one half of
        the connections would be written while the other half gathers.
        """
        if len(self._dots) >= self._enough:
            self._now()
        elif self._ring is None:
            self._ring = asyncio.get_running_loop().call_later(_GATHER_SECONDS, self._now)

    def _now(self) -> None:
        self._stop_ring()
        self._wanted.set()

    def _stop_ring(self) -> None:
        if self._ring is not None:
            self._ring.cancel()
            self._ring = None

    async def serve(self) -> None:
        """Write until cancelled."""
        failures = 0
        if self._answers or self._dots:
            self._wanted.set()
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            self._stop_ring()
            dots, self._dots = self._dots, []
            answers = self._next_answers()
            self._writing = True
            try:
                await self._write(dots, answers)
            except FAILURES as error:
                self._keep(dots, answers, error)
                if not is_transient(error) and len(answers) + len(dots) > 0:
                    await self._write_singly()
                    continue
                failures += 1
                await asyncio.sleep(pause_after(failures))
                self._wanted.set()
                continue
            except asyncio.CancelledError:
                self._keep(dots, answers, None)
                raise
            finally:
                self._writing = False
            failures = 0
            if self._answers or self._dots:
                self._gather()
            else:
                self._idle.set()

    def _next_answers(self) -> list[_Answer]:
        """Those of the next statement: only one of each mail, as an UPDATE takes only one."""
        ids: set[int] = set()
        for answer in self._answers[:_MOST]:
            if answer.settlement.id in ids:
                break
            ids.add(answer.settlement.id)
        answers = self._answers[: len(ids)]
        del self._answers[: len(ids)]
        return answers

    async def _write(self, dots: Sequence[_Dot], answers: Sequence[_Answer]) -> None:
        if not dots and not answers:
            return
        recorded = await self._record(
            [(dot.claimed.id, dot.claimed.claim) for dot in dots], [answer.settlement for answer in answers]
        )
        was_away, self.away = self.away, False
        self._fault.over()
        for dot in dots:
            dot.granted(dot.claimed.id in recorded.marked)
        for answer in answers:
            if answer.written:
                answer.written(answer.settlement.id in recorded.settled)
        if was_away:
            self.back()

    def _keep(self, dots: Sequence[_Dot], answers: Sequence[_Answer], error: BaseException | None) -> None:
        """No dot of these is written; the answers are written later."""
        self._answers[:0] = answers
        self._answers += [_Answer(taken_back(dot.claimed), None) for dot in dots]
        if error is not None and is_transient(error):
            self.away = True
            self._fault.occurred(error)
        for dot in dots:
            dot.granted(False)  # noqa: FBT003

    async def _write_singly(self) -> None:
        """One of these is refused by a bug of ours: that one is left to its lease, the others are written."""
        answers, self._answers = self._answers, []
        for position, answer in enumerate(answers):
            try:
                await self._write((), [answer])
            except FAILURES as error:
                if is_transient(error):
                    self._answers[:0] = answers[position:]
                    break
                log.exception("a result cannot be written", delivery=answer.settlement.id)
                if answer.written:
                    answer.written(None)
        self._wanted.set()

    async def written(self, seconds: float) -> bool:
        """Wait until all is written, at most so many seconds. False: something is left to its lease."""
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True


def taken_back(claimed: ClaimedDelivery) -> Settlement:
    """The final dot of this mail was certainly not written: it waits again, and no attempt is counted."""
    return Settlement(
        claimed.id, claimed.claim, DeliveryState.PLANNED, refund=True, unwritten=True, dot_at=claimed.dot_at
    )
