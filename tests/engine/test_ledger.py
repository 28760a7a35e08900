"""Two processes at one ledger, one statement at a time: neither takes, ends or counts what the other holds.

Each test notices that a condition is taken out; ``tests/guards.toml`` lists them.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

import asyncpg
import pytest

from service.engine import ledger as ledger_module
from service.engine import queries
from service.engine.ledger import Ledger, Run
from service.engine.run import PlannedRun, RunState, Trigger
from service.engine.schema import SCHEMA
from service.errors import LeaseLost
from service.manager import JobManager
from tests.given import GOALS, World
from tests.interleaving import goes_on, waits

OTHER = "reminder.dailyCheck"
SQL = queries.load(ledger_module.__file__)
SLOT = datetime.fromisoformat("2026-03-10T08:00:00+00:00")


async def _step(ledger: Ledger, run: Run) -> None:
    async with ledger.step(run):
        pytest.fail("it got through the fence")


WRITES: dict[str, Callable[[Ledger, Run], Awaitable[Any]]] = {
    "heartbeat": Ledger.heartbeat,
    "step": _step,
    "fail": lambda ledger, run: ledger.fail(run, "x"),
    "finish": lambda ledger, run: ledger.finish(run, RunState.SUCCEEDED),
    "retry_later": lambda ledger, run: ledger.retry_later(run, timedelta(0), "x"),
    "wait_for": lambda ledger, run: ledger.wait_for(run, timedelta(0), "x"),
    "wait_for_dashboard": lambda ledger, run: ledger.wait_for_dashboard(run, timedelta(0), "x"),
    "release": Ledger.release,
}
"""What the owner of a run writes."""
COSTS_NOTHING = ("wait_for", "wait_for_dashboard", "release")


@pytest.fixture
async def world(world: World) -> World:
    """Two jobs at eight o'clock; a lease is a minute."""
    world.jobs = {id_: world.jobs[id_] for id_ in (GOALS, OTHER)}
    await world.at("2026-03-10T08:00:00Z")
    return world


async def _at(world: World, time: str) -> None:
    await world.at(f"2026-03-10T{time}Z")


async def _row(world: World) -> asyncpg.Record:
    row = await world.pool.fetchrow("SELECT * FROM service.job_run ORDER BY id")
    assert row
    return row


async def _hash(world: World) -> str:
    sql = "SELECT schedule_hash FROM service.job_schedule WHERE job = $1"
    return str(await world.pool.fetchval(sql, GOALS))


async def _states(world: World) -> list[str]:
    return [row["state"] for row in await world.pool.fetch("SELECT state FROM service.job_run ORDER BY id")]


@asynccontextmanager
async def _open(world: World, owner: str) -> AsyncIterator[Ledger]:
    """A process whose statements are all in one transaction, which is committed at the end."""
    ledger: Any = await world.ledger(owner)
    async with world.pool.acquire() as connection, connection.transaction():
        ledger._pool = connection
        yield ledger


async def _claimed(world: World, owner: str = "owner") -> tuple[Ledger, Run]:
    ledger = await world.ledger(owner)
    await ledger.request(GOALS, Trigger.ONCE)
    run = await ledger.claim()
    assert run
    return ledger, run


async def _failed(world: World) -> Run:
    ledger, run = await _claimed(world)
    await ledger.finish(run, RunState.FAILED)
    return run


# ── A process that comes back ───────────────────────────────────────────────────────────────────────────────


async def test_whose_run_was_taken_over_changes_nothing(world: World) -> None:
    zombie, old = await _claimed(world)
    await _at(world, "08:02:00")
    assert await (await world.ledger("heir")).claim()
    stored = await _row(world)

    for write in WRITES.values():
        with pytest.raises(LeaseLost):
            await write(zombie, old)
        assert await _row(world) == stored


async def test_whose_run_was_given_up_changes_nothing(world: World) -> None:
    """A run that is buried keeps the epoch of its last owner."""
    zombie, old = await _claimed(world)
    await world.pool.execute("UPDATE service.job_run SET attempt = 100")
    await _at(world, "08:02:00")
    assert await (await world.ledger("heir")).claim() is None
    stored = await _row(world)
    assert (stored["state"], stored["epoch"]) == ("dead", old.epoch)

    for write in WRITES.values():
        with pytest.raises(LeaseLost):
            await write(zombie, old)
        assert await _row(world) == stored


async def test_who_put_a_run_back_holds_it_no_more_when_another_has_it(world: World) -> None:
    first, run = await _claimed(world)
    await first.retry_later(run, timedelta(0), "x")
    assert await (await world.ledger("heir")).claim()

    with pytest.raises(LeaseLost):
        await first.heartbeat(run)


# ── Leases ──────────────────────────────────────────────────────────────────────────────────────────────────


async def _by_claim(world: World) -> None:
    await _claimed(world)


async def _by_asking(world: World) -> None:
    owner = await world.ledger("owner")
    assert await owner.claim_requested(await owner.request(GOALS, Trigger.MANUAL))


async def _by_taking_over(world: World) -> None:
    await _at(world, "07:58:00")
    await _claimed(world, "dead")
    await _at(world, "08:00:00")
    assert await (await world.ledger("owner")).claim()


async def _by_a_heartbeat(world: World) -> None:
    await _at(world, "07:59:30")
    owner, run = await _claimed(world)
    await _at(world, "08:00:00")
    await owner.heartbeat(run)


HELD = {"claim": _by_claim, "request": _by_asking, "take over": _by_taking_over, "heartbeat": _by_a_heartbeat}


@pytest.mark.parametrize("how", HELD)
async def test_a_run_is_its_owners_for_a_minute_and_anybodys_afterwards(world: World, how: str) -> None:
    await HELD[how](world)
    heir = await world.ledger("heir")

    await _at(world, "08:00:59")
    too_soon = await heir.claim()
    await _at(world, "08:01:01")
    run = await heir.claim()

    assert too_soon is None
    assert run


async def test_nobody_takes_a_run_over_in_the_middle_of_a_step(world: World) -> None:
    slow, run = await _claimed(world)
    heir = await world.ledger("heir")
    await _at(world, "08:02:00")

    async with slow.step(run):
        assert await goes_on(world.pool, heir.claim()) is None

    assert await heir.claim()


async def test_the_last_attempt_is_its_owners_as_long_as_it_lives(world: World) -> None:
    await _claimed(world)
    await world.pool.execute("UPDATE service.job_run SET attempt = 100")

    assert await (await world.ledger("peer")).claim() is None

    assert await _states(world) == ["running"]


async def test_a_run_is_buried_once(world: World) -> None:
    heir, _ = await _claimed(world)
    await world.pool.execute("UPDATE service.job_run SET attempt = 100")
    await _at(world, "08:02:00")
    await heir.claim()
    stored = await _row(world)

    await _at(world, "08:02:59")
    await heir.claim()

    assert await _row(world) == stored


async def test_a_run_whose_owner_died_refuses_no_other(world: World) -> None:
    await _claimed(world)
    await _at(world, "08:02:00")

    run = await (await world.ledger("living")).request(GOALS, Trigger.MANUAL)

    assert run.state is RunState.PENDING


# ── Two that claim ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("orphaned", [False, True])
async def test_a_claim_that_is_under_way_is_passed_over(world: World, orphaned: bool) -> None:
    if orphaned:
        await _claimed(world, "dead")
        await _at(world, "08:02:00")
    else:
        await (await world.ledger()).request(GOALS, Trigger.ONCE)
    other = await world.ledger("other")

    async with _open(world, "slow") as slow:
        run = await slow.claim()
        assert await goes_on(world.pool, other.claim()) is None

    assert run
    assert await other.claim() is None
    assert (await _row(world))["owner"] == "slow"


@pytest.mark.parametrize("orphaned", [False, True])
async def test_a_claim_takes_one_run(world: World, orphaned: bool) -> None:
    ledger = await world.ledger()
    for job in world.jobs:
        await ledger.request(job, Trigger.ONCE)
    if orphaned:
        assert await ledger.claim()
        assert await ledger.claim()
        await _at(world, "08:02:00")

    assert await ledger.claim()

    second = await ledger.claim()
    assert second
    assert second.epoch == 1 + orphaned


@pytest.mark.parametrize("orphaned", [False, True])
async def test_a_process_that_does_not_know_the_job_leaves_its_runs_alone(
    world: World, orphaned: bool
) -> None:
    if orphaned:
        await _claimed(world)
        await _at(world, "08:02:00")
    else:
        await (await world.ledger()).request(GOALS, Trigger.ONCE)
    del world.jobs[GOALS]

    assert await (await world.ledger("another")).claim() is None


async def test_two_runs_of_a_job_are_not_claimed_at_once(world: World) -> None:
    other = await world.ledger("other")
    for _ in range(2):
        await other.request(GOALS, Trigger.ONCE)

    async with _open(world, "slow") as slow:
        assert await slow.claim()
        claim = await waits(world.pool, other.claim())

    assert await claim is None
    assert sorted(await _states(world)) == ["pending", "running"]


async def test_a_job_that_runs_keeps_no_other_job_waiting(world: World) -> None:
    ledger, _ = await _claimed(world)
    await ledger.request(GOALS, Trigger.ONCE)
    await _at(world, "08:00:01")
    await ledger.request(OTHER, Trigger.ONCE)

    run = await ledger.claim()

    assert run
    assert run.job == OTHER


async def test_the_next_run_follows_the_last(world: World) -> None:
    ledger, run = await _claimed(world)
    await ledger.finish(run, RunState.SUCCEEDED)
    assert await ledger.claim() is None

    await ledger.request(GOALS, Trigger.ONCE)

    assert await ledger.claim()


@pytest.mark.parametrize("overlapping", ["running", "pending"])
async def test_only_a_job_that_may_overlap_itself_does(world: World, overlapping: str) -> None:
    ledger, _ = await _claimed(world)
    await ledger.request(GOALS, Trigger.ONCE)
    await world.pool.execute("UPDATE service.job_run SET exclusive = false WHERE state = $1", overlapping)

    assert await ledger.claim()


async def test_a_job_that_may_overlap_itself_can_be_asked_for_while_it_runs(world: World) -> None:
    ledger, _ = await _claimed(world)
    await world.pool.execute("UPDATE service.job_run SET exclusive = false")

    assert (await ledger.request(GOALS, Trigger.MANUAL)).state is RunState.PENDING


async def test_a_run_that_is_put_off_is_not_claimed(world: World) -> None:
    ledger, run = await _claimed(world)
    await ledger.wait_for(run, timedelta(minutes=2), "x")

    await _at(world, "08:01:59")
    too_soon = await ledger.claim()
    await _at(world, "08:02:00")

    assert too_soon is None
    assert await ledger.claim(timedelta(seconds=1)) is None
    assert await ledger.claim()


async def test_a_run_that_is_claimed_at_its_deadline_is_not_missed(world: World) -> None:
    other = await world.ledger("other")
    await other.request(GOALS, Trigger.ONCE)
    await world.pool.execute("UPDATE service.job_run SET deadline_at = service.now()")

    async with _open(world, "slow") as slow:
        assert await slow.claim()
        await _at(world, "08:00:01")
        claim = await waits(world.pool, other.claim())

    assert await claim is None
    assert await _states(world) == ["running"]


# ── Attempts ────────────────────────────────────────────────────────────────────────────────────────────────


async def test_what_is_not_the_runs_fault_costs_no_attempt(world: World) -> None:
    ledger, run = await _claimed(world)
    for end in COSTS_NOTHING:
        await WRITES[end](ledger, run)
        again = await ledger.claim()
        assert again
        assert again.attempt == 1
        run = again


# ── A run that is asked for ─────────────────────────────────────────────────────────────────────────────────


async def test_a_run_that_is_asked_for_counts_one_attempt_and_one_epoch(world: World) -> None:
    ledger = await world.ledger()
    asked = await ledger.request(GOALS, Trigger.MANUAL)

    run = await ledger.claim_requested(asked)

    assert run
    assert (run.attempt, run.epoch) == (asked.attempt + 1, asked.epoch + 1)


async def test_a_run_that_another_claims_meanwhile_is_not_claimed_again(world: World) -> None:
    asking = await world.ledger("asking")
    asked = await asking.request(GOALS, Trigger.MANUAL)

    async with _open(world, "fast") as fast:
        assert await fast.claim()
        claim = await waits(world.pool, asking.claim_requested(asked))

    assert await claim is None
    assert (await _row(world))["owner"] == "fast"


async def test_a_run_that_is_asked_for_does_not_overlap_another(world: World) -> None:
    ledger, _ = await _claimed(world)
    asked = await ledger.request(GOALS, Trigger.ONCE)

    assert await ledger.claim_requested(asked) is None
    assert await _states(world) == ["running", "pending"]


async def test_the_same_request_at_the_same_moment_is_one_run(world: World) -> None:
    other = await world.ledger("other")

    async with _open(world, "slow") as slow:
        first = await slow.request(GOALS, Trigger.ONCE, request_key="k")
        second = await waits(world.pool, other.request(GOALS, Trigger.ONCE, request_key="k"))

    assert await second == first


# ── An operator and a process ───────────────────────────────────────────────────────────────────────────────


async def test_a_run_that_begins_while_it_is_cancelled_is_asked_to_stop(world: World) -> None:
    operator = await world.ledger("operator")
    asked = await operator.request(GOALS, Trigger.ONCE)

    async with _open(world, "slow") as slow:
        run = await slow.claim()
        cancel = await waits(world.pool, operator.cancel(asked.id))

    assert await cancel
    row = await _row(world)
    assert (row["state"], row["finished_at"]) == ("running", None)
    assert run
    assert await operator.heartbeat(run) is not None


async def test_a_run_that_ends_while_it_is_cancelled_has_ended(world: World) -> None:
    operator, run = await _claimed(world)

    async with _open(world, "owner") as owner:
        await owner.finish(run, RunState.SUCCEEDED)
        cancel = await waits(world.pool, operator.cancel(run.id))

    assert not await cancel
    row = await _row(world)
    assert (row["state"], row["cancel_requested_at"], row["finished_at"]) == ("succeeded", None, SLOT)


@pytest.mark.parametrize("second", ["retry", "waive"])
@pytest.mark.parametrize("first", ["retry", "waive"])
async def test_two_who_settle_a_failed_run_at_once_have_one_effect_each(
    world: World, first: str, second: str
) -> None:
    """A run that is waived can still be retried; nothing else follows."""
    run = await _failed(world)
    acts: dict[str, Callable[[Ledger], Any]] = {
        "retry": lambda ledger: ledger.retry(run.id),
        "waive": lambda ledger: ledger.waive(run.id, "ann", "x"),
    }

    async with _open(world, "one") as one:
        assert await acts[first](one)
        act = await waits(world.pool, acts[second](await world.ledger("other")))

    assert await act is ((first, second) == ("waive", "retry"))


async def test_a_run_that_is_retried_has_all_its_attempts_and_is_not_asked_to_stop(world: World) -> None:
    ledger, run = await _claimed(world)
    await ledger.cancel(run.id)
    await world.pool.execute("UPDATE service.job_run SET attempt = 100")
    await ledger.retry_later(run, timedelta(0), "x")
    assert await _states(world) == ["dead"]

    assert await ledger.retry(run.id)

    again = await ledger.claim()
    assert again
    assert again.attempt == 1
    assert await ledger.heartbeat(again) is None


async def test_a_failed_run_is_retried_until_its_deadline_or_within_what_it_may_take(world: World) -> None:
    run = await _failed(world)
    await world.pool.execute("UPDATE service.job_run SET deadline_at = service.now()")
    await _at(world, "08:00:01")
    ledger = await world.ledger()

    assert not await ledger.retry(run.id)
    assert await ledger.retry(run.id, timedelta(minutes=1))
    assert await ledger.claim()


async def test_only_a_planned_single_run_is_taken_off_the_plan(world: World) -> None:
    ledger = await world.ledger()
    manager = JobManager(world.pool, ledger, None, world.jobs)  # type: ignore[arg-type]
    once, manual = await ledger.request(GOALS, Trigger.ONCE), await ledger.request(OTHER, Trigger.MANUAL)

    assert not await manager.unschedule(manual.id)
    async with _open(world, "slow") as slow:
        assert await slow.claim()
        unschedule = await waits(world.pool, manager.unschedule(once.id))
    assert not await unschedule
    assert await _states(world) == ["running", "pending"]


# ── Slots ───────────────────────────────────────────────────────────────────────────────────────────────────


def _slot(_after: datetime, _until: datetime) -> list[PlannedRun]:
    return [PlannedRun(SLOT, SLOT.replace(tzinfo=None), None, Trigger.CRON, False, None, None)]


def _nobody(_after: datetime, _until: datetime) -> list[PlannedRun]:
    raise AssertionError("slots are decided twice")


async def test_slots_that_another_process_is_deciding_are_left_to_it(world: World) -> None:
    ledger = await world.ledger()
    await _at(world, "08:00:01")

    async with world.pool.acquire() as other, other.transaction():
        assert await other.fetchrow(SQL["lock_definition"], GOALS, SCHEMA, None, await _hash(world))
        assert await goes_on(world.pool, ledger.materialise(GOALS, _nobody)) == 0

    assert await ledger.materialise(GOALS, _slot) == 1


async def test_slots_are_decided_together_with_the_watermark(world: World) -> None:
    ledger = await world.ledger()
    await _at(world, "08:00:01")
    await world.pool.execute(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'disk full'; END $$;"
        " CREATE TRIGGER refuse BEFORE UPDATE ON service.job_schedule FOR EACH ROW EXECUTE FUNCTION refuse()"
    )

    with pytest.raises(asyncpg.RaiseError):
        await ledger.materialise(GOALS, _slot)

    assert await _states(world) == []


async def test_a_slot_is_decided_once_wherever_the_watermark_is(world: World) -> None:
    ledger = await world.ledger()
    await _at(world, "08:00:01")
    assert await ledger.materialise(GOALS, _slot) == 1
    await world.pool.execute("UPDATE service.job_schedule SET materialized_through = $1", SLOT)

    assert await ledger.materialise(GOALS, _slot) == 0

    assert await _states(world) == ["pending"]


async def test_a_clock_that_goes_back_moves_no_watermark(world: World) -> None:
    ledger = await world.ledger()
    await _at(world, "07:00:00")

    assert await ledger.materialise(GOALS, _nobody) == 0
    assert await world.pool.fetchval("SELECT min(materialized_through) FROM service.job_def") == SLOT


async def test_a_process_that_starts_moves_no_watermark_of_a_known_schedule(world: World) -> None:
    await world.ledger()
    await _at(world, "09:00:00")

    ledger = await world.ledger("another")

    assert await ledger.materialise(GOALS, _slot) == 1
