"""performanceMetrics: measured or null with a reason, stored once, alerts raised once and cleared once."""

import json
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from service.analytics.maintenance import AnalyticsSettings
from service.analytics.performance import performance_alerts, responses
from service.analytics.runtime_metrics import RuntimeMetrics, rss
from service.clock import SystemClock
from service.dashboard.server_metrics import counters, dashboard_counters
from tests.given import World

PERFORMANCE = "analytics.performanceMetrics"
TEXT = """# TYPE http_request_duration_seconds histogram
http_request_duration_seconds_bucket{status="200",le="+Inf"} 90
http_request_duration_seconds_sum{status="200"} 9
http_request_duration_seconds_count{status="200"} 90
http_request_duration_seconds_bucket{status="503",le="+Inf"} 10
http_request_duration_seconds_sum{status="503"} 21
http_request_duration_seconds_count{status="503"} 10
"""


async def measured(world: World, at: str, **settings: Any) -> dict[str, Any]:
    await world.at(at)
    await (await world.runner(resources=(AnalyticsSettings(**settings),))).run_manual(PERFORMANCE)
    found: dict[str, Any] = await world.pool.fetchval(
        "SELECT figures FROM service.rollup WHERE statistic = 'performance' ORDER BY period DESC LIMIT 1"
    )
    return found


async def told(world: World, requests: int, response_ms: float, errors: int) -> None:
    """One process tells its vitals."""
    vitals = {"requests": requests, "responseMs": response_ms, "errors": errors}
    await (await world.ledger("p1")).beat_replica("1", vitals)


async def test_nothing_is_invented(world: World) -> None:
    figures = await measured(world, "2026-03-10T08:00:00Z")

    assert (figures["averageResponseTime"], figures["errorRate"]) == (None, None)
    assert figures["reason"] == "no process has told its vitals"
    assert figures["dashboard"]["reason"] == "DASHBOARD_METRICS_URL is not set"
    assert figures["mail"]["latencyMs"] == {"p50": None, "p95": None}


async def test_runs_and_lateness_come_from_the_ledger(world: World) -> None:
    await world.ledger()
    await world.pool.execute(
        "INSERT INTO service.job_run (job, trigger, nominal_at, not_before, state, started_at, finished_at)"
        " SELECT 'reminder.goalDeadlines', 'cron', t, t, s, t + interval '3 s', t + interval '13 s'"
        " FROM (VALUES ('2026-03-10T07:10:00Z'::timestamptz, 'succeeded'),"
        "              ('2026-03-10T07:20:00Z', 'failed'),"
        "              ('2026-03-10T06:20:00Z', 'succeeded')) AS v (t, s)"
    )

    figures = await measured(world, "2026-03-10T08:00:00Z")

    assert figures["jobs"]["reminder.goalDeadlines"] == {
        "runs": 2,
        "failures": 1,
        "seconds": {"p50": 10.0, "p95": 10.0},
        "latenessSeconds": 3.0,
        "lastSuccessAgeSeconds": 2987.0,
    }


async def test_an_hour_is_measured_once(world: World) -> None:
    await told(world, 100, 1000.0, 0)
    first = await measured(world, "2026-03-10T08:00:00Z")
    await told(world, 500, 1000.0, 0)

    again = await measured(world, "2026-03-10T08:20:00Z")

    assert again == first
    assert await world.pool.fetchval("SELECT count(*) FROM service.rollup") == 1


async def test_an_alert_is_raised_after_two_bad_hours_once_and_cleared_once(world: World) -> None:
    seen = []
    hours = [(100, 4), (100, 4), (100, 5), (100, 0), (100, 4)]
    for n, (requests, errors) in enumerate(hours):
        await world.at(f"2026-03-10T{8 + n:02}:00:00Z")
        await told(world, requests, 100.0, errors)
        await measured(world, f"2026-03-10T{8 + n:02}:00:00Z")
        rows = await world.pool.fetch("SELECT name, cleared_at FROM service.alert ORDER BY id")
        seen.append([(row["name"], row["cleared_at"] is not None) for row in rows])
    assert seen == [
        [],
        [("api.errorRate", False)],
        [("api.errorRate", False)],
        [("api.errorRate", True)],
        [("api.errorRate", True)],
    ]


async def test_the_dashboard_is_measured_between_two_readings(world: World) -> None:
    text = TEXT

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(text=text)

    app = web.Application()
    app.router.add_get("/metrics", answer)
    async with TestServer(app, host="127.0.0.1") as server:
        url = str(server.make_url("/metrics"))

        async def scrape() -> dict[str, Any]:
            return await dashboard_counters(url)

        first = await measured(world, "2026-03-10T08:00:00Z", dashboard_metrics=scrape)
        text = TEXT.replace('"200"} 90', '"200"} 270').replace('"200"} 9\n', '"200"} 27\n')
        second = await measured(world, "2026-03-10T09:00:00Z", dashboard_metrics=scrape)
        text = TEXT
        restarted = await measured(world, "2026-03-10T10:00:00Z", dashboard_metrics=scrape)
        gone = await dashboard_counters(str(server.make_url("/nothing")))

    assert first["dashboard"]["reason"] == "first reading: rates need an hour"
    assert second["dashboard"]["requests"] == 180
    assert second["dashboard"]["averageResponseTime"] == 100.0
    assert second["dashboard"]["errorRate"] == 0.0
    assert restarted["dashboard"]["requests"] == 100
    assert restarted["dashboard"]["errorRate"] == 0.1
    assert gone == {"reason": "DASHBOARD_METRICS_URL answered 404"}


@pytest.mark.parametrize("text", ["", "<html>", "up 1\n", "http_request_duration_seconds_count{ 5\n"])
def test_text_that_says_nothing_gives_a_reason(text: str) -> None:
    assert "DASHBOARD_METRICS_URL" in counters(text)["reason"]


@pytest.mark.parametrize(
    ("hours", "names"),
    [
        ([(100, 300.0, 0.0), (100, 251.0, 0.0)], {"api.averageResponseTime"}),
        ([(100, 300.0, 0.0), (100, 250.0, 0.0)], set()),
        ([(49, 300.0, 1.0), (100, 300.0, 1.0)], set()),
        ([(50, 300.0, 0.04), (50, 300.0, 0.04)], {"api.averageResponseTime", "api.errorRate"}),
        ([], set()),
    ],
)
def test_what_is_wrong_long_enough(hours: list[tuple[int, float, float]], names: set[str]) -> None:
    told_of = [{"requests": n, "averageResponseTime": ms, "errorRate": rate} for n, ms, rate in hours]
    assert set(performance_alerts("api", told_of)) == names


def test_processes_are_added_up_by_their_requests() -> None:
    both = [
        {"requests": 10, "responseMs": 1000.0, "errors": 1},
        {"requests": 30, "responseMs": 200.0, "errors": 1},
    ]
    assert responses(both) == {
        "requests": 40, "averageResponseTime": 30.0, "errorRate": 0.05, "throughput": round(40 / 3600, 4),
    }  # fmt: skip


async def test_vitals_can_be_stored(world: World) -> None:
    vitals = RuntimeMetrics(SystemClock(), lambda: {"poolSize": 3})
    vitals.record_request(0.25, failed=True)

    await (await world.ledger("p1")).beat_replica("1", vitals.report())

    stored = await world.pool.fetchval("SELECT vitals FROM service.replica")
    assert json.loads(json.dumps(vitals.report()))["errors"] == stored["errors"] == 1
    assert stored["responseMs"] == 250.0
    assert stored["poolSize"] == 3
    assert stored["rssBytes"] > 10_000_000
    assert rss() > 10_000_000
