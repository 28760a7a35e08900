"""A line to PostgreSQL that can fall silent, as a frozen host does: nothing is refused, nothing closed."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import asyncpg

from service.engine.database import open_pool


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

    def strand(self) -> None:
        """What is connected now never hears anything again; who connects from now on does."""
        self.fall_silent()
        self._open = asyncio.Event()
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
            self._tasks.add(asyncio.create_task(self._carry(a, b, self._open)))

    async def _carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, may: asyncio.Event
    ) -> None:
        try:
            while data := await reader.read(65536):
                await may.wait()
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()


@asynccontextmanager
async def line_to(dsn: str, **values: Any) -> AsyncIterator[tuple[Line, asyncpg.Pool]]:
    """A line, and a pool of three connections at most through it."""
    line = Line(dsn)
    pool = await open_pool(await line.start(), max_size=3, **values)
    try:
        yield line, pool
    finally:
        line.speak()
        pool.terminate()
        await line.close()
