"""Stops all sending while the mail server refuses us, in all processes, and probes it with single mails."""

from collections.abc import Awaitable, Callable
from functools import partial

import structlog

from service.messages.delivery_in_hand import DeliveriesInHand
from service.messages.mail.smtp_reply import Fate
from service.messages.mail.transport import SendResult, SmtpPhase, Transport
from service.messages.relay import RelayState
from service.messages.relay_gate import RelayGate

log = structlog.get_logger()


class RelayBreaker:
    """What this process has seen of the server, and the gate that all processes share.

    A refusal stops this process at once, and all others as soon as the gate is written. From then on the gate
    counts: whoever opens it, sending goes on everywhere. ``changed`` is called when sending stops or goes on.
    """

    def __init__(self, gate: RelayGate, in_hand: DeliveriesInHand) -> None:
        self._gate = gate
        self._in_hand = in_hand
        self._state = RelayState()
        self._writing = 0
        self._decisions = 0
        self.changed: Callable[[], None] = lambda: None

    @property
    def problem(self) -> str | None:
        """Why the mail server takes nothing from us, in one sentence; None: it does."""
        return self._state.refusal.reason if self._state.refusal else None

    @property
    def words(self) -> str | None:
        """The fingerprint of replies that speak of recipients, and are about us."""
        return self._state.refusal.words if self._state.refusal else None

    @property
    def closed(self) -> bool:
        """Whether no message may be sent."""
        return self._state.closed

    @property
    def probing(self) -> bool:
        """Whether one mail is being sent to see whether the server takes it."""
        return self._state.probing

    # ── What was seen ───────────────────────────────────────────────────────────────────────────────────────

    def refuses_in(self, words: str) -> bool:
        """Whether a reply with this fingerprint is about us, whatever it says."""
        return self._state.refusal is not None and self._state.refusal.words == words

    def note(self, fate: Fate, result: SendResult, recipient: str, at: float) -> None:
        """One answer of the server, ``at`` seconds of a clock."""
        before = self._state.refusal
        self._state.note(fate, result, recipient, at)
        if self._state.refusal is not before:
            self._decided(result.phase, result.code, stopped_before=before is not None)

    def refuse(self, phase: SmtpPhase, code: int | None, reply: str) -> None:
        """No connection could be opened."""
        before = self._state.refusal
        self._state.refuse(phase, code, reply)
        self._decided(phase, code, stopped_before=before is not None)

    def throttle(self, domain: str, result: SendResult, at: float) -> frozenset[str]:
        """As ``RelayState.throttle``."""
        before = self._state.refusal
        domains = self._state.throttle(domain, result, at)
        if domains:
            self._decided(result.phase, result.code, stopped_before=before is not None)
        return domains

    async def refresh(self) -> None:
        """Take over what the gate says: another process may have shut it, and anybody may have opened it."""
        decisions = self._decisions
        refusal = await self._gate.current()
        by_probe = refusal is not None or self.words is None or await self._gate.opened_by_probe()
        if self._writing or self._state.probing or decisions != self._decisions:
            return  # what this process knows is newer
        if refusal is None and self._state.refusal is not None:
            if by_probe:
                self._state.accept()
            else:
                self._state.overrule()
            self.changed()
        elif refusal is not None and self._state.refusal is None:
            self._state.refusal = refusal
            log.error("sending stopped", problem=refusal.reason)
            self.changed()

    # ── Probes ──────────────────────────────────────────────────────────────────────────────────────────────

    async def probe(
        self,
        send_one: Callable[[], Awaitable[bool]],
        transport: Transport,
        *,
        at_once: bool,
    ) -> None:
        """Send one mail, if it is this process's turn, and let its result open the gate or keep it shut.

        ``send_one`` returns False if there was none; then a server that could not be reached is asked whether
        it can be. ``at_once``: without waiting for the end of the pause, unless reports shut the gate.
        """
        if self._state.refusal and self._state.refusal.reported:
            await self._gate.open_if_nothing_came_back()
            await self.refresh()
            if not self._state.refusal:
                return
            at_once = False  # a probe too early would let more mail come back
        if not await self._gate.take_probe(at_once=at_once):
            return
        decisions, self._state.probing, self._state.taken = self._decisions, True, None
        try:
            sent = await send_one()
            if not sent and self._state.refusal and self._state.refusal.unreachable:
                sent = True
                if await transport.ping(at_once=True) is None:
                    self._state.accept()
                    self._decided(SmtpPhase.CONNECT, None)
        finally:
            self._state.probing = False
        if not sent:
            await self._gate.put_back()
        elif self._state.taken is not None:
            self._write(partial(self._gate.await_reports, self._state.taken))
        elif self._state.refusal and decisions == self._decisions:
            self._write(partial(self._gate.shut, self._state.refusal, probed=True))

    def _decided(self, phase: SmtpPhase, code: int | None, *, stopped_before: bool = True) -> None:
        """Write and say that sending stops, or goes on; a probe that was refused stops it for longer."""
        refusal, probed = self._state.refusal, self._state.probing
        if refusal and stopped_before and not probed:
            return  # another connection has said so
        self._decisions += 1
        if refusal:
            self._state.probing = False
            log.error("sending stopped", problem=refusal.reason, phase=str(phase), code=code)
            self._write(partial(self._gate.shut, refusal, probed=probed))
        else:
            log.info("the mail server takes mail again")
            self._write(self._gate.open)
        self.changed()

    def _write(self, write: Callable[[], Awaitable[None]]) -> None:
        self._writing += 1
        self._in_hand.start(self._written(write))

    async def _written(self, write: Callable[[], Awaitable[None]]) -> None:
        try:
            await self._in_hand.keep.until_written(write)
        finally:
            self._writing -= 1
