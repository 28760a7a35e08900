"""EXTRA_JOBS on the whole service: a package's reminder and figures are everywhere where the twelve are."""

import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from aiohttp.test_utils import TestClient, TestServer

from service.app import Service, open_service
from service.demo import sample
from service.settings import Settings
from tests.acme import PACKAGE, STALLED
from tests.clock import stop_clock
from tests.web.fuzzed import NOW, PEOPLE, TOKENS, databases

AGES = "analytics.acme.goalAges"
ADMIN = {"Authorization": f"Bearer {TOKENS['ADMIN_TOKEN']}"}


class Running:
    """A service that is open, and who asks it."""

    def __init__(self, service: Service, client: TestClient[Any, Any]) -> None:
        self.service = service
        self.pool = service.pool
        self._client = client

    async def get(self, path: str) -> str:
        answer = await self._client.get(path, headers=ADMIN)
        assert answer.status == 200, (path, await answer.text())
        return await answer.text()

    async def json(self, path: str) -> Any:
        answer = await self._client.get(path, headers=ADMIN)
        assert answer.status == 200, (path, await answer.text())
        return (await answer.json())["data"]

    async def post(self, path: str, **fields: Any) -> str:
        answer = await self._client.post(path, data=fields)
        assert answer.status == 200, (path, await answer.text())
        return await answer.text()

    async def run(self, job_type: str, name: str) -> Any:
        body = {"jobType": job_type, "jobName": name, "wait": True}
        answer = await self._client.post("/api/admin/jobs/run", json=body, headers=ADMIN)
        assert answer.status == 200, await answer.text()
        return await answer.json()

    async def sign_in(self) -> None:
        origin = {"Origin": str(self._client.make_url("/")).rstrip("/")}
        await self._client.post("/console/sign-in", data={"token": TOKENS["ADMIN_TOKEN"]}, headers=origin)


@pytest.fixture
async def urls(postgres: str, template: str) -> AsyncIterator[tuple[str, str]]:
    """Our database, and a dashboard with people in it."""
    async with databases(postgres, template) as (ours, theirs):
        await sample.write(theirs, PEOPLE)
        yield ours, theirs


@asynccontextmanager
async def running(urls: tuple[str, str], folder: Path, **environ: str) -> AsyncIterator[Running]:
    """The service on these databases, its loops at rest."""
    settings = Settings.load(
        {
            "DATABASE_URL": urls[0],
            "DASHBOARD_URL": urls[1],
            "DATA_DIR": str(folder),
            "CLAIM_JITTER_SECONDS": "0",
            **TOKENS,
            **environ,
        }
    )
    async with AsyncExitStack() as stack:
        service = await stack.enter_async_context(open_service(settings))
        await stop_clock(service.pool, NOW)
        await service.presence.beat()
        await service.sync.run_once()
        server = TestServer(await service.web_app(), host="127.0.0.1")
        yield Running(service, await stack.enter_async_context(TestClient(server)))


_PLANNED = """
SELECT count(*) FROM service.delivery_with_state
WHERE job = $1 AND channel = 'email' AND state = 'planned' AND not_before <= service.now()
"""


async def _token(pool: asyncpg.Pool) -> tuple[str, str]:
    """A person who got a mail about goals at rest, and the token of its links."""
    row = await pool.fetchrow(
        "SELECT user_id, token FROM service.delivery WHERE job = $1 AND channel = 'email' ORDER BY id",
        STALLED,
    )
    assert row
    return row["user_id"], row["token"]


async def test_its_jobs_are_everywhere_where_the_services_own_are(
    urls: tuple[str, str], tmp_path: Path
) -> None:
    async with running(urls, tmp_path, EXTRA_JOBS=PACKAGE) as service:
        assert (await service.run("reminder", "acme.stalledGoals"))["state"] == "succeeded"
        assert (await service.run("analytics", "acme.goalAges"))["state"] == "succeeded"
        await service.service.delivery.run_once()
        user, token = await _token(service.pool)

        status = (await service.json("/api/admin/jobs/status"))["jobs"]
        assert "acme.stalledGoals" in status["reminder"]["activeJobs"]
        assert "acme.goalAges" in status["analytics"]["activeJobs"]
        explained = await service.json(f"/api/admin/users/{user}/explain?job=acme.stalledGoals")
        assert (explained["job"], explained["conclusion"][:18]) == (STALLED, "The mail was sent ")
        forecast = await service.json("/api/admin/forecast?days=2")
        assert STALLED in {job["job"] for job in forecast["jobs"]}
        exact = await service.json("/api/admin/forecast?job=acme.stalledGoals&exact=true")
        assert exact["job"] == STALLED
        metrics = await service.get("/metrics")
        for job in (STALLED, AGES):
            assert f'jobs_last_success_age_seconds{{job_name="{job}"}}' in metrics
            assert re.search(rf'jobs_stale_after_seconds{{[^}}]*job_name="{job}"', metrics)

        page = await service.get(f"/preferences/{token}")
        assert "Goals at rest" in page
        assert "When nothing has happened for a goal in two weeks" in page
        german = await service.post(f"/preferences/{token}", language="de")
        assert "Ruhende Ziele" in german
        assert "Keine Erinnerungen" not in page

        await service.sign_in()
        for address, words in {
            "/console/jobs": "acme.stalledGoals",
            "/console/jobs/reminder/acme.stalledGoals": "nobody has worked on for fourteen days",
            "/console/jobs/analytics/acme.goalAges": "How many goals are open, by their age",
            "/console/mails": "Goals at rest",
            "/console/mails/acme.stalled_goals?variant=several": "5 goals at rest for two weeks",
            "/console/mails/acme.stalled_goals?language=de": "Ruht seit zwei Wochen",
            f"/console/messages?job={STALLED}": "acme.stalledGoals",
            f"/console/people/{user}": "Goals at rest",
            f"/console/people/{user}?job=acme.stalledGoals&at=2026-03-22#explained": "acme.stalledGoals",
        }.items():
            assert words in await service.get(address), address


async def test_choices_and_messages_of_a_package_that_is_away_are_kept(
    urls: tuple[str, str], tmp_path: Path
) -> None:
    async with running(urls, tmp_path, EXTRA_JOBS=PACKAGE) as service:
        await service.run("reminder", "acme.stalledGoals")
        user, token = await _token(service.pool)
        await service.post(
            f"/preferences/{token}",
            **{"shown": "app.acme.stalled acme.stalled", "acme.stalled": "on", "hour.acme.stalled": "7"},
        )
        due = await service.pool.fetchval(_PLANNED, STALLED)

    async with running(urls, tmp_path) as service:
        page = await service.get(f"/preferences/{token}")
        assert "Goals at rest" not in page
        await service.post(f"/preferences/{token}", shown="daily app.daily", **{"hour.daily": "19"})

        assert await service.service.delivery.run_once() == 0
        kept = await service.pool.fetch(
            "SELECT kind, channel, enabled FROM service.preference_override WHERE user_id = $1 ORDER BY 1, 2",
            user,
        )
        assert [tuple(row) for row in kept] == [
            ("acme.stalled", "in_app", False),
            ("daily", "email", False),
            ("daily", "in_app", False),
        ]
        hours = await service.pool.fetchval(
            "SELECT hours FROM service.recipient_setting WHERE user_id = $1", user
        )
        assert hours == {"acme.stalled": 7, "daily": 19}
        assert await service.pool.fetchval(_PLANNED, STALLED) == due > 0
        await service.sign_in()
        for address in (
            "/console",
            "/console/jobs",
            "/console/messages",
            f"/console/people/{user}",
        ):
            await service.get(address)

    async with running(urls, tmp_path, EXTRA_JOBS=PACKAGE) as service:
        assert await service.service.delivery.run_once() == due
