"""Two releases beside each other: the last one keeps running on our schema; one too old stands down."""

import asyncio
from pathlib import Path

import asyncpg
import pytest

from service.engine.schema import SCHEMA
from tests.process import process_in, process_of
from tests.releases import checked_out, last_release
from tests.story.watching import Progress, answer, database_check, run, until_ready, until_true

_QUICK = {"SYNC_INTERVAL_SECONDS": "1", "SWEEP_SECONDS": "1", "CLAIM_JITTER_SECONDS": "0"}
_TOO_OLD = f"this release (schema {SCHEMA}) is too old for the database (needs {SCHEMA + 7}): upgrade it"
_RAISE = "UPDATE service.schema_range SET writable_from = $1"
_SEEN = "SELECT schema FROM service.replica WHERE seen_at > service.now() - interval '1 minute'"


async def test_the_last_release_works_beside_this_one(databases: tuple[str, str], tmp_path: Path) -> None:
    ours, theirs = databases
    release = last_release()
    code = checked_out(release, tmp_path / "code")
    environ = {"DATABASE_URL": ours, "DASHBOARD_URL": theirs, **_QUICK}
    for name in ("new", "old"):
        (tmp_path / name).mkdir()
    async with process_of(tmp_path / "new" / "data", "serve", **environ) as (_, new):
        await until_ready(new)
        async with process_in(code, tmp_path / "old" / "data", "serve", **environ) as (_, old):
            await until_ready(old)
            looking = await asyncpg.connect(ours)
            range_ = await looking.fetchrow("SELECT * FROM service.schema_range")
            assert range_
            assert range_["version"] == SCHEMA
            assert range_["writable_from"] <= release.schema
            knows = release.schema if release.schema >= 18 else None  # told since 18

            async def both_are_seen() -> bool:
                return {row["schema"] for row in await looking.fetch(_SEEN)} == {SCHEMA, knows}

            await until_true(both_are_seen)
            await looking.close()
            for url in (old, new):
                status, told = await run(url)
                assert (status, told["state"]) == (200, "succeeded")
                assert (await answer(url, "/readyz"))[0] == 200


@pytest.mark.long(only=True)
async def test_a_release_that_is_too_old_to_write_stands_down_and_goes_on_when_it_fits(
    databases: tuple[str, str], tmp_path: Path
) -> None:
    ours, theirs = databases
    environ = {"DATABASE_URL": ours, "DASHBOARD_URL": theirs, **_QUICK}
    async with process_of(tmp_path / "data", "serve", **environ) as (_, url):
        await until_ready(url)
        operator = await asyncpg.connect(ours)
        progress = Progress(operator)
        before = await operator.fetchval("SELECT writable_from FROM service.schema_range")
        await operator.execute(_RAISE, SCHEMA + 7)

        status, told = await run(url)
        assert (status, told["error"]) == (503, _TOO_OLD)  # also before the next heartbeat
        assert (await until_ready(url, 503, says="too old"))["error"] == _TOO_OLD
        check = await database_check(url)
        assert (check["status"], check["details"]["problem"]) == ("unhealthy", _TOO_OLD)
        assert (await answer(url, "/livez"))[0] == 200
        then = await progress.look()

        async def heard_again() -> bool:
            return bool((await progress.look())["presence"] > then["presence"])

        await until_true(heard_again)
        now = await progress.look()
        assert (now["trigger"], now["sync"]) == (then["trigger"], then["sync"])

        await operator.execute(_RAISE, before)
        await until_ready(url)
        await progress.until_all_go_on()
        status, told = await run(url)
        assert (status, told["state"]) == (200, "succeeded")
        await operator.close()
    log = (tmp_path / "stdout").read_text() + (tmp_path / "stderr").read_text()
    assert log.count("standing down") == 1
    assert log.count("fits the database again") == 1


async def test_a_start_on_a_database_that_is_too_new(
    dsn: str, databases: tuple[str, str], tmp_path: Path
) -> None:
    _, theirs = databases
    environ = {"DATABASE_URL": dsn, "DASHBOARD_URL": theirs, **_QUICK}
    operator = await asyncpg.connect(dsn)
    await operator.execute(_RAISE, SCHEMA + 7)
    async with process_of(tmp_path / "data", "serve", **environ) as (_, url):
        await until_true(lambda: _is(url, "/livez", 200))
        assert (await database_check(url))["details"]["problem"] == _TOO_OLD
        assert (await answer(url, "/startupz"))[0] == 200
        assert (await until_ready(url, 503))["error"] == _TOO_OLD
        jobs = await operator.fetchval("SELECT count(*) FROM service.job_def")
        assert jobs == 0

    await operator.execute("UPDATE service.schema_range SET readable_from = writable_from")
    async with process_of(tmp_path / "data", "serve", **environ) as (process, _):
        async with asyncio.timeout(60):
            assert await process.wait() == 2
    assert _TOO_OLD in (tmp_path / "stderr").read_text()
    await operator.close()


async def _is(url: str, path: str, status: int) -> bool:
    return (await answer(url, path))[0] == status
