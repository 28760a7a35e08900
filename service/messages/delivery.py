"""Delivery: claim, revalidate with the dashboard, compose, send, record the result.

SMTP has no commit. "About to write the final dot" is recorded, durably and fenced, before the dot is written;
the answer is recorded after it. A crash before the mark is certain non-delivery; between mark and answer
nobody knows, and the message becomes *unconfirmed*: held, or sent again with the same bytes, by its policy.

    claim ─► DeliveryChecks: ask the dashboard, compose ─► ReadyQueue ◄─ connections pull
                                    RecordWriter: dots and answers ◄────────┘
"""

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Any

from service.clock import Clock
from service.dashboard.dashboard_state import DashboardState, StateQuery
from service.engine.database_errors import FAILURES, is_transient
from service.engine.fault_log import FaultLog
from service.engine.job import Job
from service.engine.loops import first_of, gets_on
from service.engine.retry import backoff
from service.messages.delivery_answers import DeliveryAnswers
from service.messages.delivery_checks import DeliveryChecks
from service.messages.delivery_in_hand import DeliveriesInHand
from service.messages.delivery_settings import DeliverySettings
from service.messages.mail.transport import Envelope, Transport
from service.messages.outbox import ClaimedDelivery, Outbox, Recorded, Settlement
from service.messages.ready_queue import ReadyMail, ReadyQueue
from service.messages.record_writer import RecordWriter
from service.messages.replacement import Replacements
from service.tracing import UNTRACED, Span, Tracer

_STILL_IN_HAND = timedelta(seconds=5)
"""A mail that was taken back from us, and claimed again while it is still in hand, waits so long."""
_RECOVER_SECONDS = 10.0
_TEND_SECONDS = 1.0
_ASKED_SECONDS = 5.0
"""A mail that has not begun so long after the dashboard was asked is released, and asked about again."""
_PACE_SECONDS = 5
_BATCHES = 2
"""So many batches are checked at once: while one waits for the dashboard, another is composed."""
_SLOT_SECONDS = 2.0
"""While the rate of all mails allows none for longer than this, none is claimed."""
_LAST_SECONDS = 1.0
"""How long the end waits for PostgreSQL; what it does not take by then is left to its lease."""


class DeliveryLoop:
    """Sends what is in the outbox. Several may share one database.

    ``compose`` makes the bytes of a mail. ``current_state`` asks the dashboard. ``replacements`` decides
    again about messages that do not hold any more. ``sender``: the envelope sender of a delivery id.
    ``wake``: set when messages were planned. ``tracer`` records each attempt. ``wait``: how ``serve`` waits
    for seconds or an event.
    """

    def __init__(
        self,
        outbox: Outbox,
        transport: Transport,
        compose: Callable[[ClaimedDelivery], bytes],
        current_state: Callable[[StateQuery], Awaitable[DashboardState]],
        jobs: Mapping[str, Job],
        replacements: Replacements,
        *,
        sender: Callable[[int], str],
        clock: Clock,
        wake: asyncio.Event,
        settings: DeliverySettings,
        tracer: Tracer = UNTRACED,
        wait: Callable[..., Awaitable[None]] = first_of,
    ) -> None:
        self._outbox = outbox
        self._transport = transport
        self._checks = DeliveryChecks(
            outbox, compose, current_state, jobs, replacements, sender, clock.monotonic
        )
        self._clock = clock
        self._wake = wake
        self._settings = settings
        self._wait = wait
        self._in_hand = DeliveriesInHand(outbox, tracer)
        self._writer = RecordWriter(self._record, settings.connections)
        self._answers = DeliveryAnswers(outbox, self._writer, self._in_hand, clock.monotonic)
        self._queue = self._answers.queue = ReadyQueue(
            settings.limits,
            self._writer,
            self._answers,
            now=clock.monotonic,
            rate=settings.rate,
            wake=transport.wake,
        )
        self._relay = self._answers.relay
        self._queue.closed = lambda: self._relay.closed or self._writer.away
        self._writer.back = transport.wake
        self._checking = self._batches = self._answered = 0
        self._pace: deque[int] = deque(maxlen=_PACE_SECONDS)
        self._cannot_claim = FaultLog("mails cannot be claimed", clock=clock.monotonic)

    @property
    def problem(self) -> str | None:
        """Why the mail server refuses all our mail, in one sentence; None: it does not."""
        return self._relay.problem

    @property
    def totals(self) -> Counter[str]:
        """How many mails were settled since the start, by state, or state and reason."""
        return self._answers.totals

    # ── Running ─────────────────────────────────────────────────────────────────────────────────────────────

    async def serve(self, stop: asyncio.Event) -> None:
        """Send until ``stop``. Then mails whose dot was granted end, and all others are released.

        While the server refuses all mail, single messages probe it, at growing intervals.
        """
        self._in_hand.keep.stop = stop
        await self._run(self._serve(stop), stop)

    async def run_once(self, stop: asyncio.Event | None = None) -> int:
        """Recover expired leases, then send what is due, until nothing is left to do.

        Returns how many messages were settled. While the server refuses all mail, only one is sent, as a
        probe.
        """
        before = self.totals.total()
        await self._outbox.recover()
        await self._run(self._send_all(), stop)
        return self.totals.total() - before

    async def _run(self, feeding: Coroutine[Any, Any, None], stop: asyncio.Event | None) -> None:
        self._transport.start(self._queue)
        writing = asyncio.ensure_future(self._writer.serve())
        tending = asyncio.ensure_future(self._tend())
        work = asyncio.ensure_future(feeding)
        stopping = asyncio.ensure_future((stop or asyncio.Event()).wait())
        try:
            await asyncio.wait({work, writing, tending, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (work, tending, stopping):
                task.cancel()
            await self._end(writing, {work, tending})
        for task in (writing, tending, work):
            if task.done() and not task.cancelled() and (error := task.exception()):
                raise error

    async def _end(self, writing: asyncio.Task[None], feeding: set[asyncio.Task[None]]) -> None:
        """Mails whose dot was granted end; all others are released; what is known is written.

        Each wait is short, so that the sum stays within the grace of the process.
        """
        self._release_waiting()
        sending = asyncio.ensure_future(self._transport.stop(self._settings.grace))
        await asyncio.wait({sending, *feeding}, timeout=self._settings.grace + _LAST_SECONDS)
        self._release_waiting()
        await self._writer.written(_LAST_SECONDS)
        await self._in_hand.written(_LAST_SECONDS)
        writing.cancel()
        await asyncio.wait({writing}, timeout=_LAST_SECONDS / 2)

    async def _serve(self, stop: asyncio.Event) -> None:
        while True:
            self._wake.clear()
            if self.problem:
                try:
                    await self._probe(at_once=False)
                except FAILURES as error:
                    if not is_transient(error):
                        raise
                    self._cannot_claim.occurred(error)
                await self._wait(_TEND_SECONDS, stop)
            else:
                await self._feed_all(forever=True)

    async def _send_all(self) -> None:
        await self._relay.refresh()
        if self.problem:
            await self._probe(at_once=True)
        else:
            await self._feed_all(forever=False)
        await self._in_hand.until_none()

    async def _feed_all(self, *, forever: bool) -> None:
        """Claim and check, as long as the queue has room, until the server refuses us."""
        async with asyncio.TaskGroup() as checks:
            await self._feed(checks, forever=forever)
        self._release_waiting()

    async def _feed(self, checks: asyncio.TaskGroup, *, forever: bool) -> None:
        failures = 0
        while not self.problem:
            self._in_hand.changed.clear()  # before anything is looked at: what ends during a claim counts
            batch = self._batch
            if self._queue.seconds_to_slot > _SLOT_SECONDS:
                await self._until_fewer(0)
                continue
            if self._batches >= _BATCHES or self._queue.waiting + self._checking >= batch * 3 / 2:
                await self._until_fewer(batch // 2 + self._queue.sending, at_once=False)
                continue
            had_none = not self._in_hand.claims
            try:
                claimed = await self._claim(batch)
                failures = 0
                self._cannot_claim.over()
            except FAILURES as error:
                if not is_transient(error):
                    raise
                failures += 1
                self._cannot_claim.occurred(error)
                await asyncio.sleep(backoff(failures, first=0.2, most=5.0))
                continue
            if claimed:
                checks.create_task(self._check(claimed))
            elif not forever and had_none:  # else a domain may have had no room while the claim was made
                return
            if len(claimed) < batch:  # nothing else may be claimed now
                await self._until_fewer((self._queue.in_hand + 1) // 2)

    async def _until_fewer(self, count: int, *, at_once: bool = True) -> None:
        """Until fewer mails than ``count`` wait or are sent, none is in hand, or new ones were planned.

        ``at_once``: also if there are fewer already.
        """
        self._queue.set_drained_below(count, at_once=at_once)
        await self._wait(self._settings.idle, self._queue.drained, self._in_hand.changed, self._wake)
        self._wake.clear()

    async def _probe(self, *, at_once: bool) -> None:
        """Send one mail to a server that refuses us, if it is our turn."""
        await self._in_hand.until_none()
        try:
            await self._relay.probe(self._send_one, self._transport, at_once=at_once)
        finally:
            self._release_waiting()

    async def _send_one(self) -> bool:
        """Send the mail of a probe; False: none is due."""
        claimed = await self._claim(1)
        if claimed:
            await self._check(claimed)
            await self._in_hand.until_none(lambda: not self._relay.probing)
        return bool(claimed)

    # ── Claims ──────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def _batch(self) -> int:
        """How many mails are claimed at once: what can be sent soon, by the rate and by the server's pace."""
        batch = self._settings.batch
        if len(self._pace) == _PACE_SECONDS:
            batch = min(batch, max(self._settings.connections, sum(self._pace)))
        if self._settings.rate:
            batch = min(batch, int(2 * self._settings.rate))
        return max(1, batch)

    def _measure_pace(self) -> None:
        """Note how many mails were answered within the last second, while mails waited all the time."""
        answered = self._answers.count - self._answered
        self._answered = self._answers.count
        if self._queue.waiting:
            self._pace.append(answered)
        else:
            self._pace.clear()

    async def _claim(self, limit: int) -> list[ClaimedDelivery]:
        capacities = self._queue.capacities()
        claim = self._outbox.claim(limit, capacities, self._queue.others, probe=self._relay.probing)
        claiming = asyncio.ensure_future(claim)
        try:
            claimed = await asyncio.shield(claiming)
        except asyncio.CancelledError:
            await self._take_back(claiming)
            raise
        gets_on()
        again = [delivery for delivery in claimed if self._in_hand.has(delivery.id)]
        new = [delivery for delivery in claimed if delivery not in again] if again else claimed
        self._in_hand.add(claimed)
        self._in_hand.release(again, _STILL_IN_HAND)
        self._queue.reserve(new)
        self._checking += len(new)
        return new

    async def _take_back(self, claiming: asyncio.Task[list[ClaimedDelivery]]) -> None:
        """A stop came while mails were claimed: they need not wait for the end of their lease."""
        await asyncio.wait({claiming}, timeout=_LAST_SECONDS)
        if claiming.done() and not claiming.exception():
            self._in_hand.add(claiming.result())
            self._in_hand.release(claiming.result())
        else:
            claiming.cancel()

    async def _check(self, claimed: Sequence[ClaimedDelivery]) -> None:
        """Say of each what becomes of it; what an error or a stop leaves undecided is released."""
        checked = _CheckedBatch(self, self._clock.monotonic, claimed)
        self._batches += 1
        try:
            await self._checks.check(claimed, checked)
        except FAILURES as error:
            if not is_transient(error):
                raise
            self._cannot_claim.occurred(error)
        finally:
            self._batches -= 1
            self._queue.drained.set()
            self.release(list(checked.undecided.values()))

    def ready(self, delivery: ClaimedDelivery, envelope: Envelope, checked_at: float) -> None:
        """A mail with its bytes: a connection may pull it."""
        self._checking -= 1
        self._queue.add(ReadyMail(delivery, envelope, checked_at, self._in_hand.span(delivery)))
        self._transport.wake(1 if self._relay.probing else None)

    def settled(self, delivery: ClaimedDelivery, settlement: Settlement, *, stored: bool) -> None:
        """A mail that is not sent. ``stored``: that is in the database already."""
        self._checking -= 1
        self._queue.drop(delivery)
        self._answers.settled(delivery, settlement)
        if stored:
            self._in_hand.done(delivery)
        else:
            self._writer.settle(settlement, partial(self._written, delivery))

    def _written(self, delivery: ClaimedDelivery, ours: bool | None) -> None:  # noqa: FBT001
        if ours is None:
            self._in_hand.abandon(delivery)
        else:
            self._in_hand.done(delivery)

    def release(self, deliveries: Sequence[ClaimedDelivery], pause: timedelta = timedelta(0)) -> None:
        """Claimed mails that never came into the queue: to be claimed again after ``pause``."""
        for delivery in deliveries:
            self._checking -= 1
            self._queue.drop(delivery)
        self._in_hand.release(deliveries, pause)

    def span(self, delivery: ClaimedDelivery) -> Span:
        """The span of its attempt."""
        return self._in_hand.span(delivery)

    def _release_waiting(self) -> None:
        self._in_hand.release([mail.claimed for mail in self._queue.withdraw(lambda _mail: True)])

    async def _record(self, dots: Sequence[tuple[int, int]], settlements: Sequence[Settlement]) -> Recorded:
        recorded = await self._outbox.record(dots, settlements, probe=self._relay.probing)
        for domain in recorded.reopened:
            release = partial(self._outbox.release_throttled, domain)
            self._in_hand.start(self._in_hand.keep.until_written(release))
        return recorded

    # ── Every second ────────────────────────────────────────────────────────────────────────────────────────

    async def _tend(self) -> None:
        """Release what waits too long, keep our leases, recover those of others."""
        lease = self._outbox.lease.total_seconds()
        renew_at = self._clock.monotonic()
        recover_at = renew_at - _RECOVER_SECONDS
        while True:
            await asyncio.sleep(_TEND_SECONDS)
            now = self._clock.monotonic()
            self._measure_pace()
            self._in_hand.release([mail.claimed for mail in self._queue.too_old(_ASKED_SECONDS)])
            try:
                await self._relay.refresh()
                await self._outbox.keep_statistics()
                await self._forget_pauses()
                if now >= renew_at + lease / 3:
                    renew_at = now
                    await self._renew()
                if now >= recover_at + _RECOVER_SECONDS:
                    recover_at = now
                    await self._outbox.recover()
            except FAILURES as error:
                if not is_transient(error):
                    raise
                self._cannot_claim.occurred(error)

    async def _forget_pauses(self) -> None:
        """Somebody may have ended the pause of a domain."""
        if known := self._queue.pauses:
            self._queue.forget_pauses(known, await self._outbox.ended_pauses(known))

    async def _renew(self) -> None:
        if claims := self._in_hand.claims:
            lost = set(claims) - await self._outbox.renew(claims)
            withdrawn = self._queue.withdraw(lambda mail: mail.claimed.claim in lost)
            self._in_hand.release([mail.claimed for mail in withdrawn])


class _CheckedBatch:
    """What the checks say of one batch; they begin when the dashboard has answered."""

    def __init__(
        self, loop: DeliveryLoop, now: Callable[[], float], claimed: Sequence[ClaimedDelivery]
    ) -> None:
        self._loop = loop
        self._now = now
        self._answered_at: float | None = None
        self.undecided = {delivery.id: delivery for delivery in claimed}

    def ready(self, delivery: ClaimedDelivery, envelope: Envelope) -> None:
        del self.undecided[delivery.id]
        if self._answered_at is None:
            self._answered_at = self._now()
        self._loop.ready(delivery, envelope, self._answered_at)

    def settled(self, delivery: ClaimedDelivery, settlement: Settlement, *, stored: bool) -> None:
        del self.undecided[delivery.id]
        self._loop.settled(delivery, settlement, stored=stored)

    def released(self, deliveries: Sequence[ClaimedDelivery], pause: timedelta) -> None:
        for delivery in deliveries:
            del self.undecided[delivery.id]
        self._loop.release(deliveries, pause)

    def span(self, delivery: ClaimedDelivery) -> Span:
        return self._loop.span(delivery)
