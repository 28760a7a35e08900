"""Compares, by id, which rows the dashboard has with those of the copy, both ways.

What the copy lacks is read. What the dashboard lacks is gathered for the whole table, asked for once more,
and deleted in one transaction, unless it is more than is believed (``domain.loss``): then nothing is deleted,
and somebody is asked, until they confirm the loss or the rows are back. The question is in our database, so
that every process knows it. Ids lie in temporary tables meanwhile: a table may have millions.
"""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Any, Protocol

import asyncpg
import structlog

from service.dashboard import loss
from service.dashboard.loss import Loss, LossWindow
from service.dashboard.profiles.shapes import Collection, Document, Profile, Table
from service.dashboard.source import IdPage
from service.engine import queries
from service.engine.database import Connection
from service.errors import BadRequest

_SQL = queries.load(__file__)
_BATCH = 2000
_log = structlog.get_logger()

Step = Callable[[Connection], AbstractAsyncContextManager[Any]]
"""A transaction of this connection that counts only while we are the one to copy the dashboard."""
Keep = Callable[[Connection, Collection, Sequence[Document]], Awaitable[int]]
"""Reads documents and stores them in a ``Step``; returns how many rows changed."""


class SweepSource(Protocol):
    """What a sweep asks; see ``source.Source``."""

    async def ids(self, table: Table, after: str, limit: int) -> IdPage: ...
    async def existing(self, table: Table, ids: Sequence[str]) -> frozenset[str]: ...
    async def fetch(self, table: Table, ids: Sequence[str]) -> list[Document]: ...


class Sweep:
    """One comparison of one table, on a connection of its own."""

    def __init__(
        self,
        connection: Connection,
        dashboard: SweepSource,
        profile: Profile,
        collection: Collection,
        step: Step,
        keep: Keep,
    ) -> None:
        self._connection = connection
        self._dashboard = dashboard
        self._collection = collection
        self._table = profile.table(collection)
        self._step = step
        self._keep = keep

    async def run(self) -> tuple[int, int]:
        """How many rows were read again or for the first time, and how many deleted."""
        try:
            await self._collect()
            await self._compare()
            return await self._read_unknown(), await self._settle()
        finally:
            await self._clear()

    async def _collect(self) -> None:
        """All ids that the dashboard has."""
        for name in ("incoming_ids", "incoming_unknown", "incoming_missing"):
            await self._connection.execute(_SQL[name])
        await self._clear()
        after = ""
        while (keys := await self._dashboard.ids(self._table, after, _BATCH)).after != after:
            after = keys.after
            await self._connection.copy_records_to_table(
                "incoming_ids", records=((id_,) for id_ in keys.ids), columns=("id",)
            )
        await self._connection.execute(_SQL["measure"])

    async def _clear(self) -> None:
        if not self._connection.is_closed():
            await self._connection.execute(_SQL["clear"])

    async def _compare(self) -> None:
        if self._collection is Collection.SESSIONS:
            async with self._step(self._connection):
                await self._connection.execute(_SQL["returned"])
        await self._connection.execute(_SQL["find_unknown"], self._collection)
        await self._connection.execute(_SQL["find_missing"], self._collection)
        if self._collection is Collection.USERS:
            await self._connection.execute(_SQL["drop_erased"])
        after = ""
        while ids := await self._following("missing", after):
            if there := await self._dashboard.existing(self._table, ids):
                await self._connection.execute(_SQL["there"], list(there))
            after = ids[-1]

    async def _read_unknown(self) -> int:
        after, changed = "", 0
        while ids := await self._following("unknown", after):
            documents = await self._dashboard.fetch(self._table, ids)
            changed += await self._keep(self._connection, self._collection, documents)
            after = ids[-1]
        return changed

    async def _following(self, query: str, after: str) -> list[str]:
        return [row["id"] for row in await self._connection.fetch(_SQL[query], after, _BATCH)]

    async def _settle(self) -> int:
        """Delete what is believed to be gone, or ask; returns how many rows were deleted."""
        collection = self._collection
        async with self._step(self._connection) as ours:
            for query in ("not_held", "not_missing"):
                await ours.execute(_SQL[query], collection)
            held = await ours.fetchval(_SQL["held"], collection)
            confirmed = _count(await ours.execute(_SQL["let_confirmed_go"], collection))
            deleted = await self._believed(ours, held, confirmed)
            await ours.execute(_SQL[f"delete_{collection}"])
            for query in ("spent", "answered"):
                await ours.execute(_SQL[query], collection)
            await ours.execute(_SQL["swept"], collection, held, deleted, confirmed)
            await ours.execute(_SQL["forget"], collection)
        return confirmed + deleted

    async def _believed(self, ours: asyncpg.Connection, held: int, confirmed: int) -> int:
        """Let what nobody confirmed go as well, if that little is believed; how many that are, 0: none."""
        missing = await ours.fetchval(_SQL["staying"])
        found = await ours.fetchrow(_SQL["day"], self._collection, held)
        assert found
        day = LossWindow(found["start"] - confirmed, found["deleted"])
        asked = await ours.fetchval(_SQL["kept"], self._collection)
        if not asked and loss.believable(day, held - confirmed, missing):
            return _count(await ours.execute(_SQL["let_all_go"]))
        await ours.execute(_SQL["keep"], self._collection)
        of = max(day.start, held - confirmed + day.deleted)
        await ours.execute(_SQL["ask"], self._collection, of, day.deleted)
        _log.warning("rows_missing", table=self._collection, missing=missing, of=of)
        return 0


async def look_again(
    connection: Connection, dashboard: SweepSource, table: Table, collection: Collection, step: Step
) -> None:
    """Whether rows that are kept are back: some are asked for, and all when there is one among them."""
    some = await _ids(connection, "some_kept", collection, _BATCH)
    if await dashboard.existing(table, some):
        after = ""
        while ids := await _ids(connection, "all_kept", collection, after, _BATCH):
            there = await dashboard.existing(table, ids)
            async with step(connection):
                await connection.execute(_SQL["back"], collection, list(there))
            after = ids[-1]
    async with step(connection):
        await connection.execute(_SQL["all_back"], collection)


async def asked(connection: Connection) -> list[Collection]:
    """The tables about which somebody is asked."""
    return [Collection(row["collection"]) for row in await connection.fetch(_SQL["asked"])]


async def due(connection: Connection, every: timedelta) -> set[Collection]:
    """The tables that were not swept for so long, or whose loss was confirmed."""
    return {Collection(row["collection"]) for row in await connection.fetch(_SQL["due"], every)}


async def losses(pool: asyncpg.Pool) -> list[Loss]:
    """Every open question."""
    return [Loss(**row) for row in await pool.fetch(_SQL["losses"])]


async def confirm(pool: asyncpg.Pool, collection: Collection, who: str) -> int:
    """Accept that the rows which are missing now are gone, these and no others; the next look deletes them.

    Returns how many. ``who``: for the audit. Raises BadRequest when nobody was asked.
    """
    accepted: int = await pool.fetchval(_SQL["confirm"], collection, who)
    if not accepted:
        raise BadRequest(
            f"there is nothing to confirm: no {collection.replace('_', ' ')} are missing at the dashboard"
            " of which nobody knows whether they were deleted"
        )
    return accepted


async def _ids(connection: Connection, query: str, *values: Any) -> list[str]:
    return [row["id"] for row in await connection.fetch(_SQL[query], *values)]


def _count(tag: str) -> int:
    return int(tag.rpartition(" ")[2])
