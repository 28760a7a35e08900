"""The trigger and the ledger together, on a real database: every occurrence is decided once."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import asyncpg
import pytest

from service.engine import ledger as ledger_module
from service.engine import queries
from service.engine.context import RunContext
from service.engine.job import CatchUp, Job, JobType, TimeMode
from service.engine.ledger import JobDefinition, Ledger
from service.engine.run import RunState, Trigger
from service.engine.schema import SCHEMA
from service.engine.trigger import TriggerLoop, timing_of
from service.errors import AlreadyRunning, LeaseLost
from tests.clock import stop_clock


async def _nothing(_: RunContext) -> None:
    raise NotImplementedError


JOB = Job(
    type=JobType.REMINDER,
    name="nine",
    about="",
    schedule="0 9 * * *",
    mode=TimeMode.USER,
    catch_up=CatchUp.LATEST,
    useful_until=lambda local: local.replace(hour=20, minute=0),
    steps=_nothing,
)
ID = JOB.id


class World:
    """One job, some zones, a database with a stopped clock, and as many replicas as a test likes."""

    def __init__(self, pool: asyncpg.Pool, job: Job = JOB) -> None:
        self.pool = pool
        self.job = job

    async def replica(self, name: str = "a", job: Job | None = None) -> tuple[Ledger, TriggerLoop]:
        job = job or self.job
        ledger = Ledger(self.pool, name, timedelta(seconds=60))
        timing = timing_of(job)
        await ledger.register(
            [
                JobDefinition(
                    job.id, job.schedule, job.mode, timing.schedule.hash, job.timeout, job.max_attempts
                )
            ]
        )
        trigger = TriggerLoop(
            ledger,
            {job.id: job},
            {job.id: timing},
            ZoneInfo("UTC"),
            asyncio.Event(),
            use_crons=False,
            sweep=0.05,
        )
        return ledger, trigger

    async def at(self, instant: str) -> None:
        await stop_clock(self.pool, instant)

    async def rows(self) -> list[tuple[str, str, tuple[str, ...]]]:
        rows = await self.pool.fetch(
            "SELECT to_char(nominal_at, 'DD HH24:MI') AS at, state, trigger, zones"
            " FROM service.job_run ORDER BY nominal_at"
        )
        return [(row["at"], f"{row['trigger']} {row['state']}", tuple(row["zones"] or ())) for row in rows]


@pytest.fixture
async def world(pool: asyncpg.Pool) -> World:
    zones = ["Europe/Berlin", "Europe/Paris", "America/New_York", "UTC"]
    await pool.executemany(
        "INSERT INTO service.users (id, name, timezone, timezone_valid, active)"
        " VALUES ($1, $1, $2, true, true)",
        [(f"u{n}", zone) for n, zone in enumerate(zones)],
    )
    return World(pool)


async def test_zones_that_share_the_instant_share_the_run(world: World) -> None:
    await world.at("2026-03-10T00:00:00Z")
    _, trigger = await world.replica()

    await world.at("2026-03-10T13:00:30Z")
    await trigger.sweep_once()

    assert await world.rows() == [
        ("10 08:00", "catchup pending", ("Europe/Berlin", "Europe/Paris")),
        ("10 09:00", "catchup pending", ("UTC",)),
        ("10 13:00", "cron pending", ("America/New_York",)),
    ]


async def test_zones_a_whole_day_apart_share_the_instant_and_neither_is_lost(world: World) -> None:
    """09:00 in Kiritimati is 09:00 of the day before in Honolulu: one instant, two local dates."""
    await world.pool.execute(
        "UPDATE service.users SET timezone = CASE id WHEN 'u0' THEN 'Pacific/Kiritimati'"
        " ELSE 'Pacific/Honolulu' END"
    )
    await world.at("2026-03-10T12:00:00Z")
    _, trigger = await world.replica()

    await world.at("2026-03-10T19:00:30Z")
    await trigger.sweep_once()

    assert await world.rows() == [("10 19:00", "cron pending", ("Pacific/Honolulu", "Pacific/Kiritimati"))]


async def test_an_hourly_slot_is_one_run_for_zones_with_different_wall_clocks(world: World) -> None:
    job = replace(JOB, schedule="0 9-17 * * *", useful_until=lambda local: local + timedelta(minutes=5))
    await world.at("2026-03-10T09:59:00Z")
    _, trigger = await world.replica(job=job)

    await world.at("2026-03-10T10:00:30Z")  # 10:00 in UTC, 11:00 in Berlin and Paris, 06:00 in New York
    await trigger.sweep_once()

    assert await world.rows() == [("10 10:00", "cron pending", ("Europe/Berlin", "Europe/Paris", "UTC"))]


async def test_a_second_sweep_of_the_same_time_adds_nothing(world: World) -> None:
    await world.at("2026-03-10T00:00:00Z")
    _, trigger = await world.replica()
    await world.at("2026-03-10T12:00:00Z")

    first, second = await trigger.sweep_once(), await trigger.sweep_once()

    assert (first, second) == (2, 0)


async def test_downtime_over_nine_is_caught_up_once_and_what_is_too_late_is_missed(world: World) -> None:
    await world.at("2026-03-10T00:00:00Z")
    _, trigger = await world.replica()

    await world.at("2026-03-12T19:30:00Z")  # two days later; in Berlin it is 20:30, in New York 15:30
    await trigger.sweep_once()

    assert [(at, what) for at, what, _ in await world.rows()] == [
        ("10 08:00", "catchup missed"),
        ("10 09:00", "catchup missed"),
        ("10 13:00", "catchup missed"),
        ("11 08:00", "catchup missed"),
        ("11 09:00", "catchup missed"),
        ("11 13:00", "catchup missed"),
        ("12 08:00", "catchup missed"),
        ("12 09:00", "catchup pending"),
        ("12 13:00", "catchup pending"),
    ]


async def test_many_replicas_decide_each_occurrence_once(world: World) -> None:
    await world.at("2026-03-10T00:00:00Z")
    triggers = [(await world.replica(f"replica {n}"))[1] for n in range(4)]
    await world.at("2026-03-10T12:00:00Z")

    written = await asyncio.gather(*(trigger.sweep_once() for trigger in triggers for _ in range(5)))

    assert sum(written) == 2
    assert len(await world.rows()) == 2


async def test_without_any_bell_the_sweep_finds_what_is_due(world: World) -> None:
    await world.at("2026-03-10T00:00:00Z")
    _, trigger = await world.replica()
    stop = asyncio.Event()
    serving = asyncio.create_task(trigger.serve(stop))

    await world.at("2026-03-10T08:00:01Z")
    async with asyncio.timeout(30):
        while not await world.rows():
            await asyncio.sleep(0.02)
    stop.set()
    await serving

    assert await world.rows() == [("10 08:00", "cron pending", ("Europe/Berlin", "Europe/Paris"))]
    assert not trigger._crons


async def test_a_paused_job_skips_its_slots_and_does_not_make_up_for_them(world: World) -> None:
    await world.at("2026-03-10T00:00:00Z")
    ledger, trigger = await world.replica()
    await ledger.pause(ID, "ann", "holiday")
    await world.at("2026-03-10T08:30:00Z")
    await trigger.sweep_once()
    await ledger.resume(ID, "ann")
    await world.at("2026-03-10T09:30:00Z")
    await trigger.sweep_once()

    assert [what for _, what, _ in await world.rows()] == ["catchup skipped", "catchup pending"]


async def test_a_changed_schedule_begins_where_the_one_it_replaces_stands(world: World) -> None:
    await world.at("2026-03-10T00:00:00Z")
    await world.replica()
    await world.at("2026-03-10T09:30:00Z")

    _, trigger = await world.replica(job=replace(JOB, schedule="0 10 * * *"))
    await trigger.sweep_once()

    assert await world.rows() == [
        ("10 09:00", "catchup pending", ("Europe/Berlin", "Europe/Paris")),
    ]


async def test_a_changed_schedule_begins_at_most_its_catch_up_ago(world: World) -> None:
    await world.at("2026-03-01T00:00:00Z")
    await world.replica()
    await world.at("2026-03-10T00:00:00Z")

    await world.replica(job=replace(JOB, schedule="0 10 * * *"))

    through = "SELECT to_char(materialized_through, 'DD') FROM service.job_schedule ORDER BY shown_at DESC"
    assert await world.pool.fetchval(through) == "03"


async def test_two_schedules_during_a_roll_out_lose_no_slot(world: World) -> None:
    """One process still has nine o'clock, the other has ten; each is started anew now and then."""
    await world.at("2026-03-10T07:59:00Z")
    old, new = JOB, replace(JOB, schedule="0 10 * * *")
    await world.replica(job=old)
    for time in ("08:00", "08:09", "08:18", "08:27", "08:36", "08:45", "08:54", "09:00"):
        for job in (new, old, new):
            await world.at(f"2026-03-10T{time}:01Z")
            _, trigger = await world.replica(job=job)
            await trigger.sweep_once()
    assert await world.rows() == [
        ("10 08:00", "cron pending", ("Europe/Berlin", "Europe/Paris")),  # nine o'clock there
        ("10 09:00", "cron pending", ("Europe/Berlin", "Europe/Paris")),  # ten
        ("10 09:00", "cron pending", ("UTC",)),
    ]


async def test_a_schedule_that_nobody_shows_is_closed(world: World) -> None:
    await world.at("2026-03-10T00:00:00Z")
    _, old = await world.replica("old")
    _, new = await world.replica("new", replace(JOB, schedule="0 10 * * *"))
    await world.at("2026-03-10T00:05:00Z")
    await old.sweep_once()
    for minute in ("09", "16", "21"):
        await world.at(f"2026-03-10T00:{minute}:00Z")
        await new.sweep_once()
    open_ = "SELECT cron FROM service.job_schedule WHERE closed_at IS NULL"
    assert [row["cron"] for row in await world.pool.fetch(open_)] == ["0 10 * * *"]

    await world.at("2026-03-10T08:00:10Z")
    assert await old.sweep_once() == 0, "it was frozen for hours: its schedule is over"
    assert await new.sweep_once() == 0
    await world.at("2026-03-10T09:00:10Z")
    assert await new.sweep_once() == 1


async def test_a_roll_out_that_is_taken_back(world: World) -> None:
    await world.at("2026-03-10T00:00:00Z")
    await world.replica("old")
    _, new = await world.replica("new", replace(JOB, schedule="0 10 * * *"))
    await new.sweep_once()
    _, old = await world.replica("old again")
    for minute in ("08", "11", "20"):
        await world.at(f"2026-03-10T00:{minute}:00Z")
        await old.sweep_once()
    row = await world.pool.fetchrow("SELECT cron, materialized_through FROM service.job_def")
    assert row
    assert (row["cron"], row["materialized_through"].minute) == ("0 9 * * *", 20)
    await world.at("2026-03-10T08:00:10Z")
    assert await old.sweep_once() == 1


# ── Claims, leases, fences ──────────────────────────────────────────────────────────────────────────────────


async def _states(world: World) -> list[str]:
    return [row["state"] for row in await world.pool.fetch("SELECT state FROM service.job_run ORDER BY id")]


async def _due(world: World, *names: str) -> list[Ledger]:
    await world.at("2026-03-10T00:00:00Z")
    replicas = [await world.replica(name) for name in names]
    await world.at("2026-03-10T08:00:00Z")
    await replicas[0][1].sweep_once()
    return [ledger for ledger, _ in replicas]


async def test_only_one_replica_owns_a_run(world: World) -> None:
    ledgers = await _due(world, "a", "b", "c", "d")

    claims = await asyncio.gather(*(ledger.claim() for ledger in ledgers for _ in range(3)))

    assert len([run for run in claims if run]) == 1


async def test_a_job_does_not_overlap_itself(world: World) -> None:
    (ledger,) = await _due(world, "a")
    await world.at("2026-03-10T12:00:00Z")
    await (await world.replica("a"))[1].sweep_once()
    first = await ledger.claim()

    second = await ledger.claim()

    assert first is not None
    assert second is None


async def test_an_orphaned_run_goes_on_at_its_cursor_and_its_old_owner_is_refused(world: World) -> None:
    zombie, heir = await _due(world, "zombie", "heir")
    old = await zombie.claim()
    assert old is not None
    async with zombie.step(old) as connection:
        await zombie.advance(connection, old, "u7", 7, {"planned": 3})
    await world.at("2026-03-10T08:02:00Z")

    new = await heir.claim()

    assert new is not None
    assert (new.cursor, new.done, new.counts, new.attempt, new.epoch) == ("u7", 7, {"planned": 3}, 2, 2)
    with pytest.raises(LeaseLost):
        async with zombie.step(old):
            pytest.fail("the zombie got through the fence")
    with pytest.raises(LeaseLost):
        await zombie.heartbeat(old)
    with pytest.raises(LeaseLost):
        await zombie.finish(old, RunState.SUCCEEDED)


async def test_progress_is_added_up_by_name(world: World) -> None:
    (ledger,) = await _due(world, "a")
    run = await ledger.claim()
    assert run is not None
    for counts in ({"planned": 2}, {"planned": 1, "not_due": 4}):
        async with ledger.step(run) as connection:
            await ledger.advance(connection, run, "x", 5, counts)

    await ledger.finish(run, RunState.SUCCEEDED)

    done = await ledger.get(run.id)
    assert done is not None
    assert (done.state, done.done, done.counts) == (RunState.SUCCEEDED, 10, {"planned": 3, "not_due": 4})


async def test_a_run_that_kills_its_owners_is_dead_after_its_attempts(world: World) -> None:
    (ledger,) = await _due(world, "a")
    for minute in range(JOB.max_attempts):
        await world.at(f"2026-03-10T08:{10 * minute:02d}:00Z")
        assert await ledger.claim() is not None

    await world.at("2026-03-10T09:00:00Z")

    assert await ledger.claim() is None
    assert await _states(world) == ["dead"]


async def test_attempts_are_counted_from_the_last_progress(world: World) -> None:
    (ledger,) = await _due(world, "a")
    attempts, pauses = [], []
    for minute in range(2 * JOB.max_attempts):
        await world.at(f"2026-03-10T08:{5 * minute:02d}:00Z")
        run = await ledger.claim()
        assert run is not None
        attempts.append(run.attempt)
        if minute % 2:
            async with ledger.step(run) as connection:
                await ledger.advance(connection, run, f"u{minute}", 1, {})
        await ledger.retry_later(run, timedelta(minutes=1), "away")
        later = await ledger.get(run.id)
        assert later is not None
        pauses.append((later.not_before - await ledger.now()).total_seconds() / 60)

    assert attempts == [1, 2] + [2, 3] * (JOB.max_attempts - 1)
    assert pauses == [1, 1] + [2, 1] * (JOB.max_attempts - 1)


async def test_a_page_again_is_no_progress(world: World) -> None:
    (ledger,) = await _due(world, "a")
    for minute in range(JOB.max_attempts):
        await world.at(f"2026-03-10T08:{5 * minute:02d}:00Z")
        run = await ledger.claim()
        assert run is not None
        async with ledger.step(run) as connection:
            await ledger.advance(connection, run, "u1", 1, {})
        await ledger.retry_later(run, timedelta(0), "away")

    assert await _states(world) == ["dead"]


async def test_a_released_run_is_free_at_once_and_costs_no_attempt(world: World) -> None:
    leaving, staying = await _due(world, "leaving", "staying")
    run = await leaving.claim()
    assert run is not None

    await leaving.release(run)

    heir = await staying.claim()
    assert heir is not None
    assert (heir.attempt, heir.epoch) == (1, 3)


async def test_a_pending_run_that_nobody_claims_in_time_is_missed(world: World) -> None:
    (ledger,) = await _due(world, "a")

    await world.at("2026-03-10T19:00:01Z")

    assert await ledger.claim() is None
    assert await _states(world) == ["missed"]


async def test_the_same_request_is_one_run_and_a_running_job_refuses_another(world: World) -> None:
    (ledger,) = await _due(world, "a")
    first = await ledger.request(ID, Trigger.ONCE, request_key="k", delay=timedelta(hours=1))
    again = await ledger.request(ID, Trigger.ONCE, request_key="k", delay=timedelta(hours=2))
    await ledger.claim()

    assert first == again
    assert first.not_before == datetime(2026, 3, 10, 9, tzinfo=UTC)
    with pytest.raises(AlreadyRunning):
        await ledger.request(ID, Trigger.MANUAL)


async def test_claiming_reads_the_index_not_the_table(world: World) -> None:
    await _due(world, "a")
    await world.pool.execute(
        "INSERT INTO service.job_run (job, trigger, nominal_at, state, not_before)"
        " SELECT $1, 'manual', service.now(), 'succeeded', service.now() FROM generate_series(1, 20000)",
        ID,
    )
    await world.pool.execute("ANALYZE service.job_run")
    sql = queries.load(ledger_module.__file__)
    for query, index in (("claim", "job_run_due"), ("claim_orphan", "job_run_leases")):
        more = (timedelta(0), SCHEMA, None) if query == "claim" else (SCHEMA, None, [1])
        values = ("a", timedelta(seconds=60), [ID], *more)
        plan = "\n".join(row[0] for row in await world.pool.fetch(f"EXPLAIN {sql[query]}", *values))
        assert index in plan
        assert "Seq Scan" not in plan
