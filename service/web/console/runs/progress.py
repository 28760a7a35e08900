"""The progress of a run, its rate, and its estimated time to the end. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from service.web.console.formatting import duration

ACTIVE = frozenset({"pending", "running"})
_MIN_SECONDS = 1.0
"""Seconds after which a rate is meaningful."""


@dataclass(frozen=True, slots=True)
class RunProgress:
    """``done`` of about ``expected`` (None: unknown), ``rate`` per second, ``remaining`` time."""

    done: int
    expected: int | None
    rate: float | None
    remaining: timedelta | None

    @property
    def percent(self) -> int | None:
        """At most 99 before the end, because ``expected`` is an estimate."""
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
    """The progress of a run's row. ``expected``: roughly how many people or rows it will process."""
    done, started = run["done"], run["started_at"]
    seconds = ((run["finished_at"] or now) - started).total_seconds() if started else 0.0
    rate = done / seconds if seconds >= _MIN_SECONDS else None
    remaining = None
    if run["state"] == "running" and rate and expected and expected > done:
        remaining = timedelta(seconds=(expected - done) / rate)
    return RunProgress(done, expected, rate, remaining)
