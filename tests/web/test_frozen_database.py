"""PostgreSQL is frozen, all its processes, or stopped: answers come in time, and tell what is still known."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import psutil
import pytest

from service.engine.database import migrate, open_pool
from service.manager import job_manager
from service.web import deadline
from tests import postgres_server
from tests.web.given import Admin, admin


@pytest.fixture(scope="module")
def server() -> Iterator[postgres_server.PostgresServer]:
    """A server that may be frozen: nobody else uses it."""
    with postgres_server.server() as running:
        yield running


@pytest.fixture
async def given(
    server: postgres_server.PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Admin]:
    """The API on it, with tokens for nobody: pages need no session."""
    monkeypatch.setattr(deadline, "READING", 2.0)
    monkeypatch.setattr(deadline, "ACTING", 2.0)
    monkeypatch.setattr(job_manager, "_DEADLINE", 0.5)
    pool = await open_pool(server.url())
    await migrate(pool)
    async with admin(pool, tokens={}) as made:
        yield made
    await pool.close()


@contextmanager
def frozen(server: postgres_server.PostgresServer) -> Iterator[None]:
    """SIGSTOP for the postmaster and all its children."""
    postmaster = psutil.Process(int((Path(server.folder) / "data" / "postmaster.pid").read_text().split()[0]))
    stopped = [postmaster, *postmaster.children(recursive=True)]
    try:
        for one in stopped:
            one.suspend()
        yield
    finally:
        for one in stopped:
            one.resume()


@contextmanager
def stopped(server: postgres_server.PostgresServer) -> Iterator[None]:
    """No server, until the end."""
    server.stop()
    try:
        yield
    finally:
        server.start()


async def _answers_again(given: Admin, path: str) -> None:
    async with asyncio.timeout(90):
        while (await given.client.get(path)).status != 200:
            await asyncio.sleep(0.1)


async def test_health_and_pages_answer_in_time_with_what_is_known(
    server: postgres_server.PostgresServer, given: Admin
) -> None:
    paths = ["/api/admin/jobs/status", "/api/admin/jobs/history", "/console/jobs", "/console"]
    health = (await (await given.client.get("/api/admin/jobs/health")).json())["checks"]
    assert health["database"]["status"] == "running"
    with frozen(server):
        async with asyncio.timeout(60):
            while (await given.client.get("/api/admin/jobs/health")).status == 200:
                pass  # the answer of a moment ago
            for _ in range(3):
                answer = await given.client.get("/api/admin/jobs/health")
                told = (await answer.json())["checks"]
                assert answer.status == 503
                assert told["database"]["details"]["problem"] == "our PostgreSQL has not answered in time"
                assert told["reminder"]["status"] == "error"
                assert told["reminder"]["details"]["jobs"] == health["reminder"]["details"]["jobs"]
                assert told["reminder"]["details"]["ageSeconds"] >= 0
            answers = await asyncio.gather(*(given.client.get(path) for path in paths * 5))
            texts = [await answer.text() for answer in answers]
        assert {answer.status for answer in answers} == {503}
        for path, text in zip(paths * 5, texts, strict=True):
            assert "No answer within 2 seconds: a database keeps silent" in text or path == "/console"
            if path.startswith("/console"):
                assert "What this process still knows" in text
                assert "our PostgreSQL has not answered in time" in text
    await _answers_again(given, "/console/jobs")


@pytest.mark.parametrize("away", [frozen, stopped])
async def test_recipients_are_told_to_try_again_in_their_language(
    server: postgres_server.PostgresServer,
    given: Admin,
    away: Callable[[postgres_server.PostgresServer], AbstractContextManager[None]],
) -> None:
    asked = {
        "de": ("GET", "/preferences/a-token?x=1", None, "Bitte versuche es gleich noch einmal."),
        "en": ("GET", "/preferences/a-token", None, "Please try again in a moment."),
        "de-AT,en;q=0.5": ("POST", "/u/a-token", {"scope": "all"}, "vielleicht noch nicht gespeichert"),
        "fr": ("POST", "/preferences/a-token", {"weekly": "on"}, "may not be stored yet"),
    }
    requests = [
        given.client.request(method, path, data=form, headers={"Accept-Language": language})
        for language, (method, path, form, _) in asked.items()
    ]
    one_click = given.client.post("/u/a-token", data={"List-Unsubscribe": "One-Click"})
    confirm = given.client.get("/u/a-token")  # it needs no database
    with away(server):
        async with asyncio.timeout(60):
            *answers, stopping, asking = await asyncio.gather(*requests, one_click, confirm)
            pages = [await answer.text() for answer in answers]
    for answer, page, (language, (_, path, _, told)) in zip(answers, pages, asked.items(), strict=True):
        assert (answer.status, answer.content_type) == (503, "text/html")
        assert "form-action 'self'" in answer.headers["Content-Security-Policy"]
        assert told in page
        assert f'<html lang="{"de" if language.startswith("de") else "en"}"' in page
        assert f'<a class="button" href="{path}">' in page
    assert (stopping.status, stopping.content_type) == (503, "text/plain")
    assert asking.status == 200
    await _answers_again(given, "/preferences/a-token")
