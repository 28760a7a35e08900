"""Two connections, one statement at a time: whether one waits for the other's locks, or goes on."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import asyncpg

T = TypeVar("T")
_POLL = 0.01
"""Seconds between two looks at the server."""
_BLOCKED = (
    "SELECT count(*) FROM pg_stat_activity"
    " WHERE datname = current_database() AND cardinality(pg_blocking_pids(pid)) > 0"
)


async def waits(pool: asyncpg.Pool, statement: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
    """Begin it; returns once it waits for a lock that another connection holds. Fails if it ends instead."""
    task = asyncio.create_task(statement)
    assert await _blocks(pool, task), f"did not wait: {task.result()!r}"
    return task


async def goes_on(pool: asyncpg.Pool, statement: Coroutine[Any, Any, T]) -> T:
    """Its result. Fails if it waits for a lock that another connection holds."""
    task = asyncio.create_task(statement)
    if await _blocks(pool, task):
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        raise AssertionError("waits for a lock of another connection")
    return task.result()


async def _blocks(pool: asyncpg.Pool, task: "asyncio.Task[Any]") -> bool:
    async with asyncio.timeout(30):
        while not task.done():
            await asyncio.wait({task}, timeout=_POLL)
            if not task.done() and await pool.fetchval(_BLOCKED):
                return True
    return False
