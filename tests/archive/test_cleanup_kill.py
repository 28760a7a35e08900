"""kill -9 in every phase of dataCleanup, on both dashboards: at no moment is anything lost or doubled."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date
from pathlib import Path

import pytest

from service.archive import archive
from tests.archive.archive_worker import BATCH
from tests.archive.archiving import MONTHS, Case
from tests.dashboard.conftest import Dashboard, MongoDashboard, PostgresDashboard
from tests.given import World
from tests.process import spawn

POINTS = [
    "Archive.plan after",
    "Writer.add after",
    "parquet._fsync before",
    "Writer.finish after",
    "Archive.record_written after",
    "Archive.verify before",
    "parquet.put_text before",
    "parquet.put_text after",
    "Archive.record_verified after",
    "Archive.remove_old_files before",
    "Archive.remove_old_files after",
    "Archive.mark_for_removal after",
    "Archive.remove before",
    "Archive.remove after",
    "Archive.record_removed after",
    "Archive.record_deleted after",
]

_LEASES_ARE_OVER = """
UPDATE service.job_run SET lease_until = service.now() - interval '1 second' WHERE state = 'running';
UPDATE service.lease SET until = '-infinity'
"""


@asynccontextmanager
async def _worker(dsn: str, dashboard: Dashboard, folder: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    url, name = "", "-"
    if isinstance(dashboard, MongoDashboard):
        host, port = await dashboard.client.admin.command("hello") and dashboard.client.address
        url, name = f"mongodb://{host}:{port}/?directConnection=true", dashboard.database.name
    elif isinstance(dashboard, PostgresDashboard):
        url = dashboard.url
    pipe = asyncio.subprocess.PIPE
    process = await spawn(
        sys.executable,
        "-m",
        "tests.archive.archive_worker",
        dsn,
        url,
        name,
        str(folder),
        stdin=pipe,
        stdout=pipe,
    )
    try:
        yield process
    finally:
        process.kill()
        await process.wait()


async def _die(worker: asyncio.subprocess.Process, point: str) -> str:
    assert worker.stdin
    assert worker.stdout
    worker.stdin.write(f"{point}\n".encode())
    async with asyncio.timeout(60):
        return (await worker.stdout.readline()).decode().strip()


async def _restore(case: Case) -> None:
    for month in MONTHS:
        await case.archive.restore(date.fromisoformat(f"{month}-01"))


@pytest.mark.long
async def test_a_death_in_any_phase_neither_loses_nor_doubles(
    world: World,
    dashboard: Dashboard,
    dsn: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    long_form: bool,
) -> None:
    monkeypatch.setattr(archive, "BATCH", BATCH)
    case = await Case.at(world, dashboard, tmp_path / "archive", old=60, new=40)
    before, figures = await case.stored(), await case.figures()
    few = POINTS[0 if dashboard.profile == "A" else 2 :: 4]  # the other kind dies at others
    points, occurrences = (POINTS, (1, 2, 3, 4)) if long_form else (few, (2,))

    async with _worker(dsn, dashboard, case.folder) as worker:
        for point, nth in [(f"{point} {nth}", nth) for point in points for nth in occurrences]:
            said = await _die(worker, point)
            if nth > 2 and said != "killed":  # the point does not come so often: the run came to its end
                await _restore(case)
                continue
            assert said == "killed", point
            there = await case.stored()
            assert there.keys() | set(case.archived()) == before.keys(), point
            assert (await case.sync.run_once(compare=True)).deleted == {}, point

            await world.pool.execute(_LEASES_ARE_OVER)
            run = await (await case.runner()).run_one()

            assert run is not None
            assert run.state == "succeeded", (point, run.error)
            there = await case.stored()
            assert sorted([*there, *case.archived()]) == sorted(before), point
            assert await case.noted() == set(case.archived()), point
            assert len(there) == 40
            assert (await case.sync.run_once(compare=True)).deleted == {}, point
            assert len(list(case.folder.iterdir())) == 2 * len(MONTHS), point
            await _restore(case)
            assert await case.stored() == before, point
    assert await case.figures() == figures
