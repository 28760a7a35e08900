"""A role that may have six connections, and two replicas that would like more."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from service.cli.exit_codes import Exit
from service.engine.database import open_pool
from service.engine.database_errors import is_transient
from service.engine.session import Timeouts
from service.errors import SourceUnavailable
from service.settings import Settings
from service.setup.databases import connect
from tests.process import process_of
from tests.story.watching import answer, run, until_ready

_LIMIT = 6
_QUICK = {"SYNC_INTERVAL_SECONDS": "1", "SWEEP_SECONDS": "1", "CLAIM_JITTER_SECONDS": "0"}


@pytest.fixture
async def small(databases: tuple[str, str]) -> AsyncIterator[str]:
    """Our database as that role, which owns it."""
    ours, _ = databases
    parts, role = urlsplit(ours), f"small_{uuid.uuid4().hex[:8]}"
    operator = await asyncpg.connect(ours)
    await operator.execute(f"CREATE ROLE {role} LOGIN CONNECTION LIMIT {_LIMIT}")
    await operator.execute(f"ALTER DATABASE {parts.path[1:]} OWNER TO {role}")
    yield parts._replace(netloc=f"{role}@{parts.netloc.rpartition('@')[2]}").geturl()
    await operator.execute(
        f"REASSIGN OWNED BY {role} TO CURRENT_USER; DROP OWNED BY {role}; DROP ROLE {role}"
    )
    await operator.close()


async def test_a_start_without_a_connection_names_the_remedy(small: str) -> None:
    taken = [await asyncpg.connect(small) for _ in range(_LIMIT)]
    with pytest.raises(
        SourceUnavailable, match=r"no connection left for our role; ALTER ROLE .* DATABASE_POOL_SIZE"
    ):
        await connect(Settings(), small, attempts=1)
    await taken.pop().close()
    pool = await connect(Settings(), small, attempts=60)
    assert await pool.fetchval("SELECT 1") == 1
    await pool.close()
    await asyncio.gather(*(one.close() for one in taken))


async def test_a_full_role_is_a_passing_trouble_of_a_pool(small: str) -> None:
    hoarding = await open_pool(small, min_size=5)
    pool = await open_pool(small, timeouts=Timeouts(acquire=0.2))
    async with pool.acquire() as only:
        with pytest.raises(asyncpg.TooManyConnectionsError) as full:
            await pool.fetchval("SELECT 1")
        assert is_transient(full.value)
        waiting = [asyncio.ensure_future(pool.acquire(timeout=60)) for _ in range(2)]
        await asyncio.sleep(0)
        await only.fetchval("SELECT 1")
    async with asyncio.timeout(60):
        done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)  # ours, given back
        await hoarding.close()
        assert [await (await one).fetchval("SELECT 1") for one in waiting] == [1, 1]
    assert len(done) == 1
    pool.terminate()


@pytest.mark.long(only=True)
async def test_two_replicas_share_what_a_role_may_have(
    databases: tuple[str, str], small: str, tmp_path: Path
) -> None:
    environ = {"DATABASE_URL": small, "DASHBOARD_URL": databases[1], **_QUICK}
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
    async with process_of(tmp_path / "one" / "data", "serve", **environ) as (_, first):
        await until_ready(first)
        asked = [asyncio.ensure_future(answer(first, "/api/admin/jobs/status")) for _ in range(20)]
        async with process_of(tmp_path / "other" / "data", "serve", **environ) as (process, second):
            await until_ready(second)
            assert {status for status, _ in await asyncio.gather(*asked)} == {200}
            for _ in range(3):
                found = await asyncio.gather(
                    *(answer(u, "/api/admin/jobs/status") for u in (first, second) * 10)
                )
                assert {status for status, _ in found} == {200}
            assert {(await run(u))[1].get("state") for u in (first, second)} == {"succeeded"}
            assert process.returncode is None
    for name in ("one", "other"):
        told = (tmp_path / name / "stderr").read_text() + (tmp_path / name / "stdout").read_text()
        assert "Traceback" not in told
        assert "may have 6 connections" in told


@pytest.mark.long(only=True)
async def test_a_replica_works_with_a_single_connection(
    databases: tuple[str, str], small: str, tmp_path: Path
) -> None:
    environ = {"DATABASE_URL": small, "DASHBOARD_URL": databases[1], **_QUICK}
    taken = [await asyncpg.connect(small) for _ in range(_LIMIT - 1)]
    async with process_of(tmp_path / "data", "serve", **environ) as (process, url):
        await until_ready(url)
        found = await asyncio.gather(*(answer(url, "/api/admin/jobs/status") for _ in range(20)))
        assert {status for status, _ in found} == {200}
        assert process.returncode is None
    assert "Traceback" not in (tmp_path / "stderr").read_text()
    await asyncio.gather(*(one.close() for one in taken))


@pytest.mark.long(only=True)
async def test_a_command_without_a_connection_names_the_remedy(
    databases: tuple[str, str], small: str, tmp_path: Path
) -> None:
    environ = {"DATABASE_URL": small, "DASHBOARD_URL": databases[1]}
    taken = [await asyncpg.connect(small) for _ in range(_LIMIT)]
    async with process_of(tmp_path / "data", "migrate", **environ) as (process, _):
        assert await process.wait() == Exit.UNAVAILABLE
    told = (tmp_path / "stderr").read_text()
    assert "has no connection left for our role; ALTER ROLE" in told
    assert "Traceback" not in told
    await asyncio.gather(*(one.close() for one in taken))
