"""Delivery: claim, revalidate with the dashboard, compose, send, record the result.

SMTP has no commit. "About to write the final dot" is recorded, durably and fenced, before the dot is written;
the answer is recorded after it. A crash before the mark is certain non-delivery; between mark and answer
nobody knows, and the message becomes *unconfirmed*: held, or sent again with the same bytes, by its policy.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import asyncpg
import structlog

from service.clock import Clock
from service.dashboard.dashboard_state import DashboardState, StateQuery
from service.engine.fault_log import FaultLog, one_line
from service.engine.job import Job
from service.engine.loops import first_of, gets_on
from service.engine.retry import domain_pauses
from service.errors import SchemaUnknown, SourceUnavailable
from service.messages.delivery_decisions import (
    before_sending,
    changed_columns,
    settlement_of,
    state_query,
)
from service.messages.delivery_settings import DeliverySettings
from service.messages.delivery_state import DeliveryState
from service.messages.delivery_traces import attempt_attributes, record_answer, record_settlement
from service.messages.keep_writing import KeepWriting
from service.messages.limits import BatchShare, DomainLimiter, domain_of
from service.messages.mail.smtp_reply import Fate, fate_of, throttles
from service.messages.mail.transport import Envelope, SendResult, Transport
from service.messages.outbox import ClaimedDelivery, Outbox, Settlement
from service.messages.relay import RelayState
from service.messages.reminder import Revalidated, reminders
from service.messages.replacement import Replacements
from service.messages.statement_group import StatementGroup
from service.tracing import UNTRACED, Span, Tracer, Value

log = structlog.get_logger()

_DASHBOARD_PAUSE = timedelta(seconds=30)
_BUSY_PAUSE = timedelta(seconds=2)
_RECOVER_SECONDS = 10.0
_FOREVER = datetime.max.replace(tzinfo=UTC)
_NEVER = datetime.min.replace(tzinfo=UTC)
_SMTP: dict[str, Value] = {"network.protocol.name": "smtp"}


@dataclass(frozen=True, slots=True)
class ComposedDelivery:
    """A claimed message with its bytes."""

    claimed: ClaimedDelivery
    envelope: Envelope


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
        self._compose = compose
        self._current_state = current_state
        self._jobs = reminders(jobs)
        self._replacements = replacements
        self._sender = sender
        self._clock = clock
        self._wake = wake
        self._settings = settings
        self._tracer = tracer
        self._wait = wait
        self._spans: dict[int, Span] = {}
        self._dots = StatementGroup(self._outbox.mark_dots)
        self._answers = KeepWriting()
        self._settlements = StatementGroup(self._settle_for_sure)
        self._next_slot = 0.0
        self._limiter = DomainLimiter(settings.limits)
        self._paused_until: dict[str, datetime] = {}
        self._claim_lock = asyncio.Lock()
        self._work_signal = asyncio.Event()
        self._nothing_due = False
        self._busy = 0
        self._recover_at = 0.0
        self._waiting = FaultLog("delivery waits for the dashboard", clock=clock.monotonic)
        self._relay = RelayState()
        self.totals: Counter[str] = Counter()

    @property
    def problem(self) -> str | None:
        """Why the mail server refuses all our mail, in one sentence; None: it does not."""
        return self._relay.problem

    async def serve(self, stop: asyncio.Event) -> None:
        """Send until ``stop``; the current batches are finished first.

        While the server refuses all mail, single messages probe it, at growing intervals.
        """
        self._answers.stop = stop
        while not stop.is_set():
            self._wake.clear()
            processed = await self.run_once(stop)
            if self.problem:
                await self._wait(self._relay.pause(probed=bool(processed)), stop)
            elif not processed:
                await self._wait(self._settings.idle, stop, self._wake)

    async def run_once(self, stop: asyncio.Event | None = None) -> int:
        """Recover expired leases, then send what is due, batch by batch on every connection.

        Returns how many messages were processed. While the server refuses all mail, only one is sent, as a
        probe.
        """
        await self._recover(at_once=True)
        self._signal_work()
        if self.problem:
            return await self._probe()
        count = self._settings.connection_count(self._outbox.lease)
        async with asyncio.TaskGroup() as group:
            connections = [group.create_task(self._send_batches(stop)) for _ in range(count)]
        return sum(connection.result() for connection in connections)

    async def _probe(self) -> int:
        self._relay.probing = True
        try:
            return await self._one_batch(1) or 0
        finally:
            self._relay.probing = False

    async def _send_batches(self, stop: asyncio.Event | None) -> int:
        """Send batch after batch, until no connection has anything left to do; returns how many messages."""
        processed = 0
        while not (self.problem or (stop and stop.is_set())):
            done = await self._one_batch(self._settings.batch_size(self._outbox.lease))
            processed += done or 0
            if done == 0 or (done is None and not self._busy):
                break
            if done is None:
                await self._wait_for_work(stop)
                await self._recover()
        self._signal_work()
        return processed

    async def _wait_for_work(self, stop: asyncio.Event | None) -> None:
        """While other connections send, wait for new messages, or for capacity in a domain."""
        await first_of(self._settings.idle, self._work_signal, self._wake, *((stop,) if stop else ()))
        if not self._work_signal.is_set():
            self._wake.clear()
            self._signal_work()

    def _signal_work(self) -> None:
        """Wake connections that wait: there may be something to claim."""
        self._nothing_due = False
        self._work_signal.set()

    async def _recover(self, *, at_once: bool = False) -> None:
        now = self._clock.monotonic()
        if at_once or now >= self._recover_at:
            self._recover_at = now + _RECOVER_SECONDS
            await self._outbox.recover()

    async def _one_batch(self, limit: int) -> int | None:
        """How many were processed; 0: the dashboard could not be asked; None: there was nothing to claim."""
        claimed, share = await self._claim(limit)
        if not claimed:
            return None
        # A stop or another connection's failure must not interrupt a message between its dot and its result.
        work = asyncio.ensure_future(self._deliver(claimed, share))
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            await work
            raise

    async def _claim(self, limit: int) -> tuple[list[ClaimedDelivery], BatchShare]:
        """Claim what the limits of the domains allow; one connection at a time."""
        async with self._claim_lock:
            claimed: list[ClaimedDelivery] = []
            if not self._nothing_due:
                self._work_signal.clear()
                capacities = self._limiter.capacities(self._clock.monotonic())
                claimed = await self._outbox.claim(limit, capacities, self._limiter.others)
                gets_on()
                self._nothing_due = not claimed and not self._work_signal.is_set()
            share = self._limiter.reserve([c.domain for c in claimed], {c.domain for c in claimed if c.probe})
            if claimed:
                self._busy += 1
                self._signal_work()
            return claimed, share

    async def _deliver(self, claimed: list[ClaimedDelivery], share: BatchShare) -> int:
        self._spans.update((delivery.id, self._start_span(delivery)) for delivery in claimed)
        try:
            return await self._process(claimed, share)
        finally:
            for delivery in claimed:
                self._spans.pop(delivery.id, UNTRACED).end()
            share.close()
            self._outbox.done(claimed[0].claim)
            self._busy -= 1
            self._signal_work()

    async def _process(self, claimed: list[ClaimedDelivery], share: BatchShare) -> int:
        try:
            current = await self._current_state(state_query(claimed, self._jobs))
        except (SourceUnavailable, SchemaUnknown) as error:
            # Nothing is sent without revalidation.
            self._waiting.occurred(error)
            await self._outbox.release(claimed, _DASHBOARD_PAUSE)
            return 0
        self._waiting.over()
        await self._send(await self._prepare(claimed, current), share)
        return len(claimed)

    # ── Before sending ──────────────────────────────────────────────────────────────────────────────────────

    async def _prepare(
        self, claimed: Sequence[ClaimedDelivery], current: DashboardState
    ) -> list[ComposedDelivery]:
        """Settle or replace what is no longer valid, and compose the rest."""
        ready: list[ComposedDelivery] = []
        settlements: list[Settlement] = []
        changed: list[dict[str, Any]] = []
        rerouted: list[ClaimedDelivery] = []
        outdated: list[ClaimedDelivery] = []
        follow_zones = self._replacements.clock_zone is None
        for delivery in claimed:
            checked = before_sending(delivery, self._jobs[delivery.job], current, follow_zones=follow_zones)
            if isinstance(checked, Settlement):
                settlements.append(checked)
                continue
            if isinstance(checked, Revalidated):
                outdated.append(delivery)
                continue
            if checked != delivery:
                changed.append(changed_columns(checked))
            if domain_of(checked.address) != delivery.domain:
                rerouted.append(checked)  # claimed again within the limits of its new domain
                continue
            await asyncio.sleep(0)  # composing is slow: let other tasks run in between
            composed = self._composed(checked)
            if isinstance(composed, Settlement):
                settlements.append(composed)
            else:
                ready.append(composed)
        await self._outbox.update_changed(changed)
        await self._outbox.release(rerouted)
        await self._outbox.settle(settlements)
        settlements += await self._replace(outdated, current)
        for settlement in settlements:
            self._count(settlement.state, settlement.reason)
            record_settlement(self._span(settlement.id), settlement)
        return ready

    def _composed(self, delivery: ClaimedDelivery) -> ComposedDelivery | Settlement:
        try:
            with self._span(delivery.id).child("compose") as span:
                content = self._compose(delivery)
                span.note({"messaging.message.body.size": len(content)})
            envelope = Envelope(delivery.id, self._sender(delivery.id), delivery.address, content)
        except (ValueError, KeyError, TypeError) as error:
            log.exception("mail cannot be composed", delivery=delivery.id, job=delivery.job)
            failed, why = DeliveryState.FAILED, str(error)[:200]
            return Settlement(delivery.id, delivery.claim, failed, "compose_error", None, why)
        return ComposedDelivery(delivery, envelope)

    async def _replace(
        self, outdated: Sequence[ClaimedDelivery], current: DashboardState
    ) -> list[Settlement]:
        """Decide again about messages that do not hold any more; what cannot be decided now is released."""
        if not outdated:
            return []
        pause = timedelta(0)
        try:
            reasons = await self._replacements.replace_mails([(d.id, d.claim) for d in outdated], current)
        except asyncpg.PostgresError as error:
            log.warning("messages are decided again later", n=len(outdated), error=one_line(error))
            reasons, pause = {}, _BUSY_PAUSE
        await self._outbox.release([d for d in outdated if d.id not in reasons], pause)
        self._signal_work()
        return [
            Settlement(d.id, d.claim, DeliveryState.SKIPPED, str(reasons[d.id]))
            for d in outdated
            if d.id in reasons
        ]

    # ── Sending ─────────────────────────────────────────────────────────────────────────────────────────────

    async def _send(self, chunk: Sequence[ComposedDelivery], share: BatchShare) -> None:
        """Send a batch over one connection; messages that wait for the rate of their domain come last."""
        if not chunk:
            return
        by_id = {ready.claimed.id: ready.claimed for ready in chunk}
        unanswered = dict(by_id)
        granted: set[int] = set()
        sending: dict[int, Span] = {}
        settling: list[asyncio.Task[None]] = []

        async def before_dot(ids: Sequence[int]) -> frozenset[int]:
            await self._wait_for_rate([by_id[id_].domain for id_ in ids])
            marked = await self._dots.add([(id_, by_id[id_].claim) for id_ in ids])
            granted.update(marked.intersection(ids))
            return marked.intersection(ids)

        async def on_result(result: SendResult) -> None:
            # Recorded while the next message is sent: the connection need not wait for the commit.
            claimed = unanswered.pop(result.id)
            record_answer(sending.pop(result.id, UNTRACED), result)
            self._update_relay(result, claimed)
            if throttles(result):
                self._paused_until[claimed.domain] = _FOREVER  # until _settle has stored the end of the pause
            settling.append(asyncio.ensure_future(self._settle(claimed, result, share)))

        def should_send(envelope: Envelope) -> bool:
            delivery = by_id[envelope.id]
            if self._relay.closed or self._paused_until.get(delivery.domain, _NEVER) > delivery.claimed_at:
                return False
            if delivery.id not in sending:  # asked again over another connection
                sending[delivery.id] = self._span(delivery.id).child("send", _SMTP, "client")
            return True

        order = self._limiter.order((r.claimed.domain for r in chunk), self._clock.monotonic())
        try:
            await self._transport.send(
                [chunk[position].envelope for position in order], before_dot, on_result, should_send
            )
        finally:
            for span in sending.values():
                span.end("lost")
            await asyncio.gather(*settling)
            # Without a mark no dot was written, so these can be released; of the others nobody knows.
            if unsent := [delivery for delivery in unanswered.values() if delivery.id not in granted]:
                await self._answers.until_written(partial(self._outbox.release, unsent))

    async def _wait_for_rate(self, domains: Sequence[str]) -> None:
        """Wait until the rates of these domains, and the overall rate, allow a message to each."""
        now = self._clock.monotonic()
        while now < (free_at := max(map(self._limiter.next_at, domains))):
            await asyncio.sleep(free_at - now)
            now = self._clock.monotonic()
        at = max(now, self._next_slot) if self._settings.rate else now
        self._next_slot = at + (len(domains) / self._settings.rate if self._settings.rate else 0.0)
        for domain in domains:
            self._limiter.record_send(domain, at)
        if at > now:
            await asyncio.sleep(at - now)

    async def _settle(
        self, claimed: ClaimedDelivery, result: SendResult, share: BatchShare | None = None
    ) -> None:
        outcome = fate_of(result)
        if throttles(result):
            await self._pause_domain(claimed.domain, result)
        settlement = settlement_of(claimed, result, outcome, random.random())  # noqa: S311 — spreads retries
        ours = await self._settlements.add([settlement])
        if share:
            share.done(claimed.domain)
            self._signal_work()
        if outcome in {Fate.HARD, Fate.NO_SUCH_ADDRESS} and claimed.id in ours:
            refused = {claimed.id: outcome is Fate.NO_SUCH_ADDRESS}
            await self._answers.until_written(partial(self._outbox.note_hard_bounces, refused))
        self._count(settlement.state, settlement.reason)
        record_settlement(self._span(claimed.id), settlement)
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

    async def _settle_for_sure(self, settlements: Sequence[Settlement]) -> frozenset[int]:
        return await self._answers.until_written(partial(self._outbox.settle, settlements))

    async def _pause_domain(self, domain: str, result: SendResult) -> None:
        """The domain asked us to wait: pause all mail to it, without counting an attempt."""
        pauses = domain_pauses(random.random())  # noqa: S311 — keeps processes apart
        answer = " ".join(f"{result.code} {result.reply}".split())
        try:
            pause = partial(self._outbox.pause, domain, pauses, answer)
            self._paused_until[domain] = await self._answers.until_written(pause)
        except BaseException:
            self._paused_until.pop(domain, None)
            raise
        until = self._paused_until[domain].isoformat(timespec="seconds")
        log.warning("domain asked us to wait", domain=domain, until=until, code=result.code)

    def _update_relay(self, result: SendResult, claimed: ClaimedDelivery) -> None:
        """Update at once whether the server refuses all our mail, before another message is begun."""
        previous = self.problem
        self._relay.note(fate_of(result), result, claimed.address)
        if self.problem and (self._relay.probing or not previous):
            log.error("sending stopped", problem=self.problem, phase=str(result.phase), code=result.code)
        elif previous and not self.problem:
            log.info("the mail server takes mail again")

    def _start_span(self, delivery: ClaimedDelivery) -> Span:
        """The span of an attempt; its parent is the step that planned the message."""
        return self._tracer.start(
            f"message {delivery.kind}",
            attempt_attributes(delivery),
            parent=delivery.traceparent,
            kind="consumer",
        )

    def _span(self, delivery: int) -> Span:
        return self._spans.get(delivery, UNTRACED)

    def _count(self, state: str, reason: str | None) -> None:
        self.totals[f"{state}:{reason}" if reason else state] += 1
