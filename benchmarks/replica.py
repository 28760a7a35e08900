"""A replica, as ``python -m service serve`` runs it, that tells what it costs:
``python -m benchmarks.replica``.

For each line that it reads it prints one of JSON (``Told``). ``--stages`` also measures the stages of
delivery, which costs a few microseconds for each mail.
"""

import asyncio
import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import psutil

from benchmarks.stages import Stopwatch
from service import log, server
from service.messages.outbox import Outbox, Recorded
from service.settings import Settings

_LAG_SECONDS = 0.01


class Told:
    """What this process has cost so far."""

    def __init__(self, *, stages: bool) -> None:
        self._after_import = psutil.Process().memory_info().rss
        self._main = time.pthread_getcpuclockid(threading.get_ident())
        self._groups: Counter[str] = Counter()
        self._lags: list[float] = []
        self._watch = Stopwatch()
        self._count_groups()
        if stages:
            self._watch.install()

    def _count_groups(self) -> None:
        record, groups = Outbox.record, self._groups

        async def counted(
            outbox: Outbox, dots: Sequence[Any], settlements: Sequence[Any], **more: Any
        ) -> Recorded:
            groups.update(statements=1, dots=len(dots), answers=len(settlements))
            return await record(outbox, dots, settlements, **more)

        setattr(Outbox, "record", counted)  # noqa: B010 — not as its class declares it

    async def watch_lag(self) -> None:
        """Note how much longer each short sleep takes than it should."""
        while True:
            began = time.perf_counter()
            await asyncio.sleep(_LAG_SECONDS)
            self._lags.append(time.perf_counter() - began - _LAG_SECONDS)

    def as_dict(self) -> dict[str, Any]:
        """Seconds and bytes so far; ``lags``: seconds, those since the last time."""
        lags, self._lags = self._lags, []
        return {
            "loop": time.clock_gettime(self._main),
            "process": time.process_time(),
            "stages": dict(self._watch.seconds),
            "groups": dict(self._groups),
            "lags": [round(lag, 5) for lag in lags],
            "rss_after_import": self._after_import,
            "rss_peak": _peak(),
        }


def _peak() -> int:
    with open("/proc/self/status", encoding="ascii") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))


def _answer(told: Told) -> None:
    for _line in sys.stdin:
        print(json.dumps(told.as_dict()), flush=True)


async def _serve(settings: Settings, told: Told) -> int:
    lag = asyncio.ensure_future(told.watch_lag())
    try:
        return await server.serve(settings)
    finally:
        lag.cancel()


def main() -> int:
    """Serve until a signal stops it."""
    told = Told(stages="--stages" in sys.argv)
    settings = Settings.load()
    log.configure(settings.log_level, json=True)
    threading.Thread(target=_answer, args=(told,), daemon=True).start()
    with asyncio.Runner(loop_factory=__import__("uvloop").new_event_loop) as runner:
        return runner.run(_serve(settings, told))


if __name__ == "__main__":
    sys.exit(main())
