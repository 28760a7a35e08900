"""A fault that lasts is logged when it begins, once a minute with a count, and when it ends."""

import time
import traceback
from collections.abc import Callable
from typing import Any

import structlog

from service.errors import ServiceError

log = structlog.get_logger()

_EVERY = 60.0
"""Seconds between two lines about one fault."""
_LONGEST = 500


class FaultLog:
    """What may go wrong again and again, like the death of a loop. ``event``: its name in the log.

    One that comes back within a minute is the same fault: it is counted, and not logged as a new one.
    ``level``: warning or error. ``clock``: seconds that never go back. ``fields``: logged with every line.
    """

    def __init__(
        self,
        event: str,
        *,
        level: str = "warning",
        clock: Callable[[], float] = time.monotonic,
        **fields: Any,
    ) -> None:
        self._event = event
        self._level = level
        self._clock = clock
        self._fields = fields
        self._count = 0
        self._since: float | None = None
        self._logged_at = float("-inf")
        self._begin_logged = False

    def occurred(self, error: BaseException | str, **fields: Any) -> None:
        """Log it, or only count it. The first line has the traceback, unless the error is a sentence."""
        now = self._clock()
        self._count += 1
        if self._since is None:
            self._since, self._begin_logged = now, False
        if now - self._logged_at < _EVERY:
            return
        details = self._so_far(now - self._since) if self._begin_logged else _traceback(error)
        getattr(log, self._level)(self._event, **self._fields, **fields, error=_sentence(error), **details)
        self._logged_at, self._begin_logged = now, True

    def over(self) -> None:
        """It works again; does nothing unless there was a fault."""
        if self._since is None:
            return
        if self._begin_logged:
            now = self._clock()
            log.info(f"{self._event}: over", **self._fields, **self._so_far(now - self._since))
            self._logged_at, self._count = now, 0
        self._since = None

    def _so_far(self, seconds: float) -> dict[str, Any]:
        return {"times": self._count, "seconds": round(seconds)}


def _sentence(error: BaseException | str) -> str:
    return str(error) if isinstance(error, str | ServiceError) else one_line(error)


def _traceback(error: BaseException | str) -> dict[str, Any]:
    if isinstance(error, str | ServiceError):
        return {}
    return {"exception": "".join(traceback.format_tb(error.__traceback__)) + one_line(error)}


def one_line(error: BaseException) -> str:
    """An error in one line, for the log: no DETAIL of PostgreSQL, which may hold people's data."""
    line = traceback.format_exception_only(error)[0].strip().splitlines()
    return line[0][:_LONGEST] if line else type(error).__name__
