"""What a gate covers waits while it is shut."""

from datetime import timedelta

import asyncpg
import pytest

from service.engine import gates
from service.engine.gates import Cause, Scope
from service.engine.run import Trigger
from service.errors import AlreadyRunning
from service.messages.outbox import Outbox
from tests.given import GOALS, World, goal, user

OTHER = "reminder.dailyCheck"
NINE = "2026-03-10T09:00:00Z"
OF_A_RUN = [(Scope.ALL, ""), (Scope.JOB, GOALS)]
OF_A_MESSAGE = [*OF_A_RUN, (Scope.KIND, "deadlines"), (Scope.DOMAIN, "example.org")]
OTHERS = [
    (Scope.JOB, OTHER),
    (Scope.KIND, "weekly"),
    (Scope.DOMAIN, "example.com"),
    (Scope.TABLE, "users"),
]


@pytest.fixture
async def world(world: World) -> World:
    world.jobs = {id_: world.jobs[id_] for id_ in (GOALS, OTHER)}
    await world.at(NINE)
    await world.live(user("ann"), goal("g", "ann", "2026-03-11"))
    return world


async def _shut(world: World, scope: Scope, name: str) -> int:
    return (await gates.shut(world.pool, scope, Cause.OPERATOR, name, by="ann"))[0]


async def _open(world: World, id_: int) -> None:
    assert await gates.open_gate(world.pool, id_, "ann")


def _outbox(world: World) -> Outbox:
    return Outbox(world.pool, "a", timedelta(seconds=60))


@pytest.mark.parametrize(("scope", "name"), OF_A_RUN)
async def test_a_run_is_claimed_when_its_gate_is_open(world: World, scope: Scope, name: str) -> None:
    ledger = await world.ledger()
    await ledger.request(GOALS, Trigger.ONCE)
    gate = await _shut(world, scope, name)
    assert await ledger.claim() is None
    await _open(world, gate)
    assert await ledger.claim() is not None


@pytest.mark.parametrize(("scope", "name"), OF_A_RUN)
async def test_a_run_that_somebody_asks_for_waits_too(world: World, scope: Scope, name: str) -> None:
    gate = await _shut(world, scope, name)
    ledger = await world.ledger()
    run = await ledger.request(GOALS, Trigger.MANUAL)
    with pytest.raises(AlreadyRunning, match=f"gates open {gate}"):
        await ledger.claim_requested(run)
    await _open(world, gate)
    assert await ledger.claim_requested(run) is not None


@pytest.mark.parametrize(("scope", "name"), OF_A_RUN)
async def test_nobody_takes_over_a_run_whose_gate_is_shut(world: World, scope: Scope, name: str) -> None:
    ledger = await world.ledger()
    await ledger.request(GOALS, Trigger.ONCE)
    assert await ledger.claim()
    gate = await _shut(world, scope, name)
    await world.at("2026-03-10T09:02:00Z")
    assert await ledger.claim() is None
    await _open(world, gate)
    assert await ledger.claim() is not None


@pytest.mark.parametrize(("scope", "name"), OF_A_MESSAGE)
async def test_a_message_is_claimed_when_its_gate_is_open(world: World, scope: Scope, name: str) -> None:
    await (await world.runner()).run_manual(GOALS)
    gate = await _shut(world, scope, name)
    assert await _outbox(world).claim(5) == []
    await _open(world, gate)
    assert len(await _outbox(world).claim(5)) == 1


@pytest.mark.parametrize(("scope", "name"), OF_A_MESSAGE)
async def test_no_dot_is_granted_once_a_gate_is_shut(world: World, scope: Scope, name: str) -> None:
    await (await world.runner()).run_manual(GOALS)
    (claimed,) = await _outbox(world).claim(5)
    gate = await _shut(world, scope, name)
    assert await _outbox(world).mark_dots([(claimed.id, claimed.claim)]) == frozenset()
    await _open(world, gate)
    assert await _outbox(world).mark_dots([(claimed.id, claimed.claim)]) == {claimed.id}


async def test_messages_behind_many_that_wait_are_found(world: World) -> None:
    """The front of the queue waits: the oldest of each domain are looked up."""
    people = [f"u{n:03d}" for n in range(120)]
    await world.live(*map(user, people), *(goal(f"g-{name}", name, "2026-03-11") for name in people))
    await (await world.runner()).run_manual(GOALS)
    last = (
        "UPDATE service.delivery_state SET domain = 'example.com'"
        " WHERE id = (SELECT id FROM service.delivery WHERE user_id = 'u119' AND channel = 'email')"
    )
    await world.pool.execute(last)
    await _shut(world, Scope.DOMAIN, "example.org")
    assert [claimed.user_id for claimed in await _outbox(world).claim(5)] == ["u119"]


@pytest.mark.parametrize(("scope", "name"), OTHERS)
async def test_other_gates_stop_nothing(world: World, scope: Scope, name: str) -> None:
    await _shut(world, scope, name)
    await (await world.ledger()).request(GOALS, Trigger.ONCE)
    assert await (await world.runner()).run_one()
    (claimed,) = await _outbox(world).claim(5)
    assert await _outbox(world).mark_dots([(claimed.id, claimed.claim)])


async def test_a_gate_opens_at_its_end(world: World) -> None:
    ledger = await world.ledger()
    await ledger.request(GOALS, Trigger.ONCE)
    until = await world.pool.fetchval("SELECT service.now() + interval '1 hour'")
    await gates.shut(world.pool, Scope.ALL, Cause.OPERATOR, by="ann", until=until)
    assert await ledger.claim() is None
    await world.at("2026-03-10T10:00:00Z")
    assert await gates.current(world.pool) == []
    assert await ledger.claim() is not None


async def test_one_gate_for_each_scope_and_cause(world: World) -> None:
    first = await gates.shut(world.pool, Scope.JOB, Cause.OPERATOR, GOALS, by="ann", details={"reason": "a"})
    again = await gates.shut(world.pool, Scope.JOB, Cause.OPERATOR, GOALS, by="bob", details={"reason": "b"})
    other = await gates.shut(world.pool, Scope.JOB, Cause.BREAKER, GOALS, by="bob")
    assert (first, again) == ((first[0], True), (first[0], False))
    assert [(g.id, g.by, g.details) for g in await gates.current(world.pool)] == [
        (first[0], "ann", {"reason": "b"}),
        (other[0], "bob", {}),
    ]
    await _open(world, first[0])
    assert not await gates.open_gate(world.pool, first[0], "bob")
    assert (await gates.shut(world.pool, Scope.JOB, Cause.OPERATOR, GOALS, by="bob"))[0] != first[0]


async def test_what_operators_do_is_written_down(world: World, pool: asyncpg.Pool) -> None:
    async with pool.acquire() as connection, connection.transaction():
        gate = await gates.shut_by_hand(connection, Scope.KIND, "daily", "ann", "wrong words")
        assert await gates.open_by_hand(connection, gate, "bob", "mended")
        assert not await gates.open_by_hand(connection, gate, "bob")
    rows = await pool.fetch("SELECT who, act, what FROM service.audit ORDER BY id")
    what = {"gate": gate, "scope": "kind", "name": "daily"}
    assert [tuple(row) for row in rows] == [
        ("ann", "shut-gate", what | {"reason": "wrong words"}),
        ("bob", "open-gate", what | {"reason": "mended"}),
    ]
