"""The audit log: one entry for each change that the API or the console made."""

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
    """The actor as the audit log names it: the role, after the name if the caller gave one."""
    role = str(request[ROLE])
    return f"{name} ({role})" if name else role


@asynccontextmanager
async def transaction(request: web.Request) -> AsyncIterator[asyncpg.Connection]:
    """A transaction for a change and its audit entry."""
    async with request.app[DEPS].pool.acquire() as connection, connection.transaction():
        yield cast("asyncpg.Connection", connection)


async def record(
    request: web.Request, act: str, connection: asyncpg.Connection | None = None, /, **details: Any
) -> None:
    """Write an audit entry, in the transaction of the change if a ``connection`` is given."""
    await (connection or request.app[DEPS].pool).execute(_SQL["record"], actor(request), act, details)


async def record_as(connection: asyncpg.Connection, who: str, act: str, /, **details: Any) -> None:
    """Write an audit entry for somebody who is no operator, in the transaction of the change."""
    await connection.execute(_SQL["record"], who, act, details)


async def history(
    pool: asyncpg.Pool,
    *,
    actor: str | None,
    act: str | None,
    dates: tuple[date | None, date | None] = (None, None),
    before: int | None,
    limit: int,
) -> list[asyncpg.Record]:
    """Audit entries, newest first. None: any. ``dates``: first and last, UTC; ``before``: only lower ids."""
    rows: list[asyncpg.Record] = await pool.fetch(_SQL["history"], actor, act, *dates, before, limit)
    return rows
