"""A process proves by its heartbeat that it can write, and stands down where its release is too old."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, cast
from zoneinfo import ZoneInfo

import asyncpg
import pytest

from service.clock import SystemClock
from service.dashboard.sync import Sync
from service.engine.heartbeat import Heartbeat
from service.engine.ledger import Ledger
from service.engine.run import Trigger
from service.engine.schema import SCHEMA
from service.engine.trigger import planned_runs, timing_of
from service.errors import ReleaseTooOld
from service.messages.outbox import Outbox
from tests.given import GOALS, World, goal, user

TOO_OLD = f"this release (schema {SCHEMA}) is too old for the database (needs {SCHEMA + 1}): upgrade it"


class Hands(SystemClock):
    """A clock whose monotonic hand is set."""

    now_is = 0.0

    def monotonic(self) -> float:
        return self.now_is


async def _writable_from(pool: asyncpg.Pool, number: int) -> None:
    await pool.execute("UPDATE service.schema_range SET writable_from = $1", number)


def _presence(
    ledger: Ledger, clock: SystemClock | None = None, resumed: Callable[[], Any] | None = None
) -> Heartbeat:
    async def told() -> dict[str, Any]:
        return {"rssBytes": 1}

    async def nothing() -> None:
        return

    return Heartbeat(
        ledger, "1.2.3", clock or SystemClock(), told, resumed or nothing, retry_after=0.01, interval=0.01
    )


async def _until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not true():
            await asyncio.sleep(0.01)


# ── The heartbeat ───────────────────────────────────────────────────────────────────────────────────────────


async def test_a_heartbeat_is_the_proof_for_45_seconds(world: World) -> None:
    clock = Hands()
    presence = _presence(await world.ledger(), clock)
    assert presence.problem == "no heartbeat has been written to our PostgreSQL yet"

    assert await presence.beat()
    clock.now_is = 45.0
    assert presence.problem is None
    await world.pool.execute("ALTER TABLE service.replica RENAME TO away")
    assert not await presence.beat()
    assert presence.problem is None
    clock.now_is = 46.0
    assert presence.problem == (
        "no heartbeat could be written to our PostgreSQL for 46 seconds (UndefinedTableError)"
    )

    await world.pool.execute("ALTER TABLE service.away RENAME TO replica")
    assert await presence.beat()
    assert presence.problem is None


async def test_a_database_that_refuses_writes_is_a_problem_at_once(dsn: str, world: World) -> None:
    name = await world.pool.fetchval("SELECT current_database()")
    presence = _presence(await world.ledger())
    await presence.beat()
    await world.pool.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    await world.pool.expire_connections()

    assert not await presence.beat()
    assert "read-only" in (presence.problem or "")

    async with world.pool.acquire() as connection, connection.transaction():
        await connection.execute("SET TRANSACTION READ WRITE")
        await connection.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
    assert await presence.beat()  # the session that answers "read-only" now is not asked a second time
    assert presence.problem is None


async def test_every_heartbeat_tells_version_and_schema(world: World) -> None:
    ledger = await world.ledger()
    await ledger.beat_replica("0.0.1")
    await _presence(ledger).beat()

    [row] = await ledger.replicas()
    assert (row["version"], row["schema"], row["vitals"]) == ("1.2.3", SCHEMA, {"rssBytes": 1})


# ── Standing down: the database's word ──────────────────────────────────────────────────────────────────────


@asynccontextmanager
async def too_old(world: World) -> AsyncIterator[None]:
    """A newer release has raised what it takes to write."""
    before = await world.pool.fetchval("SELECT writable_from FROM service.schema_range")
    await _writable_from(world.pool, SCHEMA + 1)
    yield
    await _writable_from(world.pool, before)


async def test_nothing_is_decided_or_claimed(world: World) -> None:
    await world.at("2026-03-10T07:00:00Z")
    ledger, job = await world.ledger(), world.jobs[GOALS]

    def plan(after: Any, until: Any) -> Any:
        return planned_runs(timing_of(job), job, ["Europe/Berlin"], ZoneInfo("UTC"), after, until)

    await world.at("2026-03-10T08:00:00Z")
    async with too_old(world):
        assert await ledger.materialise(GOALS, plan) == 0
    assert await ledger.materialise(GOALS, plan) == 1
    async with too_old(world):
        assert await ledger.claim() is None
    claimed = await ledger.claim()
    assert claimed
    await world.at("2026-03-10T09:00:00Z")  # its lease is over
    async with too_old(world):
        assert await ledger.claim() is None
    orphan = await ledger.claim()
    assert orphan
    assert (orphan.id, orphan.epoch) == (claimed.id, claimed.epoch + 1)


async def test_a_run_that_somebody_asks_for_says_why_not(world: World) -> None:
    runner = await world.runner()
    async with too_old(world):
        with pytest.raises(ReleaseTooOld) as refused:
            await runner.run_manual(GOALS)
    assert str(refused.value) == TOO_OLD
    assert await world.pool.fetchval("SELECT count(*) FROM service.job_run") == 0
    assert (await runner.run_manual(GOALS)).state == "succeeded"


async def test_nothing_is_sent(world: World) -> None:
    await world.at("2026-03-10T08:00:00Z")
    await world.live(user(), goal("g", due="2026-03-11"))
    await (await world.runner()).run_manual(GOALS)
    outbox = Outbox(world.pool, "a", timedelta(seconds=60))
    async with too_old(world):
        assert await outbox.claim(10) == []
    assert len(await outbox.claim(10)) == 1


async def test_nothing_is_copied(world: World) -> None:
    sync = Sync(world.pool, source=cast("Any", None))  # it is not even asked
    async with too_old(world):
        with pytest.raises(ReleaseTooOld):
            await sync.run_once()
    assert await world.pool.fetchval("SELECT count(*) FROM service.sync_state") == 0


async def test_no_definition_is_changed(world: World) -> None:
    ledger = await world.ledger()
    async with too_old(world):
        await world.pool.execute("UPDATE service.job_def SET cron = 'newer'")
        await world.ledger()
        assert await world.pool.fetchval("SELECT bool_and(cron = 'newer') FROM service.job_def")
    assert await ledger.request(GOALS, Trigger.ONCE)


# ── Standing down: the loops ────────────────────────────────────────────────────────────────────────────────


async def test_loops_stop_while_the_release_is_too_old_and_start_again(world: World) -> None:
    life: list[str] = []

    async def loop(stop: asyncio.Event) -> None:
        life.append("start")
        await stop.wait()
        life.append("end")

    async def resumed() -> None:
        life.append("resumed")

    presence, stop = _presence(await world.ledger(), resumed=resumed), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(presence.serve(stop))
        working = asyncio.ensure_future(presence.gated(loop)(stop))
        await _until(lambda: life == ["start"])
        async with too_old(world):
            await _until(lambda: life == ["start", "end"])
            assert presence.problem == TOO_OLD
        await _until(lambda: life == ["start", "end", "resumed", "start"])
        assert presence.problem is None
        stop.set()
        await working
    assert life[-1] == "end"


async def test_a_loop_that_dies_or_ends_is_seen_through_the_gate(world: World) -> None:
    async def dies(_: asyncio.Event) -> None:
        raise ValueError("as it happens")

    async def ends(_: asyncio.Event) -> None:
        return

    presence = _presence(await world.ledger())
    async with asyncio.timeout(60):
        with pytest.raises(ValueError, match="as it happens"):
            await presence.gated(dies)(asyncio.Event())
        await presence.gated(ends)(asyncio.Event())
