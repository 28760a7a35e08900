"""A lease: the right to do what only one process may do, as long as that process sends heartbeats.

It is a row, not the lock of a session: a holder that hangs or is gone loses it after ``length``. Every
transaction under it checks it again before its commit, so a holder that comes back later writes nothing.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import cast

import asyncpg
import structlog

from service.engine import queries
from service.engine.database import Connection
from service.engine.fault_log import FaultLog
from service.engine.loops import gets_on
from service.errors import LeaseLost

_SQL = queries.load(__file__)
_TROUBLE = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError)
SYNC = "sync"
"""The name of the lease on reading the dashboard and writing the copy of it."""
CHANGE_STREAM = "change_stream"
"""The name of the lease on following the dashboard's change stream."""
ARCHIVE = "archive"
"""The name of the lease on writing the archive."""
REQUEST = "request "
"""How the names of leases on requests begin; an idempotency key follows."""
_POLL = 0.1
"""Seconds between two attempts to take a lease that another process holds."""
_log = structlog.get_logger()


class HeldLease:
    """A lease that this process took; it is ours as long as the row says so."""

    def __init__(self, pool: asyncpg.Pool, name: str, owner: str, epoch: int, length: timedelta) -> None:
        self._pool = pool
        self._key = (name, owner, epoch)
        self._length = length

    @asynccontextmanager
    async def step(self, connection: Connection | None = None) -> AsyncIterator[asyncpg.Connection]:
        """A transaction that takes effect only if the lease is still ours at its end. Raises LeaseLost.

        ``connection``: the one to use; None: one of the pool.
        """
        if connection is None:
            async with self._pool.acquire() as pooled, self.step(pooled) as fenced:
                yield fenced
            return
        async with connection.transaction():
            milliseconds = str(int(self._length.total_seconds() * 1000))
            if await connection.fetchrow(_SQL["begin"], *self._key, milliseconds) is None:
                raise self.lost()
            yield cast("asyncpg.Connection", connection)
            await self.fence(connection)
            gets_on()

    async def fence(self, connection: Connection) -> None:
        """In a transaction: nobody can take the lease from here to its end. Raises LeaseLost."""
        if await connection.fetchrow(_SQL["fence"], *self._key) is None:
            raise self.lost()

    async def check(self) -> None:
        """Check it before an effect outside of our database. Raises LeaseLost."""
        if not await self.ours():
            raise self.lost()

    async def ours(self) -> bool:
        """Whether the lease is still ours."""
        return bool(await self._pool.fetchval(_SQL["ours"], *self._key))

    async def renew(self) -> bool:
        """Extend it; False: it is not ours any more."""
        return await self._pool.fetchval(_SQL["renew"], *self._key, self._length) is not None

    async def release(self) -> None:
        """Release it to the next process."""
        await self._pool.execute(_SQL["release"], *self._key)

    def lost(self) -> LeaseLost:
        """What to raise when it is not ours any more."""
        name, owner, epoch = self._key
        return LeaseLost(f"the lease {name!r} is no longer held by {owner} (epoch {epoch})")


class Lease:
    """A lease as one process sees it.

    ``owner``: the process's unique name. ``length``: how long a holder keeps it without a heartbeat.
    """

    def __init__(
        self, pool: asyncpg.Pool, name: str, owner: str, length: timedelta = timedelta(seconds=30)
    ) -> None:
        self._pool = pool
        self._name = name
        self._owner = owner
        self.length = length

    @asynccontextmanager
    async def hold(self, max_wait: float = 0.0) -> AsyncIterator[HeldLease | None]:
        """Hold it, with a heartbeat; yields None if another process still has it after ``max_wait`` seconds.

        Raises LeaseLost in place of the errors that a loss causes: the server ends idle transactions.
        """
        lease = await self._taken(max_wait)
        if lease is None:
            yield None
            return
        beat = asyncio.create_task(self._beat(lease))
        try:
            yield lease
        except _TROUBLE as error:
            if await _is_lost(lease):
                raise lease.lost() from error
            raise
        finally:
            beat.cancel()
            await asyncio.gather(beat, return_exceptions=True)
            await asyncio.shield(_let_go(lease))

    async def _taken(self, max_wait: float) -> HeldLease | None:
        clock = asyncio.get_running_loop().time
        deadline = clock() + max_wait
        await self._pool.execute(_SQL["make"], self._name)
        while True:
            epoch = await self._pool.fetchval(_SQL["take"], self._name, self._owner, self.length)
            if epoch is not None:
                return HeldLease(self._pool, self._name, self._owner, epoch, self.length)
            if clock() >= deadline:
                return None
            await asyncio.sleep(_POLL)

    async def _beat(self, lease: HeldLease) -> None:
        """Renew it until it is lost, which the next transaction notices. An error may be transient."""
        interval = self.length.total_seconds() / 3
        fault = FaultLog("lease_not_renewed", lease=self._name)
        while True:
            await asyncio.sleep(interval)
            try:
                async with asyncio.timeout(interval):
                    if not await lease.renew():
                        return
                fault.over()
            except (*_TROUBLE, TimeoutError) as error:
                fault.occurred(error)


async def revoke(connection: Connection, name: str) -> None:
    """Revoke a lease from whichever process holds it; none can take or use it until this transaction ends."""
    await connection.execute(_SQL["close"], name)
    await connection.execute(_SQL["revoke"], name)


async def _is_lost(lease: HeldLease) -> bool:
    try:
        return not await lease.ours()
    except _TROUBLE:
        return False  # unknown; the first error says what is wrong


async def _let_go(lease: HeldLease) -> None:
    try:
        await lease.release()
    except _TROUBLE as error:  # it expires by itself soon, and the original error matters more
        _log.warning("lease_not_released", error=type(error).__name__)
