"""What a recipient decides holds from its commit on: no dot is granted by what was read before.

``tests/guards.toml`` lists the conditions of which these tests notice the absence.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from service.messages.outbox import ClaimedDelivery, Outbox
from tests.given import GOALS, Scripted, World, accepted, goal, user
from tests.interleaving import goes_on, waits

OPT_OUT = (
    "INSERT INTO service.preference_override (user_id, kind, channel, enabled, source)"
    " VALUES ('ann', 'deadlines', 'email', false, 'page')"
)
PAUSE = "INSERT INTO service.recipient_setting (user_id, paused_until) VALUES ('ann', '2026-04-01Z')"
COMPLAINT = "INSERT INTO service.suppression (address, reason) VALUES ('ann@example.org', 'complaint')"
CHANGES = {
    "opts out": ("SELECT", OPT_OUT, ("skipped", "pref_category_off")),
    "opts out again": (
        OPT_OUT.replace("false", "true"),
        "UPDATE service.preference_override SET enabled = false",
        ("skipped", "pref_category_off"),
    ),
    "pauses": ("SELECT", PAUSE, ("skipped", "paused_until")),
    "pauses longer": (
        PAUSE.replace("2026-04-01Z", "2026-01-01Z"),
        "UPDATE service.recipient_setting SET paused_until = '2026-04-01Z'",
        ("skipped", "paused_until"),
    ),
    "complains": ("SELECT", COMPLAINT, ("skipped", "suppressed_address")),
}
CHANGED = pytest.mark.parametrize(("before", "change", "end"), CHANGES.values(), ids=list(CHANGES))


@pytest.fixture
async def world(world: World) -> World:
    """Mails to Ann and Bob are due at eight."""
    world.jobs = {GOALS: world.jobs[GOALS]}
    await world.at("2026-03-10T08:00:00Z")
    people = ("ann", "bob")
    await world.live(*map(user, people), *(goal(f"g-{name}", name, "2026-03-11") for name in people))
    await (await world.runner()).run_manual(GOALS)
    await world.pool.execute("UPDATE service.delivery SET address = initcap(address)")
    return world


def _outbox(world: World, connection: Any = None) -> Outbox:
    return Outbox(connection or world.pool, "a", timedelta(seconds=60))


async def _claimed(outbox: Outbox) -> tuple[ClaimedDelivery, ClaimedDelivery]:
    ann, bob = sorted(await outbox.claim(5), key=lambda claimed: claimed.user_id)
    return ann, bob


async def _dots(outbox: Outbox, *claimed: ClaimedDelivery) -> frozenset[int]:
    return await outbox.mark_dots([(one.id, one.claim) for one in claimed])


@asynccontextmanager
async def _under_way(world: World, change: str) -> AsyncIterator[None]:
    """The change is made, and committed at the end."""
    async with world.pool.acquire() as connection, connection.transaction():
        await connection.execute(change)
        yield


async def _row(world: World, name: str) -> tuple[Any, ...]:
    query = (
        "SELECT s.state, s.claim, s.attempt, s.dot_at FROM service.delivery_state AS s"
        " JOIN service.delivery AS d USING (id) WHERE d.user_id = $1"
    )
    return tuple(await world.pool.fetchrow(query, name) or ())


@CHANGED
async def test_no_dot_is_granted_after_the_change(
    world: World, before: str, change: str, end: tuple[str, str]
) -> None:
    await world.pool.execute(before)
    outbox = _outbox(world)
    ann, bob = await _claimed(outbox)

    await world.pool.execute(change)

    assert await _dots(outbox, ann, bob) == {bob.id}
    assert await _row(world, "ann") == ("planned", None, 0, None)
    transport = Scripted(accepted)
    await world.delivery(transport).run_once()
    assert transport.received == []
    assert (await world.mails())["ann"] == end


@CHANGED
async def test_a_dot_waits_for_a_change_that_is_under_way(
    world: World, before: str, change: str, end: tuple[str, str]
) -> None:
    await world.pool.execute(before)
    outbox = _outbox(world)
    ann, _ = await _claimed(outbox)

    async with _under_way(world, change):
        dots = await waits(world.pool, _dots(outbox, ann))

    assert await dots == frozenset()


async def test_a_change_leaves_what_has_its_dot(world: World) -> None:
    ann, _ = await _claimed(_outbox(world))

    async with world.pool.acquire() as connection, connection.transaction():
        assert await _dots(_outbox(world, connection), ann) == {ann.id}
        change = await waits(world.pool, world.pool.execute(OPT_OUT))

    await change
    assert (await _row(world, "ann"))[:3] == ("sending", ann.claim, 1)


async def test_a_change_leaves_what_was_decided(world: World) -> None:
    await world.pool.execute("UPDATE service.delivery_state SET state = 'failed', claim = 0, attempt = 3")

    await world.pool.execute(OPT_OUT)

    assert (await _row(world, "ann"))[:3] == ("failed", 0, 3)


async def test_what_waits_keeps_its_attempts(world: World) -> None:
    await world.pool.execute("UPDATE service.delivery_state SET attempt = 2")

    await world.pool.execute(OPT_OUT)

    assert (await _row(world, "ann"))[:3] == ("planned", None, 2)


@CHANGED
async def test_nothing_is_claimed_for_whom_a_change_is_under_way(
    world: World, before: str, change: str, end: tuple[str, str]
) -> None:
    await world.pool.execute(before)
    async with _under_way(world, change):
        claimed = await goes_on(world.pool, _outbox(world).claim(5))

    assert [one.user_id for one in claimed] == ["bob"]


@CHANGED
async def test_a_claim_that_looked_before_the_change_passes_over_its_mails(
    world: World, before: str, change: str, end: tuple[str, str]
) -> None:
    """It has read what was true before; here it stands still where the schema's range is looked up."""
    await world.pool.execute(before)
    await _stop_claims(world.pool)
    async with world.pool.acquire() as connection:
        await connection.fetchval("SELECT set_config('tests.stop', 'here', false)")
        async with world.pool.acquire() as gate, gate.transaction():
            await gate.execute("SELECT pg_advisory_xact_lock(1)")
            claim = await waits(world.pool, _outbox(world, connection).claim(5))
            await world.pool.execute(change)
        assert [one.user_id for one in await claim] == ["bob"]


async def _stop_claims(pool: asyncpg.Pool) -> None:
    await pool.execute(
        "CREATE OR REPLACE FUNCTION service.fits(known int) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN"
        " IF current_setting('tests.stop', true) = 'here' THEN PERFORM pg_advisory_xact_lock(1); END IF;"
        " RETURN true; END $$"
    )
