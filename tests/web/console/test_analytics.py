"""/console/analytics: the same figures as the API's, for the dates asked for, drawn and as files."""

import csv
import io
import re
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime
from html import unescape
from typing import Any

import asyncpg
import pytest

from service.analytics import rollups
from service.analytics.statistic import Statistic
from service.web.console.analytics.topics import TOPICS
from service.web.console.analytics.views import ChartQuery, next_run
from service.web.console.chart_svg import day_name, number
from tests import lived
from tests.web.console.test_pages import sign_in
from tests.web.given import ADMIN, Admin, admin

PAGE = "/console/analytics"


@pytest.fixture
async def given(year: asyncpg.Pool) -> AsyncIterator[Admin]:
    """Sixty people's year, and a viewer who is signed in."""
    async with admin(year) as made:
        await sign_in(made, "the-viewer")
        yield made


async def see(given: Admin, path: str, status: int = 200) -> str:
    answer = await given.client.get(path, allow_redirects=False)
    text: str = await answer.text()
    assert answer.status == status, text
    return text


async def asked(given: Admin, path: str) -> Any:
    answer = await given.client.get(f"/api/admin/analytics/{path}", headers=ADMIN)
    assert answer.status == 200
    return (await answer.json())["data"]


def section(page: str, name: str) -> str:
    found: str
    [found] = re.findall(rf'<section[^>]* aria-labelledby="{name}">(.*?)</section>', page, re.DOTALL)
    return found


def table(part: str) -> dict[str, list[str]]:
    """The first cell of each row of a section's table, without public holidays, and the others."""
    part = re.sub(r" \(public holiday in [A-Z, ]+?\)|public holiday in [A-Z, ]+?, (?=provisional)", "", part)
    body = part.partition("<tbody>")[2].partition("</tbody>")[0]
    rows = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in body.split("</tr>")]
    return {row[0]: [unescape(cell) for cell in row[1:]] for row in rows if row}


async def test_the_tables_hold_the_figures_of_the_api(given: Admin) -> None:
    page = await see(given, f"{PAGE}?from=2026-02-01&to=2026-03-21")
    days = await asked(given, "daily?from=2026-02-01&to=2026-03-21&limit=1000")
    tables = {name: table(section(page, name)) for name in ("active", "sessions", "focus", "goals", "new")}

    assert len(days) == 49
    for day in days:
        name = day_name(date.fromisoformat(day["period"])) + ("" if day["final"] else " (provisional)")
        assert tables["active"][name] == [number(day[figure]) for figure in ("mau", "wau", "dau")]
        assert tables["sessions"][name][0] == number(day["totalSessions"])
        assert tables["focus"][name][0] == number(day["totalFocusTime"])
        assert tables["goals"][name][:2] == [number(day["goalsCompleted"]), number(day["goalsCreated"])]
        assert tables["new"][name][0] == number(day["newUsers"])
    assert [day["period"] for day in days if not day["final"]] == ["2026-03-21"]
    for week in await asked(given, "weekly?from=2026-02-01&to=2026-03-21"):
        name = day_name(date.fromisoformat(week["period"])) + ("" if week["final"] else " (provisional)")
        cells = [number(week["lifecycle"][one]) for one in ("new", "returning", "resurrecting", "dormant")]
        assert table(section(page, "lifecycle"))[name] == cells


async def test_the_anomaly_is_marked_and_told_with_its_range(given: Admin) -> None:
    page = await see(given, PAGE)
    [row] = await given.pool.fetch("SELECT * FROM service.anomaly WHERE series = 'day.sessions'")
    part = section(page, "sessions")

    assert row["since"].date() == lived.COLLAPSE
    told = "S" + row["explanation"][1:]
    assert re.findall(r'<circle class="mark"[^>]*><title>(.*?)</title>', part) == [told]
    assert f"<b>{row['severity']}</b> {told}" in part
    assert 'class="band"' in part
    [low, high] = re.findall(r"expected (\d+) to (\d+)", row["explanation"])[0]
    assert table(part)[day_name(lived.COLLAPSE)][1] == f"{low} to {high}"
    assert 'class="mark"' not in section(page, "active")


async def test_public_holidays_of_the_users_are_shaded_and_named(given: Admin) -> None:
    await given.pool.execute("UPDATE service.series_point SET holiday = NULL")
    await given.pool.execute(
        "UPDATE service.series_point SET holiday = 'DE'"
        " WHERE series = 'day.sessions' AND at::date = '2026-03-10'"
    )
    page = await see(given, f"{PAGE}?range=4w")

    for name in ("active", "sessions", "new"):
        assert section(page, name).count('class="holiday" x=') == 1
        assert "Tue 10 Mar 2026 (public holiday in DE)" in section(page, name)


async def test_the_margins_are_sums_of_what_is_stored(given: Admin) -> None:
    page = await see(given, f"{PAGE}?range=4w")
    weeks = await asked(given, "weekly?from=2026-02-22&to=2026-03-21")
    patterns = [week["usagePatterns"] for week in weeks]

    hours, weekdays = table(section(page, "hours")), table(section(page, "weekdays"))
    assert len(weeks) == 4
    assert hours["09:00"] == [number(round(sum(p["hourlyDistribution"][9] for p in patterns) / 60, 1))]
    assert weekdays["Sun"] == [number(round(sum(p["dailyDistribution"][0] for p in patterns) / 60, 1))]
    assert (len(hours), len(weekdays)) == (24, 7)

    cells = re.findall(r'<td class="h(\d+)" title="(\w+ \d\d:00: [\d,]+ min)"', section(page, "heat"))
    tuesday = number(round(sum(p["weekdayHours"][2][9] for p in patterns) / 60))
    assert len(cells) == 7 * 24
    assert f"Tue 09:00: {tuesday} min" in [text for _, text in cells]
    assert "10" in [level for level, _ in cells]


@pytest.mark.parametrize("kind", ["weekly", "monthly"])
@pytest.mark.parametrize("mode", ["exact", "unbounded"])
async def test_cohorts_are_those_of_the_api(given: Admin, kind: str, mode: str) -> None:
    page = section(await see(given, f"{PAGE}?range=1y&kind={kind}&mode={mode}"), "retention")
    found = await asked(given, f"retention?kind={kind}&mode={mode}&from=2025-03-22&to=2026-03-21")

    wanted = [
        f"{cell['active']} of {cell['size']}"
        for cohort in reversed(found["cohorts"])
        for cell in cohort["cells"][: 16 if kind == "weekly" else 12]
        if cell
    ]
    body, _, foot = page.partition("<tfoot>")
    assert re.findall(r'title="(\d+ of \d+)"', body) == wanted
    assert re.findall(r'title="(\d+ of \d+)"', foot)
    assert "<td></td>" in body


async def test_insights_are_told_in_their_words(given: Admin) -> None:
    page = section(await see(given, PAGE), "insights")

    assert "February 2026" in page
    assert "People finish sessions before noon more often than after noon" in page

    await given.pool.execute(
        "INSERT INTO service.rollup_revision (statistic, period, revision, figures, computed_at, replaced_at)"
        " SELECT statistic, period, 0, $1, computed_at, '2026-03-08T01:00Z' FROM service.rollup"
        " WHERE statistic = 'insights' AND period = '2026-02-01'",
        {"insights": [{"rule": "r", "text": "Fridays go well: 4 of 5", "evidence": "4 of 5"}]},
    )
    page = section(await see(given, PAGE), "insights")
    assert "<s>Fridays go well: 4 of 5</s> Withdrawn on 2026-03-08: " in page


@pytest.mark.parametrize("form", ["csv", "json", "parquet"])
@pytest.mark.parametrize(
    ("name", "path"),
    [("daily", "daily"), ("weekly", "weekly"), ("retention", "retention"), ("insights", "insights")],
)
async def test_a_session_fetches_the_same_files(given: Admin, form: str, name: str, path: str) -> None:
    page = await see(given, f"{PAGE}?range=4w")
    [address] = [unescape(a) for a in re.findall(rf'href="({PAGE}/files/{name}\?[^"]*{form})"', page)]
    ours = await given.client.get(address)
    query = address.partition("?")[2] + (
        "&limit=1000" if form == "json" and name not in {"retention"} else ""
    )
    theirs = await given.client.get(f"/api/admin/analytics/{path}?{query}", headers=ADMIN)

    assert ours.status == theirs.status == 200
    assert ours.headers["X-Content-Type-Options"] == "nosniff"
    if form == "json":
        wanted = (await theirs.json())["data"]
        got = (await ours.json())["data"]
        assert got if name == "retention" else got == wanted
    else:
        assert await ours.read() == await theirs.read()
        assert ours.headers["Content-Disposition"] == theirs.headers["Content-Disposition"]
    if form == "csv" and name == "daily":
        assert len(list(csv.DictReader(io.StringIO(await ours.text(), newline="")))) == 28


async def test_files_are_for_sessions_only(year: asyncpg.Pool) -> None:
    async with admin(year) as given:
        answer = await given.client.get(f"{PAGE}/files/daily?format=csv", allow_redirects=False)
        assert answer.status == 303
        assert answer.headers["Location"].startswith("/console/sign-in?next=")


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("?range=2y", 400, "range must be one of 1y, 3m, 4w"),
        ("?from=2026-03-10&to=2026-03-01", 400, "exchange them"),
        ("?from=yesterday", 400, "is not a date"),
        ("?kind=daily", 400, "kind must be one of"),
        ("/files/secrets?format=csv", 404, "There is no file secrets"),
        ("/files/daily?format=xml", 400, "format must be one of"),
        ("/files/daily?form=csv", 400, "unknown parameter form"),
        ("?from=2027-01-01", 200, "There are figures from 2025-03-21 to 2026-03-21"),
        ("?from=&to=", 200, "21 Dec 2025 to 21 Mar 2026"),
        ("?from=2020-01-01&to=2025-04-01", 200, "21 Mar 2025 to 1 Apr 2025"),
    ],
)
async def test_what_cannot_be_meant_is_said(given: Admin, path: str, status: int, words: str) -> None:
    assert words in unescape(await see(given, PAGE + path, status))


async def test_a_final_figure_that_changed_says_what_it_was(given: Admin) -> None:
    day = "Tue 10 Mar 2026"
    before = table(section(await see(given, f"{PAGE}?range=4w"), "sessions"))[day][0]
    await given.pool.execute("""
        DELETE FROM service.timer_sessions WHERE id = (
            SELECT min(id) FROM service.timer_sessions
            WHERE started_at::date = '2026-03-10' AND focus AND status = 'completed')""")
    async with given.pool.acquire() as connection, connection.transaction():
        await rollups.rebuild_stale_days(connection)
        await rollups.derive_stale(connection, Statistic.DAILY, "UTC")

    part = section(await see(given, f"{PAGE}?range=4w"), "sessions")
    after = table(part)[day][0]
    assert int(after) == int(before) - 1
    assert f"<li>Sessions on {day}: {after}; was {before} until Sun 22 Mar 2026, 09:00 UTC</li>" in part


async def test_a_provisional_figure_that_changed_is_not_told(given: Admin) -> None:
    await given.pool.execute("""
        INSERT INTO service.rollup_revision (statistic, period, revision, figures, computed_at)
        SELECT statistic, period, revision, '{"totalSessions": 1}', period + interval '25 hours'
        FROM service.rollup WHERE statistic = 'daily' AND period = '2026-03-10'""")

    assert "was 1 until" not in section(await see(given, f"{PAGE}?range=4w"), "sessions")


async def test_each_chart_of_days_says_how_it_is_counted(given: Admin) -> None:
    page = await see(given, PAGE)

    for topic in TOPICS:
        part = unescape(section(page, topic.name))
        assert all(f'<p class="small">{text}</p>' in part for text in topic.definition)
        assert any(text.startswith("Days") or "add up" in text for text in topic.definition)


async def test_a_day_without_figures_leaves_a_gap(given: Admin) -> None:
    await given.pool.execute("DELETE FROM service.rollup WHERE statistic = 'daily' AND period = '2026-03-10'")
    page = section(await see(given, f"{PAGE}?range=4w"), "active")

    assert table(page)["Tue 10 Mar 2026"] == ["–", "–", "–"]
    assert all(path.count("M") == 2 for path in re.findall(r'class="line c\d" d="([^"]+)"', page))


async def test_before_the_first_count_the_page_says_what_comes(pool: asyncpg.Pool) -> None:
    async with admin(pool) as given:
        await sign_in(given)
        page = await see(given, PAGE)

    assert "Nothing has been counted yet" in page
    assert "dailyAnalytics counts each day after it is over" in page
    assert "<svg" not in page


def test_the_next_turn_is_told_by_the_jobs_clock() -> None:
    now = datetime(2026, 3, 22, 9, tzinfo=UTC)
    job = {"schedule": "0 1 * * *", "mode": "service", "paused": False}

    assert next_run(job, "Europe/Berlin", now) == "Mon 23 Mar 01:00 Europe/Berlin"
    assert (
        next_run({**job, "mode": "utc", "schedule": "0 */6 * * *"}, "Europe/Berlin", now)
        == "Sun 22 Mar 12:00 UTC"
    )
    assert next_run({**job, "paused": True}, "UTC", now) == "paused"


def test_a_named_range_replaces_own_dates() -> None:
    look = ChartQuery(since=date(2026, 1, 1), mode="unbounded")

    assert look.query() == "?from=2026-01-01&mode=unbounded"
    assert look.query(range="1y") == "?range=1y&mode=unbounded"
    assert look.query(range="3m", mode="exact") == ""
