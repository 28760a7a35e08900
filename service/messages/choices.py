"""Stores what recipients choose: on a page behind a mail's links, by one click, or by a mail."""

from collections.abc import Iterable, Mapping
from typing import Any, cast

import asyncpg

from service.engine import queries
from service.engine.database import Connection

_SQL = queries.load(__file__)

Choices = Mapping[tuple[str, str], bool]
"""(kind or ``*``, channel) → on or off."""


async def store(connection: Connection, source: str, user_id: str, choices: Choices) -> dict[str, Any]:
    """Store choices; returns what the audit log is to say of them: nothing if they were made before."""
    kinds, channels = [kind for kind, _ in choices], [channel for _, channel in choices]
    arguments = (user_id, kinds, list(choices.values()), source, channels)
    if (await connection.execute(_SQL["store_choices"], *arguments)).endswith(" 0"):
        return {}
    return {"decided": {f"{kind} {channel}": enabled for (kind, channel), enabled in choices.items()}}


async def record(connection: Connection, act: str, user_id: str, details: Mapping[str, Any]) -> None:
    """Write an entry in the audit log for a recipient; none without details."""
    if details:
        await connection.execute(_SQL["audit"], act, {"user": user_id, **details})


async def unsubscribe(connection: Connection, user_id: str, kinds: Iterable[str]) -> bool:
    """Stop mails of these kinds (``*``: all), in the transaction of ``connection``.

    Returns whether that changed something; then it is in the audit log.
    """
    choices = {(kind, "email"): False for kind in kinds}
    details = await store(connection, "unsubscribe", user_id, choices)
    await record(connection, "unsubscribe", user_id, details)
    return bool(details)


class UnsubscribeByMail:
    """Unsubscribes whoever got the mail with a token, because somebody wrote to its unsubscribe address."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def take(self, token: str, connection: asyncpg.Connection | None = None) -> tuple[int | None, bool]:
        """Stop mails of the kind of that mail, as one click does. ``connection``: in its transaction.

        Returns the delivery (None: no such token, or several old ones without regard to case), and whether
        it changed something.
        """
        if connection is not None:
            return await self._take(token, connection)
        async with self._pool.acquire() as proxy, proxy.transaction():
            return await self._take(token, cast("asyncpg.Connection", proxy))

    async def _take(self, token: str, connection: asyncpg.Connection) -> tuple[int | None, bool]:
        found = await connection.fetch(_SQL["mail_of_token"], token, token.lower())
        found = found or await connection.fetch(_SQL["mails_of_old_token"], token.lower())
        if len(found) != 1:
            return None, False
        mail = found[0]
        return mail["id"], await unsubscribe(connection, mail["user_id"], [mail["kind"]])
