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
StoreDocuments = Callable[[Connection, Collection, Sequence[Document]], Awaitable[int]]
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
        source: SweepSource,
        profile: Profile,
        collection: Collection,
        step: Step,
        store: StoreDocuments,
    ) -> None:
        self._connection = connection
        self._source = source
        self._collection = collection
        self._table = profile.table(collection)
        self._step = step
        self._store = store

    async def run(self) -> tuple[int, int]:
        """How many rows were read again or for the first time, and how many deleted."""
        try:
            await self._collect_ids()
            await self._compare()
            return await self._read_new(), await self._delete_missing()
        finally:
            await self._clear()

    async def _collect_ids(self) -> None:
        """All ids that the dashboard has."""
        for name in ("incoming_ids", "incoming_new", "incoming_missing"):
            await self._connection.execute(_SQL[name])
        await self._clear()
        after = ""
        while (page := await self._source.ids(self._table, after, _BATCH)).after != after:
            after = page.after
            await self._connection.copy_records_to_table(
                "incoming_ids", records=((key,) for key in page.ids), columns=("id",)
            )
        await self._connection.execute(_SQL["analyze_ids"])

    async def _clear(self) -> None:
        if not self._connection.is_closed():
            await self._connection.execute(_SQL["clear"])

    async def _compare(self) -> None:
        if self._collection is Collection.SESSIONS:
            async with self._step(self._connection):
                await self._connection.execute(_SQL["forget_archived"])
        await self._connection.execute(_SQL["find_new"], self._collection)
        await self._connection.execute(_SQL["find_missing"], self._collection)
        if self._collection is Collection.USERS:
            await self._connection.execute(_SQL["drop_erased"])
        after = ""
        while ids := await self._next_ids("next_missing", after):
            if existing := await self._source.existing(self._table, ids):
                await self._connection.execute(_SQL["drop_existing"], list(existing))
            after = ids[-1]

    async def _read_new(self) -> int:
        after, changed = "", 0
        while ids := await self._next_ids("next_new", after):
            documents = await self._source.fetch(self._table, ids)
            changed += await self._store(self._connection, self._collection, documents)
            after = ids[-1]
        return changed

    async def _next_ids(self, query: str, after: str) -> list[str]:
        return [row["id"] for row in await self._connection.fetch(_SQL[query], after, _BATCH)]

    async def _delete_missing(self) -> int:
        """Delete what is believed to be gone, or ask; returns how many rows were deleted."""
        collection = self._collection
        async with self._step(self._connection) as transaction:
            for query in ("drop_not_in_copy", "forget_no_longer_missing"):
                await transaction.execute(_SQL[query], collection)
            rows = await transaction.fetchval(_SQL["count_expected"], collection)
            confirmed = _count(await transaction.execute(_SQL["mark_confirmed"], collection))
            deleted = await self._mark_plausible_loss(transaction, rows, confirmed)
            await transaction.execute(_SQL[f"delete_{collection}"])
            for query in ("delete_confirmations", "close_loss"):
                await transaction.execute(_SQL[query], collection)
            await transaction.execute(_SQL["record_sweep"], collection, rows, deleted, confirmed)
            await transaction.execute(_SQL["delete_old_sweeps"], collection)
        return confirmed + deleted

    async def _mark_plausible_loss(self, transaction: asyncpg.Connection, rows: int, confirmed: int) -> int:
        """Let what nobody confirmed go as well, if that little is believed; how many that are, 0: none."""
        missing = await transaction.fetchval(_SQL["count_unmarked"])
        row = await transaction.fetchrow(_SQL["last_24_hours"], self._collection, rows)
        assert row
        window = LossWindow(row["start"] - confirmed, row["deleted"])
        unconfirmed = await transaction.fetchval(_SQL["has_unconfirmed"], self._collection)
        if not unconfirmed and loss.is_plausible(window, rows - confirmed, missing):
            return _count(await transaction.execute(_SQL["mark_all"]))
        await transaction.execute(_SQL["remember_missing"], self._collection)
        total = max(window.start, rows - confirmed + window.deleted)
        await transaction.execute(_SQL["open_loss"], self._collection, total, window.deleted)
        _log.warning("rows_missing", table=self._collection, missing=missing, of=total)
        return 0


async def check_returned_rows(
    connection: Connection, source: SweepSource, table: Table, collection: Collection, step: Step
) -> None:
    """Whether rows that are kept are back: some are asked for, and all when there is one among them."""
    sample = await _ids(connection, "sample_remembered", collection, _BATCH)
    if await source.existing(table, sample):
        after = ""
        while ids := await _ids(connection, "next_remembered", collection, after, _BATCH):
            existing = await source.existing(table, ids)
            async with step(connection):
                await connection.execute(_SQL["forget_returned"], collection, list(existing))
            after = ids[-1]
    async with step(connection):
        await connection.execute(_SQL["close_loss_and_sweep"], collection)


async def tables_with_open_loss(connection: Connection) -> list[Collection]:
    """The tables about which somebody is asked."""
    return [Collection(row["collection"]) for row in await connection.fetch(_SQL["tables_with_open_loss"])]


async def due_tables(connection: Connection, every: timedelta) -> set[Collection]:
    """The tables that were not swept for so long, or whose loss was confirmed."""
    return {Collection(row["collection"]) for row in await connection.fetch(_SQL["due_tables"], every)}


async def open_losses(pool: asyncpg.Pool) -> list[Loss]:
    """Every open question."""
    return [Loss(**row) for row in await pool.fetch(_SQL["open_losses"])]


async def confirm_loss(pool: asyncpg.Pool, collection: Collection, actor: str) -> int:
    """Accept that the rows which are missing now are gone, these and no others; the next look deletes them.

    Returns how many. ``who``: for the audit. Raises BadRequest when nobody was asked.
    """
    accepted: int = await pool.fetchval(_SQL["confirm_loss"], collection, actor)
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
