"""Which addresses are not written to, why, by which reports; and how that is lifted."""

from datetime import date, timedelta
from typing import Any, cast

import asyncpg
import pytest

from service.engine.database import Connection
from service.messages import suppression_list
from service.messages.mail.smtp_reply import About
from service.messages.outbox import Outbox
from service.messages.suppression import Suppressions
from service.messages.suppression_list import LiftRefusal, SuppressionFilter
from tests.given import GOALS, Scripted, World, goal, user


@pytest.fixture
async def world(world: World) -> World:
    world.jobs = {GOALS: world.jobs[GOALS]}
    return world


async def _sent(world: World, day: int = 10) -> int:
    """Ann got a mail on that day; its id."""
    await world.at(f"2026-03-{day}T08:00:00Z")
    await world.live(user("ann", email="Ann@example.org"), goal(f"g-{day}", due=f"2026-03-{day + 1}"))
    await (await world.runner()).run_manual(GOALS)
    await world.delivery(Scripted()).run_once()
    found = await world.pool.fetchval("SELECT max(id) FROM service.delivery WHERE channel = 'email'")
    return cast("int", found)


def _reports(world: World) -> Suppressions:
    return Suppressions(world.pool, Outbox(world.pool, "a", timedelta(seconds=60)))


async def _only(pool: asyncpg.Pool, **which: Any) -> suppression_list.SuppressedAddress:
    (one,) = await _listed(pool, **which)
    return one


async def _listed(pool: asyncpg.Pool, **which: Any) -> list[suppression_list.SuppressedAddress]:
    return await suppression_list.listed(pool, SuppressionFilter(**which), before=None, limit=50)


async def _lift(pool: asyncpg.Pool, id_: int, *, own_request: bool = False) -> LiftRefusal | None:
    async with pool.acquire() as connection, connection.transaction():
        return await suppression_list.lift(
            cast("Connection", connection), id_, "zoe", "asked by phone", own_request=own_request
        )


async def test_what_led_to_it_is_told(world: World) -> None:
    bounced = []
    for day in (10, 12, 14):
        bounced.append(await _sent(world, day))
        await _reports(world).record_failure(
            bounced[-1], "hard: 5.1.1 who?", About.ADDRESS, no_such_address=False
        )

    one = await _only(world.pool)
    reports = await suppression_list.evidence(world.pool, str(one.address))

    assert (one.address, one.reason) == ("ann@example.org", "hard_bounce")
    assert [report.delivery for report in reports] == bounced[::-1]
    assert {(r.state, r.smtp_reply, r.kind, r.user_id, r.counted, r.kept) for r in reports} == {
        ("bounced", "hard: 5.1.1 who?", "deadlines", "ann", True, True)
    }
    assert await suppression_list.accounts(world.pool, "ANN@example.org") == ["ann"]


async def test_a_lifted_address_is_written_to_and_begins_anew(world: World) -> None:
    for day in (10, 12, 14):
        bounced = await _sent(world, day)
        await _reports(world).record_failure(bounced, "no", About.ADDRESS, no_such_address=False)
    one = await _only(world.pool)

    assert await _lift(world.pool, one.id) is None

    assert not await _reports(world).record_failure(bounced, "no", About.ADDRESS, no_such_address=True), (
        "a replay"
    )
    bounced = await _sent(world, 16)
    await _reports(world).record_failure(bounced, "no", About.ADDRESS, no_such_address=False)
    assert await _listed(world.pool) == []
    act = await world.pool.fetchrow("SELECT who, act, what FROM service.audit")
    assert act is not None
    assert (act["who"], act["act"], act["what"]["reason"]) == ("zoe", "lift-suppression", "asked by phone")
    assert (act["what"]["address"], len(act["what"]["bounces"])) == ("ann@example.org", 3)
    assert await _lift(world.pool, one.id) is LiftRefusal.UNKNOWN


async def test_a_complaint_stays_until_the_person_asks(world: World) -> None:
    """Also one that came when the address was suppressed already; and a replay of it changes nothing."""
    mail = await _sent(world)
    await _reports(world).record_failure(mail, "no", About.ADDRESS, no_such_address=True)
    await _reports(world).record_complaint(mail, "abuse")
    one = await _only(world.pool, reason="complaint")

    assert await _lift(world.pool, one.id) is LiftRefusal.COMPLAINT
    assert await _lift(world.pool, one.id, own_request=True) is None

    assert not await _reports(world).record_complaint(mail, "abuse")
    assert await _listed(world.pool) == []


async def test_they_are_found_by_address_reason_and_date(pool: asyncpg.Pool) -> None:
    await pool.execute(
        "INSERT INTO service.suppression (address, reason, created_at) VALUES"
        " ('ann@example.org', 'complaint', '2026-03-10T23:59Z'),"
        " ('anna@example.org', 'hard_bounce', '2026-03-11'),"
        " ('bob@example.org', 'hard_bounce', '2026-03-12')"
    )
    await pool.execute(
        "INSERT INTO service.suppressed_key (address_key, reason, created_at)"
        " VALUES (service.keyed_hash('gone@example.org'), 'complaint', '2026-03-13')"
    )

    async def found(**which: Any) -> list[str | None]:
        return [one.address for one in await _listed(pool, **which)]

    assert await found() == [None, "bob@example.org", "anna@example.org", "ann@example.org"]
    assert await found(address="Ann") == ["anna@example.org", "ann@example.org"]
    assert await found(address="gone@Example.org") == [None], "an erased address is found whole"
    assert await found(address="gone@") == []
    assert await found(reason="complaint") == [None, "ann@example.org"]
    assert await found(since=date(2026, 3, 11), until=date(2026, 3, 12)) == [
        "bob@example.org",
        "anna@example.org",
    ]
    newest = await suppression_list.listed(pool, SuppressionFilter(), before=None, limit=2)
    older = await suppression_list.listed(pool, SuppressionFilter(), before=newest[-1].id, limit=2)
    assert [one.address for one in older] == ["anna@example.org", "ann@example.org"]


async def test_who_was_erased_may_be_written_to_again_where_they_ask(pool: asyncpg.Pool) -> None:
    await pool.execute(
        "INSERT INTO service.suppressed_key (address_key, reason, created_at)"
        " VALUES (service.keyed_hash('gone@example.org'), 'complaint', '2026-03-13')"
    )
    one = await _only(pool, address="gone@example.org")

    assert await _lift(pool, one.id) is LiftRefusal.COMPLAINT
    assert await _lift(pool, one.id, own_request=True) is None
    assert await _listed(pool) == []


async def test_what_a_server_said_of_many_in_the_same_words_is_lifted_at_once(world: World) -> None:
    rows = [
        ("ann", "hard_bounce", "550 blocked"),
        ("bob", "hard_bounce", "550 blocked"),
        ("cas", "complaint", "550 blocked"),
        ("dan", "hard_bounce", "550 5.1.1 gone"),
        ("eve", "hard_bounce", None),
    ]
    for place, (name, reason, words) in enumerate(rows):
        address = f"{name}@example.org"
        await world.pool.execute(
            "INSERT INTO service.suppression (address, reason, fingerprint) VALUES ($1, $2, $3)",
            address,
            reason,
            words,
        )
        await world.pool.execute(
            "INSERT INTO service.hard_bounce VALUES ($1, $2, now(), $3)", address, place, words
        )
    (first,) = await suppression_list.listed(world.pool, SuppressionFilter("ann"), before=None, limit=9)

    async with world.pool.acquire() as connection, connection.transaction():
        await suppression_list.lift(connection, first.id, "zoe", "a list", own_request=False, same_words=True)

    left = await world.pool.fetch("SELECT address FROM service.suppression ORDER BY address")
    assert [row["address"][:3] for row in left] == ["cas", "dan", "eve"]
    counted = await world.pool.fetch("SELECT address FROM service.hard_bounce ORDER BY address")
    assert [row["address"][:3] for row in counted] == ["dan", "eve"]
    act = await world.pool.fetchval("SELECT what FROM service.audit WHERE act = 'lift-suppression'")
    assert (act["lifted"], act["sameWords"], sorted(act["bounces"])) == (2, True, [0, 1, 2])


async def test_with_the_words_the_mails_that_they_let_fail_are_taken_back(world: World) -> None:
    reports = _reports(world)
    reported, refused = await _sent(world, 10), await _sent(world, 11)
    await reports.record_failure(reported, "550 5.1.1 blocked", About.ADDRESS, no_such_address=True)
    await world.pool.execute(
        "UPDATE service.delivery_state SET state = 'failed', reason = 'hard_bounce' WHERE id = $1", refused
    )
    failures = Outbox(world.pool, "a", timedelta(seconds=60)).address_failures
    await failures.note_hard_bounce(refused, "550 5.1.1 blocked", no_such_address=True)
    one = await _only(world.pool)

    async with world.pool.acquire() as connection, connection.transaction():
        await suppression_list.lift(connection, one.id, "zoe", "a list", own_request=False, same_words=True)

    rows = await world.pool.fetch("SELECT state, reason FROM service.delivery_state ORDER BY id")
    assert [tuple(row) for row in rows] == [("bounced", "about_us"), ("planned", "our_fault")]
    assert await world.pool.fetchval("SELECT count(*) FROM service.hard_bounce") == 0


async def test_a_mailbox_that_rests_is_listed_until_then_and_lifted(world: World) -> None:
    for day in (10, 12, 14):
        mail = await _sent(world, day)
        await _reports(world).record_failure(mail, "552 5.2.2 full", About.MAILBOX, no_such_address=False)
    one = await _only(world.pool, reason="mailbox_rest")
    assert one.until
    assert (one.address, (one.until - one.created_at).days) == ("ann@example.org", 7)
    evidence = await suppression_list.evidence(world.pool, "ann@example.org")
    assert len(evidence) == 3
    assert all(seen.counted for seen in evidence)

    assert await _lift(world.pool, one.id) is None

    assert await _listed(world.pool) == []
    assert await _sent(world, 16) > mail
    assert await world.pool.fetchval("SELECT count(*) FROM service.mailbox_bounce") == 0


async def test_a_rest_that_is_over_is_not_listed(world: World) -> None:
    await world.at("2026-03-10T08:00:00Z")
    await world.pool.execute(
        "INSERT INTO service.mailbox_rest (address, rests, until)"
        " VALUES ('ann@example.org', 1, service.now())"
    )
    assert await _listed(world.pool) == []
