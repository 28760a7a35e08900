"""The heartbeat of this process in our PostgreSQL, which proves that it can write, and the check that its
release still fits the database.

Readiness and health depend on it: a database that refuses writes (after a failover) is of no use.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import asyncpg
import structlog

from service.clock import Clock
from service.engine import postgres_errors
from service.engine.database_errors import FAILURES
from service.engine.fault_log import FaultLog
from service.engine.ledger import Ledger
from service.engine.loops import Loop, first_of
from service.engine.postgres_errors import Server
from service.engine.schema import SchemaRange

log = structlog.get_logger()

_READ_ONLY = (
    "our PostgreSQL is read-only: it refuses writes; connections are opened anew until it takes them."
    " DATABASE_URL must lead to the primary"
)


class Heartbeat:
    """Writes this process's row of ``service.replica`` every ``interval`` seconds, with the values of
    ``report``.

    Without a heartbeat for ``stale`` seconds there is a ``problem``; ``timeout`` is that of one attempt.
    After a failure, and while this release stands down, the next attempt follows after ``retry_after``
    seconds. ``on_resume``: called when this release fits the database again.
    """

    def __init__(
        self,
        ledger: Ledger,
        version: str,
        clock: Clock,
        report: Callable[[], Awaitable[Mapping[str, Any]]],
        on_resume: Callable[[], Awaitable[None]],
        *,
        interval: float = 10.0,
        retry_after: float = 2.0,
        stale: float = 45.0,
        timeout: float = 10.0,
    ) -> None:
        self._ledger = ledger
        self._version = version
        self._clock = clock
        self._report = report
        self._on_resume = on_resume
        self._interval = interval
        self._retry_after = retry_after
        self._stale = stale
        self._timeout = timeout
        self._last_success: float | None = None
        self._failure: Exception | None = None
        self._fault = FaultLog("heartbeat failed", clock=clock.monotonic)
        self._too_old: str | None = None
        self._fits = asyncio.Event()
        self._stands_down = asyncio.Event()
        self._note(None)

    @property
    def problem(self) -> str | None:
        """Why this process cannot work with our PostgreSQL now, in a sentence; None: it can."""
        if self._too_old:
            return self._too_old
        if isinstance(self._failure, asyncpg.ReadOnlySQLTransactionError):
            return _READ_ONLY
        if self._last_success is None:
            return "no heartbeat has been written to our PostgreSQL yet"
        age = self._clock.monotonic() - self._last_success
        if age <= self._stale:
            return None
        why = _error_name(self._failure)
        return f"no heartbeat could be written to our PostgreSQL for {age:.0f} seconds ({why})"

    @property
    def began(self) -> bool:
        """Whether a heartbeat was written, or tried in vain."""
        return self._last_success is not None or self._failure is not None or self.stands_down

    @property
    def stands_down(self) -> bool:
        """Whether this release is too old for the database, so that its loops do nothing."""
        return self._too_old is not None

    async def check_schema(self) -> None:
        """Check whether this release fits the database."""
        self._note((await self._ledger.schema_range()).problem)

    def _note(self, too_old: str | None) -> None:
        if too_old and not self._too_old:
            log.warning("standing down: nothing is claimed, decided, sent or copied", problem=too_old)
        self._too_old = too_old
        on, off = (self._stands_down, self._fits) if too_old else (self._fits, self._stands_down)
        on.set()
        off.clear()

    async def serve(self, stop: asyncio.Event) -> None:
        """Write heartbeats until ``stop``."""
        while not stop.is_set():
            succeeded = await self.beat()
            pause = self._interval if succeeded and not self._too_old else self._retry_after
            await first_of(pause, stop)

    async def beat(self) -> bool:
        """Write one heartbeat; False: it failed. Retries once on a new session if the first was read-only."""
        report = await self._report()
        failure = await self._try(report)
        if isinstance(failure, asyncpg.ReadOnlySQLTransactionError):
            failure = await self._try(report)
        if failure is None:
            self._fault.over()
        else:
            self._fault.occurred(failure, problem=_error_name(failure))
        self._failure = failure
        return failure is None

    async def _try(self, report: Mapping[str, Any]) -> Exception | None:
        try:
            async with asyncio.timeout(self._timeout):
                await self._ledger.beat_replica(self._version, report)
                await self._follow(await self._ledger.schema_range())
        except FAILURES as failure:
            return failure
        self._last_success = self._clock.monotonic()
        return None

    async def _follow(self, schema_range: SchemaRange) -> None:
        if self._too_old and schema_range.writable:
            await self._on_resume()
            log.info("this release fits the database again: going on")
        self._note(schema_range.problem)

    def gated(self, loop: Loop) -> Loop:
        """The loop, which is stopped while this release stands down and then started again."""

        async def serve(stop: asyncio.Event) -> None:
            while not stop.is_set():
                await first_of(None, stop, self._fits)
                if not stop.is_set() and await self._ended(loop, stop):
                    return

        return serve

    async def _ended(self, loop: Loop, stop: asyncio.Event) -> bool:
        """Run a loop until ``stop`` or until this release stands down; True: it ended by itself."""
        stop_loop = asyncio.Event()
        task = asyncio.ensure_future(loop(stop_loop))
        stop_wait = asyncio.ensure_future(first_of(None, stop, self._stands_down))
        try:
            await asyncio.wait({task, stop_wait}, return_when=asyncio.FIRST_COMPLETED)
            early = task.done()
            stop_loop.set()
            await task
        finally:
            for pending in (task, stop_wait):
                pending.cancel()
            await asyncio.gather(task, stop_wait, return_exceptions=True)
        return early


def _error_name(error: Exception | None) -> str:
    if error is None:
        return "the event loop was held up"
    reason = postgres_errors.known_reason(error, Server("DATABASE"))
    return f"it {reason}" if reason else type(error).__name__
