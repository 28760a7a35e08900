"""Delivery: claim, ask the dashboard once more, compose, send, settle.

SMTP has no commit. "About to write the final dot" is recorded, durably and fenced, before the dot is written;
the answer is recorded after it. A crash before the mark is certain non-delivery; between mark and answer
nobody knows, and the message becomes *unconfirmed*: held, or sent once more byte for byte, by its policy.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog

from service.clock import Clock
from service.dashboard.dashboard_state import DashboardState
from service.engine.job import Job
from service.engine.loops import first_of
from service.engine.retry import domain_pauses
from service.errors import SchemaUnknown, SourceUnavailable
from service.messages.delivery_decisions import (
    brought_up_to_date,
    change_of,
    mentioned,
    quiet_now,
    refusal,
    settlement_of,
    still_true,
)
from service.messages.delivery_state import DeliveryState
from service.messages.delivery_traces import about_delivery, note_answer, note_fate
from service.messages.limits import BatchShare, DomainLimiter, DomainLimits, domain_of
from service.messages.mail.smtp_reply import Fate, fate, throttles
from service.messages.mail.transport import Envelope, SendResult, Transport
from service.messages.outbox import ClaimedDelivery, Outbox, Settlement
from service.messages.reason import Reason
from service.messages.relay import RelayState
from service.messages.reminder import reminders
from service.messages.statement_group import StatementGroup
from service.tracing import UNTRACED, Span, Tracer, Value

log = structlog.get_logger()

_DASHBOARD_PAUSE = timedelta(seconds=30)
_TIDY_SECONDS = 10.0
_NO_LIMITS = DomainLimits()
_EVER = datetime.max.replace(tzinfo=UTC)
_NEVER = datetime.min.replace(tzinfo=UTC)
_SMTP: dict[str, Value] = {"network.protocol.name": "smtp"}


@dataclass(frozen=True, slots=True)
class ComposedDelivery:
    """A claimed message with its bytes."""

    claimed: ClaimedDelivery
    envelope: Envelope


class DeliveryLoop:
    """Sends what is in the outbox. Several may share one database.

    ``sender``: the envelope sender of a delivery.
    ``standing`` asks the dashboard how users, goals and sessions are now. ``rate``: messages per second at
    most, 0: no limit. ``limits``: what this process sends to each recipient's domain, at once and per second.
    ``tracer``: told of every attempt at a message. ``wait``: how ``serve`` waits for seconds or an event.
    """

    def __init__(
        self,
        outbox: Outbox,
        transport: Transport,
        compose: Callable[[ClaimedDelivery], bytes],
        standing: Callable[[Sequence[str], Sequence[str], Sequence[str]], Awaitable[DashboardState]],
        jobs: Mapping[str, Job],
        *,
        sender: Callable[[int], str],
        clock: Clock,
        wake: asyncio.Event,
        connections: int = 10,
        batch: int = 25,
        rate: float = 0.0,
        limits: DomainLimits = _NO_LIMITS,
        idle: float = 2.0,
        tracer: Tracer = UNTRACED,
        wait: Callable[..., Awaitable[None]] = first_of,
    ) -> None:
        self._outbox = outbox
        self._transport = transport
        self._compose = compose
        self._standing = standing
        self._jobs = reminders(jobs)
        self._sender = sender
        self._clock = clock
        self._wake = wake
        self._connections = connections
        self._batch = batch
        self._rate = rate
        self._idle = idle
        self._tracer = tracer
        self._wait = wait
        self._spans: dict[int, Span] = {}
        self._dots = StatementGroup(self._outbox.mark_dots)
        self._settlements = StatementGroup(self._outbox.settle)
        self._next_slot = 0.0
        self._limiter = DomainLimiter(limits)
        self._pauses: dict[str, datetime] = {}
        self._turn = asyncio.Lock()
        self._stirred = asyncio.Event()
        self._dry = False
        self._busy = 0
        self._tidy_at = 0.0
        self._waits: str | None = None
        self._relay = RelayState()
        self.totals: Counter[str] = Counter()

    @property
    def problem(self) -> str | None:
        """A sentence while the mail server refuses *us*; users bear nothing of it."""
        return self._relay.problem

    async def serve(self, stop: asyncio.Event) -> None:
        """Send until ``stop``; the batches at hand are finished and settled first.

        While the server refuses us there is a growing pause between the probes, however much is waiting.
        """
        while not stop.is_set():
            self._wake.clear()
            seen = await self.run_once(stop)
            if self.problem:
                await self._wait(self._relay.pause(probed=bool(seen)), stop)
            elif not seen:
                await self._wait(self._idle, stop, self._wake)

    async def run_once(self, stop: asyncio.Event | None = None) -> int:
        """Recover what others left; then send what is due, batch by batch on every connection.

        Returns how many messages were seen through. While the server refuses us, one message is the probe.
        """
        await self._tidy(at_once=True)
        self._stir()
        if self.problem:
            return await self._probe()
        async with asyncio.TaskGroup() as group:
            lines = [group.create_task(self._line(stop)) for _ in range(self._lines())]
        return sum(line.result() for line in lines)

    async def _probe(self) -> int:
        self._relay.probing = True
        try:
            return await self._one_batch(1) or 0
        finally:
            self._relay.probing = False

    async def _line(self, stop: asyncio.Event | None) -> int:
        """One connection's share: batch after batch, until none of them has anything left to do."""
        seen = 0
        while not (self.problem or (stop and stop.is_set())):
            done = await self._one_batch(self._batch_size())
            seen += done or 0
            if done == 0 or (done is None and not self._busy):
                break
            if done is None:
                await self._until_stirred(stop)
                await self._tidy()
        self._stir()
        return seen

    async def _until_stirred(self, stop: asyncio.Event | None) -> None:
        """While others send, this connection waits for what is planned meanwhile and for room in a domain."""
        await first_of(self._idle, self._stirred, self._wake, *((stop,) if stop else ()))
        if not self._stirred.is_set():
            self._wake.clear()
            self._stir()

    def _stir(self) -> None:
        """There may be something to claim again."""
        self._dry = False
        self._stirred.set()

    async def _tidy(self, *, at_once: bool = False) -> None:
        now = self._clock.monotonic()
        if at_once or now >= self._tidy_at:
            self._tidy_at = now + _TIDY_SECONDS
            await self._outbox.recover()

    def _lines(self) -> int:
        """So many connections that each gets its turn well within a lease, even at the limited rate."""
        if not self._rate:
            return self._connections
        return max(1, min(self._connections, int(self._rate * self._outbox.lease.total_seconds() / 4)))

    def _batch_size(self) -> int:
        """So many that a batch is over well within its lease, even at the limited rate."""
        if not self._rate:
            return self._batch
        share = self._rate * self._outbox.lease.total_seconds() / 4 / self._lines()
        return max(1, min(self._batch, int(share)))

    async def _one_batch(self, limit: int) -> int | None:
        """How many were seen through, 0 when the dashboard could not be asked; None: nothing to claim."""
        claimed, share = await self._claim(limit)
        if not claimed:
            return None
        # A stop or a failure elsewhere must not tear a message between its dot and its record.
        work = asyncio.ensure_future(self._deliver(claimed, share))
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            await work
            raise

    async def _claim(self, limit: int) -> tuple[list[ClaimedDelivery], BatchShare]:
        """What fits into the domains' limits, beside what is under way; one connection after the other."""
        async with self._turn:
            claimed: list[ClaimedDelivery] = []
            if not self._dry:
                self._stirred.clear()
                rooms = self._limiter.rooms(self._clock.monotonic())
                claimed = await self._outbox.claim(limit, rooms, self._limiter.others)
                self._dry = not claimed and not self._stirred.is_set()
            share = self._limiter.take([c.domain for c in claimed], {c.domain for c in claimed if c.probe})
            if claimed:
                self._busy += 1
                self._stir()
            return claimed, share

    async def _deliver(self, claimed: list[ClaimedDelivery], share: BatchShare) -> int:
        self._spans.update((one.id, self._begin(one)) for one in claimed)
        try:
            return await self._see_through(claimed, share)
        finally:
            for one in claimed:
                self._spans.pop(one.id, UNTRACED).end()
            share.close()
            self._busy -= 1
            self._stir()

    async def _see_through(self, claimed: list[ClaimedDelivery], share: BatchShare) -> int:
        try:
            now = await self._standing(
                [c.user_id for c in claimed],
                mentioned(claimed, "goal_ids"),
                mentioned(claimed, "session_ids"),
            )
        except (SourceUnavailable, SchemaUnknown) as error:
            # Never sent unvalidated: the dashboard decides whether it still holds.
            self._note_wait(str(error))
            await self._outbox.release(claimed, _DASHBOARD_PAUSE)
            return 0
        self._note_wait(None)
        await self._send(await self._prepare(claimed, now), share)
        return len(claimed)

    def _note_wait(self, error: str | None) -> None:
        """Say once why messages wait for the dashboard, not for each batch; and once that it is over."""
        if error and error != self._waits:
            log.warning("delivery waits for the dashboard", error=error)
        if self._waits and not error:
            log.info("delivery goes on: the dashboard answers again")
        self._waits = error

    # ── Before sending ──────────────────────────────────────────────────────────────────────────────────────

    async def _prepare(
        self, claimed: Sequence[ClaimedDelivery], now: DashboardState
    ) -> list[ComposedDelivery]:
        """Take out what no longer holds, and make the bytes of the rest."""
        ready: list[ComposedDelivery] = []
        gone: list[Settlement] = []
        changed: list[dict[str, Any]] = []
        moved: list[ClaimedDelivery] = []
        for one in claimed:
            job = self._jobs[one.job]
            reason = refusal(one, job, now)
            if reason is None and (wait := quiet_now(one, job, now)):
                gone.append(wait)
                continue
            facts = None if reason else still_true(one, job, now)
            if reason is None and facts is None:
                reason = Reason.REVALIDATED_AWAY
            if reason or facts is None:
                gone.append(Settlement(one.id, one.epoch, DeliveryState.SKIPPED, str(reason)))
                continue
            current = brought_up_to_date(one, facts, now)
            if current != one:
                changed.append(change_of(current))
            if domain_of(current.address) != one.domain:
                moved.append(current)  # claimed again within the limits of its new domain
                continue
            await asyncio.sleep(0)  # composing takes a while; others get their turn in between
            try:
                with self._span(one.id).child("compose") as span:
                    content = self._compose(current)
                    span.note({"messaging.message.body.size": len(content)})
                envelope = Envelope(one.id, self._sender(one.id), current.address, content)
            except (ValueError, KeyError, TypeError) as error:
                log.exception("mail cannot be composed", delivery=one.id, job=one.job)
                gone.append(
                    Settlement(
                        one.id, one.epoch, DeliveryState.FAILED, "compose_error", None, str(error)[:200]
                    )
                )
                continue
            ready.append(ComposedDelivery(current, envelope))
        await self._outbox.refresh(changed)
        await self._outbox.release(moved)
        await self._outbox.settle(gone)
        for settled in gone:
            self._count(settled.state, settled.reason)
            note_fate(self._span(settled.id), settled)
        return ready

    # ── Sending ─────────────────────────────────────────────────────────────────────────────────────────────

    async def _send(self, chunk: Sequence[ComposedDelivery], share: BatchShare) -> None:
        """One batch over one connection; what waits for its domain's rate comes last."""
        if not chunk:
            return
        by_id = {ready.claimed.id: ready.claimed for ready in chunk}
        left = dict(by_id)
        granted: set[int] = set()
        sending: dict[int, Span] = {}
        settling: list[asyncio.Task[None]] = []

        async def before_dot(ids: Sequence[int]) -> frozenset[int]:
            await self._wait_for_rate([by_id[id_].domain for id_ in ids])
            marked = await self._dots.add([(id_, by_id[id_].epoch) for id_ in ids])
            granted.update(marked.intersection(ids))
            return marked.intersection(ids)

        async def on_result(result: SendResult) -> None:
            # Recorded beside the next message, not before it: the connection need not wait for the commit.
            claimed = left.pop(result.id)
            note_answer(sending.pop(result.id, UNTRACED), result)
            self._watch(result, claimed)
            if throttles(result):
                self._pauses[claimed.domain] = _EVER  # from now on; until when is being recorded
            settling.append(asyncio.ensure_future(self._settle(claimed, result, share)))

        def wanted(envelope: Envelope) -> bool:
            one = by_id[envelope.id]
            if self._relay.closed or self._pauses.get(one.domain, _NEVER) > one.claimed_at:
                return False
            if one.id not in sending:  # asked again over another connection
                sending[one.id] = self._span(one.id).child("send", _SMTP, "client")
            return True

        order = self._limiter.order((r.claimed.domain for r in chunk), self._clock.monotonic())
        try:
            await self._transport.send(
                [chunk[position].envelope for position in order], before_dot, on_result, wanted
            )
        finally:
            for span in sending.values():
                span.end("lost")
            await asyncio.gather(*settling)
            # Without a permission no dot was written, whatever else happened; otherwise nobody knows.
            if unsent := [one for one in left.values() if one.id not in granted]:
                await self._outbox.release(unsent)

    async def _wait_for_rate(self, domains: Sequence[str]) -> None:
        """Take the next moment at which these domains, and all together, may be sent a message each."""
        now = self._clock.monotonic()
        while now < (free_at := max(map(self._limiter.next_at, domains))):
            await asyncio.sleep(free_at - now)
            now = self._clock.monotonic()
        at = max(now, self._next_slot) if self._rate else now
        self._next_slot = at + (len(domains) / self._rate if self._rate else 0.0)
        for domain in domains:
            self._limiter.goes(domain, at)
        if at > now:
            await asyncio.sleep(at - now)

    async def _settle(
        self, claimed: ClaimedDelivery, result: SendResult, share: BatchShare | None = None
    ) -> None:
        what = fate(result)
        if throttles(result):
            await self._leave_alone(claimed.domain, result)
        settlement = settlement_of(claimed, result, what, random.random())  # noqa: S311 — spreads retries
        ours = await self._settlements.add([settlement])
        if share:
            share.gone(claimed.domain)
            self._stir()
        if what in {Fate.HARD, Fate.NO_SUCH_ADDRESS} and claimed.id in ours:
            await self._outbox.note_hard_bounces({claimed.id: what is Fate.NO_SUCH_ADDRESS})
        self._count(settlement.state, settlement.reason)
        note_fate(self._span(claimed.id), settlement)
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

    async def _leave_alone(self, domain: str, result: SendResult) -> None:
        """The domain asked us to wait: so does all other mail to it, at no attempt's cost."""
        pauses = domain_pauses(random.random())  # noqa: S311 — keeps processes apart
        said = " ".join(f"{result.code} {result.reply}".split())
        try:
            self._pauses[domain] = await self._outbox.pause(domain, pauses, said)
        except BaseException:
            self._pauses.pop(domain, None)
            raise
        until = self._pauses[domain].isoformat(timespec="seconds")
        log.warning("domain asked us to wait", domain=domain, until=until, code=result.code)

    def _watch(self, result: SendResult, claimed: ClaimedDelivery) -> None:
        """Tell a server that refuses us from one that refuses a message: at once, before more is begun."""
        before = self.problem
        self._relay.note(fate(result), result, claimed.address)
        if self.problem and (self._relay.probing or not before):
            log.error("sending stopped", problem=self.problem, phase=str(result.phase), code=result.code)
        elif before and not self.problem:
            log.info("the mail server takes mail again")

    def _begin(self, one: ClaimedDelivery) -> Span:
        """An attempt at a message, below the step that planned it."""
        return self._tracer.start(
            f"message {one.kind}", about_delivery(one), parent=one.traceparent, kind="consumer"
        )

    def _span(self, delivery: int) -> Span:
        return self._spans.get(delivery, UNTRACED)

    def _count(self, state: str, reason: str | None) -> None:
        self.totals[f"{state}:{reason}" if reason else state] += 1
