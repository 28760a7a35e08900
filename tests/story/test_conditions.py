"""What is wrong stands in one table as long as it is wrong, and in health, in words."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from service.app import Service, open_service
from service.engine import conditions, gates
from service.engine.conditions import Condition, ConditionSeverity
from service.engine.gates import Cause, Scope
from service.engine.run import Trigger
from service.errors import AlreadyRunning
from service.manager import conditions as judged
from service.manager.conditions import sentence
from service.messages.relay import RelayRefusal
from service.settings import Settings
from tests.given import GOALS, World, goal, user

BROKEN = Condition("broken", "a")
WORRYING = Condition("worrying", severity=ConditionSeverity.WARNING, people=7, details={"n": 1})
NINE = "2026-03-10T09:00:00Z"


async def _keys(pool: asyncpg.Pool) -> list[str]:
    return [f"{c.key} {c.subject}".strip() for c in await conditions.current(pool)]


async def test_a_condition_lasts_as_long_as_somebody_sees_it(world: World) -> None:
    pool = world.pool
    await world.at(NINE)
    await conditions.record(pool, [WORRYING, BROKEN], [("broken", None), ("worrying", None)])
    broken, worrying = await conditions.current(pool)
    assert (broken.key, broken.severity, worrying.people, worrying.details) == (
        "broken",
        ConditionSeverity.PROBLEM,
        7,
        {"n": 1},
    )
    await world.at("2026-03-10T09:00:40Z")
    await conditions.record(pool, [BROKEN], [("broken", None)])
    await world.at("2026-03-10T09:00:46Z")
    assert await _keys(pool) == ["broken a"], "nobody looked for the other one within its time"
    (still,) = await conditions.current(pool)
    assert still.since == broken.since

    await conditions.record(pool, [], [("broken", None)])
    assert await _keys(pool) == []
    await world.at("2026-03-10T09:01:00Z")
    await conditions.record(pool, [BROKEN], [("broken", None)])
    (again,) = await conditions.current(pool)
    assert again.since
    assert broken.since
    assert again.since > broken.since


async def test_a_look_ends_only_what_it_would_have_found(world: World) -> None:
    pool = world.pool
    await conditions.record(pool, [BROKEN, Condition("broken", "b"), Condition("other")], [])
    await conditions.record(pool, [], [("broken", "b")])
    assert await _keys(pool) == ["broken a", "other"]
    await conditions.record(pool, [], [("broken", None)])
    assert await _keys(pool) == ["other"]


# ── The running service ─────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
async def service(tmp_path: Path, databases: tuple[str, str]) -> AsyncIterator[Service]:
    """The whole service without its loops; the clock stands still."""
    ours, theirs = databases
    settings = Settings.load({"DATABASE_URL": ours, "DASHBOARD_URL": theirs, "DATA_DIR": str(tmp_path)})
    async with open_service(settings) as service:
        yield service


@pytest.fixture
async def world(service: Service) -> World:
    world = World(service.pool)
    await world.at(NINE)
    await service.register()
    await world.pool.execute("UPDATE service.job_def SET materialized_through = service.now()")
    await world.live(user("ann"), goal("g", "ann", "2026-03-11"))
    return world


async def _problems(service: Service) -> dict[str, str]:
    """What health says, in words, by key; each is red."""
    health = await service.manager.health_check()
    problems = {c["key"]: c["what"] for c in health["conditions"] if c["severity"] == "problem"}
    assert health["status"] == "unhealthy"
    return problems


async def test_a_run_that_gets_no_further(service: Service, world: World) -> None:
    run = await service.ledger.request(GOALS, Trigger.ONCE)
    claimed = await service.ledger.claim()
    assert claimed
    await world.at("2026-03-10T09:16:00Z")
    await service.pool.execute("UPDATE service.job_run SET lease_until = 'infinity'")
    problems = await _problems(service)
    assert problems["run_without_progress"] == (
        f"run {run.id} of {GOALS} got no further since 2026-03-10T09:00:00Z"
    )
    async with service.ledger.step(claimed) as connection:
        await service.ledger.advance(connection, claimed, "u", 1, {})
    assert "run_without_progress" not in await _problems(service)


async def test_what_nobody_takes_over(service: Service, world: World) -> None:
    await service.ledger.request(GOALS, Trigger.ONCE)
    await service.ledger.claim()
    await world.at("2026-03-10T09:03:00Z")
    problems = await _problems(service)
    assert problems["lease_expired"].startswith("runs whose process is gone since 2026-03-10T09:0")


@pytest.mark.parametrize("excuse", ["gate", "pause"])
async def test_messages_that_wait(service: Service, world: World, excuse: str) -> None:
    await (await world.runner()).run_manual(GOALS)
    await world.at("2026-03-10T09:16:00Z")
    problems = await _problems(service)
    assert problems["messages_waiting"] == (
        "messages that are due have been waiting since 2026-03-10T09:00:00Z"
    )
    (waiting,) = [c for c in await conditions.current(service.pool) if c.key == "messages_waiting"]
    assert waiting.people == 1
    if excuse == "gate":
        await gates.shut(service.pool, Scope.DOMAIN, Cause.OPERATOR, "example.org", by="ann")
    else:
        until = "service.now() + interval '1 hour'"
        await service.pool.execute(
            f"INSERT INTO service.domain_pause (domain, failures, until, reply)"
            f" VALUES ('example.org', 1, {until}, '')"
        )
    assert "messages_waiting" not in await _problems(service)


async def test_a_lock_of_an_operator(
    service: Service, world: World, databases: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judged, "LOCK_LIMIT", judged.LOCK_LIMIT * 0)
    operator = await asyncpg.connect(databases[0], server_settings={"application_name": "psql"})
    transaction = operator.transaction()
    await transaction.start()
    await operator.execute("LOCK TABLE service.delivery_stage")
    blocked = asyncio.ensure_future(service.pool.fetchval("SELECT count(*) FROM service.delivery_stage"))
    waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    async with asyncio.timeout(30):
        while not await operator.fetchval(waits):
            await asyncio.sleep(0.01)
    told = (await _problems(service))["lock_wait"]
    assert told.startswith("a statement waits for a lock in our PostgreSQL, for 0 s; held by process ")
    assert "(psql)" in told
    await transaction.rollback()
    await blocked
    assert "lock_wait" not in await _problems(service)
    await operator.close()


async def test_gates_that_are_shut(service: Service, world: World) -> None:
    async with service.pool.acquire() as connection, connection.transaction():
        gate = await gates.shut_by_hand(connection, Scope.JOB, GOALS, "ann", "wrong words")
    health = await service.manager.health_check()
    (found,) = [c for c in health["conditions"] if c["key"] == "gate_shut"]
    assert (found["severity"], found["what"]) == (
        "warning",
        f"the job {GOALS} is stopped by ann: wrong words; open it: python -m service gates open {gate}",
    )
    clock = {"database": "2026-04-10", "host": "2026-03-10"}
    await gates.shut(service.pool, Scope.CLOCK, Cause.CLOCK, by="a", details=clock)
    assert (await _problems(service))["gate_shut"].startswith(
        "the database's clock ran away: it said 2026-04-10 when this host said 2026-03-10; nothing is decided"
    )


async def test_the_copy_gets_old(service: Service, world: World) -> None:
    await service.sync.run_once()
    await world.at("2026-03-10T09:12:00Z")
    assert (await _problems(service))["copy_stale"].endswith("is not up to date since 2026-03-10T09:00:00Z")
    await service.sync.run_once()
    assert "copy_stale" not in await _problems(service)


async def test_a_loop_that_stands_still(
    service: Service, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = service.supervisor.watched["delivery"]
    watched.state, watched.got_on = "running", service._clock.monotonic() - 301
    told = (await _problems(service))["loop_stalled"]
    assert told.startswith("the loop delivery of ")
    assert told.endswith("stands still for 301 s")


async def test_without_the_database_it_tells_what_it_knows(service: Service, world: World) -> None:
    await gates.shut(service.pool, Scope.CLOCK, Cause.CLOCK, by="a", details={})
    await _problems(service)
    watched = service.supervisor.watched["sync"]
    watched.state, watched.last_error = "restarting", "OSError: gone"
    await service.pool.execute("ALTER TABLE service.condition RENAME TO moved")
    found = {c.key: sentence(c) for c in await service.conditions.report()}
    assert found["loop_restarting"].endswith("is restarted: OSError: gone")
    assert "gate_shut" in found


def test_every_key_has_words() -> None:
    keys = {*judged.OF_JOBS, *judged.OF_PROGRESS, "lock_wait", "copy_stale", "gate_shut", "loop_stalled"}
    assert keys == judged._WORDS.keys()


async def test_a_stopped_job_has_no_other_problem_than_its_gate(service: Service, world: World) -> None:
    await service.ledger.request(GOALS, Trigger.ONCE)
    await world.at("2026-03-10T09:20:00Z")
    await service.pool.execute("UPDATE service.job_def SET materialized_through = service.now()")
    assert "run_waiting" in await _problems(service)
    gate, _ = await gates.shut(service.pool, Scope.JOB, Cause.OPERATOR, GOALS, by="ann")
    keys = {c["key"] for c in (await service.manager.health_check())["conditions"]}
    assert "run_waiting" not in keys
    with pytest.raises(AlreadyRunning, match=f"{GOALS} is stopped by gate {gate} "):
        await service.runner.run_manual(GOALS)


async def test_a_relay_that_refuses_us_leaves_the_process_ready(service: Service, world: World) -> None:
    assert await service.presence.beat()
    service.delivery._relay._state.refusal = RelayRefusal("the mail server refuses us at auth: 535")
    assert (await _problems(service))["mail_refused"] == "the mail server refuses us at auth: 535"
    assert await service._ready() is None
