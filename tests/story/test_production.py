"""In production: a MongoDB of profile A, a PostgreSQL of our own, an SMTP server, and signals."""

import asyncio
import signal
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import pytest
from bson import ObjectId
from pymongo import MongoClient

from tests.process import process_of, until
from tests.smtp_server import RecordingServer

_TOKEN = "t0ken-for-tests"
_BEARER = {"Authorization": f"Bearer {_TOKEN}"}
_JOB = {"jobType": "reminder", "jobName": "goalDeadlines"}


@pytest.fixture
async def mongo(mongod: str) -> AsyncIterator[tuple[str, Any]]:
    """An empty MongoDB database of this test's own, and its URL."""
    name = f"d{uuid.uuid4().hex[:12]}"
    client: MongoClient[dict[str, Any]] = MongoClient(mongod)
    yield mongod.replace("/?", f"/{name}?"), client[name]
    client.drop_database(name)
    client.close()


def _fill(database: Any, people: int) -> None:
    """Profile A: everybody in UTC with one goal due tomorrow, a date from a date picker."""
    now = datetime.now(UTC)
    tomorrow = datetime.combine(now.date() + timedelta(days=1), time(), UTC)
    users = [
        {"_id": ObjectId(), "name": f"Person {n}", "email": f"p{n}@example.org", "timezone": "UTC",
         "preferences": {"notifications": {"email": True, "push": True, "reminders": True}}, "isActive": True,
         "lastLoginAt": now, "createdAt": now - timedelta(days=90), "updatedAt": now}
        for n in range(people)
    ]  # fmt: skip
    goals = [
        {"_id": ObjectId(), "userId": user["_id"], "title": f"Goal of {user['name']}", "category": "work",
         "targetValue": 10, "currentValue": 3, "unit": "pages", "status": "active", "priority": "high",
         "deadline": tomorrow, "startDate": now, "tags": [], "createdAt": now, "updatedAt": now}
        for user in users
    ]  # fmt: skip
    database.users.insert_many(users)
    database.goals.insert_many(goals)


def _environment(dsn: str, dashboard: str, server: RecordingServer) -> dict[str, str]:
    return {
        "DATABASE_URL": dsn,
        "DASHBOARD_URL": dashboard,
        "FRONTEND_URL": "http://localhost:3000",
        "PUBLIC_URL": "http://localhost:8080",
        "SMTP_HOST": "127.0.0.1",
        "SMTP_PORT": str(server.port),
        "SMTP_CONNECTIONS": "4",
        "MAIL_FROM": "Dashboard <hello@example.org>",
        "ADMIN_TOKEN": _TOKEN,
        "CLAIM_JITTER_SECONDS": "0",
        "LEASE_SECONDS": "5",
    }


async def _ready(url: str) -> None:
    async with asyncio.timeout(90), aiohttp.ClientSession() as http:
        while True:
            try:
                async with http.get(f"{url}/startupz") as answer:
                    if answer.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.1)


async def _run(url: str) -> dict[str, Any]:
    async with (
        aiohttp.ClientSession(headers=_BEARER) as http,
        http.post(f"{url}/api/admin/jobs/run", json=_JOB) as answer,
    ):
        assert answer.status == 200, await answer.text()
        return dict(await answer.json())


async def test_a_mongodb_of_profile_a_is_read_and_each_person_gets_one_mail(
    dsn: str, pool: asyncpg.Pool, mongo: tuple[str, Any], tmp_path: Path
) -> None:
    url_of_mongo, database = mongo
    _fill(database, 25)
    async with RecordingServer() as server:
        environ = _environment(dsn, url_of_mongo, server)
        async with process_of(tmp_path / "data", "serve", **environ) as (process, url):
            await _ready(url)
            first = await _run(url)
            await until(lambda: len(server.accepted) == 25)
            again = await _run(url)
            process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(60):
                code = await process.wait()

    assert (first["state"], first["counts"]) == ("succeeded", {"planned": 25, "in_app": 25})
    assert again["counts"] == {"already_sent": 25}
    assert sorted(one.recipient for one in server.accepted) == sorted(f"p{n}@example.org" for n in range(25))
    assert code == 0


async def test_notifications_reach_the_dashboards_own_inbox_once_it_has_one(
    dsn: str, pool: asyncpg.Pool, mongo: tuple[str, Any], tmp_path: Path
) -> None:
    url_of_mongo, database = mongo
    _fill(database, 3)
    async with RecordingServer() as server:
        environ = {**_environment(dsn, url_of_mongo, server), "IN_APP": "dashboard"}
        async with process_of(tmp_path / "data", "serve", **environ) as (_, url):
            await _ready(url)
            await _run(url)
            told = await _inbox_problem(url, closed=True)
            database.create_collection("notifications")
            await _inbox_problem(url, closed=False)
            await until(lambda: database.notifications.count_documents({}) == 3)

    assert "the dashboard has no collection notifications; create it, or set IN_APP=service" in told
    assert {one["userId"] for one in database.notifications.find()} == {
        one["_id"] for one in database.users.find()
    }


async def _inbox_problem(url: str, *, closed: bool) -> str:
    """What health says about the inbox, once it is closed or open."""
    async with asyncio.timeout(90), aiohttp.ClientSession(headers=_BEARER) as http:
        while True:
            async with http.get(f"{url}/api/admin/jobs/health") as health:
                check = (await health.json())["checks"]["inbox"]
            if (check["status"] == "unhealthy") is closed:
                return str(check["details"]["problem"])
            await asyncio.sleep(0.1)


async def test_a_stop_in_the_midst_of_delivery_leaves_nothing_both_sent_and_unmarked(
    dsn: str, pool: asyncpg.Pool, mongo: tuple[str, Any], tmp_path: Path
) -> None:
    url_of_mongo, database = mongo
    _fill(database, 1200)
    async with RecordingServer() as server:
        environ = _environment(dsn, url_of_mongo, server)
        async with process_of(tmp_path / "data", "serve", **environ) as (process, url):
            await _ready(url)
            await _run(url)
            await until(lambda: len(server.accepted) > 20)
            process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(60):
                assert await process.wait() == 0
        taken = {one.message_id for one in server.accepted}
        states = await pool.fetch(
            "SELECT message_id, state FROM service.delivery_with_state WHERE channel = 'email'"
        )
        assert {row["message_id"] for row in states if row["state"] == "sent"} == taken
        assert {row["state"] for row in states} <= {"sent", "planned"}

        async with process_of(tmp_path / "data", "serve", **environ):
            await until(lambda: len(server.accepted) >= 1200)

    assert len({one.message_id for one in server.accepted}) == len(server.accepted) == 1200


async def test_a_second_signal_ends_it_at_once(
    dsn: str, pool: asyncpg.Pool, mongo: tuple[str, Any], tmp_path: Path
) -> None:
    url_of_mongo, database = mongo
    _fill(database, 5)
    held = asyncio.Event()

    def hang(phase: str, _recipient: str) -> str | None:
        held.set()
        return "hang" if phase == "after_dot" else None

    async with RecordingServer(hang) as server:
        environ = _environment(dsn, url_of_mongo, server)
        async with process_of(tmp_path / "data", "serve", **environ) as (process, url):
            await _ready(url)
            await _run(url)
            await until(lambda: bool(server.accepted))
            process.send_signal(signal.SIGTERM)
            await until(lambda: "stopping" in (tmp_path / "stderr").read_text())
            process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(10):
                assert await process.wait() == 1


async def test_a_dashboard_of_no_known_shape_is_an_alarm_and_nobody_is_written_to(
    dsn: str, pool: asyncpg.Pool, mongo: tuple[str, Any], tmp_path: Path
) -> None:
    url_of_mongo, database = mongo
    database.users.insert_many([{"nom": "x", "courriel": "y@example.org"} for _ in range(60)])
    database.goals.insert_many([{"but": "z"} for _ in range(60)])
    async with RecordingServer() as server:
        environ = _environment(dsn, url_of_mongo, server)
        async with process_of(tmp_path / "data", "serve", **environ) as (_, url):
            await _ready(url)
            async with aiohttp.ClientSession(headers=_BEARER) as http:
                async with http.post(f"{url}/api/admin/jobs/run", json=_JOB) as ran:
                    assert ran.status == 500
                async with http.get(f"{url}/api/admin/jobs/health") as health:
                    told = await health.json()

    assert told["checks"]["dashboard"]["status"] == "unhealthy"
    assert await pool.fetchval("SELECT reason FROM service.job_run") == "schema_unknown"
    assert server.accepted == []
