"""Replicas read the dashboard in turns; nobody waits for one that stands still."""

import asyncio
import os
import signal
import sys
from datetime import datetime, timedelta
from subprocess import PIPE, Popen
from typing import Any

import asyncpg
import pytest

from service.archive.archive import Archive
from service.archive.personal_data import PersonalData
from service.dashboard.replica import SYNC_LOCK
from service.dashboard.source import Source
from service.dashboard.sync import Sync
from service.engine.run import RunRequest, RunState, Trigger
from service.errors import DashboardBusy, SourceUnavailable, UnknownUser
from service.jobs import all_jobs
from tests.dashboard.conftest import T0, Dashboard
from tests.dashboard.test_conformance import count, fill
from tests.given import GOALS, World

pytestmark = pytest.mark.either_dashboard

_LATER = "UPDATE service.lease SET until = service.now() - interval '1 second'"


class Slow:
    """A dashboard whose ids nobody has asked for since ``go`` was cleared."""

    def __init__(self, inner: Source) -> None:
        self._inner = inner
        self.asked, self.go = asyncio.Event(), asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def fetch(self, *arguments: Any) -> Any:
        return await self._inner.fetch(*arguments)

    async def table_names(self) -> frozenset[str]:
        self.asked.set()
        await self.go.wait()
        return await self._inner.table_names()


@pytest.fixture
def slow(dashboard: Dashboard) -> Slow:
    return Slow(dashboard.source)


async def _now(pool: asyncpg.Pool) -> datetime:
    found: datetime = await pool.fetchval("SELECT service.now()")
    return found


async def test_while_one_reads_others_take_the_copy_as_it_is_if_it_is_fresh_enough(
    pool: asyncpg.Pool, dashboard: Dashboard, slow: Slow
) -> None:
    await fill(dashboard)
    before = await _now(pool)
    reading = asyncio.create_task(Sync(pool, slow).run_once())
    await slow.asked.wait()
    other = Sync(pool, dashboard.source)
    with pytest.raises(DashboardBusy):
        await other.run_once(max_wait=0)
    with pytest.raises(DashboardBusy):  # nothing is loaded yet
        await other.refresh()
    slow.go.set()
    await reading

    slow.go.clear()
    slow.asked.clear()
    reading = asyncio.create_task(Sync(pool, slow).run_once())
    await slow.asked.wait()
    await other.refresh()
    await other.refresh(before)
    assert other.health()["synced_at"]
    with pytest.raises(DashboardBusy):
        await other.refresh(await _now(pool))
    slow.go.set()
    await reading


async def test_also_within_one_process(pool: asyncpg.Pool, dashboard: Dashboard, slow: Slow) -> None:
    await fill(dashboard)
    sync = Sync(pool, slow)
    reading = asyncio.create_task(sync.run_once())
    await slow.asked.wait()
    with pytest.raises(DashboardBusy):
        await sync.refresh()
    slow.go.set()
    await reading
    await sync.refresh(await _now(pool))


async def test_who_was_silent_too_long_changes_nothing_any_more(
    pool: asyncpg.Pool, dashboard: Dashboard, slow: Slow
) -> None:
    await fill(dashboard)
    await Sync(pool, dashboard.source).run_once()
    reading = asyncio.create_task(Sync(pool, slow).run_once(compare=True))
    await slow.asked.wait()
    await pool.execute(_LATER)
    await Sync(pool, dashboard.source).run_once(max_wait=0)
    before = await pool.fetch("SELECT * FROM service.sync_state ORDER BY collection")
    await dashboard.remove("goals", 1)
    slow.go.set()
    with pytest.raises(DashboardBusy):
        await reading
    assert await count(pool, "goals") == 3
    assert await pool.fetch("SELECT * FROM service.sync_state ORDER BY collection") == before


async def test_nobody_writes_beside_a_process_of_the_former_release(
    pool: asyncpg.Pool, dashboard: Dashboard
) -> None:
    await fill(dashboard)
    async with pool.acquire() as former:
        await former.fetchval("SELECT pg_advisory_lock($1)", SYNC_LOCK)
        with pytest.raises(DashboardBusy, match="former release"):
            await Sync(pool, dashboard.source).run_once()
        await former.fetchval("SELECT pg_advisory_unlock($1)", SYNC_LOCK)
    await Sync(pool, dashboard.source).run_once()


async def test_who_is_erased_while_the_dashboard_is_read_does_not_come_back(
    pool: asyncpg.Pool, dashboard: Dashboard, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(dashboard)
    sync = Sync(pool, dashboard.source)
    await sync.run_once()
    people = PersonalData(pool, Archive(pool, tmp_path, sync))
    await pool.execute("DELETE FROM service.goals")
    erased: list[Any] = []

    async def existing(*arguments: Any, existing: Any = dashboard.source.existing) -> Any:
        if not erased:  # the goals are missing here and will be read again
            erased.append(await people.erase(dashboard.key(1), "tester"))
        return await existing(*arguments)

    await dashboard.remove("users", 2)  # somebody to ask about
    monkeypatch.setattr(dashboard.source, "existing", existing)
    with pytest.raises(DashboardBusy):
        await sync.run_once(compare=True)
    await sync.run_once(compare=True)
    assert erased
    assert {row["id"] for row in await pool.fetch("SELECT id FROM service.goals")} == {
        dashboard.key(n) for n in (2, 3)
    }
    with pytest.raises(UnknownUser):
        await people.erase("nobody", "tester")


# ── Runs ────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_run_never_waits_for_who_reads_the_dashboard(
    pool: asyncpg.Pool, dashboard: Dashboard, slow: Slow
) -> None:
    world, sync = World(pool), Sync(pool, dashboard.source)
    await fill(dashboard)
    await sync.run_once()
    runner = await world.runner()
    runner.refresh = sync.refresh
    slot = await _now(pool)
    ledger = await world.ledger()
    run = await ledger.request(GOALS, Trigger.ONCE, slot)
    await pool.execute("UPDATE service.job_run SET deadline_at = service.now() + interval '1 hour'")
    reading = asyncio.create_task(Sync(pool, slow).run_once())
    await slow.asked.wait()

    back = await runner.run_one()

    assert back
    assert (back.id, back.state, back.attempt) == (run.id, RunState.PENDING, 0)
    assert back.reason
    assert "another process reads the dashboard" in back.reason
    assert back.deadline_at
    assert timedelta(0) < back.not_before - slot < timedelta(minutes=1)
    dry = await runner.run_manual(GOALS, RunRequest(dry_run=True))  # the copy will do
    assert dry.state == RunState.SUCCEEDED
    assert await runner.refreshed(all_jobs()[GOALS]) is None

    await pool.execute("UPDATE service.job_run SET not_before = $1, nominal_at = $1", T0)
    done = await runner.run_one()  # the copy is younger than this slot
    assert done
    assert done.state == RunState.SUCCEEDED
    slow.go.set()
    await reading


async def test_what_rests_on_a_copy_that_was_never_complete_says_so(
    pool: asyncpg.Pool, dashboard: Dashboard, slow: Slow
) -> None:
    await fill(dashboard)
    runner = await World(pool).runner()
    runner.refresh = Sync(pool, dashboard.source).refresh
    reading = asyncio.create_task(Sync(pool, slow).run_once())
    await slow.asked.wait()
    with pytest.raises(SourceUnavailable, match="another process reads the dashboard now"):
        await runner.run_manual(GOALS, RunRequest(dry_run=True))
    assert isinstance(await runner.refreshed(all_jobs()[GOALS]), DashboardBusy)
    slow.go.set()
    await reading


# ── Processes ───────────────────────────────────────────────────────────────────────────────────────────────


def _copier(dsn: str, dashboard: Dashboard, where: str) -> Popen[bytes]:
    url, database = dashboard.address()
    words = (dsn, url, database, "2", where)
    return Popen([sys.executable, "-m", "tests.dashboard.copier", *words], stdout=PIPE)


async def _told(process: Popen[bytes]) -> str:
    async with asyncio.timeout(90):
        out, _ = await asyncio.to_thread(process.communicate)
    return out.decode().strip()


@pytest.mark.parametrize("where", ["reading", "copying", "writing"])
async def test_a_frozen_process_stops_nobody_and_writes_nothing_when_it_thaws(
    pool: asyncpg.Pool, dsn: str, dashboard: Dashboard, where: str
) -> None:
    async def title(text: str) -> None:
        unstamped: dict[str, Any] = {"updated": None}
        await dashboard.put("goals", 1, user=1, title=text, status="active", **unstamped)

    await fill(dashboard)
    await title("Old")
    await Sync(pool, dashboard.source).run_once()
    await title("Older")
    frozen = _copier(dsn, dashboard, where)
    try:
        async with asyncio.timeout(90):
            _, status = await asyncio.to_thread(os.waitpid, frozen.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        await title("New")
        heir = _copier(dsn, dashboard, "never")
        try:
            assert await _told(heir) == "done"
        finally:
            heir.kill()
        assert await pool.fetchval("SELECT title FROM service.goals WHERE id = $1", dashboard.key(1)) == "New"
        synced = await pool.fetchval("SELECT max(synced_at) FROM service.sync_state")

        os.kill(frozen.pid, signal.SIGCONT)

        assert await _told(frozen) == "busy"
        assert await pool.fetchval("SELECT title FROM service.goals WHERE id = $1", dashboard.key(1)) == "New"
        assert await pool.fetchval("SELECT max(synced_at) FROM service.sync_state") == synced
    finally:
        frozen.kill()
        frozen.wait()
