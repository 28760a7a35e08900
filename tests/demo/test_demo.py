"""The demo as a newcomer starts it: one process, real PostgreSQL, mails in the inbox, a graceful end."""

import asyncio
import re
import signal
from datetime import date
from pathlib import Path

import aiohttp
import asyncpg
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from service.app import MANAGER, jobs
from service.dashboard.postgres import PostgresSource
from service.dashboard.sync import Sync
from service.demo import maildir_page, sample
from service.engine.run import RunRequest
from service.messages.mail.maildir import MaildirTransport
from tests.process import printed_object, process_of, until


async def test_the_demo_shows_mails_answers_with_its_token_and_ends_gracefully(tmp_path: Path) -> None:
    async with process_of(tmp_path / "data", "demo", "--json") as (process, url):
        await until(lambda: printed_object(tmp_path / "stdout") is not None)
        said = printed_object(tmp_path / "stdout") or {}
        async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as http:
            page = await (await http.get(f"{url}/inbox")).text()
            key = re.findall(r'href="(/inbox/\d+\.mail)"', page)[0]
            framed = await http.get(f"{url}{key}/html")
            bearer = {"Authorization": f"Bearer {said['token']}"}
            status = await (await http.get(f"{url}/api/admin/jobs/status", headers=bearer)).json()
            refused = await http.get(f"{url}/api/admin/jobs/status")
            live = await http.get(f"{url}/livez")
            form = {"token": said["token"], "next": "/console/system"}
            entered = await http.post(f"{url}/console/sign-in", data=form, headers={"Origin": url})
            system = await entered.text()
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(60):
            code = await process.wait()

    assert said["counts"]["planned"] > 50
    assert framed.headers["X-Frame-Options"] == "SAMEORIGIN"
    assert "sandbox" in framed.headers["Content-Security-Policy"]
    assert status["jobs"]["reminder"]["jobCount"] == 6
    assert (refused.status, live.status, code) == (401, 200, 0)
    assert entered.url.path == "/console/system"
    assert "Schema profile <b>PG</b>" in system
    assert said["token"] not in system


async def test_a_wrong_configuration_is_told_whole_and_ends_with_2(tmp_path: Path) -> None:
    async with process_of(tmp_path / "data", "check-config", PORT="x", SERVICE_TIMEZONE="Mars/Base") as (
        process,
        _,
    ):
        code = await process.wait()

    err = (tmp_path / "stderr").read_text()
    assert code == 2
    assert "PORT" in err
    assert "SERVICE_TIMEZONE" in err
    assert (tmp_path / "stdout").read_text() == ""


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("jobs", "--json"), 0),
        (("run", "reminder", "nothing"), 2),
        pytest.param(("run", "nothing", "goalDeadlines"), 2, marks=pytest.mark.long(only=True)),
        (("run", "reminder", "goalDeadlines", "--as-of", "yesterday"), 2),
        pytest.param(("check-config",), 0, marks=pytest.mark.long(only=True)),
    ],
)
async def test_exit_codes_tell_scripts_what_happened(
    tmp_path: Path, arguments: tuple[str, ...], code: int
) -> None:
    async with process_of(tmp_path / "data", *arguments) as (process, _):
        ended = await process.wait()

    assert ended == code


async def test_jobs_live_inside_a_foreign_application(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await sample.write(dsn, sample.people(1, date(2026, 3, 10), 20))
    for name, value in {"DATABASE_URL": dsn, "DASHBOARD_URL": dsn, "DATA_DIR": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    app = web.Application()
    app.cleanup_ctx.append(jobs)

    async with TestClient(TestServer(app)):
        result = await app[MANAGER].run_job("reminder", "goalDeadlines", RunRequest(dry_run=True))

        assert result.state == "succeeded"
        assert app[MANAGER].get_status()["isInitialized"]
    assert not app[MANAGER].get_status()["isInitialized"]


async def test_the_sample_is_read_whole_with_its_oddities_counted(dsn: str, pool: asyncpg.Pool) -> None:
    await sample.write(dsn, sample.people(1, date(2026, 3, 10)))
    sync = Sync(pool, PostgresSource(dsn))
    try:
        await sync.run_once()
        health = sync.health()
    finally:
        await sync.close()

    assert await pool.fetchval("SELECT count(*) FROM service.users") == 300
    assert await pool.fetchval("SELECT count(*) FROM service.users WHERE NOT timezone_valid") > 0
    assert health["profile"] == "PG"


async def test_the_inbox_shows_only_what_is_in_it(tmp_path: Path) -> None:
    MaildirTransport(tmp_path / "box")
    mail = b"To: Ann <ann@example.org>\r\nSubject: <script>x</script>\r\n\r\nhello <b>\r\n"
    (tmp_path / "box" / "new" / "1.mail").write_bytes(mail)
    (tmp_path / "box" / "secret").write_text("no")
    app = web.Application()
    app.add_routes(maildir_page.routes(tmp_path / "box"))

    async with TestClient(TestServer(app)) as client:
        listing = await (await client.get("/inbox")).text()
        none = await (await client.get("/inbox?q=nobody")).text()
        source = await (await client.get("/inbox/1.mail?view=source")).text()
        outside = [
            (await client.get(path)).status for path in ("/inbox/..%2fsecret", "/inbox/2.mail", "/inbox/x")
        ]

    assert "&lt;script&gt;x" in listing
    assert "<script>" not in listing + source
    assert "Nothing here" in none
    assert "hello &lt;b&gt;" in source
    assert outside == [404, 404, 404]
