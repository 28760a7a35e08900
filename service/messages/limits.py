"""How much mail a recipient's domain is sent at a time. Seconds are passed in: any clock that never steps.

A batch holds a place in each of its domains from its claim until the last of its messages for that domain is
through; so many places are there as the domain may have mails at once. A rate is kept at the final dot.
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

ANY = 2**31 - 1
"""Room for as many as somebody likes."""

_AHEAD = 2.0
"""Seconds: of a domain with a rate no more is taken in hand, so that other mail need not wait for it."""

_DOMAIN = re.compile(r"\*|(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\.)*[a-z0-9](?:[a-z0-9-]*[a-z0-9])?")


def domain_of(address: str) -> str:
    """What follows the @, in lower case."""
    return address.partition("@")[2].lower()


@dataclass(frozen=True, slots=True)
class DomainLimit:
    """``at_once``: mails under way to a domain at one time; ``per_second``: mails. 0: no limit."""

    at_once: int = 0
    per_second: float = 0.0

    @property
    def ahead(self) -> int:
        """So many may be in hand, whatever the connections."""
        return max(1, int(self.per_second * _AHEAD)) if self.per_second else ANY


@dataclass(frozen=True, slots=True)
class DomainLimits:
    """The limit of each named domain, and of every other one."""

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
        found: dict[str, DomainLimit] = {}
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
            elif domain in found:
                problems.append(f"{entry!r}: {domain} is named twice")
            else:
                found[domain] = limit
        if problems:
            raise ValueError("; ".join(problems))
        return cls(found.pop("*", DomainLimit()), found)


def _limit(amounts: str) -> DomainLimit | None:
    at_once, slash, per_second = (part.strip() for part in amounts.partition("/"))
    try:
        limit = DomainLimit(int(at_once), float(per_second))
    except ValueError:
        return None
    fine = slash and limit.at_once >= 0 and limit.per_second >= 0 and math.isfinite(limit.per_second)
    return limit if fine else None


@dataclass(slots=True)
class _Domain:
    batches: int = 0
    messages: int = 0
    next_at: float = -math.inf
    probed: bool = False


class DomainLimiter:
    """What this process has in hand for each domain, and what it may take besides."""

    def __init__(self, limits: DomainLimits) -> None:
        self._limits = limits
        self._domains: defaultdict[str, _Domain] = defaultdict(_Domain)

    @property
    def others(self) -> int:
        """How many messages a batch may take of a domain that ``rooms`` does not name."""
        return self._limits.others.ahead

    def rooms(self, now: float) -> dict[str, int]:
        """How many messages one more batch may take of each of these domains."""
        for domain in [name for name, known in self._domains.items() if _rests(known, now)]:
            del self._domains[domain]
        return {domain: self.room(domain, now) for domain in {*self._limits.named, *self._domains}}

    def room(self, domain: str, now: float) -> int:
        """How many messages one more batch may take of this domain; 0: none now."""
        limit, known = self._limits.of(domain), self._domains.get(domain)
        if known is None:
            return limit.ahead
        full = limit.at_once and known.batches >= limit.at_once
        if full or known.probed or known.next_at > now + _AHEAD:
            return 0
        return max(0, limit.ahead - known.messages) if limit.per_second else ANY

    def take(self, domains: Iterable[str], probes: Collection[str] = ()) -> "BatchShare":
        """A batch with these messages, one domain each, begins.

        ``probes``: domains that asked us to wait a while ago; no other batch gets any of them meanwhile.
        """
        counts = Counter(domains)
        for domain, count in counts.items():
            known = self._domains[domain]
            known.batches += 1
            known.messages += count
            known.probed |= domain in probes
        return BatchShare(self, counts)

    def next_at(self, domain: str) -> float:
        """When the next message may go; long ago where nothing was sent lately."""
        known = self._domains.get(domain)
        return known.next_at if known else -math.inf

    def goes(self, domain: str, at: float) -> None:
        """A message goes at this moment: the next one has to keep its distance."""
        if per_second := self._limits.of(domain).per_second:
            known = self._domains[domain]
            known.next_at = max(known.next_at, at) + 1 / per_second

    def order(self, domains: Iterable[str], now: float) -> list[int]:
        """The positions of a batch's messages in the order in which they may go: those with a rate last."""
        before: Counter[str] = Counter()
        due = []
        for position, domain in enumerate(domains):
            per_second = self._limits.of(domain).per_second
            apart = before[domain] / per_second if per_second else 0.0
            due.append((max(self.next_at(domain) - now, 0.0) + apart, position))
            before[domain] += 1
        return [position for _, position in sorted(due)]

    def leave(self, domain: str, messages: int, *, last: bool) -> None:
        """Messages of a batch are through; ``last``: it has no more of this domain."""
        known = self._domains[domain]
        known.messages -= messages
        if last:
            known.batches -= 1
            known.probed = False


class BatchShare:
    """What one batch holds; every message is given back once, by ``gone`` or by ``close``."""

    def __init__(self, limiter: DomainLimiter, left: Counter[str]) -> None:
        self._limiter = limiter
        self._left = left

    def gone(self, domain: str) -> None:
        """One message of this domain is through."""
        self._give_back(domain, 1)

    def close(self) -> None:
        """All that is left is through, or given up."""
        for domain, count in list(self._left.items()):
            self._give_back(domain, count)

    def _give_back(self, domain: str, count: int) -> None:
        left = self._left[domain] - count
        self._limiter.leave(domain, count, last=not left)
        if left:
            self._left[domain] = left
        else:
            del self._left[domain]


def _rests(known: _Domain, now: float) -> bool:
    return not known.batches and known.next_at <= now
