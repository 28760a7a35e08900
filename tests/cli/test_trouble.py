"""What a command says when something is in its way: a sentence with a remedy, a number for the shell."""

import asyncio
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from service.cli import client
from service.web import idempotency
from tests import certificates
from tests.cli.conftest import Typist
from tests.process import spawn

_RUN = ("run", "reminder", "goalDeadlines")
_RAN = {"success": True, "runId": 7, "state": "succeeded", "counts": {"planned": 2}}
_LIVE = {"id": 7, "state": "running", "done": 10, "total": 20, "reason": None, "counts": {}}

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def answering(answer: Answer, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """Something that answers every request in one way: its address."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    server = TestServer(app, host="127.0.0.1", scheme="https" if tls else "http")
    await server.start_server(ssl=tls)
    yield str(server.make_url("")).rstrip("/")
    await server.close()


def _certificate(folder: Path) -> tuple[ssl.SSLContext, Path]:
    made = certificates.make(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.both)
    return context, made.authority


async def _json(body: object, status: int = 200) -> web.Response:
    return web.json_response(body, status=status)


def _answer(body: object, status: int = 200) -> Answer:
    async def answer(_request: web.Request) -> web.Response:
        return await _json(body, status)

    return answer


def _error(status: int, sentence: str) -> Answer:
    return _answer({"success": False, "error": sentence}, status)


# ── Which service, which token ──────────────────────────────────────────────────────────────────────────────


async def test_a_command_for_a_service_says_what_it_needs(
    typed: Typist, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = await typed("runs", "list")
    assert told.code == 2
    assert told.err == "✗ runs list asks a running service: name it with --url, or set JOBS_URL\n"
    told = await typed("--url", "http://127.0.0.1:1", "serve")
    assert (told.code, told.err) == (2, "✗ serve works on this machine: leave --url out\n")
    monkeypatch.setenv("JOBS_URL", "nonsense")
    assert (await typed("jobs")).err.startswith(
        "✗ JOBS_URL 'nonsense' is not an address; use one like https:"
    )
    monkeypatch.setenv("PORT", "x")
    assert "PORT" in (await typed("check-config")).err


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("jobs.example.org", "is not an address; use one like https://jobs.example.org"),
        ("ftp://jobs.example.org", "is not an address"),
        ("https://me:secret@jobs.example.org", "the token comes from JOBS_TOKEN"),
        ("https://jobs.example.org/?x=1", "ends in a query"),
    ],
)
async def test_a_wrong_address_is_told_without_secrets(typed: Typist, url: str, said: str) -> None:
    told = await typed("--url", url, "jobs")
    assert told.code == 2
    assert said in told.err
    assert "secret" not in told.err


async def test_the_token_comes_from_a_file_or_the_environment_never_from_the_words(
    typed: Typist, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str | None] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append(request.headers.get("Authorization"))
        return await _json({"success": False, "error": "Missing or unknown bearer token"}, 401)

    (tmp_path / "token").write_text("from-file\n", "utf-8-sig")
    async with answering(answer) as url:
        for words in (("--token", "oh-no"), ("--token=oh-no",)):
            told = await typed("--url", url, "jobs", *words)
            assert told.code == 2
            assert "JOBS_TOKEN" in told.err
            assert "oh-no" not in told.err
        assert seen == []
        told = await typed("--url", url, "jobs")
        assert told.code == 4
        assert told.err == (
            "✗ Missing or unknown bearer token; set JOBS_TOKEN,"
            " or name a file that holds the token with --token-file\n"
        )
        monkeypatch.setenv("ADMIN_TOKEN", "an-admin's")
        told = await typed("--url", url, "jobs")
        assert "the token came from ADMIN_TOKEN: is it this service's?" in told.err
        monkeypatch.setenv("JOBS_TOKEN", "mine")
        await typed("jobs", "--url", url)
        await typed("jobs", "--url", url, "--token-file", str(tmp_path / "token"))
    assert seen == [None, "Bearer an-admin's", "Bearer mine", "Bearer from-file"]
    told = await typed("--url", "http://127.0.0.1:1", "--token-file", str(tmp_path / "none"), "jobs")
    assert (told.code, "No such file" in told.err) == (2, True)
    monkeypatch.setenv("JOBS_TOKEN", "two words")
    told = await typed("--url", "http://127.0.0.1:1", "jobs")
    assert (told.code, "two words" in told.err) == (2, False)


@pytest.mark.parametrize(
    ("status", "code"), [(400, 2), (403, 4), (404, 1), (409, 1), (500, 1), (502, 3), (503, 3)]
)
async def test_a_refusal_is_the_sentence_of_the_service(typed: Typist, status: int, code: int) -> None:
    async with answering(_error(status, "No,\nbecause \x1b[31mred")) as url:
        told = await typed("--url", url, *_RUN)
    assert (told.code, told.out, told.err) == (code, b"", "✗ No, because  [31mred\n")


async def test_health_that_cannot_be_told_is_no_verdict(typed: Typist) -> None:
    async with answering(_error(503, "The database cannot be reached now")) as url:
        told = await typed("--url", url, "health")
    assert (told.code, told.err) == (3, "✗ The database cannot be reached now\n")
    check = {
        "status": "unhealthy",
        "timestamp": "2026-03-10T09:00:00Z",
        "checks": {"mail": {"status": "error"}},
        "conditions": [
            {"key": "mail_refused", "severity": "problem", "what": "said by a check", "inChecks": True},
            {"key": "copy_stale", "severity": "problem", "what": "the copy is old", "inChecks": False},
        ],
    }
    answer = check | {"success": False, "error": "unhealthy", "data": check}
    async with answering(_answer(answer, 503)) as url:
        told = await typed("--url", url, "health")
    assert (told.code, told.lines[0], told.err) == (1, "The service is unhealthy.", "")
    assert [line for line in told.lines if line.startswith("✗")] == ["✗ the copy is old"]


# ── On the way ──────────────────────────────────────────────────────────────────────────────────────────────


async def test_nobody_there(typed: Typist) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
        told = await typed("--url", url, "health")
    assert told.code == 3
    assert told.err == (
        f"✗ {url} cannot be reached: Connection refused; does the service run, and is --url right?\n"
    )


async def test_silence_ends(typed: Typist) -> None:
    over = asyncio.Event()

    async def answer(_request: web.Request) -> web.Response:
        await over.wait()
        return web.Response()

    async with answering(answer) as url:
        told = await typed("--url", url, *_RUN, "--timeout", "1", "--key", "a key")
        over.set()
    assert told.code == 3
    assert "kept silent for 1 s; allow more with --timeout" in told.err
    assert told.err.endswith("whether it was done is not known: ask again with --key 'a key'\n")


async def test_a_lost_connection_is_followed_by_the_same_request_with_the_same_key(typed: Typist) -> None:
    seen: list[tuple[str, bytes]] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append((request.headers["Idempotency-Key"], await request.read()))
        if len(seen) == 1 and request.transport:
            request.transport.abort()
        if len(seen) == 2:
            return await _json({"success": False, "error": idempotency._IN_PROGRESS}, 409)
        return await _json(_RAN)

    async with answering(answer) as url:
        told = await typed("--url", url, *_RUN)
        assert (told.code, told.lines[0]) == (0, "run\t7")
        assert len(seen) == 3
        assert len(set(seen)) == 1
        await typed("--url", url, *_RUN)
        assert seen[3][0] != seen[0][0]
        await typed("--url", url, *_RUN, "--key", "mine")
        assert seen[4][0] == "mine"
    assert client.IN_PROGRESS in idempotency._IN_PROGRESS


async def test_an_act_of_which_nobody_knows_names_the_key_to_ask_again_with(typed: Typist) -> None:
    seen: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append(request.headers["Idempotency-Key"])
        if request.transport:
            request.transport.abort()
        return web.Response()

    async with answering(answer) as url:
        told = await typed("--url", url, "pause", "reminder", "dailyCheck")
    assert told.code == 3
    assert len(seen) == 3
    assert told.err.endswith(f"whether it was done is not known: ask again with --key {seen[0]}\n")


async def test_something_else_answers(typed: Typist) -> None:
    seen: list[str] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        seen.append(request.path)
        if request.path.startswith("/moved"):
            raise web.HTTPFound("/elsewhere")
        if request.path.startswith("/wall"):
            return web.Response(status=502, text="<h1>Bad gateway</h1>", content_type="text/html")
        if request.path.startswith("/json"):
            return await _json({"hello": "world"})
        return web.Response(text="<h1>Hello</h1>", content_type="text/html")

    async with answering(answer) as url:
        told = await typed("--url", f"{url}/moved", "jobs")
        assert (told.code, f"{url}/moved leads to /elsewhere" in told.err) == (1, True)
        told = await typed("--url", f"{url}/wall", "jobs")
        assert (told.code, "answered 502, but not as this service does" in told.err) == (3, True)
        for path in ("", "/json"):
            for words in ("jobs", "audit"):
                told = await typed("--url", url + path, words)
                assert (told.code, "is --url right" in told.err) == (1, True)
    assert "/elsewhere" not in seen


async def test_a_file_that_breaks_off_is_no_file(typed: Typist, tmp_path: Path) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"a,b\r\n1,2\r\n")
        if request.transport:
            request.transport.abort()
        return response

    target = tmp_path / "days.csv"
    target.write_text("before")
    async with answering(answer) as url:
        told = await typed("--url", url, "export", "daily", "--out", str(target))
    assert told.code == 3
    assert "broke off the connection before the answer was whole" in told.err
    assert target.read_text() == "before"
    assert list(tmp_path.iterdir()) == [target]
    told = await typed("--url", url, "export", "daily", "--out", str(tmp_path / "no" / "such.csv"))
    assert (told.code, "No such file or directory" in told.err) == (2, True)


# ── Watching ────────────────────────────────────────────────────────────────────────────────────────────────


def _event(name: str, run: dict[str, object]) -> bytes:
    return f"event: {name}\nid: 1\ndata: {json.dumps(run)}\n\n".encode()


async def test_a_run_is_watched_over_a_stream_that_breaks_off(
    typed: Typist, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.cli.remote._RECONNECT_DELAY", 0)
    states = ["pending", "running", "failed"]

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b"retry: 2000\n\n: still here\n\n")
        state = states.pop(0)
        whole = _event("end" if state == "failed" else "progress", _LIVE | {"state": state})
        await response.write(whole[:20])
        await response.write(whole[20:])
        if state == "pending" and request.transport:
            request.transport.close()  # what was written still goes out
        return response

    async with answering(answer) as url:
        told = await typed("--url", url, "runs", "watch", "7")
    assert told.code == 1
    assert told.lines == [f"{state}: 10 of 20 done (50 %)" for state in ("pending", "running", "failed")]
    async with answering(_error(404, "Unknown run")) as url:
        told = await typed("--url", url, "runs", "watch", "9")
    assert (told.code, told.err) == (1, "✗ Unknown run\n")


@asynccontextmanager
async def _process(
    *words: str, out: int = subprocess.PIPE, **environ: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A command as a process; it is killed where the test ends before it."""
    process = await spawn(
        sys.executable, "-m", "service", *words,
        stdout=out, stderr=subprocess.PIPE, env={**os.environ, **environ},
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def test_ctrl_c_ends_a_watch_quietly() -> None:
    over = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(_event("progress", dict(_LIVE)))
        await over.wait()
        return response

    watch = ("runs", "watch", "7")
    async with answering(answer) as url, asyncio.timeout(60), _process("--url", url, *watch) as process:
        assert process.stdout
        assert await process.stdout.readline() == b"running: 10 of 20 done (50 %)\n"
        process.send_signal(signal.SIGINT)
        assert await process.communicate() == (b"", b"")
        over.set()
    assert process.returncode == 130


async def test_whoever_breaks_off_an_act_learns_its_key() -> None:
    begun, over = asyncio.Event(), asyncio.Event()

    async def answer(_request: web.Request) -> web.StreamResponse:
        begun.set()
        await over.wait()
        return web.Response()

    keyed = (*_RUN, "--key", "mine")
    async with answering(answer) as url, asyncio.timeout(60), _process("--url", url, *keyed) as process:
        await begun.wait()
        process.send_signal(signal.SIGINT)
        out, err = await process.communicate()
        over.set()
    assert (out, process.returncode) == (b"", 130)
    assert err.decode() == ("✗ interrupted; whether it was done is not known: ask again with --key mine\n")


async def test_a_reader_that_has_seen_enough_ends_a_listing_quietly() -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while request.transport:
            await response.write(b"id,at\r\n" * 10_000)
        return response

    async with answering(answer) as url, asyncio.timeout(60):
        reading, writing = os.pipe()
        async with _process("--url", url, "export", "daily", out=writing) as process:
            os.close(writing)
            assert await asyncio.to_thread(os.read, reading, 5) == b"id,at"
            os.close(reading)
            assert (await process.communicate())[1] == b""
    assert process.returncode == 141


# ── TLS ─────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_trouble_with_tls_is_named_with_its_remedy(typed: Typist, tmp_path: Path) -> None:
    async def answer(_request: web.Request) -> web.Response:
        return await _json(_RAN)

    context, authority = _certificate(tmp_path)
    async with answering(answer, context) as url, asyncio.timeout(60):
        told = await typed("--url", url, *_RUN)
        assert told.code == 3
        assert "its certificate is not trusted (self-signed certificate" in told.err
        assert "let SSL_CERT_FILE name the authority's file" in told.err
        async with _process("--url", url, *_RUN, SSL_CERT_FILE=str(authority)) as process:
            assert (await process.communicate())[0].startswith(b"run\t7\n")
        plain = await typed("--url", url.replace("https", "http"), *_RUN)
        assert plain.code in {1, 3}
        assert url.replace("https", "http") in plain.err
    async with answering(answer) as url:
        told = await typed("--url", url.replace("http", "https"), *_RUN)
    assert (told.code, "does not speak TLS as expected; is it http:// there?" in told.err) == (3, True)
