"""PostgreSQL breaks off at any moment of a run: the run is tried again, and everybody is decided once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import asyncpg
import pytest
from structlog.testing import capture_logs

from service.engine import session
from service.engine.ledger import Run
from service.engine.run import RunState, Tick, Trigger
from service.messages import reminder as reminder_module
from service.messages.reminder import FactsPage
from tests.given import GOALS, World, goal, user

PEOPLE, PAGE = 30, 10
FAULTS = {
    "terminated": "PERFORM pg_terminate_backend(pg_backend_pid())",
    "cancelled": "PERFORM pg_cancel_backend(pg_backend_pid()); PERFORM pg_sleep(1)",
    "too slow": "PERFORM pg_sleep(60)",
    "read only": "RAISE 'cannot execute UPDATE in a read-only transaction' USING ERRCODE = '25006'",
    "serialization": "RAISE 'could not serialize access' USING ERRCODE = '40001'",
    "disk full": "RAISE 'could not extend file' USING ERRCODE = '53100'",
    "lock timeout": "RAISE 'canceling statement due to lock timeout' USING ERRCODE = '55P03'",
}
_LONG = pytest.mark.long(only=True)
MOMENTS = {
    "planning": "AFTER INSERT ON service.delivery FOR EACH STATEMENT",
    "refusing": "AFTER INSERT ON service.refusal FOR EACH STATEMENT",
    "advancing": "BEFORE UPDATE ON service.job_run FOR EACH ROW WHEN (OLD.done < NEW.done)",
}
_ENDING = "BEFORE UPDATE ON service.job_run FOR EACH ROW WHEN (NEW.state = 'succeeded')"
_PUTTING_BACK = (
    "BEFORE UPDATE ON service.job_run FOR EACH ROW WHEN (OLD.state = 'running' AND NEW.state = 'pending')"
)
_HEARTBEAT = (
    "BEFORE UPDATE ON service.job_run FOR EACH ROW"
    " WHEN (OLD.lease_until = 'infinity' AND NEW.lease_until < 'infinity')"
)


@pytest.fixture
async def world(dsn: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    """Everybody has a goal that is due tomorrow, half of them no address; the clock stands at nine in Berlin.

    Statements that take a second end, as where the operator has set a time limit.
    """
    monkeypatch.setattr(reminder_module, "_PAGE", PAGE)
    async with asyncpg.create_pool(
        dsn, min_size=1, max_size=6, init=session.prepare, server_settings={"statement_timeout": "1000"}
    ) as limited:
        world = World(limited)
        world.jobs = {GOALS: world.jobs[GOALS]}
        await world.at("2026-03-10T08:00:00Z")
        names = [f"u{n:02d}" for n in range(PEOPLE)]
        emails = [f"{name}@example.org" if n % 2 else None for n, name in enumerate(names)]
        people = [user(name, email=email) for name, email in zip(names, emails, strict=True)]
        await world.live(*people, *(goal(f"g-{name}", name, "2026-03-11") for name in names))
        yield world


async def breaks(pool: asyncpg.Pool, moment: str, fault: str, hit: int = 1) -> None:
    """Let PostgreSQL break off at the ``hit``-th time that it comes to a moment, and only then."""
    await pool.execute("CREATE SEQUENCE hits")  # what a sequence gave is not rolled back
    await pool.execute(
        "CREATE FUNCTION break_off() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        f" IF nextval('hits') = {hit} THEN {fault}; END IF; RETURN NEW; END $$"
    )
    await pool.execute(f"CREATE TRIGGER break_off {moment} EXECUTE FUNCTION break_off()")


async def hits(pool: asyncpg.Pool) -> int:
    row = await pool.fetchrow("SELECT last_value, is_called FROM hits")
    return int(row["last_value"]) if row and row["is_called"] else 0


async def slot(world: World) -> Run:
    """The run of a slot, at its moment."""
    return await (await world.ledger()).request(GOALS, Trigger.ONCE)


async def runs(world: World, lease: float = 60.0) -> list[Run]:
    """Each attempt's end, until nothing is due any more within ten minutes."""
    runner, ends = await world.runner(lease=lease), []
    for minute in range(10):
        await world.at(f"2026-03-10T08:{minute:02d}:00Z")
        if ended := await runner.run_one():
            ends.append(ended)
    return ends


async def decided(pool: asyncpg.Pool) -> tuple[int, int]:
    """How many got a mail, and how many a reason; nobody both, nobody twice (these are keys)."""
    mails = await pool.fetchval(
        "SELECT count(DISTINCT user_id) FROM service.delivery_with_state WHERE channel = 'email'"
    )
    assert mails == await pool.fetchval(
        "SELECT count(*) FROM service.delivery_with_state WHERE channel = 'email'"
    )
    return mails, await pool.fetchval("SELECT count(*) FROM service.refusal")


@pytest.mark.parametrize("hit", [1, 3])
@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("fault", FAULTS)
async def test_a_run_that_postgresql_breaks_off_is_tried_again(
    world: World, pool: asyncpg.Pool, fault: str, moment: str, hit: int
) -> None:
    await slot(world)
    await breaks(pool, MOMENTS[moment], FAULTS[fault], hit)

    ends = await runs(world)

    assert [(end.state, end.reason) for end in ends] == [("pending", "waiting to retry"), ("succeeded", None)]
    assert (ends[0].done, ends[1].done) == (PAGE * (hit - 1), PEOPLE)
    assert await decided(pool) == (PEOPLE // 2, PEOPLE // 2)
    assert ends[0].error is not None
    # What a broken connection says afterwards does not stand in the place of what broke it.
    assert not ends[0].error.strip().splitlines()[-1].startswith("asyncpg.exceptions._base.InterfaceError")


async def _asleep(pool: asyncpg.Pool, pid: int) -> None:
    busy = "SELECT FROM pg_stat_activity WHERE pid = $1 AND state = 'active' AND query LIKE '%pg_sleep%'"
    async with asyncio.timeout(30):
        while await pool.fetchrow(busy, pid) is None:
            await asyncio.sleep(0.01)


@asynccontextmanager
async def _reading(world: World, pool: asyncpg.Pool, how: str) -> AsyncIterator[None]:
    """After its first page whoever reads is broken off, once."""
    job, left = world.reminder(), [how]

    async def read(connection: asyncpg.Connection, tick: Tick, after: str) -> AsyncIterator[FactsPage]:
        async for page in job.read(connection, tick, after):
            yield page
            if left:
                left.pop()
                pid = connection.get_server_pid()
                if how == "idle":  # the driver hears of it only when it is used again
                    await pool.execute("SELECT pg_terminate_backend($1)", pid)
                asleep = asyncio.ensure_future(connection.execute("SELECT pg_sleep(60)"))
                if how != "idle":
                    await _asleep(pool, pid)
                    await pool.execute(f"SELECT {how}($1)", pid)
                await asleep

    world.jobs = {GOALS: replace(job, read=read)}
    yield
    assert not left


@pytest.mark.parametrize("how", ["pg_terminate_backend", "pg_cancel_backend", "idle"])
async def test_a_run_whose_reading_is_broken_off_goes_on_at_its_cursor(
    world: World, pool: asyncpg.Pool, how: str
) -> None:
    async with _reading(world, pool, how):
        await slot(world)
        ends = await runs(world)

    assert [(end.state, end.done) for end in ends] == [("pending", PAGE), ("succeeded", PEOPLE)]
    assert await decided(pool) == (PEOPLE // 2, PEOPLE // 2)


@pytest.mark.parametrize("fault", FAULTS)
async def test_the_end_of_a_run_is_written_again_where_writing_it_breaks_off(
    world: World, pool: asyncpg.Pool, fault: str
) -> None:
    """Otherwise the run would stay as running until its lease is over."""
    await slot(world)
    await breaks(pool, _ENDING, FAULTS[fault])

    [end] = await runs(world, lease=6)

    assert (end.state, end.attempt, end.done) == (RunState.SUCCEEDED, 1, PEOPLE)
    assert await decided(pool) == (PEOPLE // 2, PEOPLE // 2)


@pytest.mark.parametrize(
    "fault",
    [one if one in {"terminated", "too slow"} else pytest.param(one, marks=_LONG) for one in FAULTS],
)
async def test_a_heartbeat_that_breaks_off_is_not_the_end_of_the_run(
    world: World, pool: asyncpg.Pool, fault: str
) -> None:
    job = world.reminder()

    async def read(connection: asyncpg.Connection, tick: Tick, after: str) -> AsyncIterator[FactsPage]:
        async for page in job.read(connection, tick, after):
            yield page
            async with asyncio.timeout(60):
                while await hits(pool) < 2:
                    await world.pool.execute("UPDATE service.job_run SET lease_until = 'infinity'")
                    await asyncio.sleep(0.05)

    world.jobs = {GOALS: replace(job, read=read)}
    await slot(world)
    await breaks(pool, _HEARTBEAT, FAULTS[fault])

    [end] = await runs(world, lease=9)

    assert (end.state, end.attempt, end.done) == (RunState.SUCCEEDED, 1, PEOPLE)


async def test_what_ended_a_run_is_logged_where_it_cannot_be_written(
    world: World, pool: asyncpg.Pool
) -> None:
    """A peer takes the run over when its lease is over."""

    async def read(_connection: asyncpg.Connection, _tick: Tick, _after: str) -> AsyncIterator[FactsPage]:
        raise TypeError("the first error")
        yield FactsPage([], "", 0)

    job = world.reminder()
    world.jobs = {GOALS: replace(job, read=read)}
    run = await slot(world)
    await pool.execute("CREATE SEQUENCE hits")
    await pool.execute(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN PERFORM nextval('hits'); RAISE 'read only' USING ERRCODE = '25006'; END $$"
    )
    await pool.execute(
        "CREATE TRIGGER refuse BEFORE UPDATE ON service.job_run FOR EACH ROW"
        " WHEN (OLD.state = 'running') EXECUTE FUNCTION refuse()"
    )

    with capture_logs() as logs:
        async with asyncio.timeout(30):
            await (await world.runner(lease=1.5)).run_one()

    given_up = [one for one in logs if one["event"] == "the end of a run cannot be written"]
    assert [(one["run"], one["ended_by"]) for one in given_up] == [(run.id, "TypeError: the first error")]
    assert await hits(pool) > 2
    await pool.execute("DROP TRIGGER refuse ON service.job_run")
    world.jobs = {GOALS: job}
    assert [(end.id, end.state, end.epoch) for end in await runs(world)] == [(run.id, "succeeded", 2)]


async def test_a_process_that_stops_while_the_database_is_away_stops(
    world: World, pool: asyncpg.Pool
) -> None:
    reading = asyncio.Event()

    async def read(_connection: asyncpg.Connection, _tick: Tick, _after: str) -> AsyncIterator[FactsPage]:
        reading.set()
        await asyncio.Event().wait()
        yield FactsPage([], "", 0)

    world.jobs = {GOALS: replace(world.reminder(), read=read)}
    await slot(world)
    await breaks(pool, _PUTTING_BACK, FAULTS["disk full"])
    turn = asyncio.create_task((await world.runner()).run_one())
    async with asyncio.timeout(30):
        await reading.wait()
        turn.cancel()
        with pytest.raises(asyncio.CancelledError):
            await turn

    assert await hits(pool) == 1


async def test_a_run_that_is_asked_to_stop_is_cancelled_however_quickly_its_work_ends(world: World) -> None:
    """The stop and the end of the work may come in the same moment."""

    async def read(_connection: asyncpg.Connection, _tick: Tick, _after: str) -> AsyncIterator[FactsPage]:
        await (await world.ledger()).cancel(run.id)
        await asyncio.Event().wait()
        yield FactsPage([], "", 0)

    world.jobs = {GOALS: replace(world.reminder(), read=read)}
    run = await slot(world)

    async with asyncio.timeout(30):
        ended = await (await world.runner(lease=0.6)).run_one()

    assert ended
    assert (ended.state, ended.reason) == (RunState.CANCELLED, "cancelled on request")
