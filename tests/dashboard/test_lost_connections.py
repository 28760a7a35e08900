"""A command whose connection leads nowhere any more ends, and the next one has another connection."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest

from service.dashboard.mongo import MongoSource
from service.dashboard.postgres import PostgresSource
from service.dashboard.source import Source
from service.engine import session
from service.errors import SourceUnavailable
from tests.chaos.proxy import Proxy
from tests.line import Line


@asynccontextmanager
async def _mongodb(mongod: str) -> AsyncIterator[tuple[Source, Proxy]]:
    async with Proxy(urlsplit(mongod).port or 27017) as line:
        # The driver's own look at the server goes on, as where a firewall forgets only idle connections.
        options = "directConnection=true&heartbeatFrequencyMS=600000"
        url = f"mongodb://127.0.0.1:{line.port}/dashboard?{options}"
        yield MongoSource(url, longest=0.5), line


@asynccontextmanager
async def _postgresql(dsn: str) -> AsyncIterator[tuple[Source, Line]]:
    line = Line(dsn)
    try:
        yield PostgresSource(await line.start(), longest=0.5), line
    finally:
        await line.close()


@pytest.mark.parametrize("kind", ["MongoDB", "PostgreSQL"])
async def test_a_stranded_command_ends(
    kind: str, mongod: str, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "_CANCEL", 0.1)
    opened = _mongodb(mongod) if kind == "MongoDB" else _postgresql(dsn)
    async with opened as (source, line):
        await source.ping()
        line.strand()
        async with asyncio.timeout(60):
            with pytest.raises(SourceUnavailable):
                await source.ping()
            await source.ping()
        await source.close()
