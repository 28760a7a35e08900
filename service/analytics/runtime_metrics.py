"""The vital signs of this process over the last hour: event-loop lag, memory, CPU, answers of the API."""

import asyncio
import resource
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from service.analytics.performance import rounded
from service.analytics.significance import quantile_of_sorted
from service.clock import Clock

_HOUR = 3600.0
_BEAT = 0.5
_MOST_REQUESTS = 100_000
_STATM = Path("/proc/self/statm")


class RuntimeMetrics:
    """Measures while ``serve`` runs. ``gauges`` adds what others know (pools), name to number or None."""

    def __init__(self, clock: Clock, gauges: Callable[[], Mapping[str, float | None]] | None = None) -> None:
        self._clock = clock
        self._gauges = gauges or dict
        self._lags: deque[tuple[float, float]] = deque()
        self._requests: deque[tuple[float, float, bool]] = deque(maxlen=_MOST_REQUESTS)
        self._cpu: deque[tuple[float, float]] = deque()

    async def serve(self, stop: asyncio.Event) -> None:
        """Note by how much each short sleep was longer than asked: so long the loop kept others waiting."""
        while not stop.is_set():
            before = self._clock.monotonic()
            await asyncio.sleep(_BEAT)
            now = self._clock.monotonic()
            self._lags.append((now, max(0.0, now - before - _BEAT)))
            self._cpu.append((now, time.process_time()))
            self._forget(now)

    def request(self, seconds: float, *, failed: bool) -> None:
        """An answer was given after so many seconds; ``failed``: it was a 5xx."""
        self._requests.append((self._clock.monotonic(), seconds, failed))

    def _forget(self, now: float) -> None:
        for series in (self._lags, self._requests, self._cpu):
            while series and series[0][0] < now - _HOUR:
                series.popleft()

    def report(self) -> dict[str, Any]:
        """The last hour, JSON-able: times in ms, memory in bytes, CPU in per cent of one core."""
        self._forget(self._clock.monotonic())
        lags = sorted(1000 * lag for _, lag in self._lags)
        return {
            "loopLagMs": {
                f"p{int(100 * q)}": rounded(quantile_of_sorted(lags, q) if lags else None)
                for q in (0.5, 0.95, 0.99)
            },
            "rssBytes": rss(),
            "cpuPercent": self._cpu_percent(),
            "requests": len(self._requests),
            "responseMs": round(1000 * sum(seconds for _, seconds, _ in self._requests), 3),
            "errors": sum(failed for *_, failed in self._requests),
        } | dict(self._gauges())

    def _cpu_percent(self) -> float | None:
        if len(self._cpu) < 2:
            return None
        (since, used), (until, used_by_then) = self._cpu[0], self._cpu[-1]
        return round(100 * (used_by_then - used) / (until - since), 2) if until > since else None


def rss() -> int:
    """Resident memory of this process in bytes; the highest so far where the system does not tell."""
    try:
        return int(_STATM.read_text("ascii").split()[1]) * resource.getpagesize()
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
