"""What a process has claimed stays its own until it is over, or is given up: leases, mails taken back."""

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest

from service.messages.delivery import DeliveryLoop
from service.messages.mail.transport import Envelope
from service.messages.outbox import ClaimedDelivery
from tests.given import GOALS, Scripted, World, goal, user


async def _planned(world: World, *names: str) -> None:
    await world.live(*map(user, names), *(goal(f"g-{n}", n, "2026-03-11") for n in names))
    await (await world.runner()).run_manual(GOALS)


async def _until_waiting(delivery: DeliveryLoop, count: int) -> None:
    while delivery._queue.waiting < count:
        delivery._wake.set()
        await asyncio.sleep(0.01)


class _Pulling(Scripted):
    """Pulls mails, and asks for no dot before ``go``."""

    def __init__(self) -> None:
        super().__init__()
        self.pulled: list[Envelope] = []

    def wake(self, at_most: int | None = None) -> None:
        while envelope := self.queue.next():
            self._asking[envelope.id] = envelope
            self.pulled.append(envelope)

    def go(self) -> None:
        for envelope in self.pulled:
            self.queue.request_dot(envelope.id, partial(self._decided, envelope))
        self.pulled.clear()


async def _serving(delivery: DeliveryLoop) -> tuple[asyncio.Event, asyncio.Task[None]]:
    stop = asyncio.Event()
    return stop, asyncio.create_task(delivery.serve(stop))


async def _one_waiting(world: World) -> tuple[DeliveryLoop, asyncio.Event, asyncio.Task[None]]:
    """A process with one mail in its queue, and no connection for it."""
    await world.at("2026-03-10T08:00:00Z")
    await _planned(world, "ann")
    delivery = world.delivery(Scripted(connections=0), idle=0.01)
    stop, serving = await _serving(delivery)
    await _until_waiting(delivery, 1)
    return delivery, stop, serving


async def test_renewing_leases_gives_up_nothing_that_was_claimed_meanwhile(world: World) -> None:
    delivery, stop, serving = await _one_waiting(world)
    really = delivery._outbox.renew

    async def slow(claims: Sequence[int]) -> frozenset[int]:
        await _planned(world, "bob")
        await _until_waiting(delivery, 2)
        return await really(claims)

    delivery._outbox.renew = slow  # type: ignore[method-assign]
    await delivery._renew()

    assert delivery._queue.waiting == 2
    assert await world.pool.fetchval("SELECT count(*) FROM service.delivery_claim") == 2
    stop.set()
    await serving
    assert await world.mails() == {"ann": ("planned", None), "bob": ("planned", None)}


async def test_a_lease_that_is_over_is_given_up(world: World) -> None:
    delivery, stop, serving = await _one_waiting(world)
    await world.at("2026-03-10T08:02:00Z")

    await delivery._renew()

    assert delivery._queue.waiting == 0
    stop.set()
    await serving
    await delivery._outbox.recover()
    assert await world.mails() == {"ann": ("planned", None)}


async def test_a_mail_that_is_taken_back_in_the_middle_is_not_begun_a_second_time(world: World) -> None:
    """Its recipient changes their choices while a connection is busy with it: the next claim must wait."""
    await world.at("2026-03-10T08:00:00Z")
    await _planned(world, "ann")
    transport = _Pulling()
    delivery = world.delivery(transport, idle=0.01)
    stop, serving = await _serving(delivery)
    while not transport.pulled:
        await asyncio.sleep(0.01)
    await world.pool.execute(
        "INSERT INTO service.preference_override (user_id, kind, channel, enabled, source)"
        " VALUES ('ann', 'deadlines', 'email', true, 'page')"
    )

    while await world.pool.fetchval(
        "SELECT NOT EXISTS (SELECT FROM service.delivery_state"
        " WHERE state = 'planned' AND not_before > service.now())"
    ):
        await asyncio.sleep(0.01)
    assert len(transport.pulled) == 1
    transport.go()
    while delivery._in_hand.claims:
        await asyncio.sleep(0.01)
    assert transport.received == []

    await world.at("2026-03-10T08:00:30Z")  # no later than the lease of a claim that is under way
    while not transport.pulled:
        delivery._wake.set()
        await asyncio.sleep(0.01)
    transport.go()
    while not transport.received:
        await asyncio.sleep(0.01)
    stop.set()
    await serving
    assert len(transport.received) == 1
    assert await world.mails() == {"ann": ("sent", None)}
    assert await world.pool.fetchval("SELECT attempt FROM service.delivery_state") == 1


async def test_a_stop_releases_what_has_no_dot(world: World) -> None:
    await world.at("2026-03-10T08:00:00Z")
    await _planned(world, "ann", "bob", "cat")
    transport = _Pulling()
    delivery = world.delivery(transport, idle=0.01)
    stop, serving = await _serving(delivery)
    while len(transport.pulled) < 3:
        await asyncio.sleep(0.01)

    stop.set()
    await serving

    rows = await world.pool.fetch("SELECT state, attempt, claim FROM service.delivery_state")
    assert [tuple(row) for row in rows] == [("planned", 0, None)] * 3


async def test_a_mail_that_ends_during_a_claim_is_not_waited_for(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.at("2026-03-10T08:00:00Z")
    await _planned(world, "ann")
    delivery = world.delivery(Scripted(), idle=60)
    really, ended_meanwhile = delivery._outbox.claim, []

    async def slow(*args: Any, **options: Any) -> list[ClaimedDelivery]:
        in_hand = bool(delivery._in_hand.claims)
        claimed = await really(*args, **options)
        while delivery._in_hand.claims and not claimed:
            await asyncio.sleep(0.01)
        ended_meanwhile.append(in_hand)
        return claimed

    monkeypatch.setattr(delivery._outbox, "claim", slow)

    async with asyncio.timeout(40):
        await delivery.run_once()

    assert ended_meanwhile == [False, True, False]
