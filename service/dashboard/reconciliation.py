"""Compares the copy with the dashboard in both directions, by id and digest; times of writing decide nothing.

A *pass* over a table stages (id, digest) of every row of the dashboard, page by page in order of id. The
pages are stored together with the position, so that a pass may be interrupted and goes on. Then the staged
rows are compared with the copy. Rows that differ or that the copy lacks are *read again* by id; staged values
are never stored, so that a row which is written meanwhile does no harm. Rows that the dashboard seems to lack
are looked up once more, and deleted in one transaction, unless they are too many (``loss.is_plausible``):
then nothing is deleted until somebody confirms the loss, or the rows are back. An open loss is stored in our
database, where every process sees it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence, Set
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from typing import Any, Protocol

import asyncpg
import structlog

from service.dashboard import loss
from service.dashboard.loss import Loss, LossWindow
from service.dashboard.profiles.shapes import Collection, Document, Profile, Table
from service.dashboard.source import DigestPage
from service.engine import queries
from service.engine.database import Connection
from service.errors import BadRequest

_SQL = queries.load(__file__)
_PAGE = 5000
"""Ids and digests that are asked for at once."""
_BATCH = 2000
"""Rows that are read again, or looked up, at once."""
_log = structlog.get_logger()

Step = Callable[[Connection], AbstractAsyncContextManager[Any]]
"""A transaction on this connection that commits only while we hold the lock of the copy."""
StoreDocuments = Callable[[Connection, Collection, Sequence[Document]], Awaitable[int]]
"""Stores documents in the copy, in a ``Step``; returns how many rows changed."""


class ComparableSource(Protocol):
    """The part of ``source.Source`` that a comparison needs."""

    async def digests(
        self, table: Table, after: str, limit: int, since: datetime | None = None
    ) -> DigestPage: ...
    async def existing(self, table: Table, ids: Sequence[str]) -> frozenset[str]: ...
    async def fetch(self, table: Table, ids: Sequence[str]) -> list[Document]: ...


class Reconciliation:
    """One pass over one table, on a connection of its own.

    ``since``: only of sessions that started then or later; None: of all rows.
    """

    def __init__(
        self,
        connection: Connection,
        source: ComparableSource,
        profile: Profile,
        collection: Collection,
        step: Step,
        store: StoreDocuments,
        since: datetime | None = None,
    ) -> None:
        self._connection = connection
        self._source = source
        self._collection = collection
        self._table = profile.table(collection)
        self._step = step
        self._store = store
        self._since = since

    async def run(self, budget: float | None = None) -> tuple[int, int]:
        """Begin a pass or go on with one; returns how many rows of the copy changed, and how many are gone.

        ``budget``: seconds after which staging, and reading again, stop until the next run, so that others
        get the lock of the copy; None: all of it now, from the start.
        """
        after = await self._begin_or_continue(anew=budget is None)
        if not await self._stage(after, budget):
            return 0, 0
        await self._compare()
        changed, complete = await self._read_different(budget)
        return changed, await self._delete_missing() if complete else 0

    # ── Staging ─────────────────────────────────────────────────────────────────────────────────────────────

    async def _begin_or_continue(self, *, anew: bool) -> str:
        """The position at which to go on. What a crash of the server lost of a pass begins from the start."""
        started = await self._connection.fetchrow(_SQL["pass"], self._collection)
        whole = started and started["staged"] == started["pass_rows"]
        if started and whole and not anew and started["pass_since"] == self._since:
            return str(started["pass_after"])
        async with self._step(self._connection) as transaction:
            await transaction.execute(_SQL["forget_staged"], self._collection)
            await transaction.execute(_SQL["forget_different"], self._collection)
            await transaction.execute(_SQL["begin_pass"], self._collection, self._since)
        return ""

    async def _stage(self, after: str, budget: float | None) -> bool:
        """Stage ids and digests until the end of the table (True), or for ``budget`` seconds."""
        clock = asyncio.get_running_loop().time
        begun = clock()
        while True:
            page_begun = clock()
            page = await self._source.digests(self._table, after, _PAGE, self._since)
            if page.after == after:
                return True
            async with self._step(self._connection) as transaction:
                # A crash of the server empties the table too, and the pass begins from the start.
                await transaction.execute("SET LOCAL synchronous_commit = off")
                await transaction.copy_records_to_table(
                    "staged_row",
                    schema_name="service",
                    records=[(self._collection, id_, digest) for id_, digest in page.rows],
                    columns=("collection", "id", "digest"),
                )
                spent = timedelta(seconds=clock() - page_begun)
                await transaction.execute(
                    _SQL["record_page"], self._collection, page.after, len(page.rows), spent
                )
            after = page.after
            if budget is not None and clock() - begun > budget:
                return False

    # ── Comparing ───────────────────────────────────────────────────────────────────────────────────────────

    async def _compare(self) -> None:
        collection = self._collection
        await self._connection.execute(_SQL["analyze_staged"])
        async with self._step(self._connection) as transaction:
            await transaction.execute(_SQL["forget_different"], collection)
            if collection is Collection.SESSIONS:
                await transaction.execute(_SQL["forget_archived"])
            await transaction.execute(_SQL["forget_kept"], collection)
            await transaction.execute(_SQL["find_different"], collection, self._since)
            await transaction.execute(_SQL["drop_erased"])
            if self._since is None:
                await transaction.execute(_SQL["forget_mended"], collection)
        after = ""
        while ids := await self._next_ids("next_missing", after):
            if existing := await self._source.existing(self._table, ids):
                async with self._step(self._connection) as transaction:
                    await transaction.execute(_SQL["mark_existing"], collection, list(existing))
            after = ids[-1]

    async def _read_different(self, budget: float | None) -> tuple[int, bool]:
        """Read rows again; returns how many changed, and whether all were read (else they are found anew)."""
        clock = asyncio.get_running_loop().time
        begun, after, changed = clock(), "", 0
        while ids := await self._next_ids("next_different", after):
            if after and budget is not None and clock() - begun > budget:
                return changed, False
            documents = await self._source.fetch(self._table, ids)
            changed += await self._store(self._connection, self._collection, documents)
            after = ids[-1]
        return changed, True

    async def _next_ids(self, query: str, after: str) -> list[str]:
        return await _ids(self._connection, query, self._collection, after, _BATCH)

    async def _delete_missing(self) -> int:
        """Delete missing rows, or keep them where they are too many; returns how many were deleted."""
        collection = self._collection
        async with self._step(self._connection) as transaction:
            deleted = await _delete_missing(transaction, collection, whole=self._since is None)
            for query in ("forget_staged", "end_pass"):
                await transaction.execute(_SQL[query], collection)
        return deleted


async def _delete_missing(transaction: Connection, collection: Collection, *, whole: bool) -> int:
    """Delete the missing rows that were found, or keep them where they are too many.

    ``whole``: all rows of the table were compared. Returns how many were deleted.
    """
    await transaction.execute(_SQL["drop_not_in_copy"], collection)
    if whole:
        await transaction.execute(_SQL["forget_no_longer_missing"], collection)
    rows = await transaction.fetchval(_SQL["count_expected"], collection)
    confirmed = _count(await transaction.execute(_SQL["mark_confirmed"], collection))
    deleted = await _mark_plausible_loss(transaction, collection, rows, confirmed)
    await transaction.execute(_SQL[f"delete_{collection}"])
    for query in ("delete_confirmations", "close_loss"):
        await transaction.execute(_SQL[query], collection)
    await transaction.execute(_SQL["record_pass"], collection, rows, deleted, confirmed, whole)
    for query in ("delete_old_passes", "forget_different"):
        await transaction.execute(_SQL[query], collection)
    return confirmed + deleted


async def _mark_plausible_loss(
    transaction: Connection, collection: Collection, rows: int, confirmed: int
) -> int:
    """Mark unconfirmed rows for deletion if they are few, else open a loss; returns the number marked."""
    missing = await transaction.fetchval(_SQL["count_unmarked"], collection)
    row = await transaction.fetchrow(_SQL["last_24_hours"], collection, rows)
    assert row
    window = LossWindow(row["start"] - confirmed, row["deleted"])
    unconfirmed = await transaction.fetchval(_SQL["has_unconfirmed"], collection)
    if not unconfirmed and loss.is_plausible(window, rows - confirmed, missing):
        return _count(await transaction.execute(_SQL["mark_all"], collection))
    await transaction.execute(_SQL["remember_missing"], collection)
    total = max(window.start, rows - confirmed + window.deleted)
    await transaction.execute(_SQL["open_loss"], collection, total, window.deleted)
    _log.warning("rows_missing", table=collection, missing=missing, of=total)
    return 0


async def delete_few(transaction: Connection, collection: Collection, gone: Sequence[str]) -> None:
    """Delete rows that the dashboard, asked by id, lacks. Where they are more than a few, a pass decides.

    It sees all that is missing; one by one, a table that is being emptied would go up to the bound.
    """
    if not gone:
        return
    await transaction.execute(_SQL["forget_different"], collection)
    if _count(await transaction.execute(_SQL["find_gone"], collection, gone)) <= loss.FEW:
        await _delete_missing(transaction, collection, whole=False)
    else:
        await transaction.execute(_SQL["compare_gone"], collection, gone)


async def compare_anew(transaction: Connection, collections: Sequence[Collection]) -> None:
    """Compare these tables at the next synchronisation, from the start."""
    await transaction.execute(_SQL["compare_anew"], list(collections))


async def check_returned_rows(
    connection: Connection, source: ComparableSource, table: Table, collection: Collection, step: Step
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
        await connection.execute(_SQL["close_loss_and_compare"], collection)


async def tables_with_open_loss(connection: Connection) -> list[Collection]:
    """The tables with a loss that nobody has confirmed."""
    return [Collection(row["collection"]) for row in await connection.fetch(_SQL["tables_with_open_loss"])]


async def due_tables(connection: Connection, people: timedelta, sessions: timedelta) -> set[Collection]:
    """The tables to compare now.

    Those whose last pass is long enough ago (``people``: of users and goals, or 150 times as long as it took;
    ``sessions``), with a pass under way, or with a loss that was confirmed.
    """
    rows = await connection.fetch(_SQL["due_tables"], people, sessions)
    return {Collection(row["collection"]) for row in rows}


async def recent_sessions_due(connection: Connection, every: timedelta, age: timedelta) -> datetime | None:
    """Since when sessions are to be compared now; None: it was done less than ``every`` ago."""
    since: datetime | None = await connection.fetchval(_SQL["recent_sessions_due"], every, age)
    return since


async def open_losses(pool: asyncpg.Pool) -> list[Loss]:
    """All losses that nobody has confirmed."""
    return [Loss(**row) for row in await pool.fetch(_SQL["open_losses"])]


async def unconfirmed_rows(
    pool: asyncpg.Pool, rows: Set[tuple[Collection, str]]
) -> frozenset[tuple[Collection, str]]:
    """Those of these (table, id) that are missing at the dashboard, in a loss that nobody has confirmed."""
    if not rows:
        return frozenset()
    tables, ids = zip(*rows, strict=True)
    found = await pool.fetch(_SQL["unconfirmed_rows"], tables, ids)
    return frozenset((Collection(row["collection"]), row["id"]) for row in found)


async def confirm_loss(
    executor: Connection | asyncpg.Pool,
    collection: Collection,
    actor: str,
    reason: str = "",
    rows: int | None = None,
) -> int:
    """Accept that exactly the rows that are missing now were deleted; the next pass deletes them here.

    Returns how many. ``actor``, ``reason``: for the audit. ``rows``: how many the actor was shown; None: any
    number. Raises BadRequest when no loss is open, or when other rows are missing by now.
    """
    accepted: int = await executor.fetchval(_SQL["confirm_loss"], collection, actor, reason, rows)
    if accepted:
        return accepted
    table = collection.replace("_", " ")
    if missing := await executor.fetchval(_SQL["count_unconfirmed"], collection):
        raise BadRequest(f"{missing:,} {table} are missing by now, not {rows:,}; look again, then confirm")
    raise BadRequest(
        f"there is nothing to confirm: no {table} are missing at the dashboard"
        " of which nobody knows whether they were deleted"
    )


async def _ids(connection: Connection, query: str, *values: Any) -> list[str]:
    return [row["id"] for row in await connection.fetch(_SQL[query], *values)]


def _count(tag: str) -> int:
    return int(tag.rpartition(" ")[2])
