"""The lock of the archive: one process writes it at a time, under a lease; within a process, one task."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import asyncpg

from service.engine import queries
from service.engine.database import Connection
from service.engine.lease import ARCHIVE, HeldLease, Lease
from service.errors import LeaseLost, SourceUnavailable

_SQL = queries.load(__file__)
_LONGEST_WAIT = 600.0
_BUSY = "another process writes the archive now; try again soon"


class ArchiveLock:
    """The right to write the archive. ``length``: after this long without a heartbeat another takes over."""

    def __init__(self, pool: asyncpg.Pool, length: timedelta = timedelta(seconds=30)) -> None:
        self._pool = pool
        self._length = length
        self._lock = asyncio.Lock()
        self._held: HeldLease | None = None

    @asynccontextmanager
    async def hold(self, *, wait: bool) -> AsyncIterator[bool]:
        """Hold the lock. Yields False if somebody else holds it and ``wait`` is off.

        Raises SourceUnavailable if somebody else holds it for more than ten minutes.
        """
        if not wait and self._lock.locked():
            yield False
            return
        lease = Lease(self._pool, ARCHIVE, secrets.token_hex(8), self._length)
        async with self._lock, lease.hold(wait * _LONGEST_WAIT) as held:
            if wait and not held:
                raise SourceUnavailable(_BUSY)
            self._held = held
            try:
                yield held is not None
            finally:
                self._held = None

    async def fence(self, connection: Connection) -> None:
        """In a transaction: nobody else takes the archive from here to its end. Raises SourceUnavailable."""
        assert self._held, "the archive is written under its lock"
        if not await connection.fetchval(_SQL["beside_0_1_1"]):
            raise SourceUnavailable("a process of the former release writes the archive now")
        try:
            await self._held.fence(connection)
        except LeaseLost as error:
            raise SourceUnavailable(_BUSY) from error

    async def check(self) -> None:
        """Before an effect on files or at the dashboard. Raises SourceUnavailable if the lock was lost."""
        assert self._held, "the archive is written under its lock"
        if not await self._held.ours():
            raise SourceUnavailable(_BUSY)
