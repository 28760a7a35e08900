"""Every act leaves one trace, whether it came by the API or by the console."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date
from typing import Any, cast

import asyncpg
from aiohttp import web

from service.engine import queries
from service.web.deps import DEPS, ROLE

_SQL = queries.load(__file__)


def actor(request: web.Request, name: str = "") -> str:
    """Who acts, as it is written down: the role, and the name that somebody gave."""
    role = str(request[ROLE])
    return f"{name} ({role})" if name else role


@asynccontextmanager
async def transaction(request: web.Request) -> AsyncIterator[asyncpg.Connection]:
    """A transaction for an act and its trace: both hold, or neither."""
    async with request.app[DEPS].pool.acquire() as connection, connection.transaction():
        yield cast("asyncpg.Connection", connection)


async def record(
    request: web.Request, act: str, connection: asyncpg.Connection | None = None, /, **details: Any
) -> None:
    """Write down that somebody did something, in the transaction of the act where it is one."""
    await (connection or request.app[DEPS].pool).execute(_SQL["record"], actor(request), act, details)


async def history(
    pool: asyncpg.Pool,
    *,
    actor: str | None,
    act: str | None,
    dates: tuple[date | None, date | None] = (None, None),
    before: int | None,
    limit: int,
) -> list[asyncpg.Record]:
    """Acts, newest first; None: any. ``dates``: first and last, in UTC; ``before``: only older ids."""
    rows: list[asyncpg.Record] = await pool.fetch(_SQL["history"], actor, act, *dates, before, limit)
    return rows
