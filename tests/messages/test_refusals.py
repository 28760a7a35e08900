"""A mail server that refuses us, on real SMTP and a real database: nobody bears it, and sending backs off."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from service.clock import SystemClock
from service.engine.loops import first_of
from service.messages.delivery import DeliveryLoop
from service.messages.mail.smtp import SmtpConfig, SmtpPool
from service.messages.outbox import Outbox
from tests.given import GOALS, World, goal, user
from tests.process import until
from tests.smtp_server import DROP, Misbehave, RecordingServer


async def _planned(world: World, people: int) -> None:
    await world.at("2026-03-10T08:00:00Z")
    names = [f"u{n:04d}" for n in range(people)]
    await world.live(*map(user, names), *(goal(f"g-{n}", n, "2026-03-11") for n in names))
    await (await world.runner()).run_manual(GOALS)


def _delivery(world: World, server: RecordingServer, **changes: Any) -> DeliveryLoop:
    connections = changes.get("connections", 10)
    config = SmtpConfig(
        "127.0.0.1", server.port, "none", user="mailer", password="secret", connections=connections
    )
    return world.delivery(SmtpPool(config, SystemClock()), **{"connections": connections} | changes)


def _always(phase: str, told: str) -> Misbehave:
    return lambda at, _recipient: told if at == phase else None


async def _states(world: World) -> dict[tuple[str, str | None, int], int]:
    """How many mails have this state, reason and number of attempts."""
    rows = await world.pool.fetch(
        "SELECT state, reason, attempt, count(*) FROM service.delivery WHERE channel = 'email'"
        " GROUP BY state, reason, attempt"
    )
    return {tuple(row)[:3]: row["count"] for row in rows}


async def _held_against_people(world: World) -> int:
    count: int = await world.pool.fetchval(
        "SELECT (SELECT count(*) FROM service.hard_bounce) + (SELECT count(*) FROM service.suppression)"
    )
    return count


class Waits:
    """Stands in for waiting: notes the seconds, and stops at the last."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.seconds: list[float] = []
        self.stop = asyncio.Event()

    async def __call__(self, seconds: float, *events: asyncio.Event) -> None:
        assert self.stop in events
        self.seconds.append(seconds)
        if len(self.seconds) == self.most:
            self.stop.set()


# ── Whom an answer is about ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("told", "reason", "attempt"),
    [
        ("504 5.5.2 <localhost>: Helo command rejected: need fully-qualified hostname", "our_fault", 0),
        ("554 5.7.1 Service unavailable; Client host [192.0.2.1] blocked using bl.example", "our_fault", 0),
        ("554 5.7.1 <a@example.org>: Relay access denied", "our_fault", 0),
        ("530 5.7.0 Authentication required", "our_fault", 0),
        ("550 5.7.1 policy", "our_fault", 0),
        ("550 Blocked, see https://check.example/lookup?ip=5.1.1.23", "our_fault", 0),
        ("552 5.2.2 Mailbox full", "rcpt_552", 1),
        ("550-5.1.1 one moment\r\n550 5.2.1 This account is disabled", "rcpt_550", 1),
    ],
)
async def test_what_is_not_about_the_address_is_held_against_nobody(
    world: World, told: str, reason: str, attempt: int
) -> None:
    await _planned(world, 2)
    async with RecordingServer(_always("rcpt", told), auth=True) as server:
        for day in (10, 11, 12):
            await world.at(f"2026-03-{day}T08:00:00Z")
            await world.pool.execute(
                "UPDATE service.delivery SET attempt = 0, not_before = service.now(), state = 'planned',"
                " expires_at = service.now() + interval '1 hour' WHERE channel = 'email'"
            )
            await _delivery(world, server).run_once()

            assert await _states(world) == {("planned", reason, attempt): 2}

    assert await _held_against_people(world) == 0


async def test_the_lines_of_an_answer_are_kept_apart(world: World) -> None:
    await _planned(world, 1)
    told = "550-5.7.26 Neither SPF nor DKIM\r\n550 5.7.26 passed"
    async with RecordingServer(_always("dot", told), auth=True) as server:
        await _delivery(world, server).run_once()

    reply = await world.pool.fetchval("SELECT smtp_reply FROM service.delivery WHERE channel = 'email'")
    assert reply == "5.7.26 Neither SPF nor DKIM\n5.7.26 passed"


@pytest.mark.parametrize(("phase", "refused"), [("rcpt", 3), ("data", 3), ("dot", 4)])
async def test_three_recipients_in_a_row_refused_for_our_sake_stop_all_sending(
    world: World, phase: str, refused: int
) -> None:
    """With the third dot the fourth mail's commands were on their way."""
    await _planned(world, 8)
    async with RecordingServer(_always(phase, "554 5.7.1 not from you"), auth=True) as server:
        delivery = _delivery(world, server, connections=1)
        await delivery.run_once()

    assert "3 recipients in a row" in (delivery.problem or "")
    assert await _states(world) == {("planned", "our_fault", 0): refused, ("planned", None, 0): 8 - refused}
    assert await _held_against_people(world) == 0


async def test_the_same_recipient_refused_again_and_again_stops_nobody(world: World) -> None:
    await _planned(world, 1)
    async with RecordingServer(_always("rcpt", "554 5.7.1 not from you"), auth=True) as server:
        delivery = _delivery(world, server)
        for minute in range(0, 50, 10):
            await world.at(f"2026-03-10T08:{minute:02d}:00Z")
            await delivery.run_once()

    assert delivery.problem is None
    assert sum(command.startswith("RCPT") for command in server.commands) == 5


async def test_a_mail_that_is_taken_in_between_shows_that_we_may_send(world: World) -> None:
    await _planned(world, 9)

    def refuse(phase: str, recipient: str) -> str | None:
        return "550 5.7.1 no" if phase == "rcpt" and int(recipient[1:5]) % 3 else None

    async with RecordingServer(refuse, auth=True) as server:
        delivery = _delivery(world, server, connections=1)
        await delivery.run_once()

    assert delivery.problem is None
    assert await _states(world) == {("planned", "our_fault", 0): 6, ("sent", None, 1): 3}


# ── Backing off ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("phase", "told", "people"),
    [("auth", "535 5.7.8 no", 800), ("connect", "554 5.7.1 no", 300), ("mail", "550 5.7.1 no", 300)],
)
async def test_a_server_that_refuses_us_is_asked_once_and_then_by_single_probes(
    world: World, phase: str, told: str, people: int
) -> None:
    await _planned(world, people)
    waits = Waits(7)
    async with RecordingServer(_always(phase, told), auth=True) as server:
        delivery = _delivery(world, server, wait=waits)
        await delivery.serve(waits.stop)

    assert waits.seconds == [5, 10, 20, 40, 60, 60, 60]
    if phase == "mail":  # nine other connections had been let in
        assert sum(command.startswith("MAIL") for command in server.commands) <= 7 + 9
    else:
        assert server.connections == 7
    assert {state for state, _, _ in await _states(world)} == {"planned"}
    assert {attempt for _, _, attempt in await _states(world)} == {0}


@pytest.mark.parametrize("told", ["554 5.7.1 spam", "552 no", "554 no"])
async def test_content_that_is_refused_for_our_sake_is_not_burnt(world: World, told: str) -> None:
    await _planned(world, 300)
    waits = Waits(5)
    async with RecordingServer(_always("dot", told), auth=True) as server:
        await _delivery(world, server, wait=waits).serve(waits.stop)

    assert waits.seconds == [5, 10, 20, 40, 60]
    assert server.commands.count(".") <= 3 + 9 + 9 + 4  # each connection may have had one, and one on its way
    assert {(state, attempt) for state, _, attempt in await _states(world)} == {("planned", 0)}


@pytest.mark.parametrize("told", ["552 5.3.4 too large", "554 5.6.0 malformed"])
async def test_content_that_never_heals_fails_and_still_backs_off(world: World, told: str) -> None:
    await _planned(world, 300)
    waits = Waits(5)
    async with RecordingServer(_always("dot", told), auth=True) as server:
        await _delivery(world, server, wait=waits).serve(waits.stop)

    burnt = (await _states(world))[("failed", "content_refused", 1)]
    assert waits.seconds == [5, 10, 20, 40, 60]
    assert 3 + 4 <= burnt <= 3 + 9 + 9 + 4


async def test_the_probe_that_succeeds_ends_the_back_off_at_once(world: World) -> None:
    await _planned(world, 300)
    heals: list[float] = []

    class Healed(Waits):
        async def __call__(self, seconds: float, *events: asyncio.Event) -> None:
            await super().__call__(seconds, *events)
            if len(self.seconds) == 2:
                heals.append(seconds)
                await world.at("2026-03-10T08:02:00Z")

    waits = Healed(3)
    async with RecordingServer(
        lambda phase, _: "535 5.7.8 no" if phase == "auth" and not heals else None, auth=True
    ) as server:
        delivery = _delivery(world, server, wait=waits)
        await delivery.serve(waits.stop)

    assert waits.seconds == [5, 10, 2]  # the last is the rest of an empty queue
    assert delivery.problem is None
    assert len(server.accepted) == 300


async def test_a_stop_ends_the_back_off(world: World) -> None:
    await _planned(world, 50)
    stop, waiting = asyncio.Event(), asyncio.Event()

    async def wait(_seconds: float, *events: asyncio.Event) -> None:
        waiting.set()
        await first_of(3600, *events)

    async with RecordingServer(_always("auth", "535 5.7.8 no"), auth=True) as server:
        serving = asyncio.ensure_future(_delivery(world, server, wait=wait).serve(stop))
        async with asyncio.timeout(60):
            await waiting.wait()
            stop.set()
            await serving

    assert server.logins == 1


# ── Between mark and dot ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("pipelining", [True, False])
async def test_a_server_that_hangs_up_between_mark_and_dot_makes_nothing_unconfirmed(
    world: World, pipelining: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _planned(world, 60)
    really = Outbox.mark_dots

    async def mark(outbox: Outbox, mine: Sequence[tuple[int, int]]) -> frozenset[int]:
        marked = await really(outbox, mine)
        if hangs_up:
            await until(lambda: server.closed == server.connections)
        return marked

    monkeypatch.setattr(Outbox, "mark_dots", mark)
    hangs_up = True
    async with RecordingServer(
        lambda phase, _: DROP if phase == "content" and hangs_up else None, auth=True, pipelining=pipelining
    ) as server:
        delivery = _delivery(world, server)
        await delivery.run_once()
        lost = await _states(world)
        marks = await world.pool.fetchval("SELECT count(dot_at) FROM service.delivery")
        hangs_up = False
        await world.at("2026-03-10T08:05:00Z")
        await delivery.run_once()

    assert lost == {("planned", "content_lost", 1): 60}
    assert marks == 0
    assert await _states(world) == {("sent", None, 2): 60}
    assert len(server.accepted) == 60
