"""What the mail server answered is kept while PostgreSQL is away, and written when it is back."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
from structlog.testing import capture_logs

from service.messages.mail.transport import Envelope
from tests.given import GOALS, Scripted, World, goal, user

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
        self.outage: asyncio.Future[None] | None = None

    def _send(self, envelope: Envelope) -> None:
        self.outage = asyncio.ensure_future(self._answer_meanwhile(envelope))

    async def _answer_meanwhile(self, envelope: Envelope) -> None:
        with capture_logs() as logs:
            async with _away(self._world, self._postgres):
                super()._send(envelope)
                await _kept(logs)


async def test_answers_are_kept_while_the_database_is_away(world: World, postgres: str) -> None:
    await _planned(world)
    outage = _Outage(world, postgres)

    await world.delivery(outage).run_once()

    assert outage.outage
    await outage.outage
    assert await world.mails() == {"ann": ("sent", None)}


async def test_a_mark_of_which_nobody_heard_is_taken_back(world: World, postgres: str) -> None:
    """The statement was carried out, its answer was lost: no dot was permitted, so none was written."""
    await _planned(world)
    transport = Scripted()
    delivery = world.delivery(transport)
    really = delivery._writer._record
    outages: list[asyncio.Future[None]] = []

    async def unheard(dots: Any, settlements: Any) -> Any:
        found = await really(dots, settlements)
        if dots and not outages:
            gone = asyncio.Event()
            outages.append(asyncio.ensure_future(outage(gone)))
            await gone.wait()
            raise ConnectionResetError("the database hung up")
        return found

    async def outage(gone: asyncio.Event) -> None:
        with capture_logs() as logs:
            async with _away(world, postgres):
                gone.set()
                await _kept(logs)

    delivery._writer._record = unheard
    await delivery.run_once()
    await outages[0]

    assert await world.mails() == {"ann": ("sent", None)}  # by another attempt
    assert len(transport.received) == 1


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
