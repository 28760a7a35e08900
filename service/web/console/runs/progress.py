"""How far a run has come, and when it will end if it goes on like this. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from service.web.console.formatting import duration

ACTIVE = frozenset({"pending", "running"})
_MIN_SECONDS = 1.0
"""Seconds after which a rate means something."""


@dataclass(frozen=True, slots=True)
class RunProgress:
    """``done`` of about ``expected`` (None: nobody knows), at ``rate`` a second; ``left`` until the end."""

    done: int
    expected: int | None
    rate: float | None
    remaining: timedelta | None

    @property
    def percent(self) -> int | None:
        """At most 99 before the end: what is expected is a guess."""
        if not self.expected:
            return None
        return min(99, 100 * self.done // self.expected)

    @property
    def pace(self) -> str:
        """The rate in words."""
        if not self.rate:
            return "none yet"
        if self.rate < 1:
            return f"one in {duration(1 / self.rate)}"
        return f"{self.rate:,.0f} a second"


def progress(run: Mapping[str, Any], expected: int | None, now: datetime) -> RunProgress:
    """Of a row of the ledger. ``expected``: how many are to be looked at, about."""
    done, started = run["done"], run["started_at"]
    seconds = ((run["finished_at"] or now) - started).total_seconds() if started else 0.0
    rate = done / seconds if seconds >= _MIN_SECONDS else None
    remaining = None
    if run["state"] == "running" and rate and expected and expected > done:
        remaining = timedelta(seconds=(expected - done) / rate)
    return RunProgress(done, expected, rate, remaining)
