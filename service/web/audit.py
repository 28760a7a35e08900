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


def who(request: web.Request, name: str = "") -> str:
    """Who acts, as it is written down: the role, and the name that somebody gave."""
    role = str(request[ROLE])
    return f"{name} ({role})" if name else role


@asynccontextmanager
async def acting(request: web.Request) -> AsyncIterator[asyncpg.Connection]:
    """A transaction for an act and its trace: both hold, or neither."""
    async with request.app[DEPS].pool.acquire() as lent, lent.transaction():
        yield cast("asyncpg.Connection", lent)


async def remark(
    request: web.Request, act: str, connection: asyncpg.Connection | None = None, /, **what: Any
) -> None:
    """Write down that somebody did something, in the transaction of the act where it is one."""
    await (connection or request.app[DEPS].pool).execute(_SQL["remark"], who(request), act, what)


async def history(
    pool: asyncpg.Pool,
    *,
    who: str | None,
    act: str | None,
    dates: tuple[date | None, date | None] = (None, None),
    before: int | None,
    limit: int,
) -> list[asyncpg.Record]:
    """Acts, newest first; None: any. ``dates``: first and last, in UTC; ``before``: only older ids."""
    found: list[asyncpg.Record] = await pool.fetch(_SQL["history"], who, act, *dates, before, limit)
    return found
