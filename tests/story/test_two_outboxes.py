"""The outbox of the last release beside this one's, by its own statements, out of the history."""

import re
from collections.abc import Sequence
from datetime import timedelta
from functools import cache
from typing import Any

import asyncpg

from service.messages.outbox import Outbox, Settlement
from tests.given import GOALS, World, goal, user
from tests.releases import ROOT, git, last_release

_LEASE = timedelta(seconds=60)
_HEARTBEAT = """
INSERT INTO service.replica (name, version, schema, started_at, seen_at)
VALUES ('old', '0.1.1', $1, service.now(), service.now() - $2::interval)
ON CONFLICT (name) DO UPDATE SET seen_at = excluded.seen_at
"""
_OLD = """
INSERT INTO service.delivery (dedupe_key, channel, job, kind, user_id, zone, local_date, template, locale,
    address, recipient_name, facts, message_id, message_date, token, not_before, expires_at)
SELECT 'old:' || dedupe_key, channel, job, kind, user_id, zone, local_date, template, locale, address,
    recipient_name, facts, 'old-' || message_id, message_date, 'old-' || token, not_before, expires_at
FROM service.delivery WHERE channel = 'email' AND state = 'in_delivery_state'
RETURNING id
"""
"""As the last release plans it: the state is the column's default."""


@cache
def _statements() -> dict[str, str]:
    text = git("show", f"{last_release().commit}:service/store/outbox.sql").decode()
    parts = re.split(r"^-- name: (\w+)\n", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def _back() -> str:
    (found,) = re.findall(r"```sql\n(.*?)```", (ROOT / "docs/upgrade.md").read_text("utf-8"), re.DOTALL)
    return str(found)


async def _claim_as_old(pool: asyncpg.Pool, lease: timedelta = _LEASE) -> dict[int, int]:
    """What the last release claims: epochs by id."""
    sql = _statements()["claim"]
    rows = await pool.fetch(sql, "old", lease, 100, [], [], 100, last_release().schema)
    return {row["id"]: row["epoch"] for row in rows}


async def _grant_as_old(pool: asyncpg.Pool, claims: dict[int, int]) -> set[int]:
    rows = await pool.fetch(_statements()["mark_dots"], list(claims), list(claims.values()))
    return {row["id"] for row in rows}


async def _planned(world: World, people: int) -> list[int]:
    """Mails that this release has planned, oldest first."""
    await world.at("2026-03-10T08:00:00Z")
    names = [f"p{n}" for n in range(people)]
    await world.live(*map(user, names), *(goal(f"g-{name}", name, "2026-03-11") for name in names))
    await (await world.runner()).run_manual(GOALS)
    rows = await world.pool.fetch("SELECT id FROM service.delivery WHERE channel = 'email' ORDER BY id")
    return [row["id"] for row in rows]


async def _states(pool: asyncpg.Pool, ids: Sequence[int]) -> list[str]:
    sql = "SELECT id, state FROM service.delivery_with_state WHERE id = ANY ($1)"
    found = {row["id"]: row["state"] for row in await pool.fetch(sql, ids)}
    return [found[id_] for id_ in ids]


async def test_each_release_claims_its_own_mails_until_the_last_one_is_gone(world: World) -> None:
    pool, new = world.pool, Outbox(world.pool, "new", _LEASE)
    ours = await _planned(world, 3)
    theirs = [row["id"] for row in await pool.fetch(_OLD)]
    await pool.execute(_HEARTBEAT, last_release().schema, _LEASE - timedelta(seconds=1))

    await new.recover()
    assert [one.id for one in await new.claim(100)] == ours
    held = await _claim_as_old(pool)
    assert sorted(held) == theirs
    assert await _grant_as_old(pool, {theirs[0]: held[theirs[0]]}) == {theirs[0]}

    await pool.execute(_HEARTBEAT, last_release().schema, _LEASE + timedelta(seconds=1))
    await new.recover()
    assert await new.claim(100) == []  # the leases of the last release are not over
    await pool.execute("UPDATE service.delivery SET lease_until = service.now() - interval '1 second'")
    await pool.execute(_HEARTBEAT, None, timedelta(0))  # 0.1.0 did not tell what it knows
    await new.recover()
    assert await new.claim(100) == []

    await pool.execute(_HEARTBEAT, None, _LEASE + timedelta(seconds=1))
    await new.recover()
    assert await _states(pool, theirs) == ["unconfirmed", "planned", "planned"]
    assert await _claim_as_old(pool) == {}
    assert await _grant_as_old(pool, held) == set()  # it was only frozen
    assert [one.id for one in await new.claim(100)] == theirs[1:]


async def test_a_mail_on_which_somebody_acts_is_taken_over_unless_it_is_in_hand(world: World) -> None:
    pool, new = world.pool, Outbox(world.pool, "new", _LEASE)
    await _planned(world, 2)
    cancelled, held = [row["id"] for row in await pool.fetch(_OLD)]
    await pool.execute(_HEARTBEAT, last_release().schema, timedelta(0))
    await pool.execute(
        "UPDATE service.delivery SET not_before = service.now() + interval '1 hour' WHERE id = $1", cancelled
    )
    assert list(await _claim_as_old(pool)) == [held]

    assert await new.cancel(cancelled)
    assert not await new.cancel(held)
    assert await _states(pool, [cancelled, held]) == ["cancelled", "claimed"]


async def test_the_documented_statement_leads_back_to_the_last_release(world: World) -> None:
    pool, new = world.pool, Outbox(world.pool, "new", _LEASE)
    ids = await _planned(world, 6)
    planned, claimed, sending, sent, failed, cancelled = ids
    await new.cancel(cancelled)
    await pool.execute(
        "UPDATE service.delivery_state SET not_before = service.now() + interval '1 h' WHERE id = $1", planned
    )
    claims = {one.id: one.claim for one in await new.claim(100)}
    await new.mark_dots([(sending, claims[sending]), (sent, claims[sent])])
    results = [
        Settlement(sent, claims[sent], "sent", code=250, reply="2.0.0 queued"),
        Settlement(failed, claims[failed], "failed", "smtp_550", 550, "5.1.1 no"),
    ]
    await new.settle(results)
    before = await _rows(pool)

    await pool.execute(_back())

    changes: dict[str, Any] = {str(claimed): "planned", str(sending): "unconfirmed"}
    after = await _rows(pool)
    assert [row["state"] for row in after] == [changes.get(str(row["id"]), row["state"]) for row in before]
    kept = [i for i, row in enumerate(before) if row["id"] not in {claimed, sending}]
    assert [after[i] for i in kept] == [before[i] for i in kept]
    assert sorted(await _claim_as_old(pool)) == [claimed]
    await pool.execute("UPDATE service.delivery SET not_before = service.now() WHERE state = 'planned'")
    assert sorted(await _claim_as_old(pool)) == [planned]
    assert not await pool.fetchval("SELECT count(*) FROM service.delivery_claim")

    await pool.execute("UPDATE service.delivery SET lease_until = service.now() - interval '1 second'")
    await new.recover()
    assert sorted(one.id for one in await new.claim(100)) == [planned, claimed]
    assert await _states(pool, [sending, sent, failed, cancelled]) == [
        "unconfirmed", "sent", "failed", "cancelled",
    ]  # fmt: skip


async def _rows(pool: asyncpg.Pool) -> list[dict[str, Any]]:
    sql = "SELECT * FROM service.delivery_with_state WHERE channel = 'email' ORDER BY id"
    return [dict(row) for row in await pool.fetch(sql)]
