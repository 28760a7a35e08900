"""What the mail server answered is kept while PostgreSQL is away, and written when it is back."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import asyncpg
import pytest
from structlog.testing import capture_logs

from service.messages.mail.transport import BeforeDot, Envelope, OnResult, ShouldSend, always
from service.messages.outbox import Outbox
from tests.given import GOALS, Scripted, World, accepted, goal, user

_KEPT = "answers of the mail server are kept until they can be written"


async def _planned(world: World) -> None:
    await world.at("2026-03-10T08:00:00Z")
    await world.live(user("ann"), goal("g-ann", "ann", "2026-03-11"))
    await (await world.runner()).run_manual(GOALS)


@asynccontextmanager
async def _away(world: World, postgres: str) -> AsyncIterator[None]:
    """Nobody gets into the database, and who was in it is put out."""
    name = await world.pool.fetchval("SELECT current_database()")
    admin = await asyncpg.connect(postgres)
    await admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
    await admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name)
    try:
        yield
    finally:
        await admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
        await admin.close()


async def _kept(logs: Sequence[object]) -> None:
    while not any(_KEPT in str(line) for line in logs):
        await asyncio.sleep(0.01)


class _Outage(Scripted):
    """PostgreSQL goes away between the dot and its answer, and stays away until a write has failed."""

    def __init__(self, world: World, postgres: str) -> None:
        super().__init__()
        self._world, self._postgres = world, postgres

    async def send(
        self,
        envelopes: Sequence[Envelope],
        before_dot: BeforeDot,
        on_result: OnResult,
        should_send: ShouldSend = always,
    ) -> None:
        (envelope,) = envelopes
        should_send(envelope)
        assert envelope.id in await before_dot([envelope.id])
        with capture_logs() as logs:
            async with _away(self._world, self._postgres):
                await on_result(accepted(envelope))
                await _kept(logs)


async def test_answers_are_kept_while_the_database_is_away(world: World, postgres: str) -> None:
    await _planned(world)

    await world.delivery(_Outage(world, postgres)).run_once()

    assert await world.mails() == {"ann": ("sent", None)}


async def test_a_mark_without_a_dot_is_taken_back_when_the_database_is_back(
    world: World, postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if somebody took the message for unconfirmed meanwhile: no dot was written."""
    really = Outbox.mark_dots
    back = asyncio.Event()

    async def unheard(outbox: Outbox, mine: Sequence[tuple[int, int]]) -> frozenset[int]:
        await really(outbox, mine)
        asyncio.ensure_future(outage()).add_done_callback(lambda _: back.set())
        await gone.wait()
        raise ConnectionResetError("the database hung up")

    gone = asyncio.Event()

    async def outage() -> None:
        with capture_logs() as logs:
            async with _away(world, postgres):
                gone.set()
                await _kept(logs)
                await asyncio.sleep(0)

    await _planned(world)
    monkeypatch.setattr(Outbox, "mark_dots", unheard)

    with pytest.raises(ExceptionGroup):
        await world.delivery(Scripted(), connections=1).run_once()
    await back.wait()

    assert await world.mails() == {"ann": ("planned", None)}


async def test_what_was_taken_for_unconfirmed_is_released_if_it_has_no_dot(world: World) -> None:
    await _planned(world)
    outbox = world.delivery(Scripted())._outbox
    (claimed,) = await outbox.claim(5)
    await outbox.mark_dots([(claimed.id, claimed.claim)])
    await world.at("2026-03-10T08:02:00Z")
    await outbox.recover()
    assert (await world.mails())["ann"][0] == "unconfirmed"

    await outbox.release([claimed])

    assert (await world.mails())["ann"][0] == "planned"
