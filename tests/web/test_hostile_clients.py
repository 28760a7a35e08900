"""Clients that mean harm: hostile bodies, hostile paths, and hostile ways to speak."""

import asyncio
import gzip
import zlib
from collections.abc import AsyncIterator

import aiohttp
import pytest
from yarl import URL

from tests.web.fuzzed import SAYS
from tests.web.hostile import ask, client_of
from tests.web.operations import ALL


@pytest.fixture
async def client(base: str) -> AsyncIterator[aiohttp.ClientSession]:
    async with client_of(base) as session:
        yield session


# ── Bodies ──────────────────────────────────────────────────────────────────────────────────────────────────

JSON = {"Content-Type": "application/json"}
ZIPPED = JSON | {"Content-Encoding": "gzip"}
DEFLATED = JSON | {"Content-Encoding": "deflate"}
BOMB = gzip.compress(b" " * (64 << 20))
"""64 MiB in 64 KiB."""
JOB = b'{"jobType":"reminder","jobName":"goalDeadlines","dryRun":true,"userId":'
BODIES: dict[str, tuple[bytes, dict[str, str], set[int]]] = {
    "too much": (b'{"a":"' + b"x" * (65 << 10) + b'"}', JSON, {413}),
    "too many spaces": (b" " * (65 << 10), JSON, {413}),
    "cut off": (b'{"jobType":', JSON, {400}),
    "no object": (b"[1,2]", JSON, {400}),
    "a lone word": (b"nul", JSON, {400}),
    "no UTF-8": (b'{"a":"\xff\xfe"}', JSON, {400}),
    "UTF-16": ('{"jobType":"reminder"}'.encode("utf-16"), JSON, {400}),
    "deep": (b"[" * 30_000 + b"]" * 30_000, JSON, {400}),
    "deep objects": (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, JSON, {400}),
    "a huge number": (JOB + b"9" * 20_000 + b"}", JSON, {400}),
    "a huge exponent": (JOB + b"1e999999}", JSON, {400}),
    "not a number": (JOB + b"NaN}", JSON, {400}),
    "the same name twice": (b'{"jobType":"x","jobType":"y","nonsense":1}', JSON, {400}),
    "half of a surrogate pair": (JOB + b'"\\ud800"}', JSON, {400}),
    "NUL": (JOB + b'"\\u0000","nonsense":1}', JSON, {400}),
    "another type": (b"{}", {"Content-Type": "text/plain"}, {415}),
    "a form": (b"jobType=reminder", {"Content-Type": "application/x-www-form-urlencoded"}, {415}),
    "XML": (b"<!DOCTYPE x [<!ENTITY y SYSTEM 'file:///etc/passwd'>]>", {"Content-Type": "text/xml"}, {415}),
    "not gzip at all": (b"{}", ZIPPED, {400}),
    "gzip cut off": (gzip.compress(b'{"nonsense":1}')[:-9], ZIPPED, {400}),
    "gzip": (gzip.compress(b'{"nonsense":1}'), ZIPPED, {400}),
    "deflate": (zlib.compress(b'{"nonsense":1}'), DEFLATED, {400}),
    "an unknown coding": (b'{"nonsense":1}', JSON | {"Content-Encoding": "x-none"}, {400, 415}),
    "a bomb": (BOMB, ZIPPED, {400, 413}),
}


@pytest.mark.parametrize(("body", "headers", "expected"), BODIES.values(), ids=BODIES)
async def test_no_body_of_json_does_harm(
    client: aiohttp.ClientSession, body: bytes, headers: dict[str, str], expected: set[int]
) -> None:
    for one in ALL:
        if one.body == "application/json":
            answer, _ = await ask(client, one, data=body, headers=headers)
            assert answer.status in expected, (str(one), answer.status)
            assert answer.status in one.statuses, (str(one), answer.status)
            assert answer.content_type == "application/json", str(one)


MULTIPART = {"Content-Type": "multipart/form-data; boundary=b"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
PART = b"--b\r\nContent-Disposition: form-data; name=a\r\n"
FORMS: dict[str, tuple[bytes, dict[str, str]]] = {
    "too much": (b"a=" + b"x" * (65 << 10), FORM),
    "too many fields": (b"a=1&" * 15_000, FORM),
    "no UTF-8": (b"a=\xff\xfe", FORM),
    "percent signs": (b"%=%zz&%00=%00", FORM),
    "an unknown charset": (b"a=1", {"Content-Type": f"{FORM['Content-Type']}; charset=none"}),
    "a coding that is no charset": (b"a=1", {"Content-Type": f"{FORM['Content-Type']}; charset=hex"}),
    "no boundary": (b"a=1", {"Content-Type": "multipart/form-data"}),
    "another boundary": (b"--c\r\n\r\n1\r\n--c--", MULTIPART),
    "no end": (PART + b"\r\n1", MULTIPART),
    "no name": (b"--b\r\nContent-Disposition: form-data\r\n\r\n1\r\n--b--\r\n", MULTIPART),
    "no head": (b"--b\r\n\r\n1\r\n--b--\r\n", MULTIPART),
    "a broken head": (b"--b\r\n:::\r\n\xff\r\n\r\n1\r\n--b--\r\n", MULTIPART),
    "a file": (PART.replace(b"name=a", b"name=form_token; filename=x") + b"\r\n1\r\n--b--\r\n", MULTIPART),
    "an unknown transfer coding": (PART + b"Content-Transfer-Encoding: x\r\n\r\n1\r\n--b--", MULTIPART),
    "base64 that is none": (PART + b"Content-Transfer-Encoding: base64\r\n\r\n\xff*\r\n--b--", MULTIPART),
    "an unknown charset in a part": (PART + b"Content-Type: a/b; charset=no\r\n\r\n1\r\n--b--", MULTIPART),
    "parts in parts": (
        b"--b\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n--c\r\n\r\n1\r\n--c--\r\n--b--",
        MULTIPART,
    ),
    "not gzip at all": (b"a=1", FORM | {"Content-Encoding": "gzip"}),
    "a bomb": (BOMB, FORM | {"Content-Encoding": "gzip"}),
    "a bomb in parts": (BOMB, MULTIPART | {"Content-Encoding": "gzip"}),
}


@pytest.mark.parametrize(("body", "headers"), FORMS.values(), ids=FORMS)
async def test_no_form_does_harm(client: aiohttp.ClientSession, body: bytes, headers: dict[str, str]) -> None:
    for one in ALL:
        if one.body == FORM["Content-Type"]:
            answer, _ = await ask(client, one, data=body, headers=headers)
            assert answer.status in one.statuses, (str(one), answer.status)
            assert answer.status in {200, 303} or answer.status >= 400, str(one)


# ── Paths ───────────────────────────────────────────────────────────────────────────────────────────────────

WAYS = [
    "..%2faccess.py",
    "%2e%2e%2faccess.py",
    "..%5caccess.py",
    "..\\access.py",
    "....//access.py",
    "..%252faccess.py",
    "htmx.min.js%00.css",
    "%00",
    "htmx.min.js/",
    "htmx.min.js%2f..%2fREADME.md",
    "/etc/passwd",
    "%2fetc%2fpasswd",
    "..%c0%af..%c0%afetc/passwd",
    "file:%2f%2f%2fetc%2fpasswd",
    "HTMX.MIN.JS",
    "htmx.LICENSE",
]


@pytest.mark.parametrize("way", WAYS)
async def test_no_way_leads_out_of_the_folder_of_the_assets(base: str, way: str) -> None:
    status, text = await spoken(base, f"GET /assets/{way} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert status in {400, 404}, text
    assert b"root:" not in text
    assert b"import" not in text


async def spoken(base: str, said: str | bytes) -> tuple[int, bytes]:
    """What the server says to these bytes, until it hangs up; 0: nothing."""
    url = URL(base)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    writer.write(said.encode("latin-1") if isinstance(said, str) else said)
    async with asyncio.timeout(60):
        text = await reader.read()
    writer.close()
    return (int(text.split(b" ", 2)[1]) if text.startswith(b"HTTP/") else 0), text


HEAD = f"Host: x\r\nConnection: close\r\nAuthorization: {SAYS['admin']['Authorization']}\r\n"
STATUS = "GET /api/admin/jobs/status HTTP/1.1\r\n"
RUN = "POST /api/admin/jobs/run HTTP/1.1\r\nContent-Type: application/json\r\n"
SPOKEN: dict[str, tuple[str, set[int]]] = {
    "two lengths": (f"{RUN}{HEAD}Content-Length: 2\r\nContent-Length: 5\r\n\r\n{{}}   ", {400}),
    "a length and pieces": (
        f"{RUN}{HEAD}Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{{}}\r\n0\r\n\r\n",
        {400},
    ),
    "a length below nothing": (f"{RUN}{HEAD}Content-Length: -1\r\n\r\n", {400}),
    "a length that is no number": (f"{RUN}{HEAD}Content-Length: 1e3\r\n\r\n", {400}),
    "pieces that are none": (f"{RUN}{HEAD}Transfer-Encoding: chunked\r\n\r\nzz\r\n", {400}),
    "two tokens, the wrong one first": (
        f"{STATUS}Authorization: Bearer wrong\r\n{HEAD}\r\n",
        {400, 401},
    ),
    "two hosts": (f"{STATUS}Host: y\r\n{HEAD}\r\n", {200, 400}),
    "a folded header": (f"{STATUS}{HEAD}X-A: b\r\n Authorization: c\r\n\r\n", {200, 400}),
    "a space before the colon": (f"{STATUS}Host: x\r\nAuthorization : Bearer x\r\n\r\n", {400}),
    "a header that is too long": (f"{STATUS}{HEAD}X-A: {'b' * 20_000}\r\n\r\n", {400, 431}),
    "too many headers": (f"{STATUS}{HEAD}" + "X-A: b\r\n" * 40_000 + "\r\n", {0, 400, 431}),
    "a line that is too long": (f"GET /livez?{'x' * 20_000} HTTP/1.1\r\n{HEAD}\r\n", {400, 414}),
    "NUL in a header": (f"{STATUS}{HEAD}X-A: \0\r\n\r\n", {400}),
    "bytes in a header": (f"{STATUS}{HEAD}X-A: \xff\xfe\r\nAccept-Language: \xff\r\n\r\n", {200, 400}),
    "a method that nobody knows": (f"BREW /livez HTTP/1.1\r\n{HEAD}\r\n", {400, 405}),
    "another protocol": ("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", {0, 400}),
    "no protocol": ("GET /livez\r\n\r\n", {0, 200, 400}),
    "a whole address": (f"GET http://evil.example/livez HTTP/1.1\r\n{HEAD}\r\n", {200, 400, 404}),
    "a star": (f"OPTIONS * HTTP/1.1\r\n{HEAD}\r\n", {400, 404, 405}),
    "an upgrade": (f"{STATUS}Host: x\r\nConnection: Upgrade, close\r\nUpgrade: h2c\r\n\r\n", {400, 401}),
    "a Range": (f"GET /assets/htmx.min.js HTTP/1.1\r\n{HEAD}Range: bytes=9-3\r\n\r\n", {200, 400, 416}),
}


@pytest.mark.parametrize(("said", "expected"), SPOKEN.values(), ids=SPOKEN)
async def test_nothing_that_is_said_upsets_the_server(base: str, said: str, expected: set[int]) -> None:
    status, text = await spoken(base, said)
    assert status in expected, text[:300]
    assert (await spoken(base, f"GET /livez HTTP/1.1\r\n{HEAD}\r\n"))[0] == 200
