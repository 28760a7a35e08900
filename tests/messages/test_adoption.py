"""Mails of releases before 0.2 become this one's: once nobody else has them in hand.

``tests/guards.toml`` lists the conditions of which these tests notice the absence.
"""

from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from service.engine.schema import SCHEMA
from service.messages.outbox import Outbox
from tests.clock import stop_clock
from tests.interleaving import goes_on

_OLD = """
INSERT INTO service.delivery (dedupe_key, channel, job, kind, user_id, zone, local_date, template, locale,
    address, facts, message_id, message_date, token, not_before, expires_at, attempt, epoch, resends,
    unconfirmed_policy, state, lease_until)
VALUES ('k' || $1, $1, 'reminder.goalDeadlines', 'deadlines', 'ann', 'UTC', '2026-03-10', 'goal', 'en',
    'ann@example.org', '{}', 'm', '2026-03-10 08:00Z', 't' || $1, '2026-03-10 08:00Z', '2026-03-10 20:00Z',
    1, 3, $2, 'resend', $3, $4::text::timestamptz)
RETURNING id
"""
_BEAT = (
    "INSERT INTO service.replica (name, version, started_at, seen_at, schema)"
    " VALUES ('old', '0.1.1', service.now(), service.now(), $1)"
)


@pytest.fixture
async def pool(pool: asyncpg.Pool) -> asyncpg.Pool:
    await _at(pool, "08:00:30")
    return pool


async def _at(pool: asyncpg.Pool, time: str) -> None:
    await stop_clock(pool, f"2026-03-10T{time}Z")


async def _old(
    pool: asyncpg.Pool, state: str, *, until: str | None = None, channel: str = "email", resends: int = 0
) -> int:
    """A message of 0.1.1. ``until``: the end of its lease."""
    id_: int = await pool.fetchval(_OLD, channel, resends, state, until)
    return id_


def _outbox(pool: Any) -> Outbox:
    return Outbox(pool, "new", timedelta(seconds=60))


async def _adopted(pool: asyncpg.Pool) -> tuple[Any, ...]:
    """How it stands here; (): it does not."""
    row = await pool.fetchrow("SELECT state, claim, attempt FROM service.delivery_state")
    return tuple(row or ())


@pytest.mark.parametrize("schema", [None, 32])
async def test_nothing_is_adopted_while_an_earlier_release_is_alive(
    pool: asyncpg.Pool, schema: int | None
) -> None:
    await _old(pool, "planned")
    await pool.execute(_BEAT, schema)

    await _at(pool, "08:01:29")
    await _outbox(pool).recover()
    assert await _adopted(pool) == ()
    await _at(pool, "08:01:30")
    await _outbox(pool).recover()
    assert await _adopted(pool) == ("planned", None, 1)


async def test_a_process_of_this_release_does_not_keep_anything_from_being_adopted(
    pool: asyncpg.Pool,
) -> None:
    await _old(pool, "planned")
    await pool.execute(_BEAT, SCHEMA)

    await _outbox(pool).recover()

    assert await _adopted(pool) == ("planned", None, 1)
    assert await pool.fetchval("SELECT epoch FROM service.delivery") == 4  # who had claimed it has lost it


@pytest.mark.parametrize(
    ("state", "becomes"), [("claimed", ("planned", None, 1)), ("sending", ("unconfirmed", 0, 1))]
)
async def test_what_an_earlier_release_has_in_hand_is_left_to_it(
    pool: asyncpg.Pool, state: str, becomes: tuple[Any, ...]
) -> None:
    id_ = await _old(pool, state, until="2026-03-10 08:01Z")

    assert not await _outbox(pool).resend(id_)
    await _outbox(pool).recover()
    assert await _adopted(pool) == ()
    await _at(pool, "08:01:01")
    await _outbox(pool).recover()
    assert await _adopted(pool) == becomes


async def test_what_an_earlier_release_claims_just_now_is_passed_over(pool: asyncpg.Pool) -> None:
    id_ = await _old(pool, "planned")
    async with pool.acquire() as old, old.transaction():
        await old.execute(
            "UPDATE service.delivery SET state = 'claimed', lease_until = service.now() + interval '1 minute'"
        )
        await goes_on(pool, _outbox(pool).recover())
        assert not await goes_on(pool, _outbox(pool).cancel(id_))

    assert await _adopted(pool) == ()


async def test_what_may_be_sent_again_is_adopted_and_sent_again_once(pool: asyncpg.Pool) -> None:
    await _old(pool, "unconfirmed")

    await _outbox(pool).recover()

    assert await _adopted(pool) == ("planned", None, 1)
    assert await pool.fetchval("SELECT resends FROM service.delivery_state") == 1


@pytest.mark.parametrize("values", [{"resends": 1}, {"channel": "in_app"}])
async def test_what_needs_no_hand_stays_where_it_is(pool: asyncpg.Pool, values: dict[str, Any]) -> None:
    await _old(pool, "unconfirmed", **values)

    await _outbox(pool).recover()

    assert await _adopted(pool) == ()


async def test_whoever_acts_on_a_mail_adopts_it_and_never_a_notification(pool: asyncpg.Pool) -> None:
    notification, mail = await _old(pool, "failed", channel="in_app"), await _old(pool, "failed")
    await pool.execute(_BEAT, None)

    assert not await _outbox(pool).resend(notification)
    assert await _outbox(pool).resend(mail)
    assert not await _outbox(pool).resend(mail)
    assert await _adopted(pool) == ("planned", None, 0)
