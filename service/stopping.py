"""The end of this process, within a time limit, and whether it left anything to its lease."""

import asyncio
import os
import signal
import sys
import threading

import structlog

log = structlog.get_logger()

SOMETHING_LEFT = 5
"""The exit code of a process that left something to its lease, which others take over when that is over."""
_CLOSING = 2.0
"""Seconds that closing connections may take, after the grace."""
_TIDY = 0.5
"""Seconds for what the interpreter does after that. Threads that hang in a driver would keep it for ever."""


class Shutdown:
    """From the first SIGTERM or SIGINT, which sets ``stop``, to the end of the process.

    ``grace``: seconds that the loops may take. Two seconds later the process ends, whatever still hangs.
    ``released``: False once it is known, or as long as it is unknown, that something is left to its lease.
    """

    def __init__(self, grace: float) -> None:
        self.stop = asyncio.Event()
        self.released = False
        self._grace = grace
        self._timer: threading.Timer | None = None

    @property
    def code(self) -> int:
        """The exit code."""
        return 0 if self.released else SOMETHING_LEFT

    def listen(self) -> None:
        """Stop at the first signal; the second ends the process at once, with exit code 1."""
        loop = asyncio.get_running_loop()
        for one in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(one, self._on_signal, one.name)

    def _on_signal(self, name: str) -> None:
        if self.stop.is_set():
            log.warning("second signal: ending at once", signal=name)
            os._exit(1)
        log.info("stopping", signal=name)
        self.stop.set()
        self._end_within(self._grace + _CLOSING)

    def closed(self, *, embedded: bool) -> None:
        """Nothing but the interpreter keeps the process; it stops an ``embedded`` database."""
        if self._timer:
            self._timer.cancel()
        if self.stop.is_set() and not embedded:
            self._end_within(_TIDY)

    def _end_within(self, seconds: float) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer = threading.Timer(seconds, self._give_up)
        self._timer.daemon = True
        self._timer.start()

    def _give_up(self) -> None:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(self.code)
