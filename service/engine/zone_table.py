"""``service.zone``: the zones that both Python and our PostgreSQL know; SQL looks stored zones up there."""

from collections.abc import Iterable

import asyncpg
import structlog

from service import zones
from service.engine import queries

_SQL = queries.load(__file__)
_Connection = asyncpg.Connection | asyncpg.pool.PoolConnectionProxy
log = structlog.get_logger()


async def fill(connection: _Connection, default_zone: str | None = None) -> None:
    """Update ``service.zone`` from both sides' data, and replace stored values that are no zones.

    ``default_zone``: of users without a zone; None, or one that PostgreSQL does not know: unchanged.
    """
    database_names = {row["name"] for row in await connection.fetch(_SQL["database_names"])}
    usable = zones.usable_names(database_names)
    async with connection.transaction():
        await connection.execute(_SQL["fill"], list(usable), list(usable.values()))
        if default_zone in usable:
            await connection.execute(_SQL["default"], usable[default_zone])
        healed = await _heal(connection, usable, zones.all_names(database_names))
    if any(healed.values()):
        log.warning("unknown time zones replaced", **healed)


async def accepted(pool: asyncpg.Pool) -> dict[str, str]:
    """The usable names, in IANA's spelling, each with PostgreSQL's name of its zone."""
    return {row["name"]: row["used"] for row in await pool.fetch(_SQL["accepted"])}


async def _heal(connection: _Connection, usable: Iterable[str], names: list[str]) -> dict[str, int]:
    """Replace unknown zones; returns how many, by where they were stored."""
    accepted_names = list(usable)
    used = [zones.current_name(name) for name in accepted_names]
    history = [row["user_id"] for row in await connection.fetch(_SQL["heal_history"], names)]
    await connection.execute(_SQL["forget_moves"], history)
    users = await connection.fetch(_SQL["heal_users"], accepted_names, used)
    chosen = await connection.fetch(_SQL["heal_settings"], names)
    return {"history": len(set(history)), "users": len(users), "settings": len(chosen)}
