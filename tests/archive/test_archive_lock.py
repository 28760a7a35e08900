"""One writes the archive at a time; whoever was silent for too long writes nothing more."""

from collections.abc import Awaitable, Callable
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import asyncpg
import pytest

from service.archive.archive import Archive, WrittenFile
from service.archive.manifest import FileName, FileProof
from service.errors import SourceUnavailable

_MONTH = date(2026, 1, 1)
_NAME = FileName("timer_sessions", _MONTH, 1)
_SILENT = "UPDATE service.lease SET until = service.now() - interval '1 second'"


@pytest.fixture
def archives(pool: asyncpg.Pool, tmp_path: Path) -> tuple[Archive, Archive]:
    """The archive as two processes see it."""
    one, other = (Archive(pool, tmp_path, cast("Any", SimpleNamespace())) for _ in range(2))
    return one, other


async def test_others_wait_or_do_without_and_a_session_is_held_by_nobody(
    archives: tuple[Archive, Archive], pool: asyncpg.Pool
) -> None:
    one, other = archives
    async with one.exclusive() as held:
        assert held
        assert pool.get_size() == pool.get_idle_size()
        for archive in archives:
            async with archive.exclusive(wait=False) as also:
                assert not also
    async with other.exclusive(wait=False) as held:
        assert held


async def _plan(archive: Archive, connection: Any) -> None:
    await archive.plan(connection, _MONTH)


_WRITES: dict[str, Callable[[Archive, Any], Awaitable[Any]]] = {
    "plan": _plan,
    "record_written": lambda archive, c: archive.record_written(
        c, _NAME, WrittenFile(FileProof(1, 1, "", ""), 1)
    ),
    "record_verified": lambda archive, c: archive.record_verified(c, _NAME),
    "discard": lambda archive, c: archive.discard(c, _NAME),
    "mark_for_removal": lambda archive, c: archive.mark_for_removal(c, _NAME, []),
    "record_removed": lambda archive, c: archive.record_removed(c, _NAME, []),
    "record_deleted": lambda archive, c: archive.record_deleted(c, _NAME),
    "write": lambda archive, _: archive.write(_NAME, None, force=True),
    "verify": lambda archive, _: archive.verify(_NAME, FileProof(1, 1, "", "")),
    "remove": lambda archive, _: archive.remove([]),
}


@pytest.mark.parametrize("write", _WRITES)
async def test_who_was_silent_too_long_writes_nothing(
    archives: tuple[Archive, Archive], pool: asyncpg.Pool, write: str
) -> None:
    one, other = archives
    async with one.exclusive(), pool.acquire() as connection:
        await pool.execute(_SILENT)
        async with other.exclusive():
            with pytest.raises(SourceUnavailable, match="another process writes the archive now"):
                async with connection.transaction():
                    await _WRITES[write](one, connection)
            async with connection.transaction():
                await _plan(other, connection)
    assert not list(one.folder.iterdir())


async def test_nobody_takes_it_in_the_middle_of_a_transaction_that_writes(
    archives: tuple[Archive, Archive], pool: asyncpg.Pool
) -> None:
    one, other = archives
    async with one.exclusive(), pool.acquire() as connection, connection.transaction():
        await _plan(one, connection)
        await pool.execute(_SILENT)
        async with other.exclusive(wait=False) as held:
            assert not held


async def test_a_process_of_the_former_release_is_not_written_against(
    archives: tuple[Archive, Archive], pool: asyncpg.Pool, dsn: str
) -> None:
    former = await asyncpg.connect(dsn)
    await former.execute("SELECT pg_advisory_lock(hashtext('service.archive'))")
    async with archives[0].exclusive(), pool.acquire() as connection:
        with pytest.raises(SourceUnavailable, match="former release"):
            async with connection.transaction():
                await _plan(archives[0], connection)
        await former.close()
        async with connection.transaction():
            await _plan(archives[0], connection)
