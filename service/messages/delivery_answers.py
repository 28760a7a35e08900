"""What the mail server's answers mean for a mail, for its domain, and for all sending."""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Collection
from functools import partial

import structlog

from service.engine.retry import domain_pauses
from service.messages.delivery_decisions import settlement_of
from service.messages.delivery_in_hand import DeliveriesInHand
from service.messages.delivery_traces import record_answer, record_settlement
from service.messages.mail.reply_fingerprint import fingerprint
from service.messages.mail.smtp_reply import COUNTED, Fate, fate_of, throttles
from service.messages.mail.transport import SendResult, SmtpPhase
from service.messages.outbox import ClaimedDelivery, Outbox, Settlement
from service.messages.ready_queue import FOREVER, ReadyMail, ReadyQueue
from service.messages.record_writer import RecordWriter
from service.messages.relay_breaker import RelayBreaker
from service.tracing import Value

log = structlog.get_logger()

_SMTP: dict[str, Value] = {"network.protocol.name": "smtp"}


class DeliveryAnswers:
    """Records answers. ``now``: seconds of a clock that never goes back.

    ``relay``: whether the server refuses all our mail. ``totals``: how mails ended.
    ``count``: how many answers there were.

    It is what the queue tells of its mails; ``queue`` is set before the first of them.
    """

    queue: ReadyQueue

    def __init__(
        self, outbox: Outbox, writer: RecordWriter, in_hand: DeliveriesInHand, now: Callable[[], float]
    ) -> None:
        self._now = now
        self._outbox = outbox
        self._failures = outbox.address_failures
        self._writer = writer
        self._in_hand = in_hand
        self._refused: list[tuple[ClaimedDelivery, SendResult]] = []
        self._pausing: set[asyncio.Task[None]] = set()
        self._noting: set[asyncio.Task[None]] = set()
        self.relay = RelayBreaker(outbox.relay_gate, in_hand)
        self.relay.changed = self._relay_changed
        self.count = 0
        self.totals: Counter[str] = Counter()

    # ── What the queue tells ────────────────────────────────────────────────────────────────────────────────

    def begins(self, mail: ReadyMail) -> None:
        """A connection has pulled it."""
        mail.sending = mail.span.child("send", _SMTP, "client")

    def unsent(self, mail: ReadyMail) -> None:
        """Its dot was not granted, its domain asked us to wait, or sending stops."""
        mail.sending.end("not granted")
        self._in_hand.release([mail.claimed])

    def refused(self, phase: SmtpPhase, code: int | None, reply: str) -> None:
        """No connection could be opened."""
        self.relay.refuse(phase, code, reply)

    def answered(self, mail: ReadyMail, result: SendResult) -> None:
        """The server has answered, or the connection is lost."""
        self.count += 1
        claimed, fate = mail.claimed, fate_of(result)
        record_answer(mail.sending, result)
        self.relay.note(fate, result, claimed.address, self._now())
        if fate is Fate.CONTENT and self.relay.problem:
            fate = Fate.OURS  # it is refused whatever the content is
        if fate in COUNTED and self.relay.refuses_in(fingerprint(result.code, result.reply)):
            fate = Fate.OURS
        self._note_content(fate, claimed, result)
        if throttles(result):
            self._note_throttle(claimed.domain, result)
        settlement = settlement_of(claimed, result, fate, random.random())  # noqa: S311 — spreads retries
        self._writer.settle(settlement, partial(self._written, claimed, settlement, fate, result))

    # ── Consequences ────────────────────────────────────────────────────────────────────────────────────────

    def settled(self, delivery: ClaimedDelivery, settlement: Settlement) -> None:
        """Count a mail that is over, or waits again."""
        reason = settlement.reason
        self.totals[f"{settlement.state}:{reason}" if reason else str(settlement.state)] += 1
        record_settlement(self._in_hand.span(delivery), settlement)

    def _written(
        self,
        claimed: ClaimedDelivery,
        settlement: Settlement,
        fate: Fate,
        result: SendResult,
        ours: bool | None,  # noqa: FBT001
    ) -> None:
        if ours is None:
            self._in_hand.abandon(claimed)
            return
        if ours and fate in COUNTED:
            self._note_failure(claimed.id, fate, result)
        elif ours and fate is Fate.SENT and claimed.attempt > 1:
            forget = partial(self._failures.forget_mailbox_failure, claimed.id)
            self._in_hand.start(self._in_hand.keep.until_written(forget))
        self.settled(claimed, settlement)
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
        self._in_hand.done(claimed)

    def _note_failure(self, delivery: int, fate: Fate, result: SendResult) -> None:
        """Count it against the address, unless the server says the same of too many."""
        words = fingerprint(result.code, result.reply)
        write: Callable[[], Awaitable[object]]
        if self.relay.refuses_in(words):
            write = partial(self._failures.take_back, words, [delivery])
        elif fate is Fate.MAILBOX:
            write = partial(self._failures.note_mailbox_failure, delivery, words)
        else:
            at_once = fate is Fate.NO_SUCH_ADDRESS
            write = partial(self._failures.note_hard_bounce, delivery, words, no_such_address=at_once)
        noting = self._in_hand.start(self._in_hand.keep.until_written(write))
        self._noting.add(noting)
        noting.add_done_callback(self._noting.discard)

    async def _take_back(self, words: str) -> None:
        """What was counted against addresses was about us."""
        if self._noting:  # what is to be taken back is to be stored before
            await asyncio.wait(set(self._noting))
        await self._in_hand.keep.until_written(partial(self._failures.take_back, words))

    def _note_content(self, fate: Fate, claimed: ClaimedDelivery, result: SendResult) -> None:
        """Mails whose content was refused did not fail if the server then refuses every content."""
        if fate is Fate.SENT:
            self._refused.clear()
        elif fate is Fate.CONTENT:
            self._refused.append((claimed, result))
        elif self.relay.problem and self._refused:
            for refused, why in self._refused:
                self._writer.settle(settlement_of(refused, why, Fate.OURS, 0.0))
            self._refused.clear()

    def _note_throttle(self, domain: str, result: SendResult) -> None:
        """The domain asks us to send more slowly; if three say the same, it is the relay, and they go on."""
        if domains := self.relay.throttle(domain, result, self._now()):
            self._in_hand.start(self._end_pauses(domains))
            return
        waiting = [mail.claimed for mail in self.queue.pause(domain, FOREVER)]
        pausing = self._in_hand.start(self._pause_domain(domain, result, waiting))
        self._pausing.add(pausing)
        pausing.add_done_callback(self._pausing.discard)

    async def _end_pauses(self, domains: Collection[str]) -> None:
        """These domains asked for nothing: the relay did."""
        if self._pausing:  # those pauses are to be stored before they are ended
            await asyncio.wait(set(self._pausing))
        for domain in domains:
            self.queue.pause(domain, None)
        await self._in_hand.keep.until_written(partial(self._outbox.end_pauses, domains))

    async def _pause_domain(self, domain: str, result: SendResult, waiting: list[ClaimedDelivery]) -> None:
        """The domain asked us to wait: pause all mail to it, without counting an attempt."""
        pauses = domain_pauses(random.random())  # noqa: S311 — keeps processes apart
        answer = " ".join(f"{result.code} {result.reply}".split())
        end = None
        try:
            end = await self._in_hand.keep.until_written(partial(self._outbox.pause, domain, pauses, answer))
        finally:
            waiting += [mail.claimed for mail in self.queue.pause(domain, end)]
            self._in_hand.release(waiting)
        until = end.isoformat(timespec="seconds")
        log.warning("domain asked us to wait", domain=domain, until=until, code=result.code)

    def _relay_changed(self) -> None:
        if words := self.relay.words:
            self._in_hand.start(self._take_back(words))
        self.queue.drained.set()
        self._in_hand.changed.set()
