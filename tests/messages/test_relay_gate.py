"""A mail server that refuses us: all processes stop, one probes it, and what waited for it leaves at once."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

import pytest

from service.clock import SystemClock
from service.engine import gates
from service.engine.gates import Cause, Scope
from service.messages.delivery import DeliveryLoop
from service.messages.mail.smtp import SmtpConfig, SmtpPool
from service.messages.mail.transport import SmtpPhase
from service.messages.outbox import Outbox
from service.messages.relay import RelayRefusal
from service.messages.relay_gate import RelayGate
from tests.given import GOALS, Scripted, World, accepted, goal, refused, user
from tests.process import until
from tests.smtp_server import DROP, Misbehave, RecordingServer

NINE = "2026-03-10T08:00:00Z"
_STATES = "FROM service.delivery_state"
REFUSAL = RelayRefusal("the mail server refuses us at mail: 550")
NO = "550 5.7.1 we take nothing from you"


async def _planned(world: World, count: int) -> None:
    await world.at(NINE)
    names = [f"u{n:03d}" for n in range(count)]
    await world.live(*map(user, names), *(goal(f"g-{n}", n, "2026-03-11") for n in names))
    await (await world.runner()).run_manual(GOALS)


def _delivery(world: World, server: RecordingServer, owner: str = "a", **changes: Any) -> DeliveryLoop:
    config = SmtpConfig("127.0.0.1", server.port, "none", user="me", password="word", connections=3)
    return world.delivery(SmtpPool(config, SystemClock()), owner, connections=3, batch=20, **changes)


def _at(phase: str, answer: str) -> Misbehave:
    return lambda now, _recipient: answer if now == phase else None


async def _until_probed(world: World, times: int) -> None:
    async with asyncio.timeout(90):
        while [gate.probes for gate in await gates.current(world.pool)] != [times]:
            await asyncio.sleep(0.02)


async def _gate(world: World) -> RelayGate:
    return RelayGate(world.pool, "", "somebody")


async def _attempts(world: World) -> Counter[tuple[str, int]]:
    rows = await world.pool.fetch(
        "SELECT state, attempt FROM service.delivery_with_state WHERE channel = 'email'"
    )
    return Counter((row["state"], row["attempt"]) for row in rows)


# ── All stop, and one tries ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("phase", "answer"), [("auth", "535 5.7.8 no"), ("mail", NO), ("connect", "554 5.3.2 no")]
)
async def test_what_refuses_one_process_stops_all_and_costs_no_attempt(
    world: World, phase: str, answer: str
) -> None:
    await _planned(world, 40)
    async with RecordingServer(_at(phase, answer), auth=True) as server:
        await _delivery(world, server).run_once()
        (gate,) = await gates.current(world.pool)
        assert (gate.scope, gate.cause) == ("relay", "breaker")
        assert phase in gate.details["reason"]
        connections = server.connections

        other = world.delivery(Scripted(), "b")
        assert await other._outbox.claim(50) == []
        await other._relay.refresh()
        assert other.problem == gate.details["reason"]
        assert server.connections == connections

    assert (await _attempts(world)).keys() == {("planned", 0)}


async def test_one_process_at_a_time_probes(world: World) -> None:
    await world.at(NINE)
    here, there = RelayGate(world.pool, "", "here"), RelayGate(world.pool, "", "there")
    await here.shut(REFUSAL, probed=False)
    assert not await here.take_probe(at_once=False)
    await world.at("2026-03-10T08:00:05Z")

    got = await asyncio.gather(*(one.take_probe(at_once=False) for one in (here, there, here, there)))

    assert sorted(got) == [False, False, False, True]


async def test_the_pauses_double_to_a_minute_and_start_anew_a_minute_after_the_gate_was_opened(
    world: World,
) -> None:
    await world.at(NINE)
    gate = await _gate(world)

    async def pause() -> int:
        (gate,) = await gates.current(world.pool)
        assert gate.probe_at
        now: datetime = await world.pool.fetchval("SELECT service.now()")
        return round((gate.probe_at - now).total_seconds())

    await gate.shut(REFUSAL, probed=False)
    seen = [await pause()]
    await gate.shut(REFUSAL, probed=False)  # another process met the same refusal
    assert await pause() == 5
    for _ in range(5):
        await gate.shut(REFUSAL, probed=True)
        seen.append(await pause())
    assert seen == [5, 10, 20, 40, 60, 60]

    await gate.open()
    await world.at("2026-03-10T08:00:30Z")
    await gate.shut(REFUSAL, probed=False)
    assert await pause() == 60
    await gate.open()
    await world.at("2026-03-10T08:01:31Z")
    await gate.shut(REFUSAL, probed=False)
    assert await pause() == 5


async def test_a_probe_of_a_process_that_died_is_given_up(world: World) -> None:
    await world.at(NINE)
    gate = await _gate(world)
    await gate.shut(REFUSAL, probed=False)
    assert await gate.take_probe(at_once=True)
    await world.at("2026-03-10T08:01:29Z")
    assert not await gate.take_probe(at_once=False)
    await world.at("2026-03-10T08:01:30Z")
    assert await gate.take_probe(at_once=False)


@pytest.mark.parametrize("probed", [True, False])
async def test_no_dot_is_granted_while_the_gate_is_shut_but_that_of_a_probe(
    world: World, probed: bool
) -> None:
    await _planned(world, 1)
    outbox = Outbox(world.pool, "a", timedelta(seconds=60), relay="mx.example:25")
    (claimed,) = await outbox.claim(5)
    dots = [(claimed.id, claimed.claim)]
    if probed:
        await outbox.relay_gate.shut(REFUSAL, probed=False)
    else:
        await gates.shut(world.pool, Scope.RELAY, Cause.OPERATOR, "mx.example:25", by="ann")

    assert not (await outbox.record(dots, ())).marked
    assert bool((await outbox.record(dots, (), probe=True)).marked) == probed


async def test_the_gate_of_another_relay_stops_nothing(world: World) -> None:
    await _planned(world, 1)
    await gates.shut(world.pool, Scope.RELAY, Cause.BREAKER, "other.example:25", by="ann")
    (claimed,) = await Outbox(world.pool, "a", timedelta(seconds=60), relay="mx.example:25").claim(5)
    assert claimed


# ── And back ────────────────────────────────────────────────────────────────────────────────────────────────


async def test_what_waited_for_the_relay_leaves_when_a_probe_is_accepted(world: World) -> None:
    """The mails whose connections broke wait for minutes; they are due when the server is back."""
    await _planned(world, 30)
    async with RecordingServer(_at("content", DROP), auth=True) as server:
        delivery = _delivery(world, server)
        await delivery.run_once()
        assert {state for state, _ in await _attempts(world)} == {"planned"}
        server.behave(_at("auth", "454 4.7.0 not now"))
        await world.at("2026-03-10T08:01:05Z")  # some of them are due again
        await delivery.run_once()
        assert delivery.problem
        assert await world.pool.fetchval(f"SELECT count(*) {_STATES} WHERE not_before > service.now()")

        server.behave()
        await delivery.run_once()
        assert delivery.problem is None
        assert await gates.current(world.pool) == []
        await delivery.run_once()

    assert len(server.accepted) == 30
    assert {state for state, _ in await _attempts(world)} == {"sent"}


async def test_a_probe_without_a_verdict_is_tried_again_later(world: World) -> None:
    """The mail of the probe met a full mailbox: that says nothing about the relay."""
    await _planned(world, 2)
    answers = [("mail", NO), ("rcpt", "452 4.2.2 mailbox full")]
    async with RecordingServer(_at(*answers[0]), auth=True) as server:
        delivery = _delivery(world, server)
        await delivery.run_once()
        server.behave(_at(*answers[1]))
        await world.at("2026-03-10T08:02:00Z")
        await delivery.run_once()

    assert delivery.problem
    assert [gate.probes for gate in await gates.current(world.pool)] == [1]


async def test_a_person_opens_the_gate_and_the_process_goes_on(world: World) -> None:
    await _planned(world, 5)
    async with RecordingServer(_at("mail", NO), auth=True) as server:
        delivery = _delivery(world, server)
        await delivery.run_once()
        (gate,) = await gates.current(world.pool)
        server.behave()
        async with world.pool.acquire() as connection:
            await gates.open_by_hand(connection, gate.id, "ann")
        await world.at("2026-03-10T08:02:00Z")
        await delivery.run_once()

    assert len(server.accepted) == 5


@pytest.fixture
async def both(world: World) -> AsyncIterator[tuple[RecordingServer, list[DeliveryLoop]]]:
    """Two processes that serve, on a server that cannot be reached."""
    async with RecordingServer(_at("connect", "421 4.3.2 not now"), auth=True) as server:
        loops = [_delivery(world, server, owner, idle=0.05) for owner in "ab"]
        stop = asyncio.Event()
        serving = [asyncio.ensure_future(loop.serve(stop)) for loop in loops]
        yield server, loops
        stop.set()
        await asyncio.gather(*serving)


async def test_two_processes_wait_probe_and_go_on_by_themselves(
    world: World, both: tuple[RecordingServer, list[DeliveryLoop]]
) -> None:
    server, loops = both
    await _planned(world, 50)
    await until(lambda: all(loop.problem for loop in loops))
    await _until_probed(world, 0)
    before = server.connections

    for probe, second in enumerate((20, 40), 1):  # each is refused
        await world.at(f"2026-03-10T08:00:{second}Z")
        await _until_probed(world, probe)
        assert server.connections == before + probe
    server.behave()
    await world.at("2026-03-10T08:02:00Z")
    await until(lambda: len(server.accepted) == 50)
    await until(lambda: not any(loop.problem for loop in loops))


async def test_without_mail_a_server_that_is_back_is_seen_all_the_same(
    world: World, both: tuple[RecordingServer, list[DeliveryLoop]]
) -> None:
    server, loops = both
    await _planned(world, 1)
    await until(lambda: all(loop.problem for loop in loops))
    await _until_probed(world, 0)
    await world.pool.execute(
        "UPDATE service.delivery_state SET not_before = service.now() + interval '1 hour'"
    )
    server.behave()
    await world.at("2026-03-10T08:05:00Z")
    await until(lambda: not any(loop.problem for loop in loops))
    assert await gates.current(world.pool) == []


async def test_what_waits_for_a_domain_leaves_when_the_domain_takes_mail_again(world: World) -> None:
    await _planned(world, 3)
    throttled = Scripted(lambda e: refused(e, SmtpPhase.RCPT, 421, "4.7.0 slow down"), connections=3)
    delivery = world.delivery(throttled)
    await delivery.run_once()
    states = await world.pool.fetch("SELECT reason FROM service.delivery_state")
    assert "throttled" in {row["reason"] for row in states}
    throttled.answer = accepted
    await world.at("2026-03-10T08:00:45Z")  # the domain's pause is over, the mails' own are not
    one = f"(SELECT min(id) {_STATES})"
    await world.pool.execute(f"UPDATE service.delivery_state SET not_before = service.now() WHERE id = {one}")

    await delivery.run_once()
    await delivery.run_once()

    assert len(throttled.received) == 3


async def test_what_waits_for_something_else_goes_on_waiting(world: World) -> None:
    """Quiet hours, a full mailbox, and what another process has in hand."""
    await _planned(world, 3)
    outbox = Outbox(world.pool, "a", timedelta(seconds=60))
    (taken, *_) = await outbox.claim(1)
    await world.pool.execute(
        "UPDATE service.delivery_state SET not_before = service.now() + interval '1 hour',"
        " reason = CASE WHEN claim IS NULL THEN 'quiet_hours' END"
    )
    waiting = f"SELECT count(*) {_STATES} WHERE not_before > service.now()"
    assert await world.pool.fetchval(waiting) == 3
    for reason in ("throttled", "rcpt_lost"):
        await world.pool.execute(
            "UPDATE service.delivery_state SET reason = $2 WHERE id = $1", taken.id, reason
        )
        await outbox.release_throttled("example.org")
        await outbox.relay_gate.open()
        assert await world.pool.fetchval(waiting) == 3


async def test_three_domains_throttled_in_the_same_words_are_a_relay_that_is(world: World) -> None:
    """Its own rate limit would pause one domain after the other; so the relay waits, and they do not."""
    await world.at(NINE)
    names = [f"u{n:03d}" for n in range(30)]
    await world.live(
        *(user(name, email=f"{name}@d{place}.example") for place, name in enumerate(names)),
        *(goal(f"g-{n}", n, "2026-03-11") for n in names),
    )
    await (await world.runner()).run_manual(GOALS)

    def limited(phase: str, recipient: str) -> str | None:
        host = recipient.partition("@")[2]
        return f"451 4.7.0 too many mails for {host}, queue {hash(host):x}" if phase == "rcpt" else None

    async with RecordingServer(limited, auth=True) as server:
        delivery = _delivery(world, server)
        await delivery.run_once()
        (gate,) = await gates.current(world.pool)
        assert gate.details["reason"].startswith("the mail server asks us to send more slowly: 451")
        assert await delivery._outbox.paused() == {}

        server.behave()
        await world.at("2026-03-10T08:00:05Z")
        await delivery.run_once()
        await delivery.run_once()

    assert len(server.accepted) == 30


# ── Whatever it says of recipients ──────────────────────────────────────────────────────────────────────────


async def _against_addresses(world: World) -> tuple[int, int]:
    row = await world.pool.fetchrow(
        "SELECT (SELECT count(*) FROM service.suppression), (SELECT count(*) FROM service.hard_bounce)"
    )
    assert row
    return row[0], row[1]


async def test_a_server_that_says_of_everybody_that_they_do_not_exist_suppresses_nobody(world: World) -> None:
    await _planned(world, 40)
    async with RecordingServer(_at("rcpt", "550 5.1.1 no such user"), auth=True) as server:
        delivery = _delivery(world, server)
        await delivery.run_once()
        (gate,) = await gates.current(world.pool)
        assert (gate.cause, gate.details["words"]) == ("base_rate", "550 5.1.1 no such user")
        assert await _against_addresses(world) == (0, 0)
        assert {state for state, _ in await _attempts(world)} == {"planned"}

        server.behave()
        await world.at("2026-03-10T08:20:00Z")
        await delivery.run_once()
        await delivery.run_once()

    assert len(server.accepted) == 40


async def test_a_person_who_opens_that_gate_says_that_it_is_about_the_recipients(world: World) -> None:
    await _planned(world, 10)
    async with RecordingServer(_at("rcpt", "550 5.1.1 no such user"), auth=True) as server:
        delivery = _delivery(world, server)
        await delivery.run_once()
        (gate,) = await gates.current(world.pool)
        async with world.pool.acquire() as connection:
            await gates.open_by_hand(connection, gate.id, "ann")
        await world.at("2026-03-10T08:20:00Z")
        await delivery.run_once()

    assert await gates.current(world.pool) == []
    assert await _against_addresses(world) == (10, 10)


async def test_only_what_was_said_in_these_words_lately_is_taken_back(world: World) -> None:
    await _planned(world, 4)
    outbox = Outbox(world.pool, "a", timedelta(seconds=60))
    ids = [one.id for one in await outbox.claim(4)]
    await world.pool.execute("UPDATE service.delivery_state SET state = 'failed', reason = 'hard_bounce'")
    for id_, words, day in zip(ids, ["ours", "theirs", "ours", None], ["10", "10", "08", "10"], strict=True):
        await world.at(f"2026-03-{day}T09:00:00Z")
        await outbox.address_failures.note_hard_bounce(id_, words, no_such_address=True)
    await world.at("2026-03-10T10:00:00Z")

    await outbox.address_failures.take_back("ours")

    rows = await world.pool.fetch(f"SELECT id {_STATES} WHERE state = 'planned'")
    assert [row["id"] for row in rows] == ids[:1]
    assert await _against_addresses(world) == (3, 3)
