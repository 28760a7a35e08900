"""A full synchronisation: every row is read and stored again, whatever its digest says, in order of id.

Somebody asks for it with ``request``; whichever process synchronises does it, page by page, and another goes
on where it stopped. The copy is used as it is meanwhile. Where somebody lived when (``user_zone``) is no copy
of the dashboard's present, and stays as it is.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import asyncpg

from service.dashboard.profiles.shapes import Collection
from service.engine import queries
from service.engine.database import Connection
from service.errors import AlreadyRunning, BadRequest
from service.zones import iso

_SQL = queries.load(__file__)


@dataclass(frozen=True, slots=True)
class FullSync:
    """A table whose rows are read again ``since`` then; ``rows``: how many of them were read so far."""

    table: str
    since: datetime
    rows: int

    def to_json(self) -> dict[str, Any]:
        """As health shows it."""
        return {"since": iso(self.since), "rows": self.rows}


async def request(connection: Connection, actor: str, reason: str) -> list[str]:
    """Have every row read again by the process that synchronises; returns the names of the tables.

    ``actor``, ``reason``: for the audit, which is written too. Raises AlreadyRunning while that is under way,
    and BadRequest when nothing has been copied yet.
    """
    if running := await under_way(connection):
        progress = ", ".join(f"{one.rows:,} {one.table.replace('_', ' ')}" for one in running)
        raise AlreadyRunning(
            f"everything is being read again since {iso(running[0].since)} ({progress} so far);"
            " wait for its end"
        )
    if tables := await restart(connection):
        await connection.execute(_SQL["audit"], actor, tables, reason)
        return tables
    raise BadRequest("nothing has been copied yet; the first copy reads everything")


async def restart(connection: Connection) -> list[str]:
    """Have every row read again, from the start even if that is under way; returns the tables' names."""
    return [row["collection"] for row in await connection.fetch(_SQL["restart"])]


async def under_way(connection: Connection | asyncpg.Pool) -> list[FullSync]:
    """The tables of which every row is being read again."""
    return [FullSync(**row) for row in await connection.fetch(_SQL["under_way"])]


async def position(connection: Connection, collection: Collection) -> str | None:
    """The id after which to go on with a table; None: its rows are not being read again."""
    after: str | None = await connection.fetchval(_SQL["position"], collection)
    return after


async def record_page(connection: Connection, collection: Collection, after: str, rows: int) -> None:
    """Record that a page of ``rows`` was stored, up to the id ``after``."""
    await connection.execute(_SQL["record_page"], collection, after, rows)


async def finish(connection: Connection, collection: Collection) -> None:
    """Record that all rows of a table were read; it is compared next."""
    await connection.execute(_SQL["finish"], collection)
