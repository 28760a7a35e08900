"""Two processes at one outbox, one statement at a time: neither sends or settles what the other holds.

Each test notices that a condition is taken out; ``tests/guards.toml`` lists them.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from service.engine import batches, queries
from service.messages import outbox as outbox_module
from service.messages.mail.transport import SmtpPhase
from service.messages.outbox import ClaimedDelivery, DeliveryFilter, Outbox, Settlement
from tests.given import GOALS, Scripted, World, goal, refused, user
from tests.interleaving import goes_on, waits

SQL = queries.load(outbox_module.__file__)
_ROW = (
    "SELECT d.*, s.claim, c.owner, c.until FROM service.delivery_with_state AS d"
    " JOIN service.delivery_state AS s USING (id) LEFT JOIN service.delivery_claim AS c ON c.id = s.claim"
    " ORDER BY d.id"
)


@pytest.fixture
async def world(world: World) -> World:
    """Ann's mail is due at eight; a claim lasts a minute."""
    world.jobs = {GOALS: world.jobs[GOALS]}
    await _plan(world, "ann")
    return world


async def _plan(world: World, *names: str) -> None:
    await _at(world, "08:00:00")
    await world.live(*map(user, names), *(goal(f"g-{n}", n, "2026-03-11") for n in names))
    await (await world.runner()).run_manual(GOALS)


async def _at(world: World, time: str) -> None:
    await world.at(f"2026-03-10T{time}Z")


def _outbox(world: World, owner: str, connection: Any = None) -> Outbox:
    return Outbox(connection or world.pool, owner, timedelta(seconds=60))


@asynccontextmanager
async def _open(world: World, owner: str) -> AsyncIterator[Outbox]:
    """A process whose statements are all in one transaction, which is committed at the end."""
    async with world.pool.acquire() as connection, connection.transaction():
        yield _outbox(world, owner, connection)


async def _row(world: World) -> asyncpg.Record:
    row = await world.pool.fetchrow(_ROW)
    assert row
    return row


async def _unconfirmed(world: World) -> None:
    """The answer was lost, and it may be sent once more: a quarter of an hour later, now."""
    await world.pool.execute("UPDATE service.delivery SET unconfirmed_policy = 'resend'")
    await world.delivery(_lost()).run_once()
    await _at(world, "08:20:00")


async def _planned_again(world: World) -> None:
    """The same, and it waits for being sent once more."""
    await _unconfirmed(world)
    assert await _outbox(world, "any").recover() == 1


def _lost() -> Scripted:
    return Scripted(lambda envelope: refused(envelope, SmtpPhase.DOT, None, "lost"))


async def _claimed(world: World, owner: str) -> tuple[Outbox, ClaimedDelivery]:
    outbox = _outbox(world, owner)
    (claimed,) = await outbox.claim(5)
    return outbox, claimed


async def _dot(outbox: Outbox, claimed: ClaimedDelivery) -> bool:
    return await outbox.mark_dots([(claimed.id, claimed.claim)]) == {claimed.id}


async def _settle(outbox: Outbox, claimed: ClaimedDelivery, state: str, **values: Any) -> bool:
    return await outbox.settle([Settlement(claimed.id, claimed.claim, state, **values)]) == {claimed.id}


def _changed(claimed: ClaimedDelivery) -> list[dict[str, Any]]:
    return [{"id": claimed.id, "claim": claimed.claim, "facts": {}, "address": "x@example.org", "name": "X"}]


WRITES: dict[str, Callable[[Outbox, ClaimedDelivery], Awaitable[Any]]] = {
    "mark_dots": _dot,
    "settle": lambda outbox, claimed: _settle(outbox, claimed, "sent"),
    "release": lambda outbox, claimed: outbox.release([claimed]),
    "update_changed": lambda outbox, claimed: outbox.update_changed(_changed(claimed)),
}
"""What the owner of a message writes."""


# ── A process that comes back ───────────────────────────────────────────────────────────────────────────────


async def test_whose_message_was_taken_over_changes_nothing(world: World) -> None:
    zombie, old = await _claimed(world, "zombie")
    await _at(world, "08:02:00")
    await _outbox(world, "heir").recover()
    heir, new = await _claimed(world, "heir")
    stored = await _row(world)

    for write in WRITES.values():
        assert not await write(zombie, old)
        assert await _row(world) == stored
    assert await _dot(heir, new)
    sending = await _row(world)
    assert not await _settle(zombie, old, "sent")
    await zombie.release([old])
    assert await _row(world) == sending


async def test_a_claim_that_is_over_gets_no_dot(world: World) -> None:
    slow, claimed = await _claimed(world, "slow")
    await _at(world, "08:01:01")

    assert not await _dot(slow, claimed)


async def test_a_dot_is_granted_once(world: World) -> None:
    outbox, claimed = await _claimed(world, "a")

    assert await _dot(outbox, claimed)
    assert not await _dot(outbox, claimed)


async def test_what_is_settled_stays_as_it_is(world: World) -> None:
    outbox, claimed = await _claimed(world, "a")
    assert await _settle(outbox, claimed, "failed")
    stored = await _row(world)

    for write in WRITES.values():
        assert not await write(outbox, claimed)
        assert await _row(world) == stored


async def test_what_may_have_been_sent_keeps_its_bytes(world: World) -> None:
    await _planned_again(world)
    outbox, claimed = await _claimed(world, "a")
    stored = await _row(world)

    await outbox.update_changed(_changed(claimed))

    assert await _row(world) == stored


@pytest.mark.parametrize("state", ["failed", "planned", "sent"])
async def test_a_late_answer_says_what_an_unconfirmed_mail_was(world: World, state: str) -> None:
    outbox, claimed = await _claimed(world, "slow")
    assert await _dot(outbox, claimed)
    await _at(world, "08:02:00")
    await _outbox(world, "heir").recover()

    assert not await _settle(outbox, claimed, "unconfirmed")
    assert await _settle(outbox, claimed, state)


async def test_a_late_answer_settles_what_was_taken_for_unconfirmed(world: World) -> None:
    """The claim is over and forgotten: no more dots, but it is known now what became of the first."""
    await _plan(world, "bob", "cat")
    outbox = _outbox(world, "slow")
    sent, unsent, undotted = await outbox.claim(5)
    assert await _dot(outbox, sent)
    assert await _dot(outbox, unsent)
    await _at(world, "08:02:00")
    assert await _outbox(world, "heir").recover() == 3
    assert await world.pool.fetchval("SELECT count(*) FROM service.delivery_claim") == 0

    assert not await _dot(outbox, undotted)
    assert await _settle(outbox, sent, "sent")
    assert await _settle(outbox, unsent, "planned", refund=True, unwritten=True)

    rows = await world.pool.fetch(_ROW)
    assert [(row["state"], row["attempt"], row["dot_at"] is None) for row in rows] == [
        ("sent", 1, False),
        ("planned", 0, True),
        ("planned", 1, True),
    ]


# ── Leases ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("dot", [False, True])
async def test_a_message_is_its_owners_for_a_minute(world: World, dot: bool) -> None:
    outbox, claimed = await _claimed(world, "owner")
    assert not dot or await _dot(outbox, claimed)
    stored = await _row(world)

    await _at(world, "08:00:59")
    assert await _outbox(world, "peer").recover() == 0
    assert await _row(world) == stored
    await _at(world, "08:01:01")
    assert await _outbox(world, "peer").recover() == 1
    row = await _row(world)
    assert (row["state"], row["claim"]) == (("unconfirmed", claimed.claim) if dot else ("planned", None))
    assert await world.pool.fetchval("SELECT count(*) FROM service.delivery_claim") == 0


async def test_a_claim_is_renewed_until_it_is_over(world: World) -> None:
    outbox, claimed = await _claimed(world, "owner")

    await _at(world, "08:00:59")
    assert await outbox.renew([claimed.claim]) == {claimed.claim}
    await _at(world, "08:01:58")
    assert await _outbox(world, "peer").recover() == 0
    assert await _dot(outbox, claimed)
    await _at(world, "08:02:00")
    assert await outbox.renew([claimed.claim]) == frozenset()
    assert await _outbox(world, "peer").recover() == 1


async def test_a_claim_that_is_renewed_meanwhile_is_not_over(world: World) -> None:
    _, claimed = await _claimed(world, "owner")
    await _at(world, "08:00:59")

    async with _open(world, "owner") as owner:
        assert await owner.renew([claimed.claim])
        await _at(world, "08:01:01")
        assert await goes_on(world.pool, _outbox(world, "peer").recover()) == 0

    assert (await _row(world))["owner"] == "owner"


async def test_of_a_claim_that_is_over_only_what_is_still_its_own_is_released(world: World) -> None:
    """The mail was put back, and is another's now."""
    outbox, claimed = await _claimed(world, "slow")
    await outbox.release([claimed])
    await _at(world, "08:00:30")
    await _claimed(world, "heir")
    stored = await _row(world)

    await _at(world, "08:01:01")

    assert await outbox.recover() == 0
    assert await _row(world) == stored


async def test_what_was_put_back_and_is_anothers_gets_no_dot_of_the_first(world: World) -> None:
    """Whose claim is not over yet."""
    outbox, claimed = await _claimed(world, "slow")
    await outbox.release([claimed])
    heir, again = await _claimed(world, "heir")

    assert not await _dot(outbox, claimed)
    assert await _dot(heir, again)


async def test_a_claim_that_is_over_leaves_what_is_settled(world: World) -> None:
    outbox, claimed = await _claimed(world, "a")
    assert await _settle(outbox, claimed, "sent")

    await _at(world, "08:01:01")

    assert await outbox.recover() == 0
    row = await _row(world)
    assert (row["state"], row["until"]) == ("sent", None)


async def test_claims_of_which_nothing_is_left_are_forgotten_and_no_others(world: World) -> None:
    await _plan(world, "bob")
    outbox = _outbox(world, "a")
    (one,), (two,) = await outbox.claim(1), await outbox.claim(1)
    assert await _settle(outbox, one, "sent")

    outbox.done(one.claim)
    await outbox.claim(1)

    rows = await world.pool.fetch("SELECT id FROM service.delivery_claim")
    assert [row["id"] for row in rows] == [two.claim]


async def test_a_message_that_is_claimed_as_it_expires_is_sent(world: World) -> None:
    peer = _outbox(world, "peer")

    await world.pool.execute(
        "UPDATE service.delivery_state SET expires_at = service.now() + interval '1 second'"
    )

    async with _open(world, "owner") as owner:
        assert await owner.claim(5)
        await _at(world, "08:00:01")
        await goes_on(world.pool, peer.recover())

    await peer.recover()
    assert (await _row(world))["state"] == "claimed"


async def test_all_that_is_of_no_use_any_more_expires_at_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many: each statement ends a few."""
    monkeypatch.setattr(batches, "_AT_A_TIME", 2)
    await _plan(world, "bob", "cat", "dan", "eve")
    await world.at("2026-03-12T08:00:00Z")

    await _outbox(world, "a").recover()

    states = await world.pool.fetch("SELECT state, count(*) FROM service.delivery_state GROUP BY state")
    assert [tuple(row) for row in states] == [("expired", 5)]


# ── Two that claim ──────────────────────────────────────────────────────────────────────────────────────────


async def test_a_claim_that_is_under_way_is_passed_over(world: World) -> None:
    other = _outbox(world, "other")

    async with _open(world, "slow") as slow:
        assert len(await slow.claim(5)) == 1
        assert await goes_on(world.pool, other.claim(5)) == []

    assert await other.claim(5) == []
    row = await _row(world)
    assert (row["owner"], row["attempt"]) == ("slow", 1)


async def test_a_message_that_another_claims_meanwhile_is_not_claimed_again(world: World) -> None:
    """Between looking for messages and locking them: here where the schema's range is looked up."""
    await world.pool.execute(
        "CREATE OR REPLACE FUNCTION service.fits(known int) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN"
        " IF current_setting('tests.stop', true) = 'here' THEN PERFORM pg_advisory_xact_lock(1); END IF;"
        " RETURN true; END $$"
    )
    async with world.pool.acquire() as connection:
        await connection.fetchval("SELECT set_config('tests.stop', 'here', false)")
        slow = _outbox(world, "slow", connection)
        async with world.pool.acquire() as gate, gate.transaction():
            await gate.execute("SELECT pg_advisory_xact_lock(1)")
            claim = await waits(world.pool, slow.claim(5))
            assert len(await _outbox(world, "fast").claim(5)) == 1
        assert await claim == []

    assert (await _row(world))["owner"] == "fast"


async def test_a_message_is_sent_again_once(world: World) -> None:
    await world.pool.execute("UPDATE service.delivery SET unconfirmed_policy = 'resend'")

    sent = []
    for minute in (0, 14, 20, 40, 59):
        await _at(world, f"08:{minute:02d}:00")
        sent.append(await world.delivery(_lost()).run_once())
        assert (await _row(world))["state"] == "unconfirmed"

    assert sent == [1, 0, 1, 0, 0]


async def test_only_what_is_unconfirmed_is_sent_again_by_itself(world: World) -> None:
    await _unconfirmed(world)
    await world.pool.execute("UPDATE service.delivery_state SET state = 'cancelled', resends = 0")

    assert await _outbox(world, "a").recover() == 0
    assert (await _row(world))["state"] == "cancelled"


async def test_what_is_of_no_use_any_more_is_not_sent_again(world: World) -> None:
    """It stays unconfirmed: it may have arrived."""
    await _unconfirmed(world)
    await world.pool.execute("UPDATE service.delivery_state SET expires_at = service.now()")

    assert await _outbox(world, "a").recover() == 0
    assert (await _row(world))["state"] == "unconfirmed"


async def test_two_who_plan_an_unconfirmed_message_again_have_one_effect(world: World) -> None:
    await _unconfirmed(world)

    async with _open(world, "one") as one:
        assert await one.recover() == 1
        second = await waits(world.pool, _outbox(world, "two").recover())

    assert await second == 0
    row = await _row(world)
    assert (row["state"], row["resends"]) == ("planned", 1)


async def test_what_is_put_off_is_not_claimed(world: World) -> None:
    outbox, claimed = await _claimed(world, "a")
    await outbox.release([claimed], timedelta(seconds=30))

    await _at(world, "08:00:29")
    assert await outbox.claim(5) == []
    await _at(world, "08:00:30")
    [again] = await outbox.claim(5)
    assert again.attempt == 1
    assert again.claim > claimed.claim


async def test_what_is_of_no_use_any_more_is_not_claimed(world: World) -> None:
    await world.pool.execute("UPDATE service.delivery_state SET expires_at = service.now()")

    assert await _outbox(world, "a").claim(5) == []


async def test_a_process_that_does_not_know_the_job_leaves_its_messages_alone(world: World) -> None:
    another = Outbox(world.pool, "another", timedelta(seconds=60), jobs=["acme.other"])

    assert await another.claim(5) == []
    assert len(await _outbox(world, "a").claim(5)) == 1


async def test_a_claim_tells_whose_address_is_suppressed(world: World) -> None:
    """In whichever case it is written; of somebody who was erased only a key is left."""
    await _plan(world, "bob", "cat")
    await world.pool.execute(
        "INSERT INTO service.suppression (address, reason) VALUES ('bob@example.org', 'complaint');"
        " INSERT INTO service.suppressed_key (address_key, reason, created_at)"
        " VALUES (service.keyed_hash('cat@example.org'), 'complaint', service.now());"
        " UPDATE service.delivery SET address = initcap(address)"
    )

    claimed = await _outbox(world, "a").claim(5)

    suppressed = {delivery.user_id: delivery.history.suppressed for delivery in claimed}
    assert suppressed == {"ann": False, "bob": True, "cat": True}


# ── An operator and a process ───────────────────────────────────────────────────────────────────────────────


async def test_a_message_that_is_claimed_while_it_is_cancelled_is_sent(world: World) -> None:
    id_ = (await _row(world))["id"]

    async with _open(world, "owner") as owner:
        assert await owner.claim(5)
        cancel = await waits(world.pool, _outbox(world, "operator").cancel(id_))

    assert not await cancel
    assert (await _row(world))["state"] == "claimed"


@pytest.mark.parametrize("act", [Outbox.retry, Outbox.resend])
async def test_two_who_plan_a_failed_message_again_have_one_effect(
    world: World, act: Callable[..., Coroutine[Any, Any, bool]]
) -> None:
    outbox, claimed = await _claimed(world, "a")
    assert await _settle(outbox, claimed, "failed")

    async with _open(world, "one") as one:
        assert await act(one, claimed.id)
        second = await waits(world.pool, act(outbox, claimed.id))

    assert not await second


async def test_two_who_plan_failed_messages_again_have_one_effect(world: World) -> None:
    outbox, claimed = await _claimed(world, "a")
    assert await _settle(outbox, claimed, "failed")

    async with _open(world, "one") as one:
        assert (await one.retry_failed(DeliveryFilter(), 5))["retried"] == 1
        second = await waits(world.pool, outbox.retry_failed(DeliveryFilter(), 5))

    assert (await second)["retried"] == 0


async def test_what_an_operator_sends_again_is_not_sent_a_third_time(world: World) -> None:
    await _unconfirmed(world)
    assert await _outbox(world, "a").resend((await _row(world))["id"])
    assert await world.delivery(_lost()).run_once() == 1

    await _at(world, "08:40:00")

    assert await _outbox(world, "a").recover() == 0
    assert (await _row(world))["state"] == "unconfirmed"


# ── Bounces and pauses ──────────────────────────────────────────────────────────────────────────────────────


async def test_an_address_that_is_refused_again_is_remembered_once(world: World) -> None:
    await world.live(user("eve", email="ann@example.org"), goal("g-eve", "eve", "2026-03-11"))
    await (await world.runner()).run_manual(GOALS)
    ann, eve = [row["id"] for row in await world.pool.fetch(_ROW)]

    for id_ in (ann, eve, ann):
        await _outbox(world, "a").address_failures.note_hard_bounce(id_, no_such_address=True)

    assert await world.pool.fetchval("SELECT count(*) FROM service.suppression") == 1
    assert await world.pool.fetchval("SELECT count(*) FROM service.hard_bounce") == 2


@pytest.mark.parametrize("over", [False, True])
async def test_an_accepted_mail_ends_a_pause_that_is_over(world: World, over: bool) -> None:
    outbox, claimed = await _claimed(world, "a")
    await outbox.pause(claimed.domain, [timedelta(seconds=30)], "421")
    await _at(world, "08:00:30" if over else "08:00:29")

    assert await _settle(outbox, claimed, "sent")

    assert await world.pool.fetchval("SELECT count(*) FROM service.domain_pause") == 1 - over


async def test_a_pause_that_another_writes_keeps_no_answer_waiting(world: World) -> None:
    outbox, claimed = await _claimed(world, "a")
    await outbox.pause(claimed.domain, [timedelta(seconds=30)], "421")
    await _at(world, "08:00:31")

    async with _open(world, "other") as other:
        await other.pause(claimed.domain, [timedelta(seconds=30)], "421")
        assert await goes_on(world.pool, _settle(outbox, claimed, "sent"))


async def test_nothing_is_done_by_a_clock_that_ran_away(world: World) -> None:
    latest = datetime(2026, 3, 10, 8, 3, tzinfo=UTC)
    outbox = Outbox(world.pool, "a", timedelta(seconds=60), latest=lambda: latest)

    async def ran_away() -> None:
        """The clock is a day ahead: all would be due, expired and over."""
        before = tuple(await _row(world))
        await world.at("2026-03-11T08:02:00Z")
        assert await outbox.claim(5) == []
        assert await outbox.recover() == 0
        assert tuple(await _row(world)) == before
        await _at(world, "08:02:00")

    await ran_away()
    await world.pool.execute("UPDATE service.delivery_state SET expires_at = 'infinity'")
    await ran_away()
    (claimed,) = await outbox.claim(5)
    await ran_away()
    await world.pool.execute("UPDATE service.delivery_claim SET until = 'infinity'")
    await world.at("2026-03-11T08:02:00Z")
    assert not await _dot(outbox, claimed)
    await _at(world, "08:02:00")
    assert await _dot(outbox, claimed)
    await world.pool.execute("UPDATE service.delivery_claim SET until = '2026-03-10 08:03Z'")
    await ran_away()
    await world.pool.execute(
        "UPDATE service.delivery_state SET state = 'unconfirmed';"
        " UPDATE service.delivery SET unconfirmed_policy = 'resend'"
    )
    await ran_away()


async def test_while_an_operator_locks_the_deliveries_claims_end_soon_and_take_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox_module, "_CLAIM_TIMEOUT", 0.2)
    outbox = _outbox(world, "a")
    async with world.pool.acquire() as operator, operator.transaction():
        await operator.execute("LOCK TABLE service.delivery, service.delivery_state")
        for claiming in (outbox.claim(5), outbox.recover()):
            with pytest.raises(TimeoutError):
                await claiming
    row = await _row(world)
    assert (row["state"], row["attempt"], row["claim"]) == ("planned", 0, None)
    monkeypatch.undo()
    assert len(await outbox.claim(5)) == 1
