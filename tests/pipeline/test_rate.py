"""The rate: every message has a slot of its own, n messages take n/rate, whoever asks and how many ask."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest

from service.domain.transport import BeforeDot, Envelope, OnResult, Phase, Wanted, every
from service.pipeline import delivery as delivery_module
from service.pipeline.delivery import Delivery
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


def _delivery(world: World, transport: Scripted, clock: Hands, rate: float, **changes: Any) -> Delivery:
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
        wanted: Wanted = every,
    ) -> None:
        granted = await before_dot([envelope.id for envelope in envelopes])
        self.batches.append(len(envelopes))
        for envelope in envelopes:
            if envelope.id not in granted:
                await on_result(refused(envelope, Phase.CONTENT, None, "not granted"))
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
        "UPDATE service.delivery SET state = 'planned', attempt = 0 WHERE channel = 'email'"
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
