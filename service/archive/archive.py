"""The archive: old sessions of the dashboard in files, and the state of each file.

    planned ─► written ─► verified ─► deleted

A crash at any moment loses and duplicates nothing: no session is removed from the dashboard before its file
has been read back and has its manifest; a removal is recorded before it is done; removing twice does nothing.
Methods that take a connection are called in a step of a run; files are written and read in threads, outside.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Protocol, cast

import asyncpg

from service.archive import archive_parquet
from service.archive.archive_lock import ArchiveLock
from service.archive.manifest import ArchivedSession, FileName, FileProof, Manifest, name_of, span
from service.dashboard.model import TimerSession
from service.engine import queries
from service.errors import ArchiveDamaged, BadRequest

_SQL = queries.load(__file__)
SESSIONS = "timer_sessions"
BATCH = 5000
"""Sessions per transaction at the dashboard, and per row group."""
CUT = 100_000
"""The most sessions that one generation of a file adds: their ids are held in memory."""
_LONG_AGO = datetime(1, 1, 1, tzinfo=UTC)


class ArchiveSource(Protocol):
    """What the archive needs of the dashboard; see ``service.dashboard.sync``."""

    async def sessions_table(self) -> tuple[str, str]: ...
    async def removal_obstacle(self) -> str | None: ...
    async def original_sessions(self, ids: Sequence[str]) -> list[tuple[TimerSession, str]]: ...
    async def remove_sessions(self, bodies: Mapping[str, str]) -> frozenset[str]: ...
    async def restore_sessions(self, bodies: Mapping[str, str]) -> frozenset[str]: ...
    async def existing_sessions(self, ids: Sequence[str]) -> frozenset[str]: ...


@dataclass(frozen=True, slots=True)
class ArchiveFile:
    """A row of service.archive_file."""

    collection: str
    month: date
    generation: int
    state: str
    rows: int
    bytes: int
    row_hash: str | None
    file_hash: str | None
    fresh_groups: int
    removed: int
    leftovers: int

    @property
    def name(self) -> FileName:
        """Its file name."""
        return FileName(self.collection, self.month, self.generation)

    @property
    def proof(self) -> FileProof:
        """What it must contain."""
        return FileProof(self.rows, self.bytes, self.row_hash or "", self.file_hash or "")


@dataclass(frozen=True, slots=True)
class WrittenFile:
    """A file that was written: its proof, and how many of its row groups are new."""

    proof: FileProof
    fresh_groups: int


@dataclass(frozen=True, slots=True)
class RestoreResult:
    """What a restore did, in sessions."""

    rows: int
    put_back: int
    already_there: int
    refused: int
    """The dashboard rejected them, e.g. because their user is gone."""


_COLUMNS = tuple(field.name for field in fields(ArchiveFile))


class Archive:
    """The archive in ``folder``, of the sessions of one dashboard."""

    def __init__(self, pool: asyncpg.Pool, folder: Path, dashboard: ArchiveSource) -> None:
        self._pool = pool
        self.folder = folder
        self.dashboard = dashboard
        self.lock = ArchiveLock(pool)

    @asynccontextmanager
    async def exclusive(self, *, wait: bool = True) -> AsyncIterator[bool]:
        """Lock the archive for writing; see ``ArchiveLock.hold``. Methods that write raise SourceUnavailable
        when the lock is lost meanwhile.
        """
        async with self.lock.hold(wait=wait) as held:
            yield held

    # ── What can be archived ────────────────────────────────────────────────────────────────────────────────

    async def oldest_end(self, connection: asyncpg.Connection) -> datetime | None:
        """When the oldest session that can ever be archived ended."""
        ended_at: datetime | None = await connection.fetchval(_SQL["oldest_end"])
        return ended_at

    async def count_due(self, connection: asyncpg.Connection, month: date, cutoff: datetime) -> int:
        """How many sessions of a month can be archived now."""
        count: int = await connection.fetchval(_SQL["count_due"], *span(month, cutoff))
        return count

    async def count_sessions(self, connection: asyncpg.Connection) -> int:
        """How many sessions the dashboard has."""
        count: int = await connection.fetchval(_SQL["count_sessions"])
        return count

    async def files(self, connection: asyncpg.Connection | asyncpg.Pool) -> list[ArchiveFile]:
        """All files with their states, oldest month first."""
        rows = await connection.fetch(_SQL["files"], SESSIONS)
        return [ArchiveFile(**{column: row[column] for column in _COLUMNS}) for row in rows]

    # ── Writing ─────────────────────────────────────────────────────────────────────────────────────────────

    async def plan(self, connection: asyncpg.Connection, month: date) -> FileName:
        """Start a new generation of a month's file."""
        await self.lock.fence(connection)
        newest = max((name.generation for name in self._names() if name.month == month), default=0)
        generation = await connection.fetchval(_SQL["plan"], SESSIONS, month, newest)
        return FileName(SESSIONS, month, generation)

    async def write(self, name: FileName, cutoff: datetime | None, *, force: bool) -> WrittenFile | None:
        """Write a planned file: new sessions, and those of its predecessor that are still archived.

        None: there are no new sessions and nothing was written; ``force``: write the file even so.
        ``cutoff`` None: add no new sessions.
        """
        await self.lock.check()
        await asyncio.to_thread(lambda: self.folder.mkdir(parents=True, exist_ok=True))
        await self.remove_old_files(name.month)
        writer = await asyncio.to_thread(archive_parquet.ArchiveWriter, self._path(name.data))
        try:
            groups = await self._compile(writer, name, cutoff, force=force)
            if groups is None:
                writer.abandon()
                return None
            return WrittenFile(await asyncio.to_thread(writer.finish), groups)
        except BaseException:
            writer.abandon()
            raise

    async def _compile(
        self, writer: archive_parquet.ArchiveWriter, name: FileName, cutoff: datetime | None, *, force: bool
    ) -> int | None:
        """Write the new rows, then those of the former file; returns how many row groups are new."""
        fresh, groups = await self._fresh(writer, name, cutoff) if cutoff else (set[str](), 0)
        if not fresh and not force:
            return None
        former = self.current(name.month)
        if former and (problem := await self.problem(self._manifest(former), await self.files(self._pool))):
            raise ArchiveDamaged(problem)
        carried = await self._carry_over(writer, former, fresh) if former else 0
        await self._require_all(name.month, carried)
        return groups

    async def _fresh(
        self, writer: archive_parquet.ArchiveWriter, name: FileName, cutoff: datetime
    ) -> tuple[set[str], int]:
        within = span(name.month, cutoff)
        ids, groups, position = set[str](), 0, (_LONG_AGO, "")
        while len(ids) < CUT and (
            candidates := await self._pool.fetch(_SQL["candidates"], *within, *position, BATCH)
        ):
            position = (candidates[-1]["ended_at"], candidates[-1]["id"])
            originals = await self.dashboard.original_sessions([row["id"] for row in candidates])
            # The copy is fresh now: an edited session has a stale day and waits for its rollup.
            eligible = await self._pool.fetch(
                _SQL["still_eligible"], *within, [session.id for session, _ in originals]
            )
            may_go = {row["id"] for row in eligible}
            rows = [_row(session, body) for session, body in originals if session.id in may_go]
            if rows:
                await asyncio.to_thread(writer.add, rows)
                groups += 1
                ids |= may_go
        return ids, groups

    async def _carry_over(
        self, writer: archive_parquet.ArchiveWriter, former: FileName, fresh: set[str]
    ) -> int:
        carried = 0
        async for rows in self._stream(former):
            archived = await self._pool.fetch(_SQL["archived_of"], [row.id for row in rows], former.month)
            carried_ids = {row["id"] for row in archived} - fresh
            if carried_rows := [row for row in rows if row.id in carried_ids]:
                await asyncio.to_thread(writer.add, carried_rows)
                carried += len(carried_rows)
        return carried

    async def _require_all(self, month: date, carried: int) -> None:
        """Check that the new file holds every archived session of the month."""
        archived = await self._pool.fetchval(_SQL["count_archived"], month)
        if carried < archived:
            raise ArchiveDamaged(
                f"the file of {month:%Y-%m} lacks {archived - carried} sessions that it should hold"
            )

    async def record_written(self, connection: asyncpg.Connection, name: FileName, file: WrittenFile) -> None:
        """Record that the file was written."""
        await self.lock.fence(connection)
        proof = file.proof
        await connection.execute(
            _SQL["record_written"], *_key(name), proof.rows, proof.bytes, proof.row_hash, proof.file_hash,
            file.fresh_groups,
        )  # fmt: skip

    async def verify(self, name: FileName, proof: FileProof) -> None:
        """Read a file back and write its manifest. Raises ArchiveDamaged."""
        await self.lock.check()
        if await asyncio.to_thread(archive_parquet.prove, self._path(name.data)) != proof:
            raise ArchiveDamaged(f"{name.data} does not hold what was written into it")
        source, table = await self.dashboard.sessions_table()
        text = Manifest(name, source, table, proof).to_json()
        await asyncio.to_thread(archive_parquet.put_text, self._path(name.manifest), text)

    async def record_verified(self, connection: asyncpg.Connection, name: FileName) -> None:
        """Record that the file is its month's current one."""
        await self.lock.fence(connection)
        await connection.execute(_SQL["record_verified"], *_key(name))

    async def discard(self, connection: asyncpg.Connection, name: FileName) -> None:
        """Forget a file that was never verified."""
        await self.lock.fence(connection)
        await connection.execute(_SQL["discard"], *_key(name))

    async def remove_old_files(self, month: date) -> None:
        """Remove all files of a month but the newest one with a manifest."""
        current = self.current(month)
        current_files = {current.data, current.manifest} if current else set()
        for path in self._files():
            name = name_of(path.name)
            if name and name.month == month and path.name not in current_files:
                await asyncio.to_thread(path.unlink, True)  # noqa: FBT003

    # ── Removing ────────────────────────────────────────────────────────────────────────────────────────────

    async def rows(self, name: FileName, group: int) -> list[ArchivedSession]:
        """One row group of a file."""
        return await asyncio.to_thread(archive_parquet.group, self._path(name.data), group)

    async def mark_for_removal(
        self, connection: asyncpg.Connection, name: FileName, rows: Sequence[ArchivedSession]
    ) -> list[ArchivedSession]:
        """Record that these are about to be removed, so that no sync takes them for deletions.

        Returns those that can be removed: not those whose owner was erased meanwhile.
        """
        await self.lock.fence(connection)
        recorded = await connection.fetch(
            _SQL["mark_for_removal"], [row.id for row in rows], [row.user_id for row in rows], name.month
        )
        ids = {row["id"] for row in recorded}
        return [row for row in rows if row.id in ids]

    async def remove(self, rows: Sequence[ArchivedSession]) -> list[str]:
        """Remove these from the dashboard if they are unchanged; returns the ids that remain."""
        await self.lock.check()
        return (
            sorted(await self.dashboard.remove_sessions({row.id: row.body for row in rows})) if rows else []
        )

    async def record_removed(
        self, connection: asyncpg.Connection, name: FileName, still_there: Sequence[str]
    ) -> None:
        """Record that a row group was removed, except for these rows: the file must lose them."""
        await self.lock.fence(connection)
        await connection.execute(_SQL["unmark"], list(still_there))
        await connection.execute(_SQL["record_removed"], *_key(name), len(still_there))

    async def record_deleted(self, connection: asyncpg.Connection, name: FileName) -> None:
        """Record that everything that the file added was removed."""
        await self.lock.fence(connection)
        await connection.execute(_SQL["record_deleted"], *_key(name))

    async def rewrite(self) -> None:
        """Rewrite every month whose file holds rows that are not archived (any more). Needs ``exclusive``.

        Does not touch the dashboard. Also finishes what a crashed process began.
        """
        for month in sorted({row.month for row in await self.files(self._pool) if row.leftovers}):
            async with self._pool.acquire() as connection, connection.transaction():
                name = await self.plan(cast("asyncpg.Connection", connection), month)
            file = await self.write(name, None, force=True)
            assert file is not None
            async with self._pool.acquire() as connection, connection.transaction():
                await self.record_written(cast("asyncpg.Connection", connection), name, file)
            await self.verify(name, file.proof)
            async with self._pool.acquire() as connection, connection.transaction():
                await self.record_verified(cast("asyncpg.Connection", connection), name)
                await self.record_deleted(cast("asyncpg.Connection", connection), name)
            await self.remove_old_files(month)

    # ── Reading ─────────────────────────────────────────────────────────────────────────────────────────────

    def current(self, month: date) -> FileName | None:
        """The current file of a month: the newest with a manifest."""
        return max((name for name in self._names() if name.month == month), default=None)

    def manifests(self) -> list[Manifest]:
        """Every month's manifest, oldest first. Raises ArchiveDamaged for one that cannot be read."""
        return [self._manifest(name) for name in self._standing()]

    async def problem(self, manifest: Manifest, files: Sequence[ArchiveFile]) -> str | None:
        """The problem of a file, whose rows, manifest and database row must agree; None: there is none."""
        try:
            proof = await asyncio.to_thread(archive_parquet.prove, self._path(manifest.name.data))
        except ArchiveDamaged as error:
            return str(error)
        if proof != manifest.proof:
            return f"{manifest.name.data} is not what its manifest says"
        recorded = [
            file for file in files if file.name == manifest.name and file.state in {"verified", "deleted"}
        ]
        if recorded and recorded[0].proof != proof:
            return f"{manifest.name.data} is not what was recorded when it was written"
        return None

    async def months_of(self, user_id: str) -> list[date]:
        """The months whose files hold rows of a user, recorded as archived or not."""
        return [name.month for name in await self._files_of(user_id)]

    async def rows_of(self, user_id: str) -> AsyncIterator[ArchivedSession]:
        """A user's archived sessions."""
        for name in await self._files_of(user_id):
            async for rows in self._stream(name):
                for row in rows:
                    if row.user_id == user_id:
                        yield row

    async def _files_of(self, user_id: str) -> list[FileName]:
        return await asyncio.to_thread(
            lambda: [n for n in self._standing() if user_id in archive_parquet.owners(self._path(n.data))]
        )

    def missing_files(self, files: Sequence[ArchiveFile]) -> list[FileName]:
        """Files that should exist but have no manifest here (another folder, a lost disk)."""
        expected = {file.name for file in files if file.state in {"verified", "deleted"}}
        return sorted(expected - set(self._names()))

    async def restore(self, month: date) -> RestoreResult:
        """Restore the sessions of a month that the dashboard lacks, unchanged.

        Raises BadRequest if there is no such month, or it is from another kind of database; ArchiveDamaged.
        """
        async with self.exclusive():
            manifest = await self._restorable(month)
            rows = put_back = refused = 0
            async for batch in self._stream(manifest.name):
                owners = await self._pool.fetch(_SQL["not_erased"], list({row.user_id for row in batch}))
                owner_ids = {row["user_id"] for row in owners}
                bodies = {row.id: row.body for row in batch if row.user_id in owner_ids}
                present = await self.dashboard.existing_sessions(list(bodies))
                missing = {id_: body for id_, body in bodies.items() if id_ not in present}
                await self.lock.check()
                restored = await self.dashboard.restore_sessions(missing) if missing else frozenset[str]()
                async with self._pool.acquire() as connection, connection.transaction():
                    await self.lock.fence(connection)
                    await connection.execute(_SQL["unmark"], [*present, *restored])
                rows, put_back = rows + len(bodies), put_back + len(restored)
                refused += len(missing) - len(restored)
            return RestoreResult(rows, put_back, rows - put_back - refused, refused)

    async def _restorable(self, month: date) -> Manifest:
        name = self.current(month)
        if name is None:
            raise BadRequest(f"nothing of {month:%Y-%m} is archived in {self.folder}; see: archive list")
        manifest = self._manifest(name)
        source, _ = await self.dashboard.sessions_table()
        if manifest.source != source:
            raise BadRequest(f"{name.data} came from {manifest.source}, but the dashboard is {source}")
        if problem := await self.problem(manifest, await self.files(self._pool)):
            raise ArchiveDamaged(problem)
        return manifest

    def _manifest(self, name: FileName) -> Manifest:
        try:
            text = self._path(name.manifest).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ArchiveDamaged(f"{name.manifest} cannot be read: {error}") from None
        return Manifest.from_json(name, text)

    async def _stream(self, name: FileName) -> AsyncIterator[list[ArchivedSession]]:
        """The rows of a file, batch by batch, each read in a thread."""
        reading = archive_parquet.read(self._path(name.data), BATCH)
        while rows := await asyncio.to_thread(_following, reading):
            yield rows

    def _standing(self) -> list[FileName]:
        """The current file of each month, oldest first."""
        return list({(name.collection, name.month): name for name in sorted(self._names())}.values())

    def _names(self) -> list[FileName]:
        """The files that have a manifest."""
        names = [name_of(path.name) for path in self._files() if path.suffix == ".json"]
        return [name for name in names if name]

    def _files(self) -> list[Path]:
        return sorted(self.folder.iterdir()) if self.folder.is_dir() else []

    def _path(self, file: str) -> Path:
        return self.folder / file


def _following(reading: Iterator[list[ArchivedSession]]) -> list[ArchivedSession]:
    return next(reading, [])


def _key(name: FileName) -> tuple[str, date, int]:
    return name.collection, name.month, name.generation


def _row(session: TimerSession, body: str) -> ArchivedSession:
    assert session.ended_at is not None
    return ArchivedSession(
        id=session.id,
        user_id=session.user_id,
        kind=session.kind,
        status=session.status,
        started_at=session.started_at,
        ended_at=session.ended_at,
        focus_seconds=session.focus_seconds,
        updated_at=session.updated_at,
        body=body,
    )
