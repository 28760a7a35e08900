"""Follows the dashboard's change stream, where it has one: what is written arrives in about a second.

It is only the quicker way. A change names a document, which is read again by id; the position in the stream
is stored in one transaction with the rows. One process at a time follows, under a lease of its own; it writes
under the lock of the copy, like a synchronisation. Where the stream cannot go on from its stored position, a
new one begins at the present operation time, and after that all tables are compared.
"""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence, Set
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol

import asyncpg
import structlog

from service.dashboard import reconciliation
from service.dashboard.copy_writer import CopyWriter
from service.dashboard.profiles.reader import Reading
from service.dashboard.profiles.shapes import Collection, Document, Table
from service.dashboard.profiles.values import identity
from service.dashboard.source import ChangeBatch, ChangeStream
from service.dashboard.sync_lock import SyncLock
from service.dashboard.sync_settings import SyncSettings
from service.engine import queries
from service.engine.lease import CHANGE_STREAM, HeldLease, Lease
from service.engine.loops import first_of
from service.engine.schema import read_range
from service.errors import (
    ChangeHistoryLost,
    ChangeStreamUnavailable,
    DashboardBusy,
    LeaseLost,
    ReleaseTooOld,
    SchemaUnknown,
    SourceUnavailable,
)

_SQL = queries.load(__file__)
_LOCK_WAIT = 5.0
_USERS = Collection.USERS
_RETRY = 10.0
"""Seconds after which a stream is opened again that broke."""
_ANSWER = 30.0
"""Seconds after which a server that tells neither changes nor their absence counts as unreachable."""
_TOKEN_EVERY = 30.0
"""Seconds after which the position is stored also where nothing changed: servers forget old ones."""
_log = structlog.get_logger()


class StreamState(StrEnum):
    """What a process does with the change stream."""

    OFF = "off"
    """Nothing, as set, or not yet."""
    NONE = "none"
    """The dashboard has none that we may read."""
    LIVE = "live"
    ELSEWHERE = "elsewhere"
    """Another process follows it."""
    INTERRUPTED = "interrupted"
    """It broke, and is opened again."""


class WatchableSource(Protocol):
    """The part of ``source.Source`` that is needed here."""

    async def watch(self, tables: Sequence[Table], token: str | None) -> ChangeStream: ...
    async def fetch(self, table: Table, ids: Sequence[str]) -> list[Document]: ...


class ChangeStreamConsumer:
    """Follows the change stream of one dashboard.

    ``readable``: checks what the dashboard lacks now, and returns the tables that can be read.
    """

    def __init__(
        self,
        pool: asyncpg.Pool,
        source: WatchableSource,
        lock: SyncLock,
        readable: Callable[[], Awaitable[Sequence[Collection]]],
        settings: SyncSettings,
    ) -> None:
        self._pool = pool
        self._readable = readable
        self._source = source
        self._lock = lock
        self._enabled = settings.change_stream
        self._lease = Lease(pool, CHANGE_STREAM, settings.owner or secrets.token_hex(8), settings.lease)
        self._state = StreamState.OFF
        self._reason: str | None = None
        self._since: datetime | None = None
        self._caught_up = self._stored = 0.0
        self._tables: list[Collection] = []

    def health(self) -> dict[str, Any]:
        """What this process does with the stream, as JSON.

        ``since``: when that began. ``lag``: seconds since all that had changed was in the copy; None unless
        this process follows. ``tables``: those whose changes it tells.
        """
        return {
            "state": str(self._state),
            "reason": self._reason,
            "since": self._since.isoformat() if self._since else None,
            "lag": self.lag(),
            "tables": [str(table) for table in self._tables] if self._state is StreamState.LIVE else [],
        }

    def lag(self) -> float | None:
        """Seconds since all that had changed was in the copy; None unless this process follows."""
        if self._state is not StreamState.LIVE:
            return None
        return round(time.monotonic() - self._caught_up, 3)

    async def follow(self, seconds: float, writer: CopyWriter, *stops: asyncio.Event) -> None:
        """Store what changes within so many seconds, or until one of ``stops``.

        Trouble with the dashboard is told by ``health``, and the stream is opened again after a while.
        """
        ends = time.monotonic() + seconds
        while not _any_set(stops) and (left := ends - time.monotonic()) > 0:
            pause = await self._attempt(ends, stops, writer) if self._enabled else left
            await first_of(max(0.0, min(pause, ends - time.monotonic())), *stops)

    async def _attempt(self, ends: float, stops: Sequence[asyncio.Event], writer: CopyWriter) -> float:
        """Follow until the end or until something is wrong; returns the seconds to wait before the next."""
        try:
            async with self._lease.hold() as lease:
                if lease is not None:
                    await self._consume(lease, ends, stops, writer)
                    return 0.0
        except ChangeStreamUnavailable as error:
            await self._enter(StreamState.NONE, f"no change stream: {error}")
            return float("inf")
        except ChangeHistoryLost as error:
            was_live = self._state is StreamState.LIVE
            await self._enter(StreamState.INTERRUPTED, str(error))
            await self._pool.execute(_SQL["forget"])
            return _RETRY if was_live else 0.0
        except LeaseLost:
            pass
        except (SourceUnavailable, SchemaUnknown, ReleaseTooOld) as error:
            await self._enter(StreamState.INTERRUPTED, str(error))
            return _RETRY
        await self._enter(StreamState.ELSEWHERE, None)
        return self._lease.length.total_seconds() / 3

    async def _consume(
        self,
        lease: HeldLease,
        ends: float,
        stops: Sequence[asyncio.Event],
        writer: CopyWriter,
    ) -> None:
        token = await self._pool.fetchval(_SQL["load"])
        mapped = [c for c in Collection if writer.table(c).name]
        stream = await self._source.watch([writer.table(c) for c in mapped], token)
        watched = [c for c in mapped if writer.table(c).stored_as in stream.watched]
        try:
            while not _any_set(stops) and time.monotonic() < ends:
                begun = time.monotonic()
                batch = await _next_batch(stream)
                if token is None or batch.ids or batch.replaced or begun - self._stored > _TOKEN_EVERY:
                    await self._store(lease, batch, writer, watched, anew=token is None)
                    self._stored = time.monotonic()
                token, self._tables = batch.token, watched
                if not batch.more:
                    self._caught_up = begun
                await self._enter(StreamState.LIVE, None)
        finally:
            await stream.close()

    async def _store(
        self,
        lease: HeldLease,
        batch: ChangeBatch,
        writer: CopyWriter,
        watched: Sequence[Collection],
        *,
        anew: bool,
    ) -> None:
        """Store what changed together with the new position. ``anew``: the stream has just begun."""
        async with self._lock.hold(_LOCK_WAIT):
            await lease.check()
            if problem := (await read_range(self._pool)).problem:
                raise ReleaseTooOld(problem)
            names = {collection: writer.table(collection).stored_as for collection in watched}
            # The look comes first: a field may just have been renamed.
            readable = await self._readable() if batch.ids else []
            ids = {c: batch.ids.get(names.get(c, ""), frozenset()) for c in readable}
            found = {c: await self._read(writer, c, ids[c]) for c in readable if ids[c] and c is not _USERS}
            if _USERS in ids and (people := ids[_USERS] | await self._owners(found)):
                found = {_USERS: await self._read(writer, _USERS, people), **found}
            async with self._lock.step() as transaction:
                if not await transaction.fetchval(_SQL["are_live"], list(found), writer.key):
                    raise DashboardBusy("the copy is being loaded anew")
                for collection, (reading, gone) in found.items():
                    await writer.store(transaction, collection, reading)
                    await reconciliation.delete_few(transaction, collection, gone)
                replaced = [c for c, name in names.items() if anew or name in batch.replaced]
                await reconciliation.compare_anew(transaction, replaced)
                await transaction.execute(_SQL["store"], batch.token)

    async def _owners(self, found: Mapping[Collection, tuple[Reading, list[str]]]) -> frozenset[str]:
        """Whose rows are gone: their accounts may be too, and are deleted first, for what goes with them."""
        gone = [id_ for _, ids in found.values() for id_ in ids]
        rows = await self._pool.fetch(_SQL["owners"], gone) if gone else []
        return frozenset(row["user_id"] for row in rows)

    async def _read(
        self, writer: CopyWriter, collection: Collection, ids: Set[str]
    ) -> tuple[Reading, list[str]]:
        """Documents as they are now, and the ids of those that are gone."""
        table = writer.table(collection)
        documents = await self._source.fetch(table, list(ids))
        gone = ids - {identity(document[table.id]) for document in documents}
        return await writer.read(collection, documents), sorted(gone)

    async def _enter(self, state: StreamState, reason: str | None) -> None:
        if (state, reason) == (self._state, self._reason):
            return
        self._since = await self._pool.fetchval("SELECT service.now()")
        self._state, self._reason = state, reason
        _log.info("change_stream", state=str(state), reason=reason)


def _any_set(stops: Sequence[asyncio.Event]) -> bool:
    return any(stop.is_set() for stop in stops)


async def _next_batch(stream: ChangeStream) -> ChangeBatch:
    try:
        async with asyncio.timeout(_ANSWER):
            return await stream.next_batch()
    except TimeoutError:
        raise SourceUnavailable("the change stream does not answer") from None
