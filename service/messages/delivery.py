"""Delivery: claim, revalidate with the dashboard, compose, send, record the result.

SMTP has no commit. "About to write the final dot" is recorded, durably and fenced, before the dot is written;
the answer is recorded after it. A crash before the mark is certain non-delivery; between mark and answer
nobody knows, and the message becomes *unconfirmed*: held, or sent again with the same bytes, by its policy.

    claim ─► DeliveryChecks: ask the dashboard, compose ─► ReadyQueue ◄─ connections pull ─► RecordWriter
"""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Any

import structlog

from service.clock import Clock
from service.dashboard.dashboard_state import DashboardState, StateQuery
from service.engine.database_errors import FAILURES, is_transient
from service.engine.fault_log import FaultLog
from service.engine.job import Job
from service.engine.loops import first_of, gets_on
from service.engine.retry import backoff, domain_pauses
from service.messages.delivery_checks import DeliveryChecks
from service.messages.delivery_decisions import settlement_of
from service.messages.delivery_settings import DeliverySettings
from service.messages.delivery_traces import attempt_attributes, record_answer, record_settlement
from service.messages.keep_writing import KeepWriting
from service.messages.mail.smtp_reply import Fate, fate_of, throttles
from service.messages.mail.transport import Envelope, SendResult, SmtpPhase, Transport
from service.messages.outbox import ClaimedDelivery, Outbox, Settlement
from service.messages.ready_queue import FOREVER, QueueEvents, ReadyMail, ReadyQueue
from service.messages.record_writer import RecordWriter
from service.messages.relay import RelayState
from service.messages.replacement import Replacements
from service.tracing import UNTRACED, Span, Tracer, Value

log = structlog.get_logger()

_RECOVER_SECONDS = 10.0
_TEND_SECONDS = 1.0
_ASKED_SECONDS = 5.0
"""A mail that has not begun so long after the dashboard was asked is released, and asked about again."""
_LAST_SECONDS = 1.0
"""How long the end waits for PostgreSQL; what it does not take by then is left to its lease."""
_BATCHES = 2
"""So many batches are checked at once: while one waits for the dashboard, another is composed."""
_SMTP: dict[str, Value] = {"network.protocol.name": "smtp"}


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
        self._tracer = tracer
        self._wait = wait
        self._writer = RecordWriter(outbox.record, settings.connections)
        tell = QueueEvents(self._on_answer, self._on_unsent, self._on_refused_connection, self._on_begin)
        self._queue = ReadyQueue(
            settings.limits,
            self._writer,
            tell,
            now=clock.monotonic,
            rate=settings.rate,
            wake=transport.wake,
        )
        self._queue.closed = lambda: self._relay.closed or self._writer.away
        self._answers = KeepWriting()
        self._relay = RelayState()
        self._refused: list[tuple[ClaimedDelivery, SendResult]] = []
        self._spans: dict[int, Span] = {}
        self._claims: Counter[int] = Counter()
        self._checking = self._batches = 0
        self._tasks: set[asyncio.Task[Any]] = set()
        self._claim_lock = asyncio.Lock()
        self._cannot_claim = FaultLog("mails cannot be claimed", clock=clock.monotonic)
        self._processed = 0
        self._changed = asyncio.Event()
        self.totals: Counter[str] = Counter()

    @property
    def problem(self) -> str | None:
        """Why the mail server refuses all our mail, in one sentence; None: it does not."""
        return self._relay.problem

    # ── Running ─────────────────────────────────────────────────────────────────────────────────────────────

    async def serve(self, stop: asyncio.Event) -> None:
        """Send until ``stop``. Then mails whose dot was granted end, and all others are released.

        While the server refuses all mail, single messages probe it, at growing intervals.
        """
        self._answers.stop = stop
        await self._run(self._serve(stop), stop)

    async def run_once(self, stop: asyncio.Event | None = None) -> int:
        """Recover expired leases, then send what is due, until nothing is left to do.

        Returns how many messages were processed. While the server refuses all mail, only one is sent, as a
        probe.
        """
        self._processed = 0
        await self._outbox.recover()
        await self._run(self._send_all(), stop)
        return self._processed

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
            await asyncio.wait({work, tending, stopping})
            await self._end(writing)
        for task in (writing, tending, work):
            if not task.cancelled() and (error := task.exception()):
                raise error

    async def _end(self, writing: asyncio.Task[None]) -> None:
        """Mails whose dot was granted end; all others are released; what is known is written."""
        self._release_waiting()
        await self._transport.stop(self._settings.grace)
        self._release_waiting()
        await self._writer.written(_LAST_SECONDS)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_LAST_SECONDS)
        writing.cancel()
        await asyncio.wait({writing})

    async def _serve(self, stop: asyncio.Event) -> None:
        while True:
            self._wake.clear()
            if self.problem:
                probed = await self._probe()
                await self._wait(self._relay.pause(probed=bool(probed)), stop)
                continue
            await self._feed_all(forever=True)

    async def _send_all(self) -> None:
        if self.problem:
            await self._probe()
        else:
            await self._feed_all(forever=False)
        await self._until_idle()

    async def _until_idle(self, over: Callable[[], bool] = lambda: False) -> None:
        while (self._claims or self._tasks) and not over():
            self._changed.clear()
            await first_of(_TEND_SECONDS, self._changed)

    async def _feed_all(self, *, forever: bool) -> None:
        """Claim and check, as long as the queue has room, until the server refuses us."""
        async with asyncio.TaskGroup() as checks:
            await self._feed(checks, forever=forever)
        self._release_waiting()  # the server refuses us

    def _release_waiting(self) -> None:
        self._release([mail.claimed for mail in self._queue.withdraw(lambda _mail: True)])

    async def _feed(self, checks: asyncio.TaskGroup, *, forever: bool) -> None:
        failures = 0
        while not self.problem:
            batch = self._batch
            if self._batches >= _BATCHES or self._queue.waiting + self._checking >= batch * 3 / 2:
                await self._until_fewer(batch // 2 + self._queue.sending)
                continue
            try:
                claimed = await self._claim(batch)
                failures = 0
                self._cannot_claim.over()
            except FAILURES as error:
                if not forever or not is_transient(error):
                    raise
                failures += 1
                self._cannot_claim.occurred(error)
                await self._wait(backoff(failures, first=0.2, most=5.0))
                continue
            if claimed:
                checks.create_task(self._check(claimed))
            elif not forever and not self._claims:
                return
            if len(claimed) < batch:  # nothing else may be claimed now
                await self._until_fewer((self._queue.in_hand + 1) // 2)

    async def _until_fewer(self, count: int) -> None:
        """Until fewer mails than ``count`` are in hand, new ones were planned, or a while has passed."""
        self._queue.set_drained_below(count)
        await self._wait(self._settings.idle, self._queue.drained, self._wake)
        self._wake.clear()

    async def _probe(self) -> int:
        """Send one mail to a server that refuses us; returns how many were tried."""
        await self._until_idle()
        self._relay.probing = True
        try:
            claimed = await self._claim(1)
            if claimed:
                await self._check(claimed)
                await self._until_idle(lambda: not self._relay.probing)
            return len(claimed)
        finally:
            self._relay.probing = False
            self._release_waiting()

    # ── Claims ──────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def _batch(self) -> int:
        """How many mails are claimed at once: what can be sent soon."""
        if not self._settings.rate:
            return self._settings.batch
        return max(1, min(self._settings.batch, int(2 * self._settings.rate)))

    async def _claim(self, limit: int) -> list[ClaimedDelivery]:
        async with self._claim_lock:
            claiming = asyncio.ensure_future(
                self._outbox.claim(limit, self._queue.capacities(), self._queue.others)
            )
            try:
                claimed = await asyncio.shield(claiming)
            except asyncio.CancelledError:
                await self._take_back(claiming)
                raise
            gets_on()
            self._queue.reserve(claimed)
        if claimed:
            self._claims[claimed[0].claim] += len(claimed)
            self._checking += len(claimed)
        for delivery in claimed:
            self._spans[delivery.id] = self._start_span(delivery)
        return claimed

    async def _take_back(self, claiming: asyncio.Task[list[ClaimedDelivery]]) -> None:
        """A stop came while mails were claimed: they need not wait for the end of their lease."""
        await asyncio.wait({claiming}, timeout=_TEND_SECONDS)
        if claiming.done() and not claiming.exception():
            await self._outbox.release(claiming.result())
            for claim in {delivery.claim for delivery in claiming.result()}:
                self._outbox.done(claim)
        else:
            claiming.cancel()

    async def _check(self, claimed: Sequence[ClaimedDelivery]) -> None:
        """Say of each what becomes of it; what is left undecided by an error is left to its lease."""
        asked_at = self._clock.monotonic()
        undecided = {delivery.id: delivery for delivery in claimed}
        self._batches += 1
        try:
            await self._checks.check(claimed, _Checked(self, asked_at, undecided))
        finally:
            self._batches -= 1
            self._queue.drained.set()
            if undecided:
                self.release(list(undecided.values()))

    def ready(self, delivery: ClaimedDelivery, envelope: Envelope, asked_at: float) -> None:
        """A mail with its bytes: a connection may pull it."""
        self._checking -= 1
        self._queue.add(ReadyMail(delivery, envelope, asked_at, self.span(delivery)))
        self._transport.wake(1 if self._relay.probing else None)

    def settled(self, delivery: ClaimedDelivery, settlement: Settlement, *, stored: bool) -> None:
        """A mail that is not sent."""
        self._checking -= 1
        self._queue.drop(delivery)
        record_settlement(self.span(delivery), settlement)
        self._count(settlement)
        if stored:
            self._done(delivery)
        else:
            self._writer.settle(settlement, lambda _ours: self._done(delivery))

    def span(self, delivery: ClaimedDelivery) -> Span:
        """The span of its attempt."""
        return self._spans.get(delivery.id, UNTRACED)

    def release(self, deliveries: Sequence[ClaimedDelivery], pause: timedelta = timedelta(0)) -> None:
        """Claimed mails that never came into the queue: to be claimed again after ``pause``."""
        for delivery in deliveries:
            self._checking -= 1
            self._queue.drop(delivery)
        self._release(deliveries, pause)

    def _release(self, deliveries: Sequence[ClaimedDelivery], pause: timedelta = timedelta(0)) -> None:
        if deliveries:
            self._start(self._released(list(deliveries), pause))

    async def _released(self, deliveries: list[ClaimedDelivery], pause: timedelta) -> None:
        try:
            await self._answers.until_written(partial(self._outbox.release, deliveries, pause))
        finally:
            for delivery in deliveries:
                self._done(delivery)

    def _done(self, delivery: ClaimedDelivery) -> None:
        """Nothing of this mail is in hand any more."""
        self._spans.pop(delivery.id, UNTRACED).end()
        self._claims[delivery.claim] -= 1
        if self._claims[delivery.claim] <= 0:
            del self._claims[delivery.claim]
            self._outbox.done(delivery.claim)
        if not self._claims:
            self._changed.set()

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._changed.set()
        if not task.cancelled() and (error := task.exception()):
            log.error("what is left to its lease", exc_info=error)

    async def _tend(self) -> None:
        """Every second: release what waits too long, keep the leases, recover those of others."""
        lease = self._outbox.lease.total_seconds()
        renew_at = recover_at = self._clock.monotonic()
        while True:
            await asyncio.sleep(_TEND_SECONDS)
            now = self._clock.monotonic()
            self._release([mail.claimed for mail in self._queue.too_old(_ASKED_SECONDS)])
            try:
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

    async def _renew(self) -> None:
        if not self._claims:
            return
        kept = await self._outbox.renew(list(self._claims))
        for mail in self._queue.withdraw(lambda mail: mail.claimed.claim not in kept):
            self._done(mail.claimed)  # its lease is over: it is somebody else's now

    # ── What the queue tells ────────────────────────────────────────────────────────────────────────────────

    def _on_begin(self, mail: ReadyMail) -> None:
        mail.sending = mail.span.child("send", _SMTP, "client")

    def _on_unsent(self, mail: ReadyMail) -> None:
        """Its dot was not granted, or sending stops."""
        mail.sending.end("not granted")
        self._release([mail.claimed])

    def _on_refused_connection(self, phase: SmtpPhase, code: int | None, reply: str) -> None:
        previous = self.problem
        self._relay.refuse(phase, code, reply)
        self._log_relay(previous, phase, code)

    def _on_answer(self, mail: ReadyMail, result: SendResult) -> None:
        claimed, outcome = mail.claimed, fate_of(result)
        record_answer(mail.sending, result)
        self._update_relay(outcome, result, claimed)
        if outcome is Fate.CONTENT and self.problem:
            outcome = Fate.OURS  # it is refused whatever the content is
        settlement = settlement_of(claimed, result, outcome, random.random())  # noqa: S311 — spreads retries
        self._note_content(outcome, claimed, result)
        if throttles(result):
            waiting = [mail.claimed for mail in self._queue.pause(claimed.domain, FOREVER)]
            self._start(self._pause_domain(claimed.domain, result, waiting))
        self._writer.settle(settlement, partial(self._on_written, claimed, settlement, outcome, result))

    def _on_written(
        self,
        claimed: ClaimedDelivery,
        settlement: Settlement,
        outcome: Fate,
        result: SendResult,
        ours: bool,  # noqa: FBT001
    ) -> None:
        if ours and outcome in {Fate.HARD, Fate.NO_SUCH_ADDRESS}:
            refused = {claimed.id: outcome is Fate.NO_SUCH_ADDRESS}
            self._start(self._answers.until_written(partial(self._outbox.note_hard_bounces, refused)))
        self._count(settlement)
        record_settlement(self.span(claimed), settlement)
        log.info(
            "delivery",
            delivery=claimed.id,
            job=claimed.job,
            run=claimed.run_id,
            state=settlement.state,
            reason=settlement.reason,
            phase=str(result.phase),
            code=result.code,
            attempt=claimed.attempt,
        )
        self._done(claimed)

    async def _pause_domain(self, domain: str, result: SendResult, waiting: list[ClaimedDelivery]) -> None:
        """The domain asked us to wait: pause all mail to it, without counting an attempt."""
        pauses = domain_pauses(random.random())  # noqa: S311 — keeps processes apart
        answer = " ".join(f"{result.code} {result.reply}".split())
        end = await self._answers.until_written(partial(self._outbox.pause, domain, pauses, answer))
        waiting += [mail.claimed for mail in self._queue.pause(domain, end)]
        self._release(waiting)
        until = end.isoformat(timespec="seconds")
        log.warning("domain asked us to wait", domain=domain, until=until, code=result.code)

    def _note_content(self, outcome: Fate, claimed: ClaimedDelivery, result: SendResult) -> None:
        """Mails whose content was refused did not fail if the server then refuses every content."""
        if outcome is Fate.SENT:
            self._refused.clear()
        elif outcome is Fate.CONTENT:
            self._refused.append((claimed, result))
        elif self.problem and self._refused:
            for refused, why in self._refused:
                self._writer.settle(settlement_of(refused, why, Fate.OURS, 0.0))
            self._refused.clear()

    def _update_relay(self, outcome: Fate, result: SendResult, claimed: ClaimedDelivery) -> None:
        """Update at once whether the server refuses all our mail, before another message is begun."""
        previous = self.problem
        self._relay.note(outcome, result, claimed.address)
        self._log_relay(previous, result.phase, result.code)

    def _log_relay(self, previous: str | None, phase: SmtpPhase, code: int | None) -> None:
        if self.problem and (self._relay.probing or not previous):
            log.error("sending stopped", problem=self.problem, phase=str(phase), code=code)
        elif previous and not self.problem:
            log.info("the mail server takes mail again")
        if self.problem != previous:
            self._queue.drained.set()
            self._changed.set()

    def _start_span(self, delivery: ClaimedDelivery) -> Span:
        """The span of an attempt; its parent is the step that planned the message."""
        return self._tracer.start(
            f"message {delivery.kind}",
            attempt_attributes(delivery),
            parent=delivery.traceparent,
            kind="consumer",
        )

    def _count(self, settlement: Settlement) -> None:
        self._processed += 1
        reason = settlement.reason
        self.totals[f"{settlement.state}:{reason}" if reason else str(settlement.state)] += 1


class _Checked:
    """What the checks say, with the moment at which the dashboard was asked."""

    def __init__(self, loop: DeliveryLoop, asked_at: float, undecided: dict[int, ClaimedDelivery]) -> None:
        self._loop = loop
        self._asked_at = asked_at
        self._undecided = undecided

    def ready(self, delivery: ClaimedDelivery, envelope: Envelope) -> None:
        del self._undecided[delivery.id]
        self._loop.ready(delivery, envelope, self._asked_at)

    def settled(self, delivery: ClaimedDelivery, settlement: Settlement, *, stored: bool) -> None:
        del self._undecided[delivery.id]
        self._loop.settled(delivery, settlement, stored=stored)

    def released(self, deliveries: Sequence[ClaimedDelivery], pause: timedelta) -> None:
        for delivery in deliveries:
            del self._undecided[delivery.id]
        self._loop.release(deliveries, pause)

    def span(self, delivery: ClaimedDelivery) -> Span:
        return self._loop.span(delivery)
