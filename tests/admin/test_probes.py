"""Probes answer in time, also while the database hangs: not refuses, which is easy, but keeps silent."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from urllib.parse import parse_qs, unquote, urlsplit

import asyncpg
import pytest

from service.admin.patience import Patience
from service.store.database import open_pool
from tests.admin.given import admin


class Line:
    """A line to PostgreSQL that can fall silent: what is sent arrives nowhere, and nothing is closed."""

    def __init__(self, dsn: str) -> None:
        self._parts = urlsplit(dsn)
        self._open = asyncio.Event()
        self._open.set()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> str:
        """The DSN through this line."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        who = f"{self._parts.username or 'postgres'}:{self._parts.password or ''}"
        return f"postgresql://{who}@127.0.0.1:{port}{self._parts.path}?sslmode=disable"

    def fall_silent(self) -> None:
        self._open.clear()

    def speak(self) -> None:
        self._open.set()

    async def close(self) -> None:
        assert self._server
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        folder = parse_qs(self._parts.query).get("host", [""])[0]
        port = self._parts.port or 5432
        if folder.startswith("/"):
            there = await asyncio.open_unix_connection(f"{unquote(folder)}/.s.PGSQL.{port}")
        else:
            there = await asyncio.open_connection(self._parts.hostname, port)
        for a, b in ((reader, there[1]), (there[0], writer)):
            self._tasks.add(asyncio.create_task(self._carry(a, b)))

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                await self._open.wait()
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()


@asynccontextmanager
async def line_to(dsn: str) -> AsyncIterator[tuple[Line, asyncpg.Pool]]:
    line = Line(dsn)
    pool = await open_pool(await line.start(), max_size=3)
    try:
        yield line, pool
    finally:
        line.speak()
        pool.terminate()
        await line.close()


async def test_readiness_and_metrics_answer_while_the_database_keeps_silent(dsn: str) -> None:
    async with line_to(dsn) as (line, pool), admin(pool) as given:
        assert (await given.client.get("/readyz")).status == 200
        assert given.client.app is not None
        line.fall_silent()
        async with asyncio.timeout(60):
            # The answer of a moment ago may still be good.
            while (answer := await given.client.get("/readyz")).status == 200:
                pass
        assert "has not answered" in (await answer.json())["error"]
        assert (await given.client.get("/livez")).status == 200
        async with asyncio.timeout(60):
            answers = await asyncio.gather(*(given.client.get("/readyz") for _ in range(50)))
            text = await (await given.client.get("/metrics")).text()
        assert {one.status for one in answers} == {503}
        assert "jobs_database_up 0.0" in text
        line.speak()
        async with asyncio.timeout(60):
            while (await given.client.get("/readyz")).status != 200:
                pass


def counted(answers: list[Awaitable[int]]) -> tuple[list[int], Callable[[], Awaitable[int]]]:
    asked: list[int] = []

    async def question() -> int:
        asked.append(len(asked))
        return await answers[asked[-1]]

    return asked, question


async def test_many_askers_share_one_question_and_its_answer_while_it_is_fresh() -> None:
    loop = asyncio.get_running_loop()
    first, second = loop.create_future(), loop.create_future()
    asked, question = counted([first, second])
    patience = Patience(question, deadline=60, fresh=3600)

    waiting = [asyncio.ensure_future(patience.ask()) for _ in range(9)]
    first.set_result(1)
    assert set(await asyncio.gather(*waiting)) == {1}
    assert await patience.ask() == 1
    assert asked == [0]


async def test_a_question_that_is_overdue_is_answered_at_once_until_it_is_answered_itself() -> None:
    loop = asyncio.get_running_loop()
    first, second = loop.create_future(), loop.create_future()
    asked, question = counted([first, second])
    patience = Patience(question, deadline=0)

    for _ in range(3):
        with pytest.raises(TimeoutError):
            await patience.ask()
    assert asked in ([], [0])
    first.set_result(1)
    second.set_result(2)
    while asked != [0, 1]:
        with suppress(TimeoutError):
            assert await patience.ask() in {1, 2}
