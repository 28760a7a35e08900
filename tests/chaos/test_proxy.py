"""The proxy fails as networks do."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.chaos.proxy import Proxy


@asynccontextmanager
async def _echo() -> AsyncIterator[tuple[Proxy, list[str]]]:
    """A proxy before a server that sends back what it gets; and what the server saw."""
    seen = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                seen.append(line.decode().strip())
                writer.write(line)
            seen.append("end")
        except ConnectionError:
            seen.append("reset")
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server, Proxy(server.sockets[0].getsockname()[1]) as proxy:
        yield proxy, seen


async def _says(streams: tuple[asyncio.StreamReader, asyncio.StreamWriter], word: str) -> str:
    reader, writer = streams
    writer.write(f"{word}\n".encode())
    return (await reader.readline()).decode().strip()


async def test_it_carries_and_says_when_an_end_is_closed() -> None:
    async with _echo() as (proxy, seen):
        client = await asyncio.open_connection("127.0.0.1", proxy.port)
        assert await _says(client, "hello") == "hello"
        client[1].close()
        async with asyncio.timeout(20):
            while "end" not in seen:
                await asyncio.sleep(0)


async def test_a_cut_resets_both_ends() -> None:
    async with _echo() as (proxy, seen):
        client = await asyncio.open_connection("127.0.0.1", proxy.port)
        await _says(client, "hello")
        proxy.cut()
        with pytest.raises(ConnectionError):
            await client[0].read()
        async with asyncio.timeout(20):
            while "reset" not in seen:
                await asyncio.sleep(0)
        assert await _says(await asyncio.open_connection("127.0.0.1", proxy.port), "again") == "again"


async def test_who_is_refused_is_reset_until_it_heals() -> None:
    async with _echo() as (proxy, _):
        proxy.refuse()
        client = await asyncio.open_connection("127.0.0.1", proxy.port)
        with pytest.raises(ConnectionError):
            await client[0].read()
        proxy.heal()
        assert await _says(await asyncio.open_connection("127.0.0.1", proxy.port), "again") == "again"


async def test_what_stalls_arrives_later() -> None:
    async with _echo() as (proxy, seen):
        client = await asyncio.open_connection("127.0.0.1", proxy.port)
        await _says(client, "hello")
        proxy.stall()
        answer = asyncio.create_task(_says(client, "late"))
        await asyncio.sleep(0)
        assert (seen, answer.done()) == (["hello"], False)
        proxy.heal()
        assert await answer == "late"


async def test_a_stranded_connection_hears_nothing_more_and_a_new_one_works() -> None:
    async with _echo() as (proxy, seen):
        stranded = await asyncio.open_connection("127.0.0.1", proxy.port)
        await _says(stranded, "hello")
        proxy.strand()
        answer = asyncio.create_task(_says(stranded, "lost"))
        other = await asyncio.open_connection("127.0.0.1", proxy.port)
        assert await _says(other, "new") == "new"
        stranded[1].close()
        assert await _says(other, "newer") == "newer"
        assert seen == ["hello", "new", "newer"]
        answer.cancel()
