"""Composed mails that wait for a connection, and what each recipient domain has of them.

Connections pull. A domain's places and rate are counted at the pull: a mail leaves the queue only when its
domain has a place for it and its rate allows it now. So that a slow domain does not fill the queue, each
domain has a share of it, which doubles whenever the domain ran dry, and is halved when its mails grew old.
"""

import asyncio
import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Protocol

from service.messages.limits import LOOKAHEAD_SECONDS, UNLIMITED, DomainLimits
from service.messages.mail.transport import Envelope, SendResult, SmtpPhase
from service.messages.outbox import ClaimedDelivery
from service.messages.record_writer import RecordWriter, taken_back
from service.tracing import UNTRACED, Span

_LONGEST_SHARE = 100
"""The most mails of one domain with places that are in hand, of those that wait and are under way."""
_FORGOTTEN_SECONDS = 60.0
_OLDEST_SECONDS = 60.0
"""No dot is written for a mail about which the dashboard was asked longer ago than this."""
FOREVER = datetime.max.replace(tzinfo=UTC)
"""The end of a pause that is not stored yet."""


@dataclass(slots=True, eq=False)
class ReadyMail:
    """A mail with its bytes. ``checked_at``: when the dashboard answered, in seconds of the clock."""

    claimed: ClaimedDelivery
    envelope: Envelope
    checked_at: float
    span: Span = UNTRACED
    sending: Span = UNTRACED
    dot_requested: bool = False
    given_back: bool = False


@dataclass(slots=True)
class _Domain:
    share: int
    waiting: deque[ReadyMail] = field(default_factory=deque)
    reserved: int = 0  # claimed and not composed yet
    sending: int = 0
    next_at: float = -math.inf
    probing: bool = False
    paused_until: datetime | None = None
    is_open: bool = False
    full: bool = False
    used_at: float = -math.inf

    @property
    def in_hand(self) -> int:
        return self.reserved + len(self.waiting) + self.sending


class QueueEvents(Protocol):
    """Whom the queue tells."""

    def begins(self, mail: ReadyMail) -> None:
        """A connection has pulled it."""

    def answered(self, mail: ReadyMail, result: SendResult) -> None:
        """What became of it."""

    def unsent(self, mail: ReadyMail) -> None:
        """It left the queue, and may not be sent."""

    def refused(self, phase: SmtpPhase, code: int | None, reply: str) -> None:
        """No connection could be opened."""


class ReadyQueue:
    """The queue of one process. ``now``: seconds of a clock that never goes back. ``rate``: mails a second
    over all, 0: no limit. ``wake``: called when a rate allows a mail again."""

    def __init__(
        self,
        limits: DomainLimits,
        writer: RecordWriter,
        tell: QueueEvents,
        *,
        now: Callable[[], float],
        rate: float = 0.0,
        wake: Callable[[], None] = lambda: None,
    ) -> None:
        self._limits = limits
        self._writer = writer
        self._tell = tell
        self._now = now
        self._rate = rate
        self._wake = wake
        self._domains: dict[str, _Domain] = {}
        self._open: deque[str] = deque()
        self._sending: dict[int, ReadyMail] = {}
        self._next_slot = -math.inf
        self._waiting = 0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf
        self._resume_below = 0
        self.closed: Callable[[], bool] = lambda: False
        self.drained = asyncio.Event()

    @property
    def waiting(self) -> int:
        """How many mails wait for a connection."""
        return self._waiting

    @property
    def sending(self) -> int:
        """How many mails connections have in hand."""
        return len(self._sending)

    @property
    def seconds_to_slot(self) -> float:
        """How long until the rate of all mails allows one."""
        return self._next_slot - self._now() if self._rate else 0.0

    @property
    def in_hand(self) -> int:
        """How many mails wait for a connection or are under way."""
        return self._waiting + len(self._sending)

    def set_drained_below(self, count: int, *, at_once: bool = True) -> None:
        """Let ``drained`` be set when fewer than ``count`` mails are in hand; ``at_once``: or are so now."""
        self._resume_below = count
        if at_once and self.in_hand < count:
            self.drained.set()
        else:
            self.drained.clear()

    # ── Room for claims ─────────────────────────────────────────────────────────────────────────────────────

    @property
    def others(self) -> int:
        """The most mails of a claim for a domain that ``capacities`` does not name."""
        return self._first_share("")

    def capacities(self) -> dict[str, int]:
        """The most mails of another claim for each domain with a limit of its own, or with mails in hand."""
        now = self._now()
        for name in [name for name, domain in self._domains.items() if _is_forgotten(domain, now)]:
            del self._domains[name]
        return {name: self._capacity(name, now) for name in {*self._limits.named, *self._domains}}

    def _capacity(self, name: str, now: float) -> int:
        limit, domain = self._limits.of(name), self._domains.get(name)
        if domain is None:
            return self._first_share(name)
        if domain.probing or domain.paused_until is FOREVER or domain.next_at > now + LOOKAHEAD_SECONDS:
            return 0
        if limit.per_second:
            return max(0, limit.max_reserved - domain.in_hand)
        if not limit.at_once:
            return UNLIMITED
        if domain.full and len(domain.waiting) + domain.reserved <= domain.share // 4:
            domain.share = min(2 * domain.share, max(_LONGEST_SHARE, domain.share))
        return max(0, domain.share - domain.in_hand)

    def _first_share(self, name: str) -> int:
        limit = self._limits.of(name)
        if limit.per_second:
            return limit.max_reserved
        return 2 * limit.at_once if limit.at_once else UNLIMITED

    def reserve(self, claimed: Iterable[ClaimedDelivery]) -> None:
        """Count these against their domains, until ``add`` or ``drop``."""
        now = self._now()
        for delivery in claimed:
            domain = self._domain(delivery.domain)
            domain.reserved += 1
            domain.used_at = now
            domain.probing |= delivery.probe
            domain.full = domain.in_hand >= domain.share

    def _domain(self, name: str) -> _Domain:
        domain = self._domains.get(name)
        if domain is None:
            domain = self._domains[name] = _Domain(self._first_share(name))
        return domain

    def drop(self, delivery: ClaimedDelivery) -> None:
        """A claimed mail is not sent."""
        domain = self._domain(delivery.domain)
        domain.reserved -= 1
        domain.probing &= not delivery.probe

    # ── Mails in and out ────────────────────────────────────────────────────────────────────────────────────

    def add(self, mail: ReadyMail) -> None:
        """A reserved mail may be sent now, unless its domain has asked us to wait since it was claimed."""
        domain = self._domain(mail.claimed.domain)
        domain.reserved -= 1
        if self._is_paused(domain, mail):
            return
        domain.waiting.append(mail)
        self._waiting += 1
        self._reopen(mail.claimed.domain, domain)

    def _is_paused(self, domain: _Domain, mail: ReadyMail) -> bool:
        """Whether the domain has asked us to wait since this was claimed; then it leaves the queue."""
        if domain.paused_until is None or domain.paused_until <= mail.claimed.claimed_at:
            return False
        domain.probing &= not mail.claimed.probe
        self._tell.unsent(mail)
        return True

    def withdraw(self, unwanted: Callable[[ReadyMail], bool]) -> list[ReadyMail]:
        """Take mails out that have not begun."""
        withdrawn: list[ReadyMail] = []
        for domain in self._domains.values():
            taken = [mail for mail in domain.waiting if unwanted(mail)]
            if taken:
                domain.waiting = deque(mail for mail in domain.waiting if not unwanted(mail))
                domain.probing &= not any(mail.claimed.probe for mail in taken)
                withdrawn += taken
        self._waiting -= len(withdrawn)
        return withdrawn

    def pause(self, name: str, until: datetime | None) -> list[ReadyMail]:
        """A domain asked us to wait: take its mails out. What was claimed before this end is not sent.

        None: it has not, after all.
        """
        self._domain(name).paused_until = until
        return self.withdraw(lambda mail: mail.claimed.domain == name)

    @property
    def pauses(self) -> dict[str, datetime]:
        """Until when each domain asked us to wait, as far as this process knows; some of it may be over."""
        return {
            name: domain.paused_until
            for name, domain in self._domains.items()
            if domain.paused_until is not None and domain.paused_until is not FOREVER
        }

    def forget_pauses(self, known: Mapping[str, datetime], ended: Mapping[str, bool]) -> None:
        """Those of the ``known`` pauses are over; True: somebody ended it before its time."""
        for name, early in ended.items():
            domain = self._domains.get(name)
            if domain and domain.paused_until == known[name] and (early or not domain.in_hand):
                domain.paused_until = None

    def too_old(self, seconds: float) -> list[ReadyMail]:
        """Take out what the dashboard was asked about longer ago; its domains get smaller shares."""
        before = self._now() - seconds
        old = self.withdraw(lambda mail: mail.checked_at < before)
        for name in {mail.claimed.domain for mail in old}:
            domain = self._domains[name]
            domain.share, domain.full = max(self._first_share(name), domain.share // 2), False
        return old

    def next(self) -> Envelope | None:
        """The next mail for a connection, as ``MailQueue`` says."""
        now = self._now()
        if self.closed() or not self._open or self._is_too_early(now):
            return None
        while self._open:
            name = self._open.popleft()
            domain = self._domains.get(name)
            if domain is None:
                continue
            domain.is_open = False
            if not domain.waiting or self._is_full(name, domain):
                continue
            if domain.next_at > now:
                self._call_at(domain.next_at, now)
                self._open.append(name)
                domain.is_open = True
                if all(self._domains[one].next_at > now for one in self._open):
                    return None
                continue
            return self._begin(name, domain, domain.waiting.popleft(), now)
        return None

    def _is_too_early(self, now: float) -> bool:
        if not self._rate or now >= self._next_slot:
            return False
        self._call_at(self._next_slot, now)
        return True

    def _begin(self, name: str, domain: _Domain, mail: ReadyMail, now: float) -> Envelope:
        domain.sending += 1
        domain.used_at = now
        if per_second := self._limits.of(name).per_second:
            domain.next_at = max(domain.next_at, now) + 1 / per_second
        if self._rate:
            self._next_slot = max(self._next_slot, now) + 1 / self._rate
        self._waiting -= 1
        self._sending[mail.claimed.id] = mail
        self._reopen(name, domain)
        self._tell.begins(mail)
        return mail.envelope

    def _is_full(self, name: str, domain: _Domain) -> bool:
        at_once = self._limits.of(name).at_once
        return bool(at_once) and domain.sending >= at_once

    def _reopen(self, name: str, domain: _Domain) -> None:
        if domain.waiting and not domain.is_open and not self._is_full(name, domain):
            domain.is_open = True
            self._open.append(name)

    def _call_at(self, at: float, now: float) -> None:
        if self._timer is not None:
            if self._timer_at <= at:
                return
            self._timer.cancel()
        self._timer_at = at
        self._timer = asyncio.get_running_loop().call_later(at - now, self._ring)

    def _ring(self) -> None:
        self._timer = None
        self._wake()

    # ── What the transport tells ────────────────────────────────────────────────────────────────────────────

    def request_dot(self, delivery: int, granted: Callable[[bool], None]) -> None:
        """As ``MailQueue`` says."""
        mail = self._sending[delivery]
        if self._now() - mail.checked_at > _OLDEST_SECONDS:  # the connection took that long
            self._decided(mail, granted, is_granted=False)
            return
        mail.dot_requested = True
        self._writer.request_dot(mail.claimed, partial(self._decided, mail, granted))

    def _decided(self, mail: ReadyMail, granted: Callable[[bool], None], is_granted: bool) -> None:  # noqa: FBT001
        mail.dot_requested = False
        if mail.given_back:
            if is_granted:
                self._writer.settle(taken_back(mail.claimed))
            return
        if not is_granted:
            self._leave(mail)
            self._tell.unsent(mail)
        granted(is_granted)

    def answered(self, result: SendResult) -> None:
        """As ``MailQueue`` says."""
        mail = self._sending[result.id]
        self._leave(mail)
        self._tell.answered(mail, result)

    def give_back(self, envelope: Envelope) -> None:
        """As ``MailQueue`` says."""
        mail = self._sending[envelope.id]
        self._leave(mail)
        if mail.dot_requested:  # the transport stops: whether the mark is committed will be told
            mail.given_back = True
            self._tell.unsent(mail)
            return
        domain = self._domain(mail.claimed.domain)
        if self._is_paused(domain, mail):
            return
        domain.probing |= mail.claimed.probe
        domain.waiting.appendleft(mail)
        self._waiting += 1
        self._reopen(mail.claimed.domain, domain)

    def refused(self, phase: SmtpPhase, code: int | None, reply: str) -> None:
        """As ``MailQueue`` says."""
        self._tell.refused(phase, code, reply)

    def _leave(self, mail: ReadyMail) -> None:
        del self._sending[mail.claimed.id]
        name = mail.claimed.domain
        domain = self._domain(name)
        domain.sending -= 1
        domain.probing &= not mail.claimed.probe
        self._reopen(name, domain)
        if self.in_hand < self._resume_below:
            self.drained.set()


def _is_forgotten(domain: _Domain, now: float) -> bool:
    return not domain.in_hand and domain.next_at <= now and domain.used_at < now - _FORGOTTEN_SECONDS
