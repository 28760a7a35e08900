"""A slot that failed is retried by itself, and stays red until it succeeds or somebody waives it."""

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any

import asyncpg
import pytest

from service.engine import ledger as ledger_module
from service.engine import queries
from service.engine.ledger import Ledger, Run
from service.engine.run import RunState, Trigger
from service.engine.schema import SCHEMA
from service.errors import LeaseLost, RunCancelled
from tests.given import GOALS, World, goal, user
from tests.interleaving import goes_on, waits

SQL = queries.load(ledger_module.__file__)
START = datetime.fromisoformat("2026-03-10T08:00:00+00:00")


@pytest.fixture
async def world(world: World) -> World:
    """One job at eight o'clock; a lease is a minute."""
    world.jobs = {GOALS: world.jobs[GOALS]}
    await world.at("2026-03-10T08:00:00Z")
    return world


async def _at(world: World, minutes: float) -> None:
    """So many minutes past eight."""
    await world.at((START + timedelta(minutes=minutes)).isoformat())


async def _row(world: World) -> asyncpg.Record:
    row = await world.pool.fetchrow("SELECT * FROM service.job_run ORDER BY id")
    assert row
    return row


async def _claimed(world: World, trigger: Trigger = Trigger.ONCE) -> tuple[Ledger, Run]:
    ledger = await world.ledger("owner")
    await ledger.request(GOALS, trigger)
    run = await ledger.claim()
    assert run
    return ledger, run


async def _claim(world: World, owner: str = "owner", **values: Any) -> Run | None:
    return await (await world.ledger(owner)).claim(**values)


# ── Retried by itself ───────────────────────────────────────────────────────────────────────────────────────


async def test_a_run_that_fails_is_retried_after_pauses_that_double_up_to_an_hour(world: World) -> None:
    ledger, run = await _claimed(world)
    passed, pauses = 0.0, [1, 2, 4, 8, 16, 32, *([60] * 18)]

    for pause in pauses:
        await ledger.fail(run, "x")
        passed += pause
        await _at(world, passed - 0.01)
        assert await ledger.claim() is None
        await _at(world, passed)
        again = await ledger.claim()
        assert again
        assert (again.id, again.attempt) == (run.id, 1)
        run = again
    await ledger.fail(run, "x")
    await _at(world, passed + 10_000)

    assert await ledger.claim() is None  # of no slot: it is useful for ever, but not tried for ever
    assert (await _row(world))["unsettled_since"] == START


async def _manual(world: World) -> None:
    await world.pool.execute("UPDATE service.job_run SET trigger = 'manual'")


async def _too_late(world: World) -> None:
    await world.pool.execute("UPDATE service.job_run SET deadline_at = service.now() + interval '50 seconds'")


async def _waived(world: World) -> None:
    assert await (await world.ledger()).waive((await _row(world))["id"], "ann", "told by hand")


async def _of_another_job(world: World) -> None:
    world.jobs = {}


async def _too_old(world: World) -> None:
    await world.pool.execute("UPDATE service.schema_range SET writable_from = $1", SCHEMA + 1)


NOT_RETRIED = {
    "manual": _manual,
    "too late": _too_late,
    "waived": _waived,
    "unknown job": _of_another_job,
    "too old": _too_old,
}


@pytest.mark.parametrize("why", [*NOT_RETRIED, "wrong clock"])
async def test_it_is_not_retried_by_itself_where_nobody_is_served_by_it(world: World, why: str) -> None:
    ledger, run = await _claimed(world)
    await ledger.fail(run, "x")
    if why in NOT_RETRIED:
        await NOT_RETRIED[why](world)
    await _at(world, 60)
    heir = await world.ledger("owner")
    heir._latest = lambda: START if why == "wrong clock" else None

    assert await heir.claim() is None

    assert (await _row(world))["state"] == "failed"


async def test_a_retry_by_hand_begins_the_pauses_anew(world: World) -> None:
    ledger, run = await _claimed(world)
    await world.pool.execute("UPDATE service.job_run SET retries = 5, halvings = 7")
    await ledger.fail(run, "x")

    assert await ledger.retry(run.id)

    row = await _row(world)
    assert (row["reason"], row["retries"], row["halvings"]) == ("retried by hand", 0, 0)


# ── Red until it is settled ─────────────────────────────────────────────────────────────────────────────────


async def _succeeds(ledger: Ledger, run: Run) -> None:
    await ledger.finish(run, RunState.SUCCEEDED)


async def _fails_again(ledger: Ledger, run: Run) -> None:
    await ledger.fail(run, "y")


async def _is_cancelled(ledger: Ledger, run: Run) -> None:
    await ledger.wait_for(run, timedelta(0), "x")
    assert await ledger.cancel(run.id)


async def _is_too_late(ledger: Ledger, run: Run) -> None:
    await ledger.wait_for(run, timedelta(0), "x")
    pool: asyncpg.Pool = ledger._pool
    await pool.execute("UPDATE service.job_run SET deadline_at = service.now() - interval '1 second'")
    assert await ledger.claim() is None


async def _runs_still(_ledger: Ledger, _run: Run) -> None:
    return


ENDS: dict[str, tuple[Callable[[Ledger, Run], Awaitable[None]], str, bool]] = {
    "success": (_succeeds, "succeeded", False),
    "failure": (_fails_again, "failed", True),
    "cancel": (_is_cancelled, "cancelled", True),
    "deadline": (_is_too_late, "dead", True),
    "still running": (_runs_still, "running", True),
}


@pytest.mark.parametrize("end", ENDS)
async def test_a_slot_that_failed_is_red_until_its_retry_succeeds(world: World, end: str) -> None:
    ledger, run = await _claimed(world)
    await ledger.fail(run, "x")
    await _at(world, 1)
    again = await ledger.claim()
    assert again

    ending, state, red = ENDS[end]
    await ending(ledger, again)

    row = await _row(world)
    assert (row["state"], row["unsettled_since"]) == (state, START if red else None)
    settled = await ledger.waive(run.id, "ann", "x")
    assert settled is (red and state != "running")
    if settled:
        assert (await _row(world))["unsettled_since"] is None


async def _step(ledger: Ledger, run: Run, meanwhile: Callable[[], Awaitable[Any]]) -> None:
    """A step that writes something before ``meanwhile``."""
    async with ledger.step(run) as connection:
        await connection.execute("UPDATE service.job_def SET cron = 'changed'")
        await meanwhile()


# ── Cancelled ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("when", ["before the step", "before its commit"])
async def test_a_step_of_a_run_that_was_asked_to_stop_is_undone(world: World, when: str) -> None:
    """The request does not wait for the step."""
    ledger, run = await _claimed(world)
    if when == "before the step":
        await ledger.cancel(run.id)

    with pytest.raises(RunCancelled):
        await _step(ledger, run, lambda: goes_on(world.pool, ledger.cancel(run.id)))

    assert (await ledger.definitions())[0]["cron"] != "changed"
    assert await ledger.cancel_requested(run) == START


async def test_a_run_that_ends_although_it_was_asked_to_stop_says_so(world: World) -> None:
    ledger, run = await _claimed(world)
    await ledger.cancel(run.id)

    await ledger.finish(run, RunState.SUCCEEDED)

    row = await _row(world)
    assert (row["state"], row["reason"]) == ("succeeded", "finished before the stop")


async def test_a_run_that_is_put_back_after_it_was_asked_to_stop_is_cancelled(world: World) -> None:
    ledger, run = await _claimed(world)
    await ledger.cancel(run.id)
    await ledger.retry_later(run, timedelta(0), "x")

    assert await ledger.claim() is None

    row = await _row(world)
    assert (row["state"], row["reason"]) == ("cancelled", "cancelled on request")


async def test_a_run_that_goes_on_is_not_cancelled_by_another_process(world: World) -> None:
    ledger, run = await _claimed(world)
    await ledger.cancel(run.id)

    await _claim(world, "other")

    assert (await _row(world))["state"] == "running"


# ── In the middle of a step ─────────────────────────────────────────────────────────────────────────────────


async def test_heartbeats_pass_in_the_middle_of_a_step(world: World) -> None:
    """Otherwise no step could take longer than a lease."""
    ledger, run = await _claimed(world)
    await _at(world, 0.5)

    async with ledger.step(run):
        await goes_on(world.pool, ledger.heartbeat(run))

    assert (await _row(world))["lease_until"] == START + timedelta(minutes=1.5)


async def test_nobody_buries_a_run_in_the_middle_of_a_step(world: World) -> None:
    ledger, run = await _claimed(world)
    await world.pool.execute("UPDATE service.job_run SET attempt = 100")
    await _at(world, 2)

    async with ledger.step(run):
        assert await goes_on(world.pool, _claim(world, "other")) is None

    assert (await _row(world))["state"] == "running"


@pytest.mark.parametrize("change", ["epoch = epoch + 1", "state = 'dead'"])
async def test_a_step_is_undone_where_the_run_was_lost_meanwhile(world: World, change: str) -> None:
    ledger, run = await _claimed(world)

    with pytest.raises(LeaseLost):
        await _step(ledger, run, lambda: world.pool.execute(f"UPDATE service.job_run SET {change}"))

    assert (await ledger.definitions())[0]["cron"] != "changed"


async def test_nothing_comes_between_the_last_look_and_the_commit(world: World) -> None:
    ledger, run = await _claimed(world)

    async with world.pool.acquire() as connection, connection.transaction():
        await connection.fetchrow(SQL["fence_again"], run.id, run.epoch)
        asked = await waits(world.pool, ledger.cancel(run.id))

    assert await asked


# ── A claim whose answer was lost ───────────────────────────────────────────────────────────────────────────


async def test_a_run_that_a_process_claimed_without_hearing_so_is_claimed_again_by_it(world: World) -> None:
    """As where the connection breaks between the commit and its answer. Others wait for its lease."""
    await _claimed(world)  # and nobody works on it
    row = await _row(world)

    await _at(world, 9 / 60)
    too_soon = await _claim(world)  # a manual run may be on its way to whoever carries it out
    await _at(world, 11 / 60)
    others = await _claim(world, "other")
    held = await _claim(world, held=[row["id"]])
    run = await _claim(world)

    assert (too_soon, others, held) == (None, None, None)
    assert run
    assert (run.id, run.epoch) == (row["id"], 2)


# ── One person who cannot be looked at ──────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("where", ["facts", "writing"])
async def test_a_person_who_fails_the_page_is_passed_over(world: World, where: str) -> None:
    """The run is retried in ever shorter pages, and everybody else is decided."""
    people = [f"u{n:02d}" for n in range(40)]
    await world.live(*map(user, people), *(goal(f"g-{id_}", id_, "2026-03-11") for id_ in people))
    if where == "facts":
        await world.pool.execute("""UPDATE service.users SET preferences = '"x"' WHERE id = 'u23'""")
    else:
        await world.pool.execute("ALTER TABLE service.delivery ADD CHECK (user_id <> 'u23')")
    runner = await world.runner()
    run = await (await world.ledger()).request(GOALS, Trigger.ONCE)

    for hour in range(20):
        await _at(world, 61 * hour)
        ended = await runner.run_one()
        if ended and ended.state is RunState.PARTIAL:
            break

    assert ended
    assert (ended.id, ended.state, ended.done) == (run.id, RunState.PARTIAL, 40)
    assert sorted(await world.mails()) == [id_ for id_ in people if id_ != "u23"]
    assert await world.reasons() == {"u23": "user_error"}
