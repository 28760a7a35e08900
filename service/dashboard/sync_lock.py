"""The lock of the copy: one process writes it at a time, under a lease; within a process, one task."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import asyncpg

from service.dashboard import replica
from service.engine import queries
from service.engine.database import Connection
from service.engine.lease import SYNC, HeldLease, Lease
from service.errors import DashboardBusy, LeaseLost

_SQL = queries.load(__file__)


class SyncLock:
    """The right to copy the dashboard. ``owner``: a name that no other process has; None: a random one.

    ``length``: after this long without a heartbeat another process takes over.
    """

    def __init__(self, pool: asyncpg.Pool, owner: str | None, length: timedelta) -> None:
        self.length = length
        self._lock = asyncio.Lock()
        self._lease = Lease(pool, SYNC, owner or secrets.token_hex(8), length)
        self._held: HeldLease | None = None

    @asynccontextmanager
    async def hold(self, max_wait: float) -> AsyncIterator[HeldLease]:
        """Hold the lock.

        Raises DashboardBusy when somebody else still holds it after ``max_wait`` seconds, or when another
        process takes it over meanwhile.
        """
        clock = asyncio.get_running_loop().time
        deadline = clock() + max_wait
        try:
            async with _locked(self._lock, max_wait), self._lease.hold(max(0.0, deadline - clock())) as lease:
                if lease is None:
                    raise DashboardBusy("another process reads the dashboard now; try again in a moment")
                self._held = lease
                try:
                    yield lease
                finally:
                    self._held = None
        except LeaseLost as error:
            raise DashboardBusy(f"another process has begun to read the dashboard: {error}") from error

    @asynccontextmanager
    async def step(self, connection: Connection | None = None) -> AsyncIterator[asyncpg.Connection]:
        """A transaction that commits only while we hold the lock; every change of the copy is in one."""
        assert self._held
        async with self._held.step(connection) as transaction:
            if not await transaction.fetchval(_SQL["beside_0_1_0"], replica.SYNC_LOCK):
                raise DashboardBusy("a process of the former release reads the dashboard now")
            yield transaction


@asynccontextmanager
async def _locked(lock: asyncio.Lock, max_wait: float) -> AsyncIterator[None]:
    """Hold a lock of this process. Raises DashboardBusy."""
    try:
        async with asyncio.timeout(max_wait):
            await lock.acquire()
    except TimeoutError:
        raise DashboardBusy("this process reads the dashboard now; try again in a moment") from None
    try:
        yield
    finally:
        lock.release()
