"""The service on a machine whose wall clock is wrong: ``python -m tests.chaos.skewed SECONDS serve``."""

import sys
import time
from datetime import datetime, timedelta

from service.cli import main
from service.clock import SystemClock

_right_now, _right_time = SystemClock.now, time.time


def _make_wrong(seconds: float) -> None:
    def now(clock: SystemClock) -> datetime:
        return _right_now(clock) + timedelta(seconds=seconds)

    SystemClock.now = now  # type: ignore[method-assign, assignment]
    time.time = lambda: _right_time() + seconds


if __name__ == "__main__":
    _make_wrong(float(sys.argv.pop(1)))
    sys.exit(main())
