"""Deriving past periods again: shown first, then marked once, then done by the real job."""

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client import CollectorRegistry

from service.jobs import all_jobs
from service.manager import JobManager
from service.web import AdminDeps, build_app
from tests.given import World, user
from tests.web.contract import promised
from tests.web.given import ADMIN, TOKENS, VIEWER, AskedRunner
from tests.web.parts import web_parts

BACKFILL = "/api/admin/jobs/{type}/{name}/backfill"
NOW = "2026-03-10T09:00:00Z"
Client = TestClient[Any, Any]


@pytest.fixture
def world(pool: asyncpg.Pool) -> World:
    return World(pool)


@pytest.fixture
async def client(world: World) -> AsyncIterator[Client]:
    """Ann had a session on each of the first nine days of March; nothing has been derived yet."""
    await world.at("2026-03-01T00:00:00Z")
    await world.live(user("ann", "UTC"))
    await world.pool.execute(
        "INSERT INTO service.timer_sessions"
        " (id, user_id, kind, focus, status, started_at, ended_at, focus_seconds)"
        " SELECT d::text, 'ann', 'focus', true, 'completed', d, d + interval '25 minutes', 1500"
        " FROM generate_series('2026-03-01T10:00Z'::timestamptz, '2026-03-09T10:00Z', interval '1 day') AS d"
    )
    await world.at(NOW)
    ledger, runner = await world.ledger(), AskedRunner()
    manager = JobManager(world.pool, ledger, runner, all_jobs())
    parts = web_parts(world.pool, ledger, runner)
    app = build_app(AdminDeps(world.pool, manager, TOKENS, True, CollectorRegistry(), **parts))
    async with TestClient(TestServer(app, host="127.0.0.1")) as client:
        yield client


async def ask(client: Client, status: int, since: str, until: str, **more: Any) -> Any:
    name, kind, key = more.pop("name", "dailyAnalytics"), more.pop("type", "analytics"), more.pop("key", None)
    answer = await client.post(
        BACKFILL.format(type=kind, name=name),
        json={"from": since, "to": until, **more},
        headers=ADMIN | ({"Idempotency-Key": key} if key else {}),
    )
    body = await promised(answer, "POST", BACKFILL)
    assert answer.status == status, body
    return body


async def totals(world: World) -> dict[str, tuple[int, int]]:
    rows = await world.pool.fetch("SELECT * FROM service.rollup WHERE statistic = 'daily' ORDER BY period")
    return {f"{row['period']:%d}": (row["figures"]["totalSessions"], row["revision"]) for row in rows}


async def test_a_preview_tells_and_does_nothing(client: Client, world: World) -> None:
    found = await ask(client, 200, "2026-03-08", "2026-03-20", preview=True)

    assert (found["missing"], found["again"]) == (["2026-03-08", "2026-03-09"], [])
    assert (found["preview"], found["runId"]) == (True, None)
    for table in ("stale_period", "job_run", "audit"):
        assert await world.pool.fetchval(f"SELECT count(*) FROM service.{table}") == 0


async def test_marked_periods_are_derived_again_by_the_run_that_is_requested(
    client: Client, world: World
) -> None:
    runner = await world.runner()
    await runner.run_manual("analytics.dailyAnalytics")
    empty = {"27": (0, 1), "28": (0, 1)}  # a zone may show a date two earlier
    assert await totals(world) == empty | {f"0{n}": (1, 1) for n in range(1, 10)}
    await world.pool.execute(
        "UPDATE service.rollup SET figures = figures || '{\"totalSessions\": 99}'"
        " WHERE statistic = 'daily' AND period IN ('2026-03-02', '2026-03-05')"
    )
    await world.pool.execute("DELETE FROM service.rollup WHERE period = '2026-03-03' AND statistic = 'daily'")

    found = await ask(client, 202, "2026-03-02", "2026-03-04", key="k")
    run = await runner.run_one()

    assert (found["missing"], found["again"]) == (["2026-03-03"], ["2026-03-02", "2026-03-04"])
    assert run is not None
    assert (run.id, run.trigger, run.state) == (found["runId"], "backfill", "succeeded")
    wanted = empty | {f"0{n}": (1, 1) for n in range(1, 10)} | {"02": (1, 2), "05": (99, 1)}
    assert await totals(world) == wanted
    assert await ask(client, 202, "2026-03-02", "2026-03-04", key="k") == found
    assert await runner.run_one() is None
    rows = await world.pool.fetch("SELECT who, act FROM service.audit")
    assert [(row["who"], row["act"]) for row in rows] == [("admin", "backfill")]


@pytest.mark.parametrize(
    ("name", "begins"),
    [
        ("weeklyAggregation", ["2026-03-01"]),
        ("monthlyInsights", ["2026-02-01"]),
        ("userBehavior", [f"2026-03-0{d}T{h:02}:00:00Z" for d in (2, 3) for h in (0, 6, 12, 18)]),
    ],
)
async def test_each_statistic_has_its_own_periods(client: Client, name: str, begins: list[str]) -> None:
    first = "2026-02-03" if name == "monthlyInsights" else "2026-03-02"
    found = await ask(client, 200, first, "2026-03-03", name=name, preview=True)
    assert found["missing"] == begins


async def test_what_cannot_be_derived_is_refused_with_the_remedy(client: Client) -> None:
    march = ("2026-03-01", "2026-03-02")
    for name in ("performanceMetrics", "dataCleanup"):
        assert "dailyAnalytics" in (await ask(client, 400, *march, name=name))["error"]
    await ask(client, 400, *march, type="reminder", name="goalDeadlines")
    await ask(client, 404, *march, name="x")
    await ask(client, 404, *march, type="x")
    await ask(client, 400, "2026-03-02", "2026-03-01")
    assert "over" in (await ask(client, 400, "2026-03-10", "2026-03-12"))["error"]
    assert "shorter" in (await ask(client, 400, "2000-01-01", "2026-03-01"))["error"]
    for first in ("x", "0001-01-01"):
        await ask(client, 400, first, "2026-03-01")
    assert len((await ask(client, 200, "2026-03-01", "9999-12-31", preview=True))["missing"]) == 9
    path = BACKFILL.format(type="analytics", name="dailyAnalytics")
    body = {"from": "2026-03-01", "to": "2026-03-02", "preview": True}
    assert (await client.post(path, json=body, headers=VIEWER)).status == 403
