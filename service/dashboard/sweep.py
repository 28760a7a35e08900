"""Compares the ids of the rows at the dashboard with those of the copy.

Rows that the copy lacks are read. Rows that the dashboard lacks are collected for the whole table, looked up
once more, and deleted in one transaction, unless they are too many (``loss.is_plausible``): then nothing is
deleted until somebody confirms the loss, or the rows are back. An open loss is stored in our database, where
every process sees it. The ids are compared in temporary tables, because a table may have millions of rows.
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
"""A transaction on this connection that commits only while we hold the lock of the copy."""
StoreDocuments = Callable[[Connection, Collection, Sequence[Document]], Awaitable[int]]
"""Stores documents in the copy, in a ``Step``; returns how many rows changed."""


class SweepSource(Protocol):
    """The part of ``source.Source`` that a sweep needs."""

    async def ids(self, table: Table, after: str, limit: int) -> IdPage: ...
    async def existing(self, table: Table, ids: Sequence[str]) -> frozenset[str]: ...
    async def fetch(self, table: Table, ids: Sequence[str]) -> list[Document]: ...


class Sweep:
    """One sweep of one table, on a connection of its own."""

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
        """Sweep; returns how many rows changed in the copy, and how many were deleted."""
        try:
            await self._collect_ids()
            await self._compare()
            return await self._read_new(), await self._delete_missing()
        finally:
            await self._clear()

    async def _collect_ids(self) -> None:
        """Copy all ids of the dashboard into a temporary table."""
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
        """Delete missing rows, or keep them where they are too many; returns how many were deleted."""
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
        """Mark unconfirmed rows for deletion if they are few, else open a loss; returns the number marked."""
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
    """Check whether missing rows are back: first a sample of them, and all if one of the sample is."""
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
    """The tables with a loss that nobody has confirmed."""
    return [Collection(row["collection"]) for row in await connection.fetch(_SQL["tables_with_open_loss"])]


async def due_tables(connection: Connection, every: timedelta) -> set[Collection]:
    """The tables whose last sweep is ``every`` or longer ago, or with a loss that was confirmed."""
    return {Collection(row["collection"]) for row in await connection.fetch(_SQL["due_tables"], every)}


async def open_losses(pool: asyncpg.Pool) -> list[Loss]:
    """All losses that nobody has confirmed."""
    return [Loss(**row) for row in await pool.fetch(_SQL["open_losses"])]


async def confirm_loss(pool: asyncpg.Pool, collection: Collection, actor: str) -> int:
    """Accept that exactly the rows that are missing now were deleted; the next sweep deletes them here.

    Returns how many. ``actor``: for the audit. Raises BadRequest when no loss is open.
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
