"""Passwords in URLs are nowhere to be read: not in an answer, a page, a log, nor in a refusal to start."""

import asyncio
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest

from tests.process import process_of

VIEWER = "a-viewer-who-may-look"
SECRETS = ["Heron", "owl", "wren"]
"""No part of a secret that is given to the service lacks one of these."""
_API = [
    *("jobs/health", "jobs/status", "jobs/statistics", "jobs/history", "alerts", "audit", "deliveries"),
    *("analytics/performance", "analytics/watermarks"),
]
_PAGES = ["", "/system", "/jobs", "/messages", "/people", "/acts", "/mails", "/analytics"]
_REFUSED = {
    "a slash and a hash": {
        "DATABASE_URL": "postgresql://jobs:Heron#owl@127.0.0.1:1/jobs",
        "DASHBOARD_URL": "mongodb://jobs:Heron/owl@127.0.0.1:1/dashboard",
        "DASHBOARD_METRICS_URL": "https://jobs:Heron@owl@jobs.example/metrics",
        "PUBLIC_URL": "https://jobs:Heron/owl@jobs.example",
    },
    "a question mark and a bracket": {
        "DATABASE_URL": "postgresql://jobs:Heron?owl@127.0.0.1:1/jobs",
        "DASHBOARD_URL": "postgresql://jobs:Heron[owl@127.0.0.1:1/jobs",
        "FRONTEND_URL": "https://jobs:Heron-owl@dash.example",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "https://collector.example?key=Heron-owl",
    },
    "a percent sign and what the driver alone refuses": {
        "DATABASE_URL": "postgresql://jobs:Heron%owl@127.0.0.1:1/jobs",
        "DASHBOARD_URL": "mongodb://jobs:Heron@127.0.0.1:1/dash?ssl=true&tls=false",
    },
}


def _with_password(dsn: str) -> tuple[str, str]:
    """The DSN with a password, encoded, and that password; a server that asks for none takes any."""
    parts = urlsplit(dsn)
    password = parts.password or "Heron%2Fowl"
    place = f"{parts.username}:{password}@{parts.netloc.rpartition('@')[2]}"
    return parts._replace(netloc=place).geturl(), password


@pytest.mark.parametrize("environ", _REFUSED.values(), ids=_REFUSED)
async def test_urls_that_cannot_be_read_stop_the_start_and_are_not_printed(
    tmp_path: Path, environ: dict[str, str]
) -> None:
    async with process_of(tmp_path / "data", "serve", **environ) as (process, _):
        async with asyncio.timeout(90):
            assert await process.wait() == 2
    printed = (tmp_path / "stdout").read_text() + (tmp_path / "stderr").read_text()

    assert [name for name in environ if f"{name}: " not in printed] == []
    assert [secret for secret in (*SECRETS, "jobs:") if secret in printed] == []


async def test_no_secret_of_a_url_is_told_to_viewers_or_logged(tmp_path: Path, dsn: str) -> None:
    """The dashboard does not answer, so that everything that can complain about it does."""
    ours, password = _with_password(dsn)
    environ = {
        "DATABASE_URL": ours,
        "DASHBOARD_URL": "mongodb://jobs:Heron%2Fowl@127.0.0.1:1,[::1]:1/dash?replicaSet=x&wtimeoutMS=many"
        "&authMechanismProperties=SERVICE_NAME:wren&passwort=Heron&serverSelectionTimeoutMS=100",
        "DASHBOARD_METRICS_URL": "http://jobs:Heron@127.0.0.1:1/metrics?access=wren",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://jobs:Heron@127.0.0.1:1",
        "VIEWER_TOKEN": VIEWER,
        "LOG_LEVEL": "debug",
        "LOG_FORMAT": "console",
        "SYNC_INTERVAL_SECONDS": "1",
    }
    async with process_of(tmp_path / "data", "serve", **environ) as (process, url):
        seen = await _everything(url)
        process.terminate()
        async with asyncio.timeout(90):
            await process.wait()
    seen["log"] = (tmp_path / "stdout").read_text() + (tmp_path / "stderr").read_text()
    seen["check-config"] = await _checked(tmp_path / "data", environ)

    hidden = {*SECRETS, password}
    assert {place: secret for place, text in seen.items() for secret in hidden if secret in text} == {}
    for place in ("/console/system", "check-config"):
        assert "mongodb://jobs:***@127.0.0.1:1,[::1]:1/dash?replicaSet=x" in seen[place].replace("&amp;", "&")
    assert "passwort" in seen["log"]


async def _everything(url: str) -> dict[str, str]:
    """What a viewer can read, by where."""
    seen = {}
    says = {"Authorization": f"Bearer {VIEWER}"}
    jar = aiohttp.CookieJar(unsafe=True)  # of an address without a name, too
    async with aiohttp.ClientSession(headers={"Origin": url}, cookie_jar=jar) as http:
        await _started(http, url)
        for path in _API:
            async with http.get(f"{url}/api/admin/{path}", headers=says) as answer:
                seen[path] = await answer.text()
                assert answer.status in {200, 503}, (path, seen[path])
        async with http.post(f"{url}/console/sign-in", data={"token": VIEWER}) as answer:
            assert answer.status == 200, await answer.text()
        for path in _PAGES:
            async with http.get(f"{url}/console{path}") as answer:
                seen[f"/console{path}"] = await answer.text()
                assert answer.status == 200, path
        async with http.get(f"{url}/metrics", headers=says) as answer:
            seen["/metrics"] = await answer.text()
    return seen


async def _started(http: aiohttp.ClientSession, url: str) -> None:
    async with asyncio.timeout(90):
        while True:
            try:
                async with http.get(f"{url}/startupz") as answer:
                    if answer.status == 200:
                        return
            except aiohttp.ClientConnectorError:
                pass
            await asyncio.sleep(0.05)


async def _checked(folder: Path, environ: dict[str, str]) -> str:
    more = environ | {"COLUMNS": "400"}
    async with process_of(folder, "check-config", "--offline", **more) as (process, _):
        async with asyncio.timeout(90):
            assert await process.wait() == 0
    return (folder.parent / "stdout").read_text() + (folder.parent / "stderr").read_text()
