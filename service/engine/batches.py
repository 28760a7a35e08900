"""Updates of many rows, in pieces: none keeps others waiting for long."""

import asyncpg

from service.engine.database import Connection

_AT_A_TIME = 1000


async def update_all(
    executor: Connection | asyncpg.Pool, update: str, *values: object, seconds: float | None = None
) -> None:
    """Repeat an UPDATE until it finds fewer rows than it may take; that number is its last parameter.

    ``seconds``: the longest that each may take, None: as the connection has it.
    """
    while await executor.execute(update, *values, _AT_A_TIME, timeout=seconds) == f"UPDATE {_AT_A_TIME}":
        continue
