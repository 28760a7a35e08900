"""A client that means harm, and what must hold whatever it sends."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
from yarl import URL

from tests.web.fuzzed import SAYS, TOKENS
from tests.web.operations import Operation


@asynccontextmanager
async def client_of(base: str) -> AsyncIterator[aiohttp.ClientSession]:
    """A browser and an API client at once, signed in as an admin."""
    async with aiohttp.ClientSession(
        base,
        connector=aiohttp.TCPConnector(force_close=True),  # the server hangs up on some
        cookie_jar=aiohttp.CookieJar(unsafe=True),
        headers=SAYS["admin"] | {"Origin": base},
    ) as session:
        form = {"token": TOKENS["ADMIN_TOKEN"]}
        async with session.post("/console/sign-in", data=form, allow_redirects=False) as answer:
            assert answer.status == 303
        yield session


async def ask(
    client: aiohttp.ClientSession, one: Operation, address: str = "", **more: object
) -> tuple[aiohttp.ClientResponse, bytes]:
    """Ask, the address as it stands; whatever comes, the service is not to blame and nothing is injected."""
    url = URL(address or one.path, encoded=True)
    answer = await client.request(one.method, url, allow_redirects=False, **more)  # type: ignore[arg-type]
    text = await answer.read()
    told = (str(one), address, more, answer.status, text[:300])
    assert answer.status < 500 or one.pattern == "/api/admin/jobs/health", told
    assert "X-Injected" not in answer.headers, told
    assert b"root:" not in text, told
    if answer.status >= 400 and answer.content_type == "application/json":
        body = json.loads(text)
        assert body["success"] is False, told
        assert body["error"], told
    return answer, text


async def form_token(client: aiohttp.ClientSession) -> str:
    async with client.get("/console/mails") as answer:
        return (await answer.text()).partition('name="form_token" value="')[2].partition('"')[0]
