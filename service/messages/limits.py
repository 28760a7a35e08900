"""Limits per recipient domain: mails at once, and mails per second. The queue of ready mails applies them."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

UNLIMITED = 2**31 - 1
"""No limit."""

LOOKAHEAD_SECONDS = 2.0
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
        return max(1, int(self.per_second * LOOKAHEAD_SECONDS)) if self.per_second else UNLIMITED


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
