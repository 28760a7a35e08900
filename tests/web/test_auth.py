"""Who may do what, and how refusals look."""

import asyncpg
import pytest

from tests.web.given import ADMIN, DASHBOARD, VIEWER, admin, delivery

STATUS, RUN, INBOX = "/api/admin/jobs/status", "/api/admin/jobs/run", "/api/users/u1/notifications"


@pytest.mark.parametrize(
    ("headers", "method", "path", "expected"),
    [
        ({}, "GET", STATUS, 401),
        ({"Authorization": "Bearer wrong"}, "GET", STATUS, 401),
        ({"Authorization": "Basic the-admin"}, "GET", STATUS, 401),
        ({"Authorization": "Bearer caf\u00e9"}, "GET", STATUS, 401),
        ({}, "GET", "/api/admin/nothing-here", 401),
        (ADMIN, "GET", "/api/admin/nothing-here", 404),
        (ADMIN, "PUT", STATUS, 405),
        (ADMIN, "GET", STATUS, 200),
        (VIEWER, "GET", STATUS, 200),
        (VIEWER, "POST", RUN, 403),
        (VIEWER, "GET", INBOX, 403),
        (DASHBOARD, "GET", STATUS, 403),
        (DASHBOARD, "GET", INBOX, 200),
        (ADMIN, "GET", INBOX, 200),
        ({}, "GET", INBOX, 401),
    ],
)
async def test_each_role_may_do_its_own_things_only(
    pool: asyncpg.Pool, headers: dict[str, str], method: str, path: str, expected: int
) -> None:
    async with admin(pool) as given:
        answer = await given.client.request(method, path, headers=headers)
        assert answer.status == expected
        if expected >= 400:
            body = await answer.json()
            assert body["success"] is False
            assert body["error"]


async def test_without_a_token_only_a_loopback_host_answers(pool: asyncpg.Pool) -> None:
    async with admin(pool, tokens={}, loopback=False) as given:
        assert (await given.client.get(STATUS)).status == 503
    async with admin(pool, tokens={}, loopback=True) as given:
        assert (await given.client.get(STATUS)).status == 200


@pytest.mark.parametrize(
    "headers",
    [{"Host": "evil.example"}, {"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}],
)
async def test_without_a_token_no_web_page_can_reach_in(pool: asyncpg.Pool, headers: dict[str, str]) -> None:
    async with admin(pool, tokens={}, loopback=True) as given:
        assert (await given.client.post("/api/admin/runs/1/cancel", headers=headers)).status == 403


async def test_bodies_are_limited_typed_and_strict(pool: asyncpg.Pool) -> None:
    async with admin(pool) as given:
        post = given.client.post
        job = {"jobType": "reminder", "jobName": "goalDeadlines"}
        assert (await post(RUN, headers=ADMIN, data="x=1")).status in {400, 415}
        assert (await post(RUN, headers=ADMIN | {"Content-Type": "text/plain"}, data=b"{}")).status == 415
        assert (await post(RUN, headers=ADMIN, json=job | {"dryrun": True})).status == 400
        assert (await post(RUN, headers=ADMIN, json=job | {"userId": "x" * 70000})).status == 413
        assert (
            await post(RUN, headers=ADMIN | {"Content-Type": "application/json"}, data=b"{")
        ).status == 400
        assert not given.runner.asked


async def test_probes_answer_anybody(pool: asyncpg.Pool) -> None:
    async with admin(pool) as given:
        for path in ("/livez", "/readyz", "/startupz", "/metrics"):
            answer = await given.client.get(path)
            assert answer.status == 200
            assert answer.headers["X-Content-Type-Options"] == "nosniff"


async def test_metrics_tell_what_waits_and_outlive_the_database(pool: asyncpg.Pool) -> None:
    await delivery(pool)
    async with admin(pool) as given:
        text = await (await given.client.get("/metrics")).text()
        assert 'jobs_backlog{job_name="reminder.goalDeadlines",state="planned",what="delivery"} 1.0' in text
        await pool.close()
        assert "jobs_database_up 0.0" in await (await given.client.get("/metrics")).text()
        assert (await given.client.get("/livez")).status == 200
        assert (await given.client.get("/readyz")).status == 503
        health = await given.client.get("/api/admin/jobs/health", headers=ADMIN)
        assert health.status == 503
        assert (await health.json())["checks"]["database"]["status"] == "error"
