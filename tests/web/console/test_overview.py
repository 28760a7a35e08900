"""The overview: all is well or what is wrong, and twelve jobs with how they went and when they come next."""

import re
from typing import Any

import asyncpg
import pytest

from service.engine.conditions import Condition
from service.engine.run import RunRequest
from service.manager.conditions import to_json as condition_json
from service.web.console.overview.troubles import problems_of, spark, streak
from tests.given import World
from tests.web.console.consoles import console, people

_CALM: dict[str, Any] = {"checks": {"reminder": {"status": "running", "details": {"problems": {}}}}}
_ALIVE = {"name": "a", "version": "1", "vitals": {"loopLagMs": {"p99": 12.0}}}


@pytest.fixture
def world(pool: asyncpg.Pool) -> World:
    return World(pool)


async def test_all_is_well(world: World) -> None:
    await people(world)
    async with console(world) as given:
        await given.sign_in()
        vitals = {"loopLagMs": {"p99": 12.3}, "rssBytes": 91_000_000, "cpuPercent": 4.2}
        await given.ledger.beat_replica("1.2.3", vitals)
        page = await given.read("/console")

    assert "<h1>All is well</h1>" in page
    for job in world.jobs.values():
        assert f'href="/console/jobs/{job.type}/{job.name}">{job.name}</a>' in page
    assert "has not run yet" in page
    # Of goalDeadlines New York comes next: nine there is 13:00 in UTC.
    assert 'Tue 10 Mar 09:00 America/New_York<br><span class="soft">13:00 UTC, in 5 h' in page
    for told in ("1.2.3", "12 ms", "91 MB", "4 %"):
        assert told in page


async def test_it_says_what_is_wrong_and_what_to_do(world: World) -> None:
    await people(world)
    async with console(world) as given:
        await given.sign_in("the-viewer")
        await given.manager.run_job("reminder", "goalDeadlines")
        await world.pool.execute(
            "UPDATE service.job_run SET state = 'failed' WHERE job = 'reminder.goalDeadlines'"
        )
        await world.pool.execute(
            "UPDATE service.delivery_state SET claim = coalesce(claim, 0), state = 'unconfirmed'"
        )
        await world.pool.execute(
            "INSERT INTO service.alert (name, detail) VALUES ('slow', 'The API is slow.')"
        )
        await given.manager.pause("reminder", "dailyCheck", "Jo (admin)", "holiday")
        page = await given.read("/console")

    assert "things to look at</h1>" in page
    for told in (
        "No process has shown a sign of life",
        "goalDeadlines: the last run failed.",
        'href="/console/messages?state=unconfirmed">',
        "slow: The API is slow.",
        "paused</span> by Jo (admin)",
    ):
        assert told in page


async def test_messages_of_today_lead_to_themselves(world: World) -> None:
    await people(world)
    async with console(world) as given:
        await given.sign_in()
        await given.manager.run_job("reminder", "goalDeadlines")
        page = await given.read("/console")
        assert 'href="/console/messages?channel=email&state=planned">' in page.replace("&amp;", "&")
        # Of yesterday, by the service's clock, nothing counts.
        await world.pool.execute("UPDATE service.delivery SET planned_at = '2026-03-09T22:59:59Z'")
        assert "state=planned" not in await given.read("/console")


async def test_the_page_watches_by_a_script_of_ours_only(world: World) -> None:
    await people(world)
    async with console(world) as given:
        await given.sign_in()
        answer = await given.client.get("/console")
        page = await answer.text()
        policy = answer.headers["Content-Security-Policy"].split("; ")
        scripts = re.findall(r'<script src="([^"]+)" defer></script>', page)
        for script in scripts:
            assert (await given.client.get(script)).content_type == "text/javascript"

    assert {"default-src 'none'", "script-src 'self'", "connect-src 'self'", "style-src 'self'"} <= set(
        policy
    )
    assert "unsafe" not in " ".join(policy)
    assert scripts == ["/assets/htmx.min.js", "/assets/htmx-sse.js", "/console/watch.js"]
    assert page.count("<script") == 3
    assert "&#34;allowEval&#34;: false" in page
    assert '<noscript><meta http-equiv="refresh" content="60"></noscript>' in page


async def test_a_script_that_asks_after_the_session_has_the_page_loaded_anew(world: World) -> None:
    async with console(world) as given:
        answer = await given.client.get("/console", headers={"HX-Request": "true"}, allow_redirects=False)
        assert (answer.status, answer.headers["HX-Refresh"]) == (204, "true")


async def test_each_process_shows_what_it_holds(world: World) -> None:
    await people(world)
    async with console(world) as given:
        await given.sign_in("the-viewer")
        await given.ledger.beat_replica("1.2.3", {})
        await given.manager.run_job("reminder", "goalDeadlines", RunRequest(wait=False))
        await given.manager.run_job("reminder", "dailyCheck", RunRequest(wait=False))
        await world.pool.execute(
            "UPDATE service.job_run SET state = 'running', owner = $1,"
            " lease_until = service.now() + CASE job WHEN 'reminder.dailyCheck' THEN -1 ELSE 1 END"
            " * interval '1 minute'",
            given.ledger.owner,
        )
        page = await given.read("/console")
    assert f'{given.ledger.owner}</th><td>1.2.3</td><td>now</td><td class="n">1</td>' in page


def test_calm_is_told_only_where_there_is_calm() -> None:
    assert problems_of(_CALM, [_ALIVE], [], [], 0) == []


@pytest.mark.parametrize(
    ("health", "replicas", "anomalies", "unconfirmed", "said"),
    [
        (_CALM, [], [], 0, "No process has shown"),
        (_CALM, [_ALIVE], [], 1, "Nobody knows whether 1 mail arrived."),
        (_CALM, [_ALIVE, _ALIVE | {"version": "2"}], [], 0, "different versions run: 1, 2"),
        (_CALM, [_ALIVE | {"vitals": {"loopLagMs": {"p99": 300.0}}}], [], 0, "lags by 300 ms"),
        (_CALM, [_ALIVE], [{"severity": "major", "series": "s", "explanation": "Low."}], 0, "s: Low."),
        ({"checks": {"mail": {"status": "unhealthy", "details": {"problem": "refused."}}}}, [_ALIVE], [], 0,
         "Mail: refused."),
        ({"checks": {"dashboard": {"status": "unhealthy", "details": {
            "error": "the dashboard lost 9 of 9 users; confirm, or restore them", "lost": {"users": {}}}}}},
         [_ALIVE], [], 0, "Dashboard: the dashboard lost 9 of 9 users; confirm, or restore them."),
        ({"checks": {"loops": {"status": "unhealthy", "details": {"sync": {"state": "waiting"}}}}}, [_ALIVE],
         [], 0, "Loops: sync restarting."),
        ({"checks": {"analytics": {"status": "stopped", "activeJobs": 6, "details": {"problems": {}}}}},
         [_ALIVE], [], 0, "The analytics jobs are stopped"),
    ],
)  # fmt: skip
def test_each_trouble_has_its_sentence(
    health: dict[str, Any], replicas: list[Any], anomalies: list[Any], unconfirmed: int, said: str
) -> None:
    [one] = problems_of(health, replicas, [], anomalies, unconfirmed)
    assert said in one.description
    assert one.remedy


def test_a_condition_that_the_checks_say_is_said_once() -> None:
    conditions = [
        condition_json(Condition("run_failed", "reminder.daily", details={"state": "failed"})),
        condition_json(Condition("copy_stale", "users", details={"since": "9:00"})),
    ]
    [one] = problems_of(_CALM | {"conditions": conditions}, [_ALIVE], [], [], 0)
    assert one.description == "The copy of users is not up to date since 9:00."


def test_a_minor_anomaly_is_no_trouble() -> None:
    assert (
        problems_of(_CALM, [_ALIVE], [], [{"severity": "minor", "series": "s", "explanation": "Low."}], 0)
        == []
    )


def test_a_streak_ends_at_the_first_failure() -> None:
    assert streak([]) == 0
    assert streak(["succeeded", "partial", "failed", "succeeded"]) == 2
    assert streak(["missed", "succeeded"]) == 0
    assert streak(["succeeded"] * 5) == 5


def test_a_sparkline_keeps_proportion_and_says_the_same() -> None:
    found = spark([2.0, 4.0, 1.0])
    assert found is not None
    assert [bar.height for bar in found.bars] == [7.0, 28.0, 14.0]
    assert all(round(bar.y + bar.height, 2) == 28 for bar in found.bars)
    assert found.summary == "Took 2.0 s last; 1.0 s to 4.0 s in 3 runs"
    assert spark([]) is None
