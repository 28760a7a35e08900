"""``service.zone``: the zones that Python and our PostgreSQL know; SQL reads every stored one through it."""

from collections.abc import Iterable

import asyncpg
import structlog

from service import zones
from service.engine import queries

_SQL = queries.load(__file__)
_Connection = asyncpg.Connection | asyncpg.pool.PoolConnectionProxy
log = structlog.get_logger()


async def fill(connection: _Connection, default_zone: str | None = None) -> None:
    """Bring ``service.zone`` up to date with both sides' data, and heal what was stored and is no zone.

    ``default_zone``: of whoever has none; None, or one that PostgreSQL does not know: as it was.
    """
    database_names = {row["name"] for row in await connection.fetch(_SQL["theirs"])}
    usable = zones.usable_names(database_names)
    async with connection.transaction():
        await connection.execute(_SQL["fill"], list(usable), list(usable.values()))
        if default_zone in usable:
            await connection.execute(_SQL["default"], usable[default_zone])
        healed = await _heal(connection, usable, zones.all_names(database_names))
    if any(healed.values()):
        log.warning("unknown time zones replaced", **healed)


async def accepted(pool: asyncpg.Pool) -> dict[str, str]:
    """The names that can be used, in IANA's spelling, and by which name PostgreSQL knows the zone of each."""
    return {row["name"]: row["used"] for row in await pool.fetch(_SQL["accepted"])}


async def _heal(connection: _Connection, usable: Iterable[str], names: list[str]) -> dict[str, int]:
    """How many people were healed: where they lived, at the dashboard's word, by their own choice."""
    accepted_names = list(usable)
    used = [zones.current_name(name) for name in accepted_names]
    history = [row["user_id"] for row in await connection.fetch(_SQL["heal_history"], names)]
    await connection.execute(_SQL["forget_moves"], history)
    users = await connection.fetch(_SQL["heal_users"], accepted_names, used)
    chosen = await connection.fetch(_SQL["heal_settings"], names)
    return {"history": len(set(history)), "users": len(users), "settings": len(chosen)}
