"""What bounces and complaints change: a delivery's state, and who is not written to any more."""

import asyncpg

from service.engine import queries
from service.engine.database import Connection
from service.messages.outbox import Outbox

_SQL = queries.load(__file__)


class Suppressions:
    """Reports about deliveries. Each method says whether the report was news; repeating it is none.

    ``connection``: in its transaction.
    """

    def __init__(self, pool: asyncpg.Pool, outbox: Outbox) -> None:
        self._pool = pool
        self._outbox = outbox

    async def record_hard_bounce(
        self, delivery: int, diagnostic: str, *, no_such_address: bool, connection: Connection | None = None
    ) -> bool:
        """The address does not take mail: suppressed at the third in thirty days, or at once when unknown."""
        if (
            await (connection or self._pool).fetchval(
                _SQL["record_hard_bounce"], delivery, _without_nul(diagnostic)
            )
            is None
        ):
            return False
        await self._outbox.note_hard_bounces({delivery: no_such_address}, connection)
        return True

    async def record_complaint(
        self, delivery: int, diagnostic: str, connection: Connection | None = None
    ) -> bool:
        """The recipient called it spam: the address is suppressed at once."""
        executor = connection or self._pool
        return (
            await executor.fetchval(_SQL["record_complaint"], delivery, _without_nul(diagnostic)) is not None
        )

    async def record_arrival(
        self, delivery: int, diagnostic: str, connection: Connection | None = None
    ) -> bool:
        """Nothing against the address; an unconfirmed message is known to have been taken."""
        executor = connection or self._pool
        return await executor.fetchval(_SQL["record_arrival"], delivery, _without_nul(diagnostic)) is not None


def _without_nul(diagnostic: str) -> str:
    return diagnostic.replace("\0", "")
