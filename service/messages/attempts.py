"""The attempts to send one mail: when each ended, what the server said, and when the next came."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import asyncpg

from service.engine import queries
from service.engine.database import Connection

_SQL = queries.load(__file__)


@dataclass(frozen=True, slots=True)
class Attempt:
    """``at``: when it ended. ``state``: what became of the mail then (sent, planned, failed, unconfirmed).

    ``next_at``: when it was to be tried again; None: it was not. Of a mail that came back later the server's
    reply to the last attempt is not stored any more.
    """

    at: datetime
    state: str
    reason: str | None
    smtp_code: int | None
    smtp_reply: str | None
    next_at: datetime | None


async def attempts(executor: Connection | asyncpg.Pool, delivery: int) -> Sequence[Attempt] | None:
    """The last 21 attempts of a mail, the oldest first; None: there is no such message."""
    rows = await executor.fetch(_SQL["attempts"], delivery)
    if not rows and not await executor.fetchval(_SQL["exists"], delivery):
        return None
    return [Attempt(**dict(row)) for row in rows]
