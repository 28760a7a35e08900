"""The rate: every message has a slot of its own, n messages take n/rate, whoever asks and how many ask."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest

from service.messages import delivery as delivery_module
from service.messages.delivery import DeliveryLoop
from service.messages.limits import DomainLimits
from service.messages.mail.transport import BeforeDot, Envelope, OnResult, ShouldSend, SmtpPhase, always
from tests.given import GOALS, Scripted, World, accepted, goal, refused, user


class Hands:
    """A clock that moves when somebody sleeps. ``slots``: until when, ``waits``: for how long."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.seconds = 1000.0
        self.slots: list[float] = []
        self.waits: list[float] = []
        self._moving = asyncio.Lock()

    def now(self) -> datetime:
        return datetime(2026, 3, 10, 8, tzinfo=UTC) + timedelta(seconds=self.seconds - 1000)

    def monotonic(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        """Instead of ``asyncio.sleep``: time is over at once, in the database as well."""
        until = self.seconds + seconds
        if seconds:  # otherwise it only lets others have their turn
            self.slots.append(until)
            self.waits.append(seconds)
        await asyncio.sleep(0)
        async with self._moving:
            if until > self.seconds:
                self.seconds = until
                await self.world.at(self.now().isoformat())


@pytest.fixture
def clock(world: World, monkeypatch: pytest.MonkeyPatch) -> Hands:
    hands = Hands(world)
    others_sleep_as_ever = SimpleNamespace(**vars(asyncio) | {"sleep": hands.sleep})
    monkeypatch.setattr(delivery_module, "asyncio", others_sleep_as_ever)
    return hands


async def _planned(world: World, people: int) -> None:
    names = [f"u{n:02d}" for n in range(people)]
    await world.at("2026-03-10T08:00:00Z")
    await world.live(*map(user, names), *(goal(f"g-{n}", n, "2026-03-11") for n in names))
    await (await world.runner()).run_manual(GOALS)


def _delivery(world: World, transport: Scripted, clock: Hands, rate: float, **changes: Any) -> DeliveryLoop:
    return world.delivery(transport, clock=clock, rate=rate, **{"connections": 1, **changes})


class AllAtOnce(Scripted):
    """Asks for the dots of a whole batch together."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[int] = []

    async def send(
        self,
        envelopes: Sequence[Envelope],
        before_dot: BeforeDot,
        on_result: OnResult,
        should_send: ShouldSend = always,
    ) -> None:
        granted = await before_dot([envelope.id for envelope in envelopes])
        self.batches.append(len(envelopes))
        for envelope in envelopes:
            if envelope.id not in granted:
                await on_result(refused(envelope, SmtpPhase.CONTENT, None, "not granted"))
                continue
            self.received.append(envelope)
            await on_result(accepted(envelope))


@pytest.mark.parametrize("rate", [0.5, 4.0, 16.0])
async def test_each_message_waits_for_its_slot(world: World, clock: Hands, rate: float) -> None:
    await _planned(world, 9)
    transport = Scripted()

    await _delivery(world, transport, clock, rate).run_once()

    assert len(transport.received) == 9
    assert clock.slots == [1000 + n / rate for n in range(1, 9)]


@pytest.mark.parametrize("connections", [2, 5, 10])
async def test_all_connections_together_keep_to_one_rate(
    world: World, clock: Hands, connections: int
) -> None:
    await _planned(world, 20)
    transport = Scripted()

    await _delivery(world, transport, clock, 4.0, connections=connections, batch=2).run_once()

    assert len(transport.received) == 20
    assert len(clock.slots) >= 19 - connections
    assert all(later - earlier >= 0.25 for earlier, later in pairwise(sorted(clock.slots)))
    assert max(clock.slots) >= 1000 + 19 / 4


async def test_whoever_asks_for_several_takes_as_many_slots(world: World, clock: Hands) -> None:
    await _planned(world, 9)
    transport = AllAtOnce()

    await _delivery(world, transport, clock, 4.0, batch=3).run_once()

    assert transport.batches == [3, 3, 3]
    assert len(transport.received) == 9
    assert clock.slots == [1000.75, 1001.5]


async def test_slots_that_nobody_used_are_not_saved_up(world: World, clock: Hands) -> None:
    await _planned(world, 3)
    delivery = _delivery(world, Scripted(), clock, 4.0)
    await delivery.run_once()
    clock.slots.clear()
    clock.seconds += 100
    await world.pool.execute(
        "UPDATE service.delivery_state SET claim = NULL, state = 'planned', attempt = 0"
    )

    await delivery.run_once()

    assert clock.slots == [1100.75, 1101.0]


async def test_without_a_rate_nobody_waits(world: World, clock: Hands) -> None:
    await _planned(world, 9)
    transport = Scripted()

    await _delivery(world, transport, clock, 0.0, connections=3).run_once()

    assert len(transport.received) == 9
    assert clock.slots == []


@pytest.mark.parametrize(
    ("rate", "connections", "batches"),
    [(4.0, 1, [12]), (0.4, 1, [6, 6]), (0.1, 1, [1] * 12), (0.4, 2, [3] * 4)],
)
async def test_a_batch_is_so_small_that_it_is_over_within_a_quarter_of_its_lease(
    world: World, clock: Hands, rate: float, connections: int, batches: list[int]
) -> None:
    """A lease is a minute."""
    await _planned(world, 12)
    transport = AllAtOnce()

    await _delivery(world, transport, clock, rate, connections=connections).run_once()

    assert transport.batches == batches


async def test_however_slow_the_rate_no_message_waits_for_longer_than_its_lease(
    world: World, clock: Hands
) -> None:
    """Else its dot is refused, and an attempt of its own is used up by waiting for the others."""
    await _planned(world, 10)

    await _delivery(world, Scripted(), clock, 0.05, connections=10).run_once()

    assert max(clock.waits) < 60


# ── A rate for each domain ──────────────────────────────────────────────────────────────────────────────────


def _granted(delivery: DeliveryLoop, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[float]]:
    """When each domain's mails got leave to go; then they wait for the database."""
    times: dict[str, list[float]] = {}
    goes = delivery._limiter.record_send

    def noted(domain: str, at: float) -> None:
        times.setdefault(domain, []).append(at)
        goes(domain, at)

    monkeypatch.setattr(delivery._limiter, "record_send", noted)
    return times


async def _planned_at(world: World, *people: tuple[int, str]) -> None:
    await world.at("2026-03-10T08:00:00Z")
    names = [(f"{domain}-{n:02d}", domain) for count, domain in people for n in range(count)]
    await world.live(
        *(user(name, email=f"{name}@{domain}") for name, domain in names),
        *(goal(f"g-{name}", name, "2026-03-11") for name, _ in names),
    )
    await (await world.runner()).run_manual(GOALS)


async def _all_sent(delivery: DeliveryLoop, transport: Scripted, clock: Hands, messages: int) -> None:
    while len(transport.received) < messages:
        if not await delivery.run_once():
            await clock.sleep(0.5)


@pytest.mark.parametrize(("rate", "connections"), [(4.0, 1), (4.0, 3), (0.3, 1), (0.3, 3), (2.5, 2)])
async def test_a_domain_with_a_rate_gets_no_more_and_the_others_do_not_wait(
    world: World, clock: Hands, monkeypatch: pytest.MonkeyPatch, rate: float, connections: int
) -> None:
    await _planned_at(world, (12, "slow.example"), (12, "example.org"))
    transport = Scripted()
    limits = DomainLimits.parse(f"slow.example=0/{rate}")
    delivery = _delivery(world, transport, clock, 0.0, connections=connections, limits=limits, batch=4)
    times = _granted(delivery, monkeypatch)

    await _all_sent(delivery, transport, clock, 24)

    slow = times["slow.example"]
    assert all(later - earlier >= 1 / rate - 1e-6 for earlier, later in pairwise(slow))
    assert slow[-1] <= 1000 + 11 / rate + 12 * 0.5
    assert max(times["example.org"]) <= 1000 + 2 * connections


async def test_the_rate_of_all_and_that_of_a_domain_hold_together(
    world: World, clock: Hands, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _planned_at(world, (8, "slow.example"), (8, "example.org"))
    transport = Scripted()
    limits = DomainLimits.parse("slow.example=0/2")
    delivery = _delivery(world, transport, clock, 5.0, connections=2, limits=limits, batch=4)
    times = _granted(delivery, monkeypatch)

    await _all_sent(delivery, transport, clock, 16)

    together = sorted(times["slow.example"] + times["example.org"])
    assert all(later - earlier >= 0.5 - 1e-6 for earlier, later in pairwise(times["slow.example"]))
    assert all(later - earlier >= 0.2 - 1e-6 for earlier, later in pairwise(together))


async def test_a_rate_for_everybody_is_each_domains_own(
    world: World, clock: Hands, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _planned_at(world, (3, "a.example"), (3, "b.example"), (3, "c.example"))
    transport = Scripted()
    delivery = _delivery(world, transport, clock, 0.0, limits=DomainLimits.parse("*=0/1"))
    times = _granted(delivery, monkeypatch)

    await _all_sent(delivery, transport, clock, 9)

    for own in times.values():
        assert own == pytest.approx([1000, 1001, 1002], abs=0.6)
        assert all(later - earlier >= 1 - 1e-6 for earlier, later in pairwise(own))
