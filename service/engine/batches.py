"""Updates of many rows, in pieces: none keeps others waiting for long."""

import asyncpg

from service.engine.database import Connection

_AT_A_TIME = 1000


async def update_all(executor: Connection | asyncpg.Pool, update: str, *values: object) -> None:
    """Repeat an UPDATE until it finds fewer rows than it may take; that number is its last parameter."""
    while await executor.execute(update, *values, _AT_A_TIME) == f"UPDATE {_AT_A_TIME}":
        continue
