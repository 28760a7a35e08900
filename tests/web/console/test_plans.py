"""Single runs to come, back-fills and runs that must be confirmed, from the page of a job."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from service.errors import BadRequest
from service.web.console.jobs.plans import delay_of
from tests.given import World
from tests.web.console.consoles import Console, console, people

JOB = "/console/jobs/reminder/goalDeadlines"
DAILY = "/console/jobs/analytics/dailyAnalytics"
CLEANUP = "/console/jobs/analytics/dataCleanup"


@pytest.fixture
async def given(world: World) -> AsyncIterator[Console]:
    await people(world)
    async with console(world) as opened:
        await opened.sign_in()
        yield opened


async def test_the_bare_address_leads_to_the_console(given: Console) -> None:
    answer = await given.client.get("/", allow_redirects=False)
    assert (answer.status, answer.headers["Location"]) == (303, "/console")


async def test_a_run_is_planned_listed_and_taken_back(given: Console) -> None:
    answer, _ = await given.act(f"{JOB}/schedule", 303, JOB, minutes="90")
    assert answer.headers["Location"] == f"{JOB}#once"
    await given.act(f"{JOB}/schedule", 303, JOB, moment="2026-03-12T07:30")
    page = await given.read(JOB)
    assert "Tue 10 Mar 10:30</time></a>" in page  # 90 minutes from nine in Berlin
    assert "Thu 12 Mar 08:30</time></a>" in page

    rows = await given.world.pool.fetch("SELECT id, trigger, state FROM service.job_run ORDER BY id")
    assert [(row["trigger"], row["state"]) for row in rows] == [("once", "pending")] * 2
    run = rows[0]["id"]
    await given.act(f"{JOB}/unschedule", 303, JOB, run=str(run))
    assert "Tue 10 Mar 10:30</time></a>" not in await given.read(f"{JOB}?")
    assert [(act, what["run"]) for _, act, what in await given.audit()] == [
        ("schedule", run),
        ("schedule", rows[1]["id"]),
        ("unschedule", run),
    ]


async def test_a_planned_run_is_taken_back_by_its_job_and_once(given: Console) -> None:
    await given.act(f"{JOB}/schedule", 303, JOB, minutes="0")
    run = str(await given.world.pool.fetchval("SELECT id FROM service.job_run"))
    await given.act(f"{DAILY}/unschedule", 404, JOB, run=run)
    await given.act(f"{JOB}/unschedule", 404, JOB, run="x")
    assert await given.runner.run_one()
    _, page = await given.act(f"{JOB}/unschedule", 409, JOB, run=run)
    assert "The run has begun already" in page


@pytest.mark.parametrize(
    ("minutes", "moment", "said"),
    [
        ("", "", "one of them"),
        ("5", "2026-03-12T07:30", "one of them"),
        ("-5", "", "Minutes are a whole number"),
        ("43201", "", "30 days ahead at most"),
        ("", "2026-03-10T07:59", "lies in the past"),
        ("", "soon", "The moment of the run is not a time"),
    ],
)
async def test_what_cannot_be_planned_is_said(given: Console, minutes: str, moment: str, said: str) -> None:
    _, page = await given.act(f"{JOB}/schedule", 400, JOB, minutes=minutes, moment=moment)
    assert said in page
    assert f'value="{minutes}"' in page
    assert await given.audit() == []


async def test_a_backfill_is_shown_first_and_then_done(given: Console) -> None:
    pool = given.world.pool
    await pool.execute(
        "INSERT INTO service.timer_sessions"
        " (id, user_id, kind, focus, status, started_at, ended_at, focus_seconds)"
        " SELECT d::text, 'ann', 'focus', true, 'completed', d, d + interval '25 minutes', 1500"
        " FROM generate_series('2026-03-01T10:00Z'::timestamptz, '2026-03-09T10:00Z', interval '1 day') AS d"
    )
    dates = {"from": "2026-03-02", "to": "2026-03-04"}
    _, page = await given.act(f"{DAILY}/backfill", 200, DAILY, **dates)
    assert "nothing was changed yet" in page
    assert '<th scope="row">Periods that have no figures yet</th><td class="n">3</td>' in page
    assert "2026-03-02</span>, <span" in page
    assert "2026-03-04</span></p>" in page
    assert "Derive 3 periods" in page
    assert await pool.fetchval("SELECT count(*) FROM service.job_run") == 0

    answer, _ = await given.act(f"{DAILY}/backfill", 303, DAILY, **dates, confirm="on")
    run = await pool.fetchrow("SELECT id, trigger, options FROM service.job_run")
    assert run
    assert answer.headers["Location"] == f"/console/runs/{run['id']}"
    assert (run["trigger"], run["options"]) == ("backfill", dates)
    assert await given.runner.run_one()
    days = await pool.fetch("SELECT period FROM service.rollup WHERE statistic = 'daily' ORDER BY period")
    assert {f"{row['period']:%Y-%m-%d}" for row in days} >= {"2026-03-02", "2026-03-03", "2026-03-04"}
    [(_, act, what)] = await given.audit()
    assert (act, what["run"], what["from"]) == ("backfill", run["id"], "2026-03-02")

    _, page = await given.act(f"{DAILY}/backfill", 200, DAILY, **dates)
    assert '<th scope="row">Periods that are derived again</th><td class="n">3</td>' in page


@pytest.mark.parametrize(
    ("page", "dates", "said"),
    [
        (DAILY, {}, "Say the first and the last date"),
        (DAILY, {"from": "2026-03-04", "to": "2026-03-02"}, "exchange them"),
        (DAILY, {"from": "2026-03-04", "to": "x"}, "The last date &#39;x&#39; is not a date"),
        (DAILY, {"from": "2027-03-04", "to": "2027-03-05"}, "is over yet"),
        (JOB, {"from": "2026-03-02", "to": "2026-03-04"}, "derives no figures from stored days"),
    ],
)
async def test_what_cannot_be_derived_is_said(
    given: Console, page: str, dates: dict[str, str], said: str
) -> None:
    for confirm in ({}, {"confirm": "on"}):
        _, text = await given.act(f"{page}/backfill", 400, page, **dates, **confirm)
        assert said in text
    assert await given.audit() == []
    assert 'id="backfill"' not in await given.read(JOB)


async def test_a_run_that_removes_much_is_confirmed_after_its_dry_run(given: Console) -> None:
    assert 'name="confirm"' not in await given.read(CLEANUP)
    _, page = await given.act(f"{CLEANUP}/dry-run", 200, CLEANUP)
    assert 'name="confirm"' in page
    await given.act(f"{CLEANUP}/run", 303, CLEANUP, confirm="on")
    options = await given.world.pool.fetchval("SELECT options FROM service.job_run")
    assert options["confirm"] is True
    assert [(act, what.get("confirm")) for _, act, what in await given.audit()] == [
        ("dry-run", None),
        ("run", True),
    ]


@pytest.mark.parametrize("act", ["schedule", "unschedule", "backfill"])
async def test_viewers_see_no_forms_and_may_not_send_them(given: Console, act: str) -> None:
    await given.sign_in("the-viewer")
    assert f'action="{DAILY}/' not in await given.read(DAILY)
    await given.act(f"{DAILY}/{act}", 403)
    assert await given.audit() == []


def test_a_delay_is_counted_from_now() -> None:
    now = datetime(2026, 3, 10, 8, tzinfo=UTC)
    assert delay_of({"minutes": "0", "moment": ""}, now) == timedelta(0)
    assert delay_of({"minutes": "", "moment": "2026-03-10T10:00+01:00"}, now) == timedelta(hours=1)
    with pytest.raises(BadRequest):
        delay_of({"minutes": "", "moment": "2026-04-10T10:00"}, now)
