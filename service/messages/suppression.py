"""Applies bounces and complaints: to the state of a delivery, and to the suppression list."""

import asyncpg

from service.engine import queries
from service.engine.database import Connection
from service.messages.outbox import Outbox

_SQL = queries.load(__file__)


class Suppressions:
    """Records reports about deliveries. Each method returns whether the report changed something.

    ``connection``: in its transaction.
    """

    def __init__(self, pool: asyncpg.Pool, outbox: Outbox) -> None:
        self._pool = pool
        self._outbox = outbox

    async def record_hard_bounce(
        self, delivery: int, diagnostic: str, *, no_such_address: bool, connection: Connection | None = None
    ) -> bool:
        """The address refuses mail: suppressed after three in 30 days, or at once if it does not exist."""
        if not await self._record("record_hard_bounce", delivery, diagnostic, connection):
            return False
        await self._outbox.note_hard_bounces({delivery: no_such_address}, connection)
        return True

    async def record_complaint(
        self, delivery: int, diagnostic: str, connection: Connection | None = None
    ) -> bool:
        """The recipient reported it as spam: the address is suppressed at once."""
        return await self._record("record_complaint", delivery, diagnostic, connection)

    async def record_arrival(
        self, delivery: int, diagnostic: str, connection: Connection | None = None
    ) -> bool:
        """Any other report: it proves that the server accepted an unconfirmed message."""
        return await self._record("record_arrival", delivery, diagnostic, connection)

    async def _record(
        self, query: str, delivery: int, diagnostic: str, connection: Connection | None
    ) -> bool:
        executor = connection or self._pool
        await executor.execute(_SQL["adopt"], delivery)
        return await executor.fetchval(_SQL[query], delivery, diagnostic.replace("\0", "")) is not None
