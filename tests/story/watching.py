"""A running service as operators see it: probes, health, runs, and what it writes."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import asyncpg

_RUN = {"jobType": "reminder", "jobName": "goalDeadlines"}


async def answer(url: str, path: str, body: Any = None) -> tuple[int, dict[str, Any]]:
    """Status and answer; 0: nobody listens. With a body it is posted."""
    async with aiohttp.ClientSession() as http:
        try:
            method = "POST" if body is not None else "GET"
            async with http.request(method, f"{url}{path}", json=body) as response:
                return response.status, await response.json()
        except aiohttp.ClientError:
            return 0, {}


async def run(url: str) -> tuple[int, dict[str, Any]]:
    """Ask for a run of goalDeadlines and wait for its end."""
    return await answer(url, "/api/admin/jobs/run", _RUN)


async def database_check(url: str) -> dict[str, Any]:
    """What health says about our PostgreSQL."""
    _, told = await answer(url, "/api/admin/jobs/health")
    found: dict[str, Any] = told["checks"]["database"]
    return found


async def until_ready(url: str, status: int = 200, *, says: str = "", seconds: float = 90) -> dict[str, Any]:
    """Wait until readiness answers like this; ``says``: words of its reason."""
    async with asyncio.timeout(seconds):
        while True:
            found, told = await answer(url, "/readyz")
            if found == status and says in told.get("error", ""):
                return told
            await asyncio.sleep(0.05)


async def until_true(ask: Callable[[], Awaitable[Any]], seconds: float = 90) -> None:
    """Wait until this is true."""
    async with asyncio.timeout(seconds):
        while not await ask():
            await asyncio.sleep(0.05)


class Progress:
    """Every loop writes now and then: the trigger, the copy of the dashboard, the heartbeat."""

    SQL = """
    SELECT (SELECT min(materialized_through) FROM service.job_def) AS trigger,
           (SELECT min(synced_at) FROM service.sync_state) AS sync,
           (SELECT max(seen_at) FROM service.replica) AS presence
    """

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def look(self) -> dict[str, Any]:
        """How far each is."""
        row = await self._connection.fetchrow(self.SQL)
        return dict(row or {})

    async def until_all_go_on(self, seconds: float = 90) -> None:
        """Wait until those that work have written since; the heartbeat is told by readiness."""
        before = await self.look()

        async def moved() -> bool:
            now = await self.look()
            return all(now[name] is not None and now[name] != before[name] for name in ("trigger", "sync"))

        await until_true(moved, seconds)
