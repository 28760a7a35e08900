"""The gate of a mail server in the database: while it is shut, no process sends mail through that server.

The process that meets a refusal of all mail shuts it. Then one process at a time sends one mail, at growing
intervals; the first that is accepted opens the gate, and what waited for the server is due at once.
"""

import asyncio
from dataclasses import asdict
from datetime import timedelta

import asyncpg

from service.engine import queries
from service.engine.batches import update_all
from service.engine.database import Connection
from service.engine.gates import Cause
from service.engine.retry import relay_pauses
from service.messages.relay import RelayRefusal

_SQL = queries.load(__file__)
_PROBE = timedelta(seconds=90)
"""A probe that has no result after this is taken for lost, with the process that sent it."""
_REPORTS = timedelta(minutes=10)
"""How long reports about a mail are waited for."""
_NOTHING_TO_SEND = timedelta(seconds=1)


class RelayGate:
    """The gate of ``relay`` (``host:port``), for the process ``owner``."""

    def __init__(self, pool: asyncpg.Pool, relay: str, owner: str) -> None:
        self._pool = pool
        self._owner = owner
        self._in_turn = asyncio.Lock()
        self.relay = relay

    async def current(self) -> RelayRefusal | None:
        """Why it is shut by a breaker; None: it is not."""
        row = await self._pool.fetchrow(_SQL["current"], self.relay)
        if row is None:
            return None
        return RelayRefusal(
            row["reason"], bool(row["unreachable"]), row["words"], reported=bool(row["reported"])
        )

    async def shut(self, refusal: RelayRefusal, *, probed: bool) -> None:
        """Stop all processes. ``probed``: a probe showed it, so that the next comes later."""
        details = asdict(refusal)
        cause = Cause.BASE_RATE if refusal.words else Cause.BREAKER
        async with self._in_turn:
            await self._pool.execute(
                _SQL["shut"], self.relay, self._owner, details, relay_pauses(), probed, cause, timeout=10
            )

    async def shut_by_reports(self, refusal: RelayRefusal, connection: Connection) -> None:
        """The same for what reports say. In the connection's transaction."""
        args = (self.relay, self._owner, asdict(refusal), [_REPORTS], False, Cause.BASE_RATE)
        await connection.execute(_SQL["shut"], *args)

    async def shut_for(self, words: str, connection: Connection) -> bool:
        """Whether it is shut because of replies in these words."""
        return bool(await connection.fetchval(_SQL["shut_for"], self.relay, words))

    async def overruled(self, words: str, connection: Connection) -> bool:
        """Whether a person opened it within 30 days although replies in these words had shut it."""
        return bool(await connection.fetchval(_SQL["overruled"], self.relay, words))

    async def await_reports(self, delivery: int) -> None:
        """This mail was accepted as a probe: it opens the gate if it has not come back in ten minutes."""
        await self._pool.execute(_SQL["await_reports"], self.relay, _REPORTS, delivery, timeout=10)

    async def open_if_nothing_came_back(self) -> None:
        """Open it if the mail of a probe was accepted and has not come back."""
        if await self._pool.fetchval(_SQL["nothing_came_back"], self.relay):
            await self.open()

    async def take_probe(self, *, at_once: bool) -> bool:
        """Whether this process may send one mail now. ``at_once``: without waiting for the pause's end."""
        return await self._pool.fetchval(_SQL["take_probe"], self.relay, _PROBE, at_once) is not None

    async def put_back(self) -> None:
        """Nothing was sent: another process may probe."""
        await self._pool.execute(_SQL["put_back"], self.relay, _NOTHING_TO_SEND)

    async def opened_by_probe(self) -> bool:
        """Whether a probe opened it last; False: a person did."""
        return bool(await self._pool.fetchval(_SQL["opened_by_probe"], self.relay))

    async def open(self) -> None:
        """Let all processes send again, and make due what waited for the server."""
        async with self._in_turn:
            await self._pool.execute(_SQL["open"], self.relay, self._owner, timeout=10)
        await update_all(self._pool, _SQL["release_waiting"])
