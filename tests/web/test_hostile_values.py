"""Hostile values in every parameter and every field of the contract."""

from collections.abc import AsyncIterator, Callable
from itertools import count
from urllib.parse import quote

import aiohttp
import pytest
from yarl import URL

from tests.web.hostile import ask, client_of, form_token
from tests.web.operations import ALL, PATHS, Operation

VALUES = {
    "a header of its own": quote("x\r\nX-Injected: yes\r\n\r\n<script>"),
    "NUL": "a%00b",
    "NUL escaped": quote('"\\u0000'),
    "half of a surrogate pair": "%ED%A0%80",
    "a long way to a slash": "%C0%AF%C0%AE",
    "the folder above": quote("../../../etc/passwd", safe=""),
    "the folder above, encoded twice": quote(quote("../../etc/passwd", safe=""), safe=""),
    "backslashes": quote("..\\..\\windows\\win.ini", safe=""),
    "a very large number": "9" * 400,
    "a number beyond 64 bits": str(2**63),
    "a number below all": "-1",
    "not quite a number": quote("١٢"),
    "a quote": quote("'; DROP TABLE service.audit; --"),
    "a tag": quote('"><script>alert(1)</script>'),
    "a template": quote("{{7*7}}${7*7}%s%n"),
    "right to left": quote("\u202e\u2066\ufeff"),
    "much": "x" * 5000,
    "the last date": "9999-12-31",
    "a time before all": quote("0001-01-01T00:00:00+23:59"),
    "a time after all": quote("9999-12-31T23:59:59-23:59"),
    "nothing": "",
}
"""As they stand in an address."""


@pytest.fixture
async def client(base: str) -> AsyncIterator[aiohttp.ClientSession]:
    async with client_of(base) as session:
        yield session


def addresses(one: Operation, value: str) -> list[str]:
    """The operation with this value in each name of its path, and in each of its query."""
    inside = [one.filled(**{name: value}) for name in PATHS if f"{{{name}}}" in one.pattern]
    query = [f"{one.path}?{told['name']}={value}" for told in one.parameters if told["in"] == "query"]
    return inside + query


def choice(value: str, *, long_form: bool) -> Callable[[object], bool]:
    """Where this value is tried: in the short form at every fifth place, another fifth for the next value."""
    turn = count(list(VALUES.values()).index(value))
    return lambda _place: long_form or next(turn) % 5 == 0


@pytest.mark.long
@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
async def test_no_value_in_an_address_does_harm(
    client: aiohttp.ClientSession, value: str, long_form: bool
) -> None:
    chosen = choice(value, long_form=long_form)
    for one in ALL:
        for address in filter(chosen, addresses(one, value) if one.method == "GET" else ()):
            answer, text = await ask(client, one, address)
            assert answer.status in one.statuses | {400, 404}, (str(one), address, answer.status)
            assert b"<script>alert(1)" not in text or answer.content_type != "text/html", address


@pytest.mark.long
@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
async def test_no_value_in_a_field_does_harm(
    client: aiohttp.ClientSession, value: str, long_form: bool
) -> None:
    token = await form_token(client)
    chosen = choice(value, long_form=long_form)
    plain = URL(f"?a={value}", encoded=True).query["a"]
    for one in ALL:
        if one.method == "GET" or one.body == "message/rfc822":
            continue
        for address in filter(chosen, addresses(one, value)):
            await ask(client, one, address)
        for name in filter(chosen, one.fields):
            if one.body == "application/json":
                await ask(client, one, json={name: plain})
                await ask(client, one, json={"jobType": "reminder", "jobName": "goalDeadlines", name: plain})
            elif name != "form_token":
                form = f"{quote(name)}={value}&form_token={token}"
                await ask(client, one, data=form, headers={"Content-Type": one.body or ""})
    async with client.get("/livez") as answer:
        assert answer.status == 200
