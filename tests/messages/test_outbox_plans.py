"""What the outbox reads and writes: little, by index, however many mails there are."""

import asyncio
import re
from datetime import timedelta
from itertools import product
from typing import Any, cast

import asyncpg

from service.engine import queries
from service.engine.database import Connection
from service.engine.schema import SCHEMA
from service.messages import outbox as outbox_module
from service.messages.limits import UNLIMITED
from service.messages.outbox import Outbox, Settlement
from tests.given import GOALS, World, goal, user

SQL = queries.load(outbox_module.__file__)
LEASE = timedelta(seconds=60)
_AT_ONCE = 10
_REPLY = "2.0.0 OK  1764518400 d2e1a72fcca58-7b9e5 - gsmtp"
_MANY = """
SET LOCAL session_replication_role = replica;  -- these rows have no message
INSERT INTO service.delivery_claim (owner, until, deliveries) VALUES
    ('a', service.now() + interval '1 minute', '{}'),
    ('dead', service.now() - interval '1 minute', ARRAY(SELECT generate_series(300051, 300100)));
INSERT INTO service.delivery_state (id, state, claim, job, kind, domain, not_before, expires_at)
SELECT 100000 + n, CASE WHEN n <= 100000 THEN 'planned' WHEN n <= 200000 THEN 'sent'
                        WHEN n <= 200050 THEN 'claimed' ELSE 'sending' END,
       CASE WHEN n <= 100000 THEN NULL WHEN n <= 200000 THEN 0 WHEN n <= 200050 THEN 1 ELSE 2 END,
       'j', 'deadlines',
       CASE WHEN n % 1000 = 0 THEN 'free.example' ELSE 'blocked.example' END,
       service.now() - interval '1 day', service.now() + interval '1 day'
FROM generate_series(1, 200100) AS n
"""
"""100,000 mails wait, all but 100 of them to a blocked domain; as many are settled; 50 each are in hand and a
dead process's."""


async def _plan(pool: asyncpg.Pool, query: str, *values: Any) -> list[str]:
    """What it read, and did; then it is undone. Fails if it read a table, or many rows of an index."""
    async with pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        rows = await connection.fetch(f"EXPLAIN (ANALYZE, COSTS false, TIMING false) {SQL[query]}", *values)
        await transaction.rollback()
    plan = [row[0] for row in rows if "never executed" not in row[0]]
    assert not any("Seq Scan on delivery_state" in line for line in plan), "\n".join(plan)
    assert all(int(line.rpartition(" ")[2]) < 500 for line in plan if "Rows Removed by" in line)
    assert all(float(found) < 500 for line in plan for found in re.findall(r"actual rows=(\d+)", line))
    return plan


def _scans(plan: list[str], index: str) -> int:
    return sum(f" {index} " in line for line in plan)


async def test_nothing_that_is_done_all_the_time_reads_much_however_many_mails_there_are(
    world: World,
) -> None:
    await _planned(world, 1)
    async with world.pool.acquire() as connection, connection.transaction():
        await connection.execute(_MANY)
    await world.pool.execute("ANALYZE service.delivery_state")

    assert _scans(await _plan(world.pool, "record", *_RECORDED), "delivery_state_pkey") == 2
    assert _scans(await _plan(world.pool, "recover", None), "delivery_state_pkey") == 1
    await _plan(world.pool, "renew", [1], LEASE)
    await _plan(world.pool, "resend_unconfirmed", None)
    await _plan(world.pool, "expire", None, 1000)
    await _plan(world.pool, "release", [300001], [1], [None], timedelta(0))
    await _a_recipient_decides(world.pool)


_GATE = "INSERT INTO service.gate (scope, name, cause, by) VALUES ($1, $2, 'operator', 'test')"


_WAITING = """
SET LOCAL session_replication_role = replica;
INSERT INTO service.delivery_state (id, job, kind, domain, not_before, expires_at)
SELECT 100000 + n, k, k, k || '.example', service.now() - n * 7919 % 50000 * interval '1 second',
       service.now() + interval '1 day'
FROM (SELECT n, CASE WHEN n % 1000 = 0 THEN 'free' ELSE 'blocked' END AS k
      FROM generate_series(1, 50000) AS n) AS waiting
"""


async def test_a_claim_reads_little_whatever_waits_and_is_known(world: World) -> None:
    """Fifty mails may be sent, 49,950 others may not; PostgreSQL has never counted them, and then it has."""
    await _planned(world, 1)
    async with world.pool.acquire() as connection, connection.transaction():
        await connection.execute(_WAITING)
    nobody: tuple[list[str], list[int]] = ([], [])
    all_jobs = ["free", "blocked"]
    blocked = (
        ((["blocked.example"], [0]), all_jobs, None),
        (nobody, ["free"], None),
        (nobody, all_jobs, ("job", "blocked")),
        (nobody, all_jobs, ("kind", "blocked")),
        (nobody, all_jobs, ("domain", "blocked.example")),
    )
    for _ in ("nothing", "everything"):
        for (room, jobs, gate), plan in product(blocked, ("custom", "generic")):
            claim = ("a", LEASE, 25, *room, UNLIMITED, SCHEMA, jobs, None, [1], "", False)
            found, read = await _claimed(world.pool, plan, gate, claim)
            assert (found, read < 1000) == (25, True), (room, jobs, gate, plan, read)
        await world.pool.execute("ANALYZE service.delivery_state")


async def _claimed(
    pool: asyncpg.Pool, plan: str, gate: tuple[str, str] | None, claim: tuple[Any, ...]
) -> tuple[int, int]:
    """How many mails a claim chooses, and how many pages of tables and indexes it reads. ``plan``: custom or
    generic."""
    async with pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute(f"SET LOCAL plan_cache_mode = force_{plan}_plan")
        if gate:
            await connection.execute(_GATE, *gate)
        explain = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {SQL['claim']}"
        done = (await connection.fetchval(explain, *claim))[0]["Plan"]
        await transaction.rollback()
    (chosen,) = (part for part in done["Plans"] if part.get("Subplan Name") == "CTE chosen")
    return round(chosen["Actual Rows"]), done["Shared Hit Blocks"] + done["Shared Read Blocks"]


_N = 50
_DOTS = ([*range(300001, 300051)], [1] * _N)
_RESULTS = ([*range(300051, 300101)], [2] * _N, ["sent"] * _N, [None] * _N, [250] * _N, ["ok"] * _N)
_RECORDED = (
    *_DOTS, None, *_RESULTS, [None] * _N, [0] * _N, [False] * _N, [None] * _N, "", False
)  # fmt: skip
"""Fifty marks, fifty results."""


async def _a_recipient_decides(pool: asyncpg.Pool) -> None:
    """Their mails are found by index."""
    async with pool.acquire() as connection, connection.transaction():
        before = await _read(connection)
        await connection.execute(
            "INSERT INTO service.recipient_setting (user_id) VALUES ('u000');"
            " INSERT INTO service.suppression (address, reason) VALUES ('u000@example.org', 'complaint')"
        )
        assert 0 < await _read(connection) - before < 20


async def _read(connection: Connection) -> int:
    """Rows of the table of states that this transaction has read, one by one or by index."""
    read: int = await connection.fetchval(
        "SELECT sum(pg_stat_get_xact_tuples_returned(c) + pg_stat_get_xact_tuples_fetched(c))"
        " FROM unnest(ARRAY['service.delivery_state', 'service.delivery_state_pkey']::regclass[]) AS c"
    )
    return read


# ── Writing ─────────────────────────────────────────────────────────────────────────────────────────────────


async def _planned(world: World, count: int) -> None:
    world.jobs = {GOALS: world.jobs[GOALS]}
    await world.at("2026-03-10T08:00:00Z")
    names = [f"u{n:03d}" for n in range(count)]
    await world.live(*map(user, names), *(goal(f"g-{name}", name, "2026-03-11") for name in names))
    await (await world.runner()).run_manual(GOALS)


async def _updates(connection: Connection) -> tuple[int, int]:
    """Rows of states that have been updated, and those of them that touched no index."""
    await connection.execute("SELECT pg_stat_force_next_flush()")
    row = await connection.fetchrow(
        "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'delivery_state'"
    )
    assert row
    return (row[0], row[1])


async def test_sending_touches_no_index_after_the_claim(world: World) -> None:
    """In groups, each in its own transaction, as in life: what is dead makes room for what comes."""
    await _planned(world, 200)
    async with world.pool.acquire() as connection:
        outbox = Outbox(cast("asyncpg.Pool", connection), "a", LEASE)
        claimed = sorted(await outbox.claim(200), key=lambda one: one.id)
        groups = [claimed[n : n + _AT_ONCE] for n in range(0, 200, _AT_ONCE)]
        before = await _updates(connection)
        for dots, answered in zip([*groups, []], [[], *groups], strict=True):
            await outbox.record(
                [(one.id, one.claim) for one in dots],
                [Settlement(one.id, one.claim, "sent", code=250, reply=_REPLY) for one in answered],
            )
        after = await _updates(connection)
    assert [now - then for now, then in zip(after, before, strict=True)] == [400, 400]


async def test_statistics_follow_when_mails_become_many(world: World) -> None:
    """Plans that were made for an empty table would read the whole of a full one."""
    await _planned(world, 1)
    outbox = Outbox(world.pool, "a", LEASE)
    known = "SELECT reltuples::int FROM pg_class WHERE oid = 'service.delivery_state'::regclass"
    async with world.pool.acquire() as connection:
        async with connection.transaction():
            await connection.execute(_MANY)
        await connection.execute("SELECT pg_stat_force_next_flush()")
    assert await world.pool.fetchval(known) <= 1

    async with asyncio.timeout(60):
        while await world.pool.fetchval(known) < 200_000:
            await outbox.keep_statistics()

    assert not await world.pool.fetchval(SQL["needs_analyze"])


async def test_groups_of_any_size_are_recorded_by_one_plan_that_reads_no_table(world: World) -> None:
    await _planned(world, 1)
    async with world.pool.acquire() as connection, connection.transaction():
        await connection.execute(_MANY)
    async with world.pool.acquire() as connection:
        await connection.execute("ANALYZE service.delivery_state")
        outbox = Outbox(cast("asyncpg.Pool", connection), "a", LEASE)
        for n in range(20):
            dots = [(300001 + n, 1)] * (n % 7)
            await outbox.record(dots, [Settlement(300051 + n, 2, "sent", code=250, reply=_REPLY)])
        plans = "SELECT generic_plans, custom_plans FROM pg_prepared_statements WHERE statement = $1"
        (row,) = await connection.fetch(plans, SQL["record"])
        assert tuple(row) == (15, 5)
        async with connection.transaction():
            before = await _read(connection)
            await outbox.record([*zip(*_DOTS, strict=True)], [])
            assert 0 < await _read(connection) - before < 500
