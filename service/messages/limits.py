"""Limits per recipient domain: concurrent mails, and mails per second. Times are seconds of a monotonic
clock.

A batch counts against each of its domains from its claim until its last message for that domain is done; a
domain allows as many batches as mails at once. The rate is applied before the final dot.
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

UNLIMITED = 2**31 - 1
"""No limit."""

_LOOKAHEAD_SECONDS = 2.0
"""At most this much of a domain with a rate is claimed, so that other mail need not wait for it."""

_DOMAIN = re.compile(r"\*|(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\.)*[a-z0-9](?:[a-z0-9-]*[a-z0-9])?")


def domain_of(address: str) -> str:
    """What follows the @, in lower case."""
    return address.partition("@")[2].lower()


@dataclass(frozen=True, slots=True)
class DomainLimit:
    """``at_once``: concurrent mails to a domain; ``per_second``: mails a second. 0: no limit."""

    at_once: int = 0
    per_second: float = 0.0

    @property
    def max_reserved(self) -> int:
        """The most messages that may be claimed at a time."""
        return max(1, int(self.per_second * _LOOKAHEAD_SECONDS)) if self.per_second else UNLIMITED


@dataclass(frozen=True, slots=True)
class DomainLimits:
    """The limits of the named domains, and of all others."""

    others: DomainLimit = DomainLimit()
    named: Mapping[str, DomainLimit] = field(default_factory=dict)

    def of(self, domain: str) -> DomainLimit:
        """The limit of a domain."""
        return self.named.get(domain, self.others)

    @classmethod
    def parse(cls, text: str) -> "DomainLimits":
        """Read ``gmail.com=5/20,*=10/0``: domain=at once/per second; ``*`` stands for all others.

        Raises ValueError that names every problem.
        """
        limits: dict[str, DomainLimit] = {}
        problems: list[str] = []
        for entry in filter(None, (part.strip() for part in text.lower().split(","))):
            domain, _, amounts = (part.strip() for part in entry.partition("="))
            limit = _limit(amounts)
            if not _DOMAIN.fullmatch(domain):
                problems.append(f"{entry!r}: {domain!r} is no domain; write it as in gmail.com=5/20")
            elif limit is None:
                problems.append(
                    f"{entry!r}: write mails at once/mails per second, as in {domain}=5/20 (0: no limit)"
                )
            elif domain in limits:
                problems.append(f"{entry!r}: {domain} is named twice")
            else:
                limits[domain] = limit
        if problems:
            raise ValueError("; ".join(problems))
        return cls(limits.pop("*", DomainLimit()), limits)


def _limit(amounts: str) -> DomainLimit | None:
    at_once, slash, per_second = (part.strip() for part in amounts.partition("/"))
    try:
        limit = DomainLimit(int(at_once), float(per_second))
    except ValueError:
        return None
    fine = slash and limit.at_once >= 0 and limit.per_second >= 0 and math.isfinite(limit.per_second)
    return limit if fine else None


@dataclass(slots=True)
class _DomainState:
    batches: int = 0
    messages: int = 0
    next_at: float = -math.inf
    probing: bool = False


class DomainLimiter:
    """Counts what this process has claimed for each domain, and says how much more it may claim."""

    def __init__(self, limits: DomainLimits) -> None:
        self._limits = limits
        self._domains: defaultdict[str, _DomainState] = defaultdict(_DomainState)

    @property
    def others(self) -> int:
        """The most messages of a batch for a domain that ``capacities`` does not name."""
        return self._limits.others.max_reserved

    def capacities(self, now: float) -> dict[str, int]:
        """The most messages of another batch for each domain with a limit or with messages under way."""
        for domain in [name for name, state in self._domains.items() if _is_idle(state, now)]:
            del self._domains[domain]
        return {domain: self.capacity(domain, now) for domain in {*self._limits.named, *self._domains}}

    def capacity(self, domain: str, now: float) -> int:
        """The most messages of another batch for this domain; 0: none now."""
        limit, state = self._limits.of(domain), self._domains.get(domain)
        if state is None:
            return limit.max_reserved
        full = limit.at_once and state.batches >= limit.at_once
        if full or state.probing or state.next_at > now + _LOOKAHEAD_SECONDS:
            return 0
        return max(0, limit.max_reserved - state.messages) if limit.per_second else UNLIMITED

    def reserve(self, domains: Iterable[str], probes: Collection[str] = ()) -> "BatchShare":
        """Count a new batch. ``domains``: one for each of its messages.

        ``probes``: domains that asked us to wait a while ago; only this batch may send to them.
        """
        counts = Counter(domains)
        for domain, count in counts.items():
            state = self._domains[domain]
            state.batches += 1
            state.messages += count
            state.probing |= domain in probes
        return BatchShare(self, counts)

    def next_at(self, domain: str) -> float:
        """When the next message may be sent; in the past if nothing was sent lately."""
        state = self._domains.get(domain)
        return state.next_at if state else -math.inf

    def record_send(self, domain: str, at: float) -> None:
        """A message is sent at this time: apply the rate to the next one."""
        if per_second := self._limits.of(domain).per_second:
            state = self._domains[domain]
            state.next_at = max(state.next_at, at) + 1 / per_second

    def order(self, domains: Iterable[str], now: float) -> list[int]:
        """The positions of a batch's messages in the order of sending: those with a rate last."""
        reserved: Counter[str] = Counter()
        due = []
        for position, domain in enumerate(domains):
            per_second = self._limits.of(domain).per_second
            spacing = reserved[domain] / per_second if per_second else 0.0
            due.append((max(self.next_at(domain) - now, 0.0) + spacing, position))
            reserved[domain] += 1
        return [position for _, position in sorted(due)]

    def release(self, domain: str, messages: int, *, last: bool) -> None:
        """Messages of a batch are done; ``last``: it has no more for this domain."""
        state = self._domains[domain]
        state.messages -= messages
        if last:
            state.batches -= 1
            state.probing = False


class BatchShare:
    """What one batch has reserved; each message is released once, by ``done`` or by ``close``."""

    def __init__(self, limiter: DomainLimiter, remaining: Counter[str]) -> None:
        self._limiter = limiter
        self._remaining = remaining

    def done(self, domain: str) -> None:
        """One message for this domain is done."""
        self._give_back(domain, 1)

    def close(self) -> None:
        """Release all that is left."""
        for domain, count in list(self._remaining.items()):
            self._give_back(domain, count)

    def _give_back(self, domain: str, count: int) -> None:
        remaining = self._remaining[domain] - count
        self._limiter.release(domain, count, last=not remaining)
        if remaining:
            self._remaining[domain] = remaining
        else:
            del self._remaining[domain]


def _is_idle(state: _DomainState, now: float) -> bool:
    return not state.batches and state.next_at <= now
