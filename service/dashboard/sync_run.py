"""One synchronisation: brings the copy of each table up to date.

The *first load* reads each table in id order, page by page; rows and position are stored in one transaction,
so that a crash costs one page. After that only *changes* are read, by the time of their update, with a small
overlap, because writes become visible late; reading a row twice does no harm. Whatever that misses (edits
that leave the time of writing as it was, imports, deletions) is found by a comparison: see
``reconciliation``.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import asyncpg
import structlog

from service.dashboard import full_sync, reconciliation, replica, sync_state
from service.dashboard.copy_writer import CopyWriter
from service.dashboard.profiles.fields import getter
from service.dashboard.profiles.reader import Reading
from service.dashboard.profiles.shapes import DIGEST, Collection, Document, Table
from service.dashboard.profiles.values import identity, instant
from service.dashboard.reconciliation import Reconciliation
from service.dashboard.source import Source, SourcePage
from service.dashboard.sync_lock import SyncLock
from service.dashboard.sync_settings import SyncSettings
from service.dashboard.sync_state import SyncState
from service.engine import queries
from service.engine.database import Connection

_SQL = queries.load(__file__)
_LONG_AGO = datetime(1900, 1, 1, tzinfo=UTC)
_RECENT = timedelta(days=3)
"""Sessions that started within so long are compared more often."""
_SHARE_OF_TIME = 0.05
"""The share of its time for which a process reads digests: a batch, then 19 times as long a pause."""
_log = structlog.get_logger()


@dataclass
class SyncReport:
    """What one synchronisation did, per table. ``pending``: the dashboard is empty, its profile unknown."""

    profile: str | None = None
    pending: bool = False
    read: Counter[str] = field(default_factory=Counter)
    changed: Counter[str] = field(default_factory=Counter)
    deleted: Counter[str] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)
    """``collection.reason`` → count, of documents that were new or edited."""


class SyncRun:
    """One synchronisation, by a process that holds the lock.

    A table that was loaded under another key than ``writer.key`` is loaded again. ``zones``: the version of
    the zone data. ``started_at``: by the clock of our database.
    """

    def __init__(
        self,
        pool: asyncpg.Pool,
        source: Source,
        lock: SyncLock,
        writer: CopyWriter,
        settings: SyncSettings,
        *,
        zones: str,
        started_at: datetime,
    ) -> None:
        self._pool = pool
        self._source = source
        self._lock = lock
        self._writer = writer
        self._settings = settings
        self._zones = zones
        self._started_at = started_at
        self.report = SyncReport(profile=writer.profile.name)

    async def update(self, collection: Collection, state: SyncState | None, *, restored: bool) -> None:
        """Bring one table up to date. ``restored``: data that was missing from it is there again."""
        read_before = state is not None and state.phase == "live" and state.profile == self._writer.key
        if state is None or state.profile != self._writer.key:
            state = await self._begin(collection)
        if state.phase == "loading":
            await self._first_load(state)
        await self._read_changes(state)
        if collection is Collection.USERS:
            await self._read_zones_again(state)
        if restored and read_before:  # rows written meanwhile were read without that data
            async with self._pool.acquire() as connection:
                await self._read_all(connection, collection)

    # ── First load ──────────────────────────────────────────────────────────────────────────────────────────

    async def _begin(self, collection: Collection) -> SyncState:
        newest = await self._source.newest_update(self._table(collection))
        async with self._lock.step() as connection:
            return await sync_state.begin_first_load(connection, collection, self._writer.key, newest)

    async def _first_load(self, state: SyncState) -> None:
        writing: asyncio.Task[None] | None = None  # one page is stored while the next is read
        async with aclosing(self._pages(state.collection, state.last_id)) as stream:
            try:
                async for page in stream:
                    reading = await self._writer.read(state.collection, page.documents)
                    self._count_problems(state.collection, reading)
                    if writing:
                        await writing
                    writing = asyncio.create_task(self._store_page(state, page, reading))
            finally:
                if writing:
                    await writing
        async with self._lock.step() as connection:
            await replica.mark_everything_stale(connection, state.collection)
            state.zones = self._zones
            await connection.execute(_SQL["finish_first_load"], state.collection, state.zones)
        state.phase = "live"

    async def _store_page(self, state: SyncState, page: SourcePage, reading: Reading) -> None:
        """Store rows and position in one transaction; what a crash of the server loses is read again."""
        rows = len(page.documents)
        async with self._lock.step() as connection:
            await connection.execute("SET LOCAL synchronous_commit = off")
            changed = await self._writer.store(connection, state.collection, reading, mark=False)
            await connection.execute(_SQL["record_page"], state.collection, page.after, rows)
        state.last_id, state.rows_read = page.after, state.rows_read + rows
        self.report.read[state.collection] += rows
        self.report.changed[state.collection] += changed
        if self._settings.progress:
            self._settings.progress(state.collection, state.rows_read)

    async def _pages(self, collection: Collection, after: str) -> AsyncGenerator[SourcePage, None]:
        """Pages in id order; the next is fetched while the last is stored."""
        table, batch = self._table(collection), self._settings.batch
        next_page = asyncio.create_task(self._source.page(table, after, batch))
        try:
            while (page := await next_page).documents:
                next_page = asyncio.create_task(self._source.page(table, page.after, batch))
                yield page
        finally:
            next_page.cancel()
            await asyncio.gather(next_page, return_exceptions=True)

    # ── Changes ─────────────────────────────────────────────────────────────────────────────────────────────

    async def _read_changes(self, state: SyncState) -> None:
        table = self._table(state.collection)
        watermark = state.watermark or await self._source.newest_update(table)
        if (
            table.updated is None or watermark is None
        ):  # no update times: new rows only; a sweep finds the rest
            async with aclosing(self._pages(state.collection, state.last_id)) as stream:
                async for page in stream:
                    await self._store_changes(state, page.documents, page.after)
        else:
            since = state.watermark - self._settings.overlap if state.watermark else _LONG_AGO
            async with aclosing(self._source.changes(table, since, self._settings.batch)) as stream:
                async for documents in stream:
                    await self._store_changes(state, documents, None)
        async with self._lock.step() as connection:
            await connection.execute(_SQL["record_sync"], state.collection, self._started_at)

    async def _store_changes(
        self, state: SyncState, documents: Sequence[Document], after: str | None
    ) -> None:
        newest = newest_update(self._table(state.collection), documents)
        new = await self._without_known(state.collection, documents)
        reading = await self._writer.read(state.collection, new)
        self._count_problems(state.collection, reading)
        async with self._lock.step() as connection:
            changed = await self._writer.store(connection, state.collection, reading)
            await connection.execute(_SQL["record_changes"], state.collection, newest, after, changed)
        self.report.read[state.collection] += len(documents)
        self.report.changed[state.collection] += changed

    async def _without_known(
        self, collection: Collection, documents: Sequence[Document]
    ) -> Sequence[Document]:
        """Leave out documents that were read before as they are: the overlap is read several times."""
        key = self._table(collection).id
        ids = [identity(document[key]) or "" for document in documents]
        digests = [document.get(DIGEST) for document in documents]
        rows = await self._pool.fetch(_SQL["known"], collection, ids, digests)
        known = {row["id"] for row in rows}
        return [document for id_, document in zip(ids, documents, strict=True) if id_ not in known]

    def _count_problems(self, collection: Collection, reading: Reading) -> None:
        self.report.rejected.update(f"{collection}.{problem.reason}" for problem in reading.problems)

    async def _read_zones_again(self, state: SyncState) -> None:
        """Read users with an unknown zone again where the zone data has changed, as after an upgrade."""
        if state.zones == self._zones:
            return
        after, batch = "", self._settings.batch
        while ids := [row["id"] for row in await self._pool.fetch(_SQL["users_without_zone"], after, batch)]:
            documents = await self._source.fetch(self._writer.profile.users, ids)
            reading = await self._writer.read(Collection.USERS, documents)
            async with self._lock.step() as connection:
                changed = await self._writer.store(connection, Collection.USERS, reading)
            self.report.changed["users"] += changed
            after = ids[-1]
        async with self._lock.step() as connection:
            await connection.execute(_SQL["record_zones"], self._zones)

    # ── Comparing ───────────────────────────────────────────────────────────────────────────────────────────

    async def compare(self, comparable: Sequence[Collection], *, requested: bool | None) -> None:
        """Compare those of these tables that are due.

        ``requested``: all of them now, to the end; False: none.
        """
        if requested is False:
            return
        settings = self._settings
        async with self._pool.acquire() as connection:
            await self._look_for_returned_rows(connection, comparable)
            due = await reconciliation.due_tables(
                connection, settings.compare_people_every, settings.compare_sessions_every
            )
            if due or await reconciliation.recent_sessions_due(
                connection, settings.compare_recent_every, _RECENT
            ):
                due.add(Collection.USERS)  # first: what went with an account is kept
            for collection in comparable:
                if requested or collection in due:
                    await self._compare_one(connection, collection, requested=bool(requested))
            if Collection.SESSIONS in comparable and not requested:
                await self._compare_recent_sessions(connection)

    async def _look_for_returned_rows(self, connection: Connection, comparable: Sequence[Collection]) -> None:
        for collection in await reconciliation.tables_with_open_loss(connection):
            if collection in comparable:
                table, step = self._table(collection), self._lock.step
                await reconciliation.check_returned_rows(connection, self._source, table, collection, step)

    async def _compare_recent_sessions(self, connection: Connection) -> None:
        if since := await reconciliation.recent_sessions_due(
            connection, self._settings.compare_recent_every, _RECENT
        ):
            await self._compare_one(connection, Collection.SESSIONS, requested=False, since=since)

    async def _compare_one(
        self,
        connection: Connection,
        collection: Collection,
        *,
        requested: bool,
        since: datetime | None = None,
    ) -> None:
        comparison = Reconciliation(
            connection,
            self._source,
            self._writer.profile,
            collection,
            self._lock.step,
            self._store_reread,
            since,
        )
        budget = None if requested else self._settings.interval * _SHARE_OF_TIME
        changed, deleted = await comparison.run(budget)
        self.report.changed[collection] += changed
        if deleted:
            self.report.deleted[collection] += deleted

    async def go_on_with_full(self, collections: Sequence[Collection], *, requested: bool) -> None:
        """Go on with a full synchronisation of these tables, if one is under way; see ``full_sync``.

        ``requested``: to its end; else for a share of the time, so that others get the lock of the copy.
        """
        clock = asyncio.get_running_loop().time
        end = None if requested else clock() + self._settings.interval * _SHARE_OF_TIME
        async with self._pool.acquire() as connection:
            for collection in collections:
                after = await full_sync.position(connection, collection)
                if after is not None and not await self._read_from(connection, collection, after, end):
                    return

    async def _read_from(
        self, connection: Connection, collection: Collection, after: str, end: float | None
    ) -> bool:
        """Read and store the rows after an id; False: the time was over before the end of the table."""
        clock = asyncio.get_running_loop().time
        async with aclosing(self._pages(collection, after)) as stream:
            async for page in stream:
                self.report.changed[collection] += await self._store_reread(
                    connection, collection, page.documents
                )
                async with self._lock.step(connection) as transaction:
                    await full_sync.record_page(transaction, collection, page.after, len(page.documents))
                if end is not None and clock() > end:
                    return False
        async with self._lock.step(connection) as transaction:
            await full_sync.finish(transaction, collection)
        return True

    async def _read_all(self, connection: Connection, collection: Collection) -> None:
        """Read a whole table again, and store what changed."""
        async with aclosing(self._pages(collection, "")) as stream:
            async for page in stream:
                self.report.changed[collection] += await self._store_reread(
                    connection, collection, page.documents
                )

    async def _store_reread(
        self, connection: Connection, collection: Collection, documents: Sequence[Document]
    ) -> int:
        """Store documents that are read again."""
        reading = await self._writer.read(collection, documents)
        async with self._lock.step(connection) as transaction:
            return await self._writer.store(transaction, collection, reading)

    def _table(self, collection: Collection) -> Table:
        return self._writer.table(collection)


def newest_update(table: Table, documents: Sequence[Document]) -> datetime | None:
    """The newest update time of documents, malformed ones included; None: none has one."""
    if table.updated is None:
        return None
    read = getter((table.updated,))
    return max(filter(None, (instant(read(document)) for document in documents)), default=None)
