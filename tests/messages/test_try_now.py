"""Try now: what waits for another try or for its domain is sent at once, and nothing else."""

import asyncio
from typing import Any

from service.clock import SystemClock
from service.messages.mail.smtp import SmtpConfig, SmtpPool
from service.messages.outbox import DeliveryFilter
from service.messages.try_now import TryNowResult, WaitingFilter, try_now
from tests.given import World
from tests.messages.test_domains import SLOW, Behaviour, _planned
from tests.process import until
from tests.smtp_server import RecordingServer
from tests.web.given import ADMIN, admin


async def _now(world: World, limit: int = 1000, *, dry_run: bool = False, **wanted: Any) -> TryNowResult:
    """Try these now. ``wanted``: fields of the filter."""
    own = {name: wanted.pop(name) for name in ("id", "domain") if name in wanted}
    async with world.pool.acquire() as connection, connection.transaction():
        chosen = WaitingFilter(DeliveryFilter(**wanted), **own)
        return await try_now(chosen, limit, connection, dry_run=dry_run)


async def _waiting(world: World) -> dict[str, tuple[str | None, bool]]:
    """Each mail that waits: why, and whether it is due."""
    rows = await world.pool.fetch(
        "SELECT d.user_id, s.reason, s.not_before <= service.now() AS due"
        " FROM service.delivery_state AS s JOIN service.delivery AS d USING (id) WHERE s.claim IS NULL"
    )
    return {row["user_id"]: (row["reason"], row["due"]) for row in rows}


async def test_a_running_service_forgets_a_pause_that_somebody_ended(world: World) -> None:
    """The clock stands still: nothing is tried again by itself."""
    await _planned(world, (20, SLOW), (3, "example.org"))
    behaviour = Behaviour(slow_example="421 4.7.0 too fast")
    stop = asyncio.Event()
    async with RecordingServer(behaviour) as server, admin(world.pool) as given:
        pool = SmtpPool(SmtpConfig("127.0.0.1", server.port, "none", connections=2), SystemClock())
        loop = world.delivery(pool, connections=2, idle=0.1)
        running = asyncio.ensure_future(loop.serve(stop))
        await until(lambda: len(server.accepted) == 3 and bool(loop._queue.pauses))
        tried = behaviour.tried[SLOW]

        behaviour.rcpt.clear()
        answer = await given.client.post(
            "/api/admin/deliveries/try-now", json={"domain": SLOW.upper()}, headers=ADMIN
        )
        told = await answer.json()
        await until(lambda: len(server.accepted) == 23)
        stop.set()
        await running

    assert told == {"success": True, "dryRun": False, "matched": 20, "tried": 20, "domains": [SLOW]}
    assert behaviour.tried[SLOW] == tried + 20
    assert await world.pool.fetchval("SELECT count(*) FROM service.domain_pause") == 0


async def test_a_domain_that_still_refuses_gets_one_mail_and_a_longer_pause(world: World) -> None:
    await _planned(world, (20, SLOW))
    behaviour = Behaviour(slow_example="421 4.7.0 too fast")
    async with RecordingServer(behaviour) as server:
        pool = SmtpPool(SmtpConfig("127.0.0.1", server.port, "none", connections=1), SystemClock())
        loop = world.delivery(pool, connections=1)
        await loop.run_once()
        (first,) = (await loop._outbox.paused()).values()
        assert (await _now(world, id=await _any(world))).domains == (SLOW,)
        await loop._forget_pauses()
        await loop.run_once()
        (second,) = (await loop._outbox.paused()).values()
        await pool.close()

    assert behaviour.tried[SLOW] == 2
    assert second > first
    assert server.accepted == []


async def _any(world: World) -> int:
    return int(await world.pool.fetchval("SELECT min(id) FROM service.delivery_state WHERE claim IS NULL"))


async def test_only_what_waits_for_another_try_is_due(world: World) -> None:
    await _planned(world, (6, "example.org"))
    reasons = {
        "000-u000@example.org": "rcpt_450",
        "001-u001@example.org": "our_fault",
        "002-u002@example.org": "quiet_hours",
        "003-u003@example.org": None,
    }
    for name, reason in reasons.items():
        await world.pool.execute(
            "UPDATE service.delivery_state AS s SET reason = $2, not_before = service.now() + interval '1 h'"
            " FROM service.delivery AS d WHERE d.id = s.id AND d.user_id = $1",
            name,
            reason,
        )
    await world.pool.execute(
        "UPDATE service.delivery_state AS s SET reason = 'rcpt_450', claim = 7, state = 'claimed',"
        " not_before = service.now() + interval '1 hour'"
        " FROM service.delivery AS d WHERE d.id = s.id AND d.user_id = '004-u004@example.org'"
    )
    before = await _waiting(world)

    assert await _now(world, dry_run=True, address="u0") == TryNowResult(2, 0, ())
    assert await _now(world, reason="nothing") == TryNowResult(0, 0, ())
    assert await _waiting(world) == before
    assert await _now(world, 1, job="reminder.goalDeadlines") == TryNowResult(2, 1, ())
    assert await _now(world, user="001-u001@example.org") == TryNowResult(1, 1, ())

    assert await _waiting(world) == before | {
        name: (reasons[name], True) for name in ("000-u000@example.org", "001-u001@example.org")
    }


async def test_everything_at_once_is_refused_and_the_act_is_logged(world: World) -> None:
    await _planned(world, (1, "example.org"))
    async with admin(world.pool) as given:
        post = given.client.post
        refused = await post("/api/admin/deliveries/try-now", json={"limit": 5}, headers=ADMIN)
        assert refused.status == 400
        assert "Name at least one of id, domain, user" in (await refused.json())["error"]
        body = {"address": "u000@", "domain": "Example.org"}
        assert (await post("/api/admin/deliveries/try-now", json=body, headers=ADMIN)).status == 200
    logged = await world.pool.fetch("SELECT act, what FROM service.audit")
    assert [(row["act"], row["what"]["filter"]) for row in logged] == [
        ("try-now", {"domain": "Example.org", "limit": 1000, "dryRun": False, "addressGiven": True})
    ]
