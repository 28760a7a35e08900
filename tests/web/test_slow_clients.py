"""Clients that take their time: they are dropped, and nobody waits for them."""

import asyncio
import resource
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import asyncpg
import pytest

from service.app import open_service
from service.server import listen
from service.settings import Settings
from service.web import body_timeout
from tests.web.given import admin

IDLE = 1000
GENEROUS = 90
RUN = b"POST /api/admin/jobs/run HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer the-admin\r\n"
JSON = b"Content-Type: application/json\r\n"
SLOW: dict[str, bytes] = {
    "who says nothing": b"",
    "who begins a line": b"GET /liv",
    "who never ends the head": b"GET /livez HTTP/1.1\r\nHost: x\r\n",
    "who was answered once": b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n",
    "who begins another": b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\nGET /livez HTTP/1.1\r\n",
    "who never ends the body": RUN + JSON + b"Content-Length: 60000\r\n\r\n{",
    "who never ends the pieces": RUN + JSON + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n",
    "who sends a form bit by bit": (
        b"POST /u/t HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n"
        b"Content-Length: 60000\r\n\r\nscope="
    ),
    "who sends a report bit by bit": (
        b"POST /api/admin/bounces HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer the-admin\r\n"
        b"Content-Type: message/rfc822\r\nContent-Length: 60000\r\n\r\nFrom: "
    ),
}
"""What comes at once; the rest comes byte by byte."""


@pytest.fixture
async def address(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[str, int]]:
    """Where the service listens as it does in operation, with shorter timeouts."""
    monkeypatch.setattr(body_timeout, "HEAD", 1.0)
    monkeypatch.setattr(body_timeout, "BODY", 1.0)
    environ = {"DATABASE_URL": dsn, "DASHBOARD_URL": dsn, "DATA_DIR": str(tmp_path), "PORT": "0"}
    bounces = {"BOUNCE_ADDRESS": "bounce@example.org", "BOUNCE_SECRET": "a secret of the test"}
    async with open_service(Settings.load(environ | bounces | {"ADMIN_TOKEN": "the-admin"})) as service:
        http = await listen(service)
        try:
            yield http.addresses[0][:2]
        finally:
            await http.cleanup()


@pytest.mark.parametrize("said", SLOW.values(), ids=SLOW)
async def test_who_is_slow_is_dropped_and_others_are_served_meanwhile(
    address: tuple[str, int], said: bytes
) -> None:
    reader, writer = await asyncio.open_connection(*address)
    writer.write(said)
    gone = asyncio.ensure_future(_until_gone(reader))
    async with asyncio.timeout(GENEROUS), aiohttp.ClientSession() as others:
        while not gone.done():
            async with others.get(f"http://{address[0]}:{address[1]}/livez") as answer:
                assert answer.status == 200
            if said and not said.endswith(b"\r\n\r\n"):
                writer.write(b"x")
        told = await gone
    assert told.count(b"HTTP/1.1 200") == said.count(b"/livez HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b"400 Bad Request" not in told
    writer.close()


async def _until_gone(reader: asyncio.StreamReader) -> bytes:
    told = b""
    try:
        while piece := await reader.read(1 << 16):
            told += piece
    except ConnectionError:
        pass
    return told


@pytest.fixture
def many_files() -> Iterator[None]:
    """Room for both ends of the lines, in one process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * IDLE + 500
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip(f"this machine allows {hard} open files, {wanted} are needed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_files")
async def test_a_thousand_idle_lines_leave_the_probes_alive(pool: asyncpg.Pool) -> None:
    async with admin(pool) as given:
        url = given.client.make_url("/")
        gate, lines = asyncio.Semaphore(50), []

        async def idle() -> None:
            async with gate:
                lines.append((await asyncio.open_connection(url.host, url.port))[1])

        try:
            async with asyncio.timeout(GENEROUS):
                await asyncio.gather(*(idle() for _ in range(IDLE)))
                for path in ("/livez", "/readyz", "/startupz", "/metrics"):
                    answer = await given.client.get(path)
                    assert answer.status == 200, path
            assert len(lines) == IDLE
        finally:
            for line in lines:
                line.close()
