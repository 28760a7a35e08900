"""How far each table has been copied, as stored in our database."""

from dataclasses import dataclass
from datetime import datetime

import asyncpg

from service.dashboard.profiles.shapes import Collection
from service.engine import queries
from service.engine.database import Connection

_SQL = queries.load(__file__)


@dataclass
class SyncState:
    """A row of service.sync_state. ``profile``: the reading key under which the table was loaded."""

    collection: Collection
    phase: str
    profile: str
    watermark: datetime | None
    last_id: str
    rows_read: int
    zones: str | None


async def load_states(pool: asyncpg.Pool) -> dict[Collection, SyncState]:
    """The state of each table whose first load has begun."""
    rows = await pool.fetch(_SQL["states"])
    return {Collection(row["collection"]): _state(row) for row in rows}


async def begin_first_load(
    connection: Connection, collection: Collection, reading_key: str, newest_update: datetime | None
) -> SyncState:
    """Begin a first load under a reading key. ``newest_update``: the newest update time, if there is one."""
    row = await connection.fetchrow(_SQL["begin_first_load"], collection, reading_key, newest_update)
    assert row
    return _state(row)


def _state(row: asyncpg.Record) -> SyncState:
    return SyncState(
        collection=Collection(row["collection"]),
        phase=row["phase"],
        profile=row["profile"] or "",
        watermark=row["watermark"],
        last_id=row["last_id"] or "",
        rows_read=row["rows_read"],
        zones=row["zones"],
    )
