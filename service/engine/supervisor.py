"""The supervisor: every loop of the service is watched, restarted when it dies, and visible in health."""

import asyncio
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

import structlog

from service.clock import Clock
from service.engine.fault_log import FaultLog, one_line
from service.engine.loops import Loop, first_of, watch
from service.engine.retry import backoff

_STANDS_STILL = 300.0
"""Seconds without a claim, a committed page or the end of a wait."""
log = structlog.get_logger()

_STEADY = 5.0
"""Seconds after which a loop that was restarted is taken for working again."""


@dataclass
class WatchedLoop:
    """One loop as health shows it. ``state``: running | restarting | stopped; instants in UTC."""

    name: str
    state: str = "stopped"
    restarts: int = 0
    last_error: str | None = None
    since: datetime | None = None
    got_on: float | None = None
    """When it last got on, in seconds of the monotonic clock; None: not yet."""


class Supervisor:
    """Runs loops concurrently; restarts one that dies, with a backoff from 1 s to 60 s."""

    def __init__(self, clock: Clock, loops: dict[str, Loop]) -> None:
        self._clock = clock
        self._loops = loops
        self.watched = {name: WatchedLoop(name) for name in loops}

    async def serve(self, stop: asyncio.Event) -> None:
        """Run every loop until ``stop``."""
        async with asyncio.TaskGroup() as group:
            for name, loop in self._loops.items():
                group.create_task(self._watch(self.watched[name], loop, stop), name=name)

    async def _watch(self, watched: WatchedLoop, loop: Loop, stop: asyncio.Event) -> None:
        failures = 0
        watch(partial(self._note, watched))
        fault = FaultLog("loop died", level="error", clock=self._clock.monotonic, loop=watched.name)
        while not stop.is_set():
            watched.state, watched.since = "running", self._clock.now()
            started = watched.got_on = self._clock.monotonic()
            steady = asyncio.get_running_loop().call_later(_STEADY, fault.over)
            try:
                error: Exception | str | None = await _end_of(loop, stop)
            except Exception as died:  # noqa: BLE001 — logged below; the other loops go on
                error = died
            finally:
                steady.cancel()
            if error is None:
                continue
            fault.occurred(error)
            failures = failures + 1 if self._clock.monotonic() - started < 60 else 1
            watched.state, watched.restarts, watched.last_error = (
                "restarting",
                watched.restarts + 1,
                _said(error),
            )
            await first_of(backoff(failures), stop)
        watched.state = "stopped"

    def _note(self, watched: WatchedLoop) -> None:
        watched.got_on = self._clock.monotonic()

    def stalled(self, loop: WatchedLoop) -> int | None:
        """For how many seconds a loop that runs has been standing still; None: it gets on."""
        if loop.state != "running" or loop.got_on is None:
            return None
        seconds = self._clock.monotonic() - loop.got_on
        return round(seconds) if seconds > _STANDS_STILL else None

    def report(self) -> dict[str, Any]:
        """Every loop's state, for health."""
        return {
            w.name: {
                "state": w.state,
                "restarts": w.restarts,
                "lastError": w.last_error,
                "since": w.since.isoformat() if w.since else None,
            }
            for w in self.watched.values()
        }

    @property
    def healthy(self) -> bool:
        """Whether no loop is between death and restart."""
        return all(w.state != "restarting" for w in self.watched.values())


async def _end_of(loop: Loop, stop: asyncio.Event) -> str | None:
    """Run a loop to its end. Returns how it ended, if it was not stopped; else None."""
    try:
        await loop(stop)
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise  # the supervisor itself is being cancelled
        early = "cancelled from within"
    else:
        early = "ended before its time"
    return None if stop.is_set() else early


def _said(error: Exception | str) -> str:
    return error if isinstance(error, str) else one_line(error)


_CANCEL = 0.5
"""Seconds that loops may take to be cancelled."""


class ServiceLoops:
    """The loops of this process, under their supervisor; start and stop can be repeated."""

    def __init__(self, supervisor: Supervisor, grace: float) -> None:
        self._supervisor = supervisor
        self._grace = grace
        self._stop = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start every loop."""
        self._stop = asyncio.Event()
        self._task = asyncio.create_task(self._supervisor.serve(self._stop), name="loops")

    async def stop(self) -> None:
        """Stop claiming and release current runs within the grace; what still runs is cancelled."""
        if self._task is None:
            return
        self._stop.set()
        _, late = await asyncio.wait({self._task}, timeout=self._grace)
        if late:
            log.warning("loops did not stop in time; what they hold is released by its lease")
            self._task.cancel()
            await asyncio.wait({self._task}, timeout=_CANCEL)
        self._task = None
