"""Each recipient's domain has its limits and its pauses, on a real SMTP server; nobody else waits for it."""

import asyncio
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from service.app import open_service
from service.clock import SystemClock
from service.messages.delivery import DeliveryLoop
from service.messages.limits import UNLIMITED, DomainLimits, domain_of
from service.messages.mail.smtp import SmtpConfig, SmtpPool
from service.messages.outbox import Outbox
from service.settings import Settings
from tests.given import GOALS, World, goal, user
from tests.process import until
from tests.smtp_server import HANG, RecordingServer

SLOW = "slow.example"


async def _planned(world: World, *people: tuple[int, str]) -> None:
    """So many people at each of these domains get a mail; the first named are the oldest in the queue."""
    await world.at("2026-03-10T08:00:00Z")
    addresses = [f"u{n:03d}@{domain}" for count, domain in people for n in range(count)]
    names = [f"{place:03d}-{address}" for place, address in enumerate(addresses)]
    await world.live(
        *(user(name, email=address) for name, address in zip(names, addresses, strict=True)),
        *(goal(f"g-{name}", name, "2026-03-11") for name in names),
    )
    await (await world.runner()).run_manual(GOALS)


class Behaviour:
    """What a domain answers at RCPT, and how many of its mails were under way at one time at most."""

    def __init__(self, **rcpt: str) -> None:
        self.rcpt = {name.replace("_", "."): told for name, told in rcpt.items()}
        self.tried: Counter[str] = Counter()
        self.now: Counter[str] = Counter()
        self.most: Counter[str] = Counter()

    def __call__(self, phase: str, recipient: str) -> str | None:
        domain = domain_of(recipient)
        if phase == "rcpt":
            self.tried[domain] += 1
            if told := self.rcpt.get(domain):
                return told
            self.now[domain] += 1
            self.most[domain] = max(self.most[domain], self.now[domain])
        elif phase == "after_dot":
            self.now[domain] -= 1
        return None


def _delivery(world: World, server: RecordingServer, limits: str = "", **changes: object) -> DeliveryLoop:
    values: dict[str, Any] = {"connections": 4, "batch": 5, "limits": DomainLimits.parse(limits)} | changes
    config = SmtpConfig("127.0.0.1", server.port, "none", connections=values["connections"])
    return world.delivery(SmtpPool(config, SystemClock()), **values)


def _taken(server: RecordingServer) -> Counter[str]:
    return Counter(domain_of(one.recipient) for one in server.accepted)


async def _states(world: World, domain: str) -> Counter[tuple[str, int]]:
    """State and attempts of the mails to a domain."""
    rows = await world.pool.fetch(
        "SELECT state, attempt FROM service.delivery_with_state WHERE domain = $1", domain
    )
    return Counter((row["state"], row["attempt"]) for row in rows)


@pytest.mark.parametrize("at_once", [1, 2, 3])
async def test_never_more_than_so_many_are_under_way_to_one_domain(world: World, at_once: int) -> None:
    await _planned(world, (40, "example.org"), (10, "example.net"))
    behaviour = Behaviour()
    async with RecordingServer(behaviour) as server:
        delivery = _delivery(world, server, f"example.org={at_once}/0,*=4/0")

        assert await delivery.run_once() == 50

    assert _taken(server) == {"example.org": 40, "example.net": 10}
    assert 1 <= behaviour.most["example.org"] <= at_once
    assert behaviour.most["example.net"] <= 4


async def test_without_a_limit_every_connection_serves_the_domain(world: World) -> None:
    await _planned(world, (40, "example.org"))
    behaviour = Behaviour(example_org=HANG)
    async with RecordingServer(behaviour) as server:
        running = asyncio.ensure_future(_delivery(world, server).run_once())
        await until(lambda: behaviour.tried["example.org"] == 4)
        running.cancel()
    await asyncio.wait({running})


@pytest.mark.parametrize("told", ["421 4.7.0 too fast", "450 4.7.1 slow down", "451 busy", "452 4.3.1 full"])
async def test_a_throttled_domain_waits_and_nobody_else_does(world: World, told: str) -> None:
    await _planned(world, (60, SLOW), (20, "example.org"))
    behaviour = Behaviour(slow_example=told)
    async with RecordingServer(behaviour) as server:
        await _delivery(world, server, connections=1).run_once()

    assert _taken(server) == {"example.org": 20}
    assert behaviour.tried[SLOW] == 1
    assert await _states(world, SLOW) == {("planned", 1): 1, ("planned", 0): 59}


async def test_the_pause_grows_with_each_single_try_and_success_ends_it(world: World) -> None:
    await _planned(world, (30, SLOW))
    behaviour = Behaviour(slow_example="421 4.7.0 too fast")
    pauses = []
    async with RecordingServer(behaviour) as server:
        delivery = _delivery(world, server)
        await delivery.run_once()
        first = behaviour.tried[SLOW]
        for tries in range(4):
            assert behaviour.tried[SLOW] == first + tries
            until = (await delivery._outbox.paused())[SLOW]
            pauses.append(until - await world.pool.fetchval("SELECT service.now()"))
            await world.at((until - timedelta(seconds=1)).isoformat())
            assert await delivery.run_once() == 0
            await world.at(until.isoformat())
            await delivery.run_once()
        behaviour.rcpt.clear()
        await world.at("2026-03-10T09:00:00Z")
        await delivery.run_once()

        for pause, least in zip(pauses, (30, 60, 120, 240), strict=True):
            assert least <= pause.total_seconds() <= least * 1.2
        assert first <= 4
        assert _taken(server) == {SLOW: 30}
        assert await world.pool.fetchval("SELECT count(*) FROM service.domain_pause") == 0

        await _throttled_once_more(world, delivery, behaviour)


async def _throttled_once_more(world: World, delivery: DeliveryLoop, behaviour: Behaviour) -> None:
    await world.pool.execute("UPDATE service.delivery_state SET claim = NULL, state = 'planned'")
    behaviour.rcpt[SLOW] = "421 4.7.0 too fast"
    await delivery.run_once()
    assert await world.pool.fetchval("SELECT failures FROM service.domain_pause") == 1


async def test_what_a_pause_outlasts_expires_with_its_reason(world: World) -> None:
    await _planned(world, (10, SLOW))
    await world.pool.execute("UPDATE service.delivery_state SET expires_at = '2026-03-10T08:00:20Z'")
    async with RecordingServer(Behaviour(slow_example="421 4.7.0 too fast")) as server:
        delivery = _delivery(world, server)
        await delivery.run_once()
        await world.at("2026-03-10T08:00:20Z")
        await delivery.run_once()

    rows = await world.pool.fetch(
        "SELECT DISTINCT state, reason, detail FROM service.delivery_with_state WHERE domain = $1", SLOW
    )
    assert [tuple(row) for row in rows] == [
        ("expired", "stale", "slow.example asked us to wait: 421 4.7.0 too fast")
    ]


async def test_a_restart_and_a_second_process_know_of_the_pause(world: World) -> None:
    await _planned(world, (10, SLOW), (10, "example.org"))
    behaviour = Behaviour(slow_example="421 4.7.0 too fast")
    async with RecordingServer(behaviour) as server:
        await _delivery(world, server, connections=1).run_once()
        await _delivery(world, server, connections=1, owner="heir").run_once()

    assert behaviour.tried[SLOW] == 1
    assert _taken(server) == {"example.org": 10}


async def test_a_pause_of_long_ago_is_forgotten(world: World) -> None:
    await _planned(world, (1, "example.org"))
    outbox = Outbox(world.pool, "a", timedelta(seconds=60))
    await outbox.pause(SLOW, [timedelta(minutes=1)], "421")

    await world.at("2026-03-11T08:00:00Z")
    await outbox.recover()
    assert await world.pool.fetchval("SELECT count(*) FROM service.domain_pause") == 1
    await world.at("2026-03-11T08:02:00Z")
    await outbox.recover()
    assert await world.pool.fetchval("SELECT count(*) FROM service.domain_pause") == 0


async def test_a_domain_that_keeps_silent_holds_its_own_connections_only(world: World) -> None:
    """Mail that is planned meanwhile goes out beside it, in the same run."""
    await _planned(world, (3, SLOW))
    behaviour = Behaviour(slow_example=HANG)
    server = RecordingServer(behaviour)
    async with server:
        delivery = _delivery(world, server, f"{SLOW}=1/0", connections=2)
        running = asyncio.ensure_future(delivery.run_once())
        await until(lambda: behaviour.tried[SLOW] == 1)
        await _planned(world, (3, SLOW), (5, "example.org"))
        delivery._wake.set()
        await until(lambda: _taken(server) == {"example.org": 5})
        assert behaviour.tried[SLOW] == 1
        running.cancel()
    await asyncio.wait({running})


async def test_whoever_moves_to_another_domain_is_counted_there(world: World) -> None:
    await _planned(world, (3, SLOW))
    await Outbox(world.pool, "a", timedelta(seconds=60)).pause("example.org", [timedelta(minutes=1)], "421")
    people = [f"{n:03d}-u{n:03d}@{SLOW}" for n in range(3)]
    await world.live(*(user(name, email=f"u{n}@example.org") for n, name in enumerate(people)))
    async with RecordingServer() as server:
        delivery = _delivery(world, server)
        await delivery.run_once()
        assert _taken(server) == {}
        await world.at("2026-03-10T08:01:00Z")
        await delivery.run_once()

    assert _taken(server) == {"example.org": 3}
    assert await _states(world, "example.org") == {("sent", 1): 3}


async def test_health_tells_which_domains_are_paused_and_until_when(
    world: World, dsn: str, tmp_path: Path
) -> None:
    await world.at("2026-03-10T08:00:00Z")
    outbox = _outbox(world)
    await outbox.pause(SLOW, [timedelta(minutes=4)], "421 4.7.0 too fast")
    await outbox.pause("over.example", [timedelta(0)], "421")
    environ = {"DATABASE_URL": dsn, "DASHBOARD_URL": dsn, "DATA_DIR": str(tmp_path)}

    async with open_service(Settings.load(environ)) as service:
        mail = (await service.manager.health_check())["checks"]["mail"]

    assert mail == {
        "status": "running",
        "details": {"problem": None, "pausedDomains": {SLOW: "2026-03-10T08:04:00+00:00"}},
    }


# ── The claim ───────────────────────────────────────────────────────────────────────────────────────────────


def _outbox(world: World) -> Outbox:
    return Outbox(world.pool, "a", timedelta(seconds=60))


async def test_a_claim_goes_past_whatever_is_blocked(world: World) -> None:
    """Far more are blocked than the claim looks at from the front of the queue."""
    await _planned(world, (120, SLOW), (1, "full.example"), (120, "full.example"), (7, "example.org"))
    outbox = _outbox(world)
    await outbox.pause(SLOW, [timedelta(minutes=1)], "421")

    claimed = await outbox.claim(5, {"full.example": 0})
    rest = await outbox.claim(5, {"full.example": 0})
    nothing = await outbox.claim(5, {"full.example": 0})

    assert Counter(one.domain for one in [*claimed, *rest]) == {"example.org": 7}
    assert nothing == []


async def test_a_claim_takes_no_more_of_a_domain_than_it_has_room_for(world: World) -> None:
    await _planned(world, (80, "a.example"), (80, "b.example"), (2, "c.example"))

    claimed = await _outbox(world).claim(20, {"a.example": 3, "c.example": UNLIMITED}, 4)

    assert Counter(one.domain for one in claimed) == {"a.example": 3, "b.example": 4, "c.example": 2}


async def test_after_a_pause_one_message_is_the_probe(world: World) -> None:
    await _planned(world, (9, SLOW), (2, "example.org"))
    outbox = _outbox(world)
    until = await outbox.pause(SLOW, [timedelta(minutes=1)], "421")
    await world.at(until.isoformat())

    claimed = await outbox.claim(20)

    assert [(one.domain, one.probe) for one in claimed] == [
        (SLOW, True), ("example.org", False), ("example.org", False),
    ]  # fmt: skip


async def test_an_unconfirmed_message_waits_for_its_domain_too(world: World) -> None:
    await _planned(world, (1, SLOW), (1, "full.example"), (1, "example.org"))
    await world.pool.execute(
        "UPDATE service.delivery_state SET claim = 0, state = 'unconfirmed';"
        " UPDATE service.delivery SET unconfirmed_policy = 'resend'"
    )
    outbox = _outbox(world)
    assert await outbox.recover() == 3
    await outbox.pause(SLOW, [timedelta(minutes=1)], "421")

    claimed = await outbox.claim(5, {"full.example": 0})

    assert [one.domain for one in claimed] == ["example.org"]


async def test_two_throttled_at_one_time_are_one_pause(world: World) -> None:
    await world.at("2026-03-10T08:00:00Z")
    outbox = _outbox(world)
    pauses = [timedelta(minutes=1), timedelta(minutes=2), timedelta(minutes=4)]

    first, second = await asyncio.gather(*(outbox.pause(SLOW, pauses, "421") for _ in range(2)))

    assert first == second == datetime.fromisoformat("2026-03-10T08:01:00+00:00")
    await world.at("2026-03-10T08:01:00Z")
    assert await outbox.pause(SLOW, pauses, "421") == datetime.fromisoformat("2026-03-10T08:03:00+00:00")
