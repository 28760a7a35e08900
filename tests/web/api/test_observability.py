"""The audit log, alerts, anomalies, series and profiles, over HTTP and on real rows."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any, cast

import asyncpg
import pytest

from service.analytics import user_profiles
from service.analytics.anomaly import detector, series
from service.analytics.anomaly.series import DAYS
from service.analytics.anomaly.series_state import SeriesState
from tests.analytics.test_series import FIRST, days_of, usual
from tests.given import World, user
from tests.web.contract import promised
from tests.web.given import ADMIN, DASHBOARD, VIEWER, Admin, admin

DAY = timedelta(days=1)


@pytest.fixture
async def given(pool: asyncpg.Pool) -> AsyncIterator[Admin]:
    async with admin(pool) as given:
        yield given


async def ask(given: Admin, pattern: str, query: str = "", status: int = 200, **where: str) -> Any:
    path = pattern.format(**where) + query
    answer = await given.client.get(path, headers=VIEWER)
    body = await promised(answer, "GET", pattern)
    assert answer.status == status, body
    return body


async def watch(pool: asyncpg.Pool, values: list[float]) -> None:
    await days_of(World(pool), values)
    async with pool.acquire() as connection, connection.transaction():
        until = (FIRST + len(values) * DAY).replace(tzinfo=UTC)
        family = replace(DAYS, measures={"sessions": DAYS.measures["sessions"]})
        await series.detect(cast("asyncpg.Connection", connection), family, until)


async def test_acts_are_listed_by_who_what_and_when_in_pages(given: Admin) -> None:
    for act in ("pause", "resume"):
        path = f"/api/admin/jobs/reminder/goalDeadlines/{act}"
        await given.client.post(path, headers=ADMIN, json={})
    await given.pool.execute(
        "INSERT INTO service.audit (at, who, act) VALUES ('2026-03-10T23:59Z', 'recipient', 'unsubscribe')"
    )
    audit = "/api/admin/audit"

    newest = await ask(given, audit, "?limit=2")
    assert [row["act"] for row in newest["data"]] == ["unsubscribe", "resume"]
    rest = await ask(given, audit, f"?limit=2&before={newest['next']}")
    assert ([row["act"] for row in rest["data"]], rest["next"]) == (["pause"], None)
    assert {row["who"] for row in (await ask(given, audit, "?act=pause"))["data"]} == {"admin"}
    assert len((await ask(given, audit, "?who=recipient&from=2026-03-10&to=2026-03-10"))["data"]) == 1
    assert (await ask(given, audit, "?who=recipient&from=2026-03-11"))["data"] == []
    await ask(given, audit, "?whom=admin", 400)
    assert (await given.client.get(audit, headers=DASHBOARD)).status == 403


async def test_what_an_operator_asks_of_jobs_leaves_a_trace(given: Admin) -> None:
    jobs, job = "/api/admin/jobs", {"jobType": "reminder", "jobName": "goalDeadlines"}
    post = given.client.post
    await post(f"{jobs}/run", headers=ADMIN, json=job | {"dryRun": True})
    await post(f"{jobs}/run", headers=ADMIN, json=job | {"userId": "ann", "force": True})
    await post(f"{jobs}/restart", headers=ADMIN, json={"jobType": "reminder"})
    ids = [
        (await (await post(f"{jobs}/schedule", headers=ADMIN, json=job | {"delayMs": 60000})).json())["id"]
        for _ in range(2)
    ]
    await given.client.delete(f"{jobs}/schedule/{ids[0]}", headers=ADMIN)
    await post(f"/api/admin/runs/{ids[1]}/cancel", headers=ADMIN)

    told = [(row["act"], row["what"]) for row in reversed((await ask(given, "/api/admin/audit"))["data"])]

    assert told[0] == ("run", {"job": "reminder.goalDeadlines", "userId": "ann", "force": True, "run": 7})
    assert [act for act, _ in told[1:]] == ["restart", "schedule", "schedule", "unschedule", "cancel-run"]
    assert [what["run"] for _, what in told[2:]] == [*ids, *ids]


async def test_alerts_are_listed_open_or_over(given: Admin) -> None:
    await given.pool.execute("INSERT INTO service.alert (name, detail) VALUES ('a', 'A'), ('b', 'B')")
    await given.pool.execute("UPDATE service.alert SET cleared_at = now() WHERE name = 'b'")
    alerts = "/api/admin/alerts"

    assert [row["name"] for row in (await ask(given, alerts))["data"]] == ["b", "a"]
    assert [row["name"] for row in (await ask(given, alerts, "?open=true"))["data"]] == ["a"]
    assert [row["name"] for row in (await ask(given, alerts, "?open=false"))["data"]] == ["b"]
    await ask(given, alerts, "?open=1", 400)


async def test_a_collapse_is_listed_while_it_is_open_and_when_it_is_over(given: Admin) -> None:
    anomalies = "/api/admin/analytics/anomalies"
    values = usual(57)
    values[56] = 20.0
    await watch(given.pool, values)

    (opened,) = (await ask(given, anomalies, "?open=true"))["data"]
    assert (opened["series"], opened["since"], opened["value"]) == ("day.sessions", "2026-03-02", 20)
    assert opened["low"] < opened["expected"] < opened["high"]
    assert opened["closedAt"] is None
    await watch(given.pool, values + usual(60)[57:])
    assert (await ask(given, anomalies, "?open=true"))["data"] == []
    (closed,) = (await ask(given, anomalies, "?open=false&series=day.sessions"))["data"]
    assert (closed["id"], closed["closedAt"] is None) == (opened["id"], False)
    assert len((await ask(given, anomalies, "?from=2026-03-02&to=2026-03-02"))["data"]) == 1
    assert (await ask(given, anomalies, "?to=2026-03-01"))["data"] == []
    severities = {s: len((await ask(given, anomalies, f"?severity={s}"))["data"]) for s in ("minor", "major")}
    assert severities | {"critical": 1} == {"minor": 0, "major": 0, "critical": 1}


async def test_a_series_has_its_points_with_ranges_and_the_forecast_of_its_stored_state(given: Admin) -> None:
    one, name = "/api/admin/analytics/series/{name}", "day.sessions"
    await watch(given.pool, usual(60))

    shown = (await ask(given, one, name=name))["data"]
    stored = await given.pool.fetchval("SELECT state FROM service.series WHERE name = $1", name)
    last = FIRST.date() + 59 * DAY
    expected = detector.forecast(SeriesState.from_json(stored), [last + n * DAY for n in range(1, 8)])

    assert (shown["to"], len(shown["points"])) == (last.isoformat(), 60)
    assert all(p["low"] < p["expected"] < p["high"] for p in shown["points"][14:])
    assert shown["points"][0]["expected"] is None
    assert [(f["at"], f["expected"]) for f in shown["forecast"]] == [
        (r.at.isoformat(), round(r.expected, 3)) for r in expected
    ]
    part = (await ask(given, one, "?from=2026-03-01&to=2026-03-02", name=name))["data"]["points"]
    assert [p["at"] for p in part] == ["2026-03-01", "2026-03-02"]
    (listed,) = (await ask(given, "/api/admin/analytics/series"))["data"]
    assert (listed["name"], listed["through"], listed["anomalyOpen"]) == (name, last.isoformat(), False)


async def test_hours_are_forecast_for_a_day_and_an_old_state_forecasts_nothing(given: Admin) -> None:
    one, until = "/api/admin/analytics/series/{name}", datetime(2026, 3, 10, tzinfo=UTC)
    await given.pool.execute(
        "INSERT INTO service.timer_sessions (id, user_id, kind, focus, status, started_at, focus_seconds)"
        " SELECT h::text, 'ann', 'focus', true, 'completed', h, 600 FROM"
        " generate_series('2026-02-20T00:00Z'::timestamptz, '2026-03-09T23:00Z', interval '20 minutes') AS h"
    )
    async with given.pool.acquire() as lent, lent.transaction():
        connection = cast("asyncpg.Connection", lent)
        await series.detect(connection, series.ACTIVITY, until)

    shown = (await ask(given, one, name="hour.sessions"))["data"]
    assert (len(shown["points"]), len(shown["forecast"])) == (7 * 24, 24)
    assert shown["forecast"][0]["at"] == "2026-03-10T00:00:00Z"
    await given.pool.execute("UPDATE service.series SET state = state || '{\"version\": 0}'")
    assert (await ask(given, one, name="hour.sessions"))["data"]["forecast"] == []
    await ask(given, one, "?from=2026-03-02&to=2026-03-01", 400, name="hour.sessions")
    assert "hour.sessions" in (await ask(given, one, status=404, name="x"))["error"]


async def test_a_profile_is_shown_as_it_was_made(given: Admin) -> None:
    profile, as_of = "/api/admin/users/{id}/profile", date(2026, 3, 9)
    await World(given.pool).live(user("ann"))
    await given.pool.execute("INSERT INTO service.user_span VALUES ('ann', '2026-03-01', '2026-03-09')")
    async with given.pool.acquire() as connection:
        await user_profiles.make_profiles(connection, ["ann"], as_of)

    shown = (await ask(given, profile, id="ann"))["data"]

    stored = await given.pool.fetchval("SELECT figures FROM service.user_profile")
    assert (shown["userId"], shown["asOf"], shown["figures"]) == ("ann", "2026-03-09", stored)
    assert "bob" in (await ask(given, profile, status=404, id="bob"))["error"]


async def test_what_did_not_change_is_not_sent_again(given: Admin) -> None:
    values, analytics = [*usual(56), 20.0], "/api/admin/analytics"
    await watch(given.pool, values)
    await World(given.pool).live(user("ann"))
    await given.pool.execute("INSERT INTO service.user_span VALUES ('ann', '2026-03-01', '2026-03-09')")
    async with given.pool.acquire() as connection:
        await user_profiles.make_profiles(connection, ["ann"], date(2026, 3, 9))
    changing = [f"{analytics}/anomalies", f"{analytics}/series", f"{analytics}/series/day.sessions"]
    known = {}
    for path in [*changing, "/api/admin/users/ann/profile", "/api/openapi.yaml"]:
        first = await given.client.get(path, headers=VIEWER)
        known[path] = VIEWER | {"If-None-Match": first.headers["ETag"]}
        again = await given.client.get(path, headers=known[path])
        assert (first.status, again.status, await again.read()) == (200, 304, b""), path
        assert again.headers["ETag"] == first.headers["ETag"]
        assert "no-store" not in first.headers["Cache-Control"]

    await watch(given.pool, values + usual(60)[57:])

    assert [(await given.client.get(path, headers=known[path])).status for path in changing] == [200] * 3
