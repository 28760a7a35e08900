"""Complaints are counted by kind and domain; too many about nudges stop these, and nothing else."""

from collections.abc import Mapping

import asyncpg
import pytest

from service.engine import gates
from service.engine.gates import Cause
from service.messages import complaint_rate
from service.messages.complaint_rate import ComplaintCount, ComplaintWatch, kinds_to_stop
from tests.clock import stop_clock

NUDGES = ("daily", "inactive")
_MAILS = """
WITH mail AS (
    INSERT INTO service.delivery (dedupe_key, channel, job, kind, user_id, zone, local_date, template, locale,
                                  facts, message_id, message_date, token, state, not_before, expires_at)
    SELECT key, 'email', 'j', $1, key, 'UTC', now::date, 't', 'en', '{}', '', now, key, 'in_delivery_state',
           now, now
    FROM generate_series(1, $3::int) AS n, format('%s:%s:%s', $1::text, $2::text, n) AS key,
         service.now() AS now
    RETURNING id
)
INSERT INTO service.delivery_state (id, state, claim, job, kind, domain, not_before, expires_at, dot_at)
SELECT id, CASE WHEN row_number() OVER () <= $4 THEN 'complained' ELSE 'sent' END, 0, 'j', $1, $2, now, now,
       now
FROM mail, service.now() AS now
"""
"""Of a kind ($1) to a domain ($2) so many mails ($3), of which so many ($4) were reported."""


@pytest.mark.parametrize(
    ("counts", "stopped"),
    [
        ({"daily": (1000, 1)}, {"daily"}),
        ({"daily": (1001, 1)}, set()),
        ({"daily": (999, 9)}, set()),
        ({"daily": (2000, 2), "inactive": (100, 0)}, {"daily"}),
        ({"daily": (1000, 1), "inactive": (9000, 0)}, {"daily"}),
        ({"daily": (600, 1), "inactive": (400, 0)}, {"daily"}),
        ({"daily": (600, 1), "inactive": (600, 1)}, {"daily", "inactive"}),
        ({"deadlines": (5000, 50)}, set()),
        ({}, set()),
    ],
)
def test_a_kind_of_nudge_is_stopped_at_one_in_a_thousand(
    counts: Mapping[str, tuple[int, int]], stopped: set[str]
) -> None:
    given = {kind: ComplaintCount(*count) for kind, count in counts.items()}

    assert set(kinds_to_stop(given, NUDGES)) == stopped


async def _shut(pool: asyncpg.Pool) -> set[str]:
    return {gate.name for gate in await gates.current(pool) if gate.cause is Cause.COMPLAINTS}


async def _count(pool: asyncpg.Pool, at: str) -> set[str]:
    """Count at this time; the kinds that are stopped then."""
    await stop_clock(pool, at)
    assert await ComplaintWatch(pool, NUDGES).count()
    return await _shut(pool)


async def test_the_rate_is_told_by_kind_and_domain(pool: asyncpg.Pool) -> None:
    await stop_clock(pool, "2026-03-10T08:00:00Z")
    for n in range(25):
        await pool.execute(_MAILS, "daily", f"d{n:02d}.example", 2 + n, 1 if n == 0 else 0)
    await pool.execute(_MAILS, "weekly", "d00.example", 4, 1)
    await pool.execute("UPDATE service.delivery_state SET domain = NULL WHERE domain = 'd24.example'")

    assert await _count(pool, "2026-03-10T09:00:00Z") == set()

    told = await complaint_rate.counted(pool)
    assert told.counts["daily", "d00.example"] == ComplaintCount(2, 1)
    assert told.counts["weekly", "d00.example"].rate == 0.25
    assert len({domain for _, domain in told.counts}) == 21
    assert told.counts["daily", "other"] == ComplaintCount(26 + 3 + 4 + 5 + 6, 0)
    assert told.by_kind == {"daily": ComplaintCount(sum(range(2, 27)), 1), "weekly": ComplaintCount(4, 1)}
    assert not await ComplaintWatch(pool, NUDGES).count(), "another process counted a moment ago"


async def test_a_gate_shuts_and_opens_by_itself_or_by_a_person(pool: asyncpg.Pool) -> None:
    await stop_clock(pool, "2026-03-10T08:00:00Z")
    await pool.execute(_MAILS, "daily", "example.org", 1000, 2)
    await pool.execute(_MAILS, "deadlines", "example.org", 1000, 9)
    assert await _count(pool, "2026-03-10T09:00:00Z") == {"daily"}
    (gate,) = await gates.current(pool)
    assert "2 of 1000 mails of 30 days" in gate.details["reason"]

    async with pool.acquire() as connection:
        assert await gates.open_by_hand(connection, gate.id, "zoe")
    assert await _count(pool, "2026-03-10T09:10:00Z") == set(), "what a person knew counts no more"

    await pool.execute(_MAILS, "daily", "example.com", 1000, 0)
    assert await _count(pool, "2026-03-10T09:16:00Z") == set(), "these are judged for themselves"
    await pool.execute(_MAILS, "daily", "example.net", 1000, 2)
    assert await _count(pool, "2026-03-10T09:21:00Z") == {"daily"}
    assert await _count(pool, "2026-04-09T09:00:00Z") == {"daily"}
    assert await _count(pool, "2026-04-09T09:17:00Z") == set(), "those mails are older than 30 days"


async def test_a_process_leaves_gates_of_kinds_alone_that_it_does_not_know(pool: asyncpg.Pool) -> None:
    await stop_clock(pool, "2026-03-10T08:00:00Z")
    await gates.shut(pool, gates.Scope.KIND, Cause.COMPLAINTS, "acme.nudge", by=complaint_rate.OPENED_BY)
    await gates.shut(pool, gates.Scope.KIND, Cause.OPERATOR, "daily", by="zoe")

    await _count(pool, "2026-03-10T09:00:00Z")

    assert {gate.name for gate in await gates.current(pool)} == {"acme.nudge", "daily"}
