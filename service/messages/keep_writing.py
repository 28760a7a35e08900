"""Answers of the mail server are written until they are written: nobody can ask for them a second time."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from service.engine.database_errors import FAILURES, is_transient
from service.engine.fault_log import FaultLog
from service.engine.retry import backoff

T = TypeVar("T")

_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 2.0
_GRACE = 4.0
"""Seconds after a stop for which it is still tried; then the lease says what became of the message."""


def pause_after(failures: int) -> float:
    """Seconds until a write that failed so many times in a row is tried again; processes are kept apart."""
    return backoff(failures, first=_FIRST_PAUSE, most=_LONGEST_PAUSE) * random.uniform(0.5, 1.0)  # noqa: S311


class KeepWriting:
    """Repeats a write until PostgreSQL takes it, or ``stop`` was set a while ago.

    The write must be one that can be repeated: it is fenced, and writes the same whenever it is done.
    """

    def __init__(self) -> None:
        self.stop = asyncio.Event()
        self._fault = FaultLog("answers of the mail server are kept until they can be written")
        self._last_chance: float | None = None

    async def until_written(self, write: Callable[[], Awaitable[T]]) -> T:
        """The result of ``write``. Raises its error if that is a bug of ours, or it is too late."""
        failures = 0
        while True:
            try:
                written = await write()
            except FAILURES as error:
                if not is_transient(error) or self._too_late():
                    raise
                self._fault.occurred(error)
            else:
                self._fault.over()
                return written
            failures += 1
            await asyncio.sleep(pause_after(failures))

    def _too_late(self) -> bool:
        if not self.stop.is_set():
            return False
        now = asyncio.get_running_loop().time()
        if self._last_chance is None:
            self._last_chance = now + _GRACE
        return now >= self._last_chance
