"""Metrics of this process over the last hour: event-loop lag, memory, CPU, responses of the API."""

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
_INTERVAL = 0.5
_MAX_REQUESTS = 100_000
_STATM = Path("/proc/self/statm")


class RuntimeMetrics:
    """Measures while ``serve`` runs. ``gauges`` returns further metrics (pools): name → number or None."""

    def __init__(self, clock: Clock, gauges: Callable[[], Mapping[str, float | None]] | None = None) -> None:
        self._clock = clock
        self._gauges = gauges or dict
        self._lags: deque[tuple[float, float]] = deque()
        self._requests: deque[tuple[float, float, bool]] = deque(maxlen=_MAX_REQUESTS)
        self._cpu: deque[tuple[float, float]] = deque()

    async def serve(self, stop: asyncio.Event) -> None:
        """Record how much longer each short sleep took than requested: that is the lag of the event loop."""
        while not stop.is_set():
            before = self._clock.monotonic()
            await asyncio.sleep(_INTERVAL)
            now = self._clock.monotonic()
            self._lags.append((now, max(0.0, now - before - _INTERVAL)))
            self._cpu.append((now, time.process_time()))
            self._drop_old(now)

    def record_request(self, seconds: float, *, failed: bool) -> None:
        """Record a response after so many seconds; ``failed``: it was a 5xx."""
        self._requests.append((self._clock.monotonic(), seconds, failed))

    def _drop_old(self, now: float) -> None:
        for series in (self._lags, self._requests, self._cpu):
            while series and series[0][0] < now - _HOUR:
                series.popleft()

    def report(self) -> dict[str, Any]:
        """The last hour, as JSON: times in ms, memory in bytes, CPU in per cent of one core."""
        self._drop_old(self._clock.monotonic())
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
        (start, used_at_start), (end, used_at_end) = self._cpu[0], self._cpu[-1]
        return round(100 * (used_at_end - used_at_start) / (end - start), 2) if end > start else None


def rss() -> int:
    """Resident memory of this process in bytes; its peak where the system has no current value."""
    try:
        return int(_STATM.read_text("ascii").split()[1]) * resource.getpagesize()
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
