"""Reading the analytics: the same in every format, in pages, and cohorts that promise nothing too early."""

import asyncio
import csv
import io
import json
import sys
import uuid
from argparse import Namespace
from collections.abc import AsyncIterator
from datetime import date, datetime
from pathlib import Path
from typing import Any

import asyncpg
import pyarrow.parquet as pq
import pytest
import structlog
from jsonschema import Draft202012Validator
from rich.console import Console

from service import cli
from service.analytics import figures
from service.analytics.columns import csv_cell, flatten
from service.cli import reports
from service.engine.database import open_pool
from service.settings import Settings
from tests.conftest import with_database
from tests.given import World
from tests.process import process_of
from tests.web.contract import contract
from tests.web.given import ADMIN, DASHBOARD, VIEWER, Admin, admin

A = "/api/admin/analytics"
NOW = "2026-03-22T12:30:00Z"
"""A Sunday: the week of the 15th has just become final, the 22nd runs."""
JOBS = ("dailyAnalytics", "weeklyAggregation", "monthlyInsights", "userBehavior")
LIFE = """
WITH people AS (
    INSERT INTO service.users (id, name, timezone, timezone_valid, active, created_at)
    SELECT CASE WHEN i = 7 THEN '=cmd|x' ELSE 'u' || to_char(i, 'FM00') END, 'P' || i,
           (ARRAY['Europe/Berlin', 'America/Los_Angeles', 'Asia/Kolkata'])[1 + i % 3], true, true,
           '2026-01-04T09:00Z'::timestamptz + i % 25 * interval '1 day'
    FROM generate_series(0, 49) AS i RETURNING id, created_at
), sessions AS (
    INSERT INTO service.timer_sessions
        (id, user_id, kind, focus, status, started_at, ended_at, focus_seconds, tags)
    SELECT id || d, id, CASE WHEN d % 9 = 0 THEN 'deep.work' WHEN d % 7 = 0 THEN 'break' ELSE 'pomodoro' END,
           d % 7 <> 0 OR d % 9 = 0, CASE WHEN d % 11 = 0 THEN 'cancelled' ELSE 'completed' END,
           created_at + d * interval '1 day' + interval '40 minutes',
           created_at + d * interval '1 day' + interval '65 minutes', 1500,
           CASE WHEN d % 4 = 0 THEN '{a}' ELSE '{}' END::text[]
    FROM people CROSS JOIN generate_series(0, 77) AS d
    WHERE d % (2 + (hashtext(id) & 3)) = 0 AND created_at + d * interval '1 day' < '2026-03-21T22:00Z'
      AND (hashtext(id) & 4 = 0 OR d < 30)
)
INSERT INTO service.goals (id, user_id, title, open, priority, created_at, completed_at)
SELECT 'g' || id, id, 'G', false, 'medium', created_at, created_at + interval '9 days' FROM people"""


@pytest.fixture(scope="module")
def lived(postgres: str, template: str) -> str:
    """A database with eleven weeks of fifty people, aggregated by the jobs; each test copies it."""
    name = f"lived_{uuid.uuid4().hex[:8]}"

    async def live() -> None:
        await copied(postgres, name, template)
        pool = await open_pool(with_database(postgres, name))
        world = World(pool)
        await world.at(NOW)
        await pool.execute(LIFE)
        runner = await world.runner()
        for job in JOBS:
            assert (await runner.run_manual(f"analytics.{job}")).state == "succeeded"
        await pool.close()

    asyncio.run(live())
    return name


async def copied(server: str, name: str, origin: str) -> None:
    connection = await asyncpg.connect(server)
    await connection.execute(f"CREATE DATABASE {name} TEMPLATE {origin} STRATEGY file_copy")
    await connection.close()


@pytest.fixture
async def home(postgres: str, lived: str) -> str:
    """DSN of a copy of that database."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    await copied(postgres, name, lived)
    return with_database(postgres, name)


@pytest.fixture
async def given(home: str) -> AsyncIterator[Admin]:
    """An admin application on it."""
    pool = await open_pool(home)
    async with admin(pool) as made:
        yield made
    await pool.close()


async def ask(given: Admin, path: str, status: int = 200, headers: dict[str, str] = VIEWER) -> Any:
    answer = await given.client.get(f"{A}/{path}", headers=headers)
    assert answer.status == status, (path, await answer.text())
    return await answer.json()


async def file(given: Admin, path: str, form: str) -> bytes:
    answer = await given.client.get(f"{A}/{path}{'&' if '?' in path else '?'}format={form}", headers=VIEWER)
    assert answer.status == 200, (path, await answer.text())
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    return await answer.read()


def of_csv(raw: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(raw.decode(), newline="")))


def of_parquet(raw: bytes) -> list[dict[str, Any]]:
    return list(pq.read_table(io.BytesIO(raw)).to_pylist())


def plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    return value.isoformat() if isinstance(value, date) else value


# ── Shapes ──────────────────────────────────────────────────────────────────────────────────────────────────


CONTRACT_OF = contract()


def problems(schema: dict[str, Any], body: Any) -> list[str]:
    whole = {**schema, "components": CONTRACT_OF["components"]}
    return [f"{list(e.path)}: {e.message}" for e in Draft202012Validator(whole).iter_errors(body)]


def promised(pattern: str) -> dict[str, Any]:
    found: dict[str, Any] = CONTRACT_OF["paths"][f"{A}/{pattern}"]["get"]["responses"]["200"]["content"]
    return found


@pytest.mark.parametrize("path", [p for p in CONTRACT_OF["paths"] if p.startswith(A)])
def test_the_examples_keep_the_contract(path: str) -> None:
    described = promised(path.removeprefix(f"{A}/"))["application/json"]

    assert problems(described["schema"], described["example"]) == [] or path.endswith("insights")
    assert described["example"]["success"]


async def test_every_answer_keeps_the_contract(given: Admin) -> None:
    await measured(given.pool)
    for pattern, path in {
        **{name: name for name in ("daily", "weekly", "monthly", "behaviour", "performance", "insights")},
        "retention": "retention?kind=monthly&mode=unbounded",
        "users/{id}/days": "users/u01/days",
        "{statistic}/{period}/revisions": "daily/2026-03-20/revisions",
        "watermarks": "watermarks",
        "export/{table}": "export/user_day",
    }.items():
        body = await ask(given, path)
        assert problems(promised(pattern)["application/json"]["schema"], body) == [], path
        assert body["data"] or pattern == "insights"
        for form in ("csv", "parquet") if "text/csv" in promised(pattern) else ():
            answer = await given.client.get(f"{A}/{path}".split("?")[0] + f"?format={form}", headers=VIEWER)
            assert answer.content_type in promised(pattern)


async def measured(pool: asyncpg.Pool) -> None:
    await pool.execute(
        "INSERT INTO service.rollup (statistic, period, figures, final)"
        """ VALUES ('performance', '2026-03-22T11:00', '{"since": "x", "requests": 0, "throughput": 0.0,"""
        """ "averageResponseTime": null, "errorRate": null, "reason": "no request","""
        """ "processes": {"a": {"rss": 1}}, "jobs": {"reminder.x": {"runs": 1}}}', true)"""
    )


# ── Formats ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "path",
    [
        *("daily?from=2026-01-01", "weekly?from=2026-01-01", "monthly?from=2026-01-01"),
        *("behaviour?from=2026-03-01&to=2026-03-03", "performance", "users/%3Dcmd%7Cx/days"),
        *(
            "export/daily",
            "export/weekly",
            "export/user_span",
            "export/user_day",
            "export/user_profile",
            "export/revisions",
        ),
        *("export/performance", "export/insights", "export/user_day?from=2026-02-01&to=2026-02-03"),
    ],
)
async def test_all_formats_hold_the_same(given: Admin, path: str) -> None:
    await measured(given.pool)
    await late_session(given)
    limit = "" if path.startswith("export") else f"{'&' if '?' in path else '?'}limit=1000"
    rows = [flatten(kept(row)) for row in (await ask(given, path + limit))["data"]]
    by_csv = of_csv(await file(given, path, "csv"))
    by_parquet = of_parquet(await file(given, path, "parquet"))

    assert len(by_csv) == len(by_parquet) == len(rows)
    assert rows or path == "export/insights"
    for row, line, typed in zip(rows, by_csv, by_parquet, strict=True):
        known = {name: value for name, value in row.items() if value is not None}
        assert {name: value for name, value in line.items() if value} == {
            name: csv_cell(value) for name, value in known.items() if value != ""
        }
        assert {name: plain(value) for name, value in typed.items() if value is not None} == known


def kept(row: dict[str, Any]) -> dict[str, Any]:
    """A row as its columns see it: what belongs to one process or revision stays together."""
    whole = ("processes", "figures")
    return {
        name: json.dumps(value, ensure_ascii=False, separators=(",", ":")) if name in whole else value
        for name, value in row.items()
    }


async def late_session(given: Admin) -> None:
    """A session of the 10th arrives late; the figures that rest on it are revised."""
    await given.pool.execute(
        "INSERT INTO service.timer_sessions"
        " (id, user_id, kind, focus, status, started_at, ended_at, focus_seconds) VALUES"
        " ('late', 'u01', 'pomodoro', true, 'completed', '2026-03-10T10:00Z', '2026-03-10T10:25Z', 1500)"
    )
    await (await World(given.pool).runner()).run_manual("analytics.dailyAnalytics")


async def test_the_cells_of_cohorts_are_in_the_whole_table_only(given: Admin) -> None:
    assert "cohorts" not in (await ask(given, "weekly"))["data"][0]
    cells = (await ask(given, "export/weekly"))["data"][-1]["cohorts"]
    assert {"cohort", "n", "size", "active"} == set(cells[0])


async def test_a_formula_is_text_in_csv_and_itself_elsewhere(given: Admin) -> None:
    table = "export/user_span"

    assert "'=cmd|x" in {row["userId"] for row in of_csv(await file(given, table, "csv"))}
    assert "=cmd|x" in {row["userId"] for row in of_parquet(await file(given, table, "parquet"))}
    assert "=cmd|x" in {row["userId"] for row in (await ask(given, table))["data"]}


async def test_parquet_keeps_types_where_csv_has_text_only(given: Admin) -> None:
    schema = pq.read_schema(io.BytesIO(await file(given, "daily", "parquet")))
    windows = pq.read_schema(io.BytesIO(await file(given, "behaviour", "parquet")))
    days = pq.read_schema(io.BytesIO(await file(given, "export/user_day", "parquet")))

    types = {field.name: str(field.type) for field in schema}
    assert (types["period"], types["final"], types["dau"]) == ("date32[day]", "bool", "int64")
    assert (types["stickiness"], types["trends.totalSessions.verdict"]) == ("double", "string")
    assert str(windows.field("period").type) == "timestamp[us, tz=UTC]"
    assert {"hours.0", "hours.23", "kinds.deep\\.work.started"} <= set(days.names)


# ── Pages and ranges ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("path", "key"), [("daily?from=2026-02-01&to=2026-02-10", "period"), ("users/u01/days", "localDate")]
)
async def test_pages_add_up_to_the_whole(given: Admin, path: str, key: str) -> None:
    mark = "&" if "?" in path else "?"
    whole = (await ask(given, f"{path}{mark}limit=1000"))["data"]
    found, cursor, pages = [], "", 0
    while pages == 0 or cursor:
        page = await ask(given, f"{path}{mark}limit=3" + (f"&cursor={cursor}" if cursor else ""))
        found += page["data"]
        cursor, pages = page["next"], pages + 1

    assert found == whole
    assert [row[key] for row in found] == sorted({row[key] for row in found})
    assert pages == -(-len(whole) // 3)


async def test_ranges_are_dates_both_included_and_recent_by_default(given: Admin) -> None:
    two = (await ask(given, "daily?from=2026-02-01&to=2026-02-02"))["data"]
    assert [row["period"] for row in two] == ["2026-02-01", "2026-02-02"]
    windows = (await ask(given, "behaviour?from=2026-02-01&to=2026-02-01"))["data"]
    assert [row["period"][11:13] for row in windows] == ["00", "06", "12", "18"]

    recent = await ask(given, "daily")
    assert (recent["from"], len(recent["data"])) == ("2026-02-20", 30)
    assert len((await ask(given, "weekly?to=2026-02-28"))["data"]) == 9
    assert (await ask(given, "daily?to=0001-01-01"))["data"] == []
    assert (await ask(given, "daily?from=9999-12-31"))["data"] == []


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("daily?from=2026-03-32", "from '2026-03-32' is not a date; use one like 2026-03-01"),
        ("daily?from=2026-03-02&to=2026-03-01", "from (2026-03-02) lies after to (2026-03-01)"),
        ("daily?form=csv", "unknown parameter form; known here: cursor, format, from, limit, to"),
        ("daily?format=xls", "format must be one of csv, json, parquet"),
        ("daily?format=csv&limit=3", "limit is for json"),
        ("daily?limit=0", "limit must be a whole number from 1 to 1000"),
        ("daily?cursor=x", "cursor is not one of ours"),
        ("retention?kind=daily", "kind must be one of monthly, weekly"),
        ("weekly/2026-03-09/revisions", "a week begins on a Sunday; use 2026-03-08"),
        ("daily/yesterday/revisions", "period 'yesterday' is not a time"),
    ],
)
async def test_what_cannot_be_meant_is_named_with_its_remedy(
    pool: asyncpg.Pool, path: str, named: str
) -> None:
    async with admin(pool) as given:
        assert named in (await ask(given, path, 400))["error"]


async def test_what_is_not_there_is_404_and_strangers_get_nothing(pool: asyncpg.Pool) -> None:
    async with admin(pool) as given:
        for path in (
            "users/nobody/days",
            "users/nobody/days?format=csv",
            "users/nobody/days?format=parquet",
            "daily/2026-03-08/revisions",
            "x/2026-03-08/revisions",
            "export/x",
        ):
            assert (await ask(given, path, 404))["success"] is False
        for path in ("daily", "retention", "watermarks", "export/user_day"):
            await ask(given, path, 200, ADMIN)
            await ask(given, path, 403, DASHBOARD)
            await ask(given, path, 401, {})


async def test_who_asks_again_for_the_same_gets_304(given: Admin) -> None:
    first = await given.client.get(f"{A}/weekly", headers=VIEWER)
    known = VIEWER | {"If-None-Match": first.headers["ETag"]}
    again = await given.client.get(f"{A}/weekly", headers=known)
    await given.pool.execute("UPDATE service.rollup SET revision = revision + 1 WHERE period = '2026-03-15'")
    later = await given.client.get(f"{A}/weekly", headers=known)

    assert (again.status, await again.read()) == (304, b"")
    assert later.status == 200


# ── Figures ─────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_day_is_compared_with_the_same_weekday_before(given: Admin) -> None:
    rows = {row["period"]: row for row in (await ask(given, "daily?from=2026-02-01"))["data"]}
    one = rows["2026-03-12"]
    before = sorted(
        rows[day]["totalSessions"] for day in ("2026-02-12", "2026-02-19", "2026-02-26", "2026-03-05")
    )
    median = (before[1] + before[2]) / 2
    trend = one["trends"]["totalSessions"]

    assert trend["baseline"] == median
    assert trend["percent"] == round(100 * (one["totalSessions"] - median) / median, 1)
    assert (await ask(given, "daily?from=2026-03-12&to=2026-03-12"))["data"] == [one]


async def test_revisions_tell_what_a_figure_was(given: Admin) -> None:
    before = (await ask(given, "daily?from=2026-03-10&to=2026-03-10"))["data"][0]
    await late_session(given)
    now, was = (await ask(given, "daily/2026-03-10/revisions"))["data"]

    assert (now["revision"], was["revision"], now["replacedAt"]) == (2, 1, None)
    assert now["figures"]["totalSessions"] == was["figures"]["totalSessions"] + 1
    assert was["figures"]["totalSessions"] == before["totalSessions"]
    assert {"totalSessions", "focusSeconds"} <= set(now["changed"])
    assert "newUsers" not in now["changed"]
    assert (await ask(given, "behaviour/2026-03-03T06:00Z/revisions"))["data"][0]["revision"] == 1


async def test_watermarks_tell_how_far_and_what_is_stale(given: Admin) -> None:
    found = (await ask(given, "watermarks"))["data"]
    far = {row["statistic"]: row["through"] for row in found["statistics"]}

    assert far == {
        "daily": "2026-03-21", "weekly": "2026-03-15", "monthly": "2026-02-01",
        "behaviour": "2026-03-22T06:00:00Z", "insights": "2026-02-01", "churnModel": "2026-02-01",
    }  # fmt: skip
    assert found["staleDays"] == {"days": 0, "users": 0, "oldest": None}
    await given.pool.execute(
        "UPDATE service.timer_sessions SET rating = 5 WHERE user_id = 'u01' AND started_at < '2026-02-01'"
    )
    waiting = (await ask(given, "watermarks"))["data"]["staleDays"]
    assert waiting["days"] > 1
    assert waiting["users"] == 1


@pytest.mark.parametrize("kind", ["weekly", "monthly"])
async def test_cohorts_count_everybody_once_and_leave_open_what_is_not_over(given: Admin, kind: str) -> None:
    # One more week has its figures, but is not over everywhere.
    await given.pool.execute("UPDATE service.rollup SET final = false WHERE (statistic, period) IN"
                             " (SELECT statistic, max(period) FROM service.rollup GROUP BY 1)")  # fmt: skip
    path = f"retention?kind={kind}&from=2026-01-01"
    exact = (await ask(given, path))["data"]
    later = (await ask(given, f"{path}&mode=unbounded"))["data"]

    starts = await given.pool.fetch(
        "SELECT date_trunc('month', first_date)::date AS monthly,"
        " first_date - extract(dow FROM first_date)::int AS weekly FROM service.user_span"
    )
    assert sum(one["size"] for one in exact["cohorts"]) == len(starts)
    assert {one["cohort"] for one in exact["cohorts"]} == {row[kind].isoformat() for row in starts}
    for one, other in zip(exact["cohorts"], later["cohorts"], strict=True):
        assert (one["cohort"], one["size"]) == (other["cohort"], other["size"])
        ripe = [c for c in one["cells"] if c]
        open_ended = [c for c in other["cells"] if c]
        assert [c["n"] for c in ripe] == [c["n"] for c in open_ended] == list(range(len(ripe)))
        assert all(a["active"] <= b["active"] <= one["size"] for a, b in zip(ripe, open_ended, strict=True))
        assert [c["active"] for c in open_ended] == sorted((c["active"] for c in open_ended), reverse=True)
        assert all(c["active"] == one["size"] for c in (*ripe[:1], *open_ended[:1]))
    assert exact["cohorts"][-1]["cells"][-1] is None


async def test_a_cell_is_what_a_hand_would_count(given: Admin) -> None:
    found = (await ask(given, "retention?from=2026-01-11&to=2026-01-11"))["data"]
    (cohort,) = found["cohorts"]
    counted = await given.pool.fetchrow(
        "SELECT count(DISTINCT s.user_id) AS size, count(DISTINCT d.user_id) AS active"
        " FROM service.user_span AS s LEFT JOIN service.user_day AS d"
        " ON d.user_id = s.user_id AND d.started > 0 AND d.local_date BETWEEN '2026-02-08' AND '2026-02-14'"
        " WHERE s.first_date BETWEEN '2026-01-11' AND '2026-01-17'"
    )
    assert counted
    assert cohort["cells"][4] == {
        "n": 4, "size": counted["size"], "active": counted["active"],
        "rate": round(counted["active"] / counted["size"], 4), "final": True,
    }  # fmt: skip
    assert counted["active"] > 0


# ── Large ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("form", "size"),
    [
        pytest.param("csv", 50_000, marks=pytest.mark.long(only=True)),
        ("json", 25_000),
        pytest.param("parquet", 45_000, marks=pytest.mark.long(only=True)),
    ],
)
async def test_a_large_table_is_read_in_pieces(
    pool: asyncpg.Pool, form: str, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    await pool.execute(
        "INSERT INTO service.user_day"
        " SELECT 'u' || i, '2026-01-01'::date + i % 97, 1, 60, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0,"
        f""" '{{"pomodoro": [1, 1, 60]}}', '{{"9": 60}}' FROM generate_series(1, {size}) AS i"""
    )
    await pool.execute("ANALYZE service.user_day")
    fetched: list[int] = []
    fetch = asyncpg.Pool.fetch

    async def counted(self: asyncpg.Pool, *arguments: Any, **options: Any) -> Any:
        rows = await fetch(self, *arguments, **options)
        fetched.append(len(rows))
        return rows

    monkeypatch.setattr(asyncpg.Pool, "fetch", counted)
    async with admin(pool) as given:
        answer = await given.client.get(f"{A}/export/user_day?format={form}", headers=VIEWER)
        assert answer.headers["Content-Disposition"] == f'attachment; filename="user_day.{form}"'
        raw = await answer.read()

    assert max(fetched) == figures.CHUNK
    assert len(fetched) >= size // figures.CHUNK
    if form == "parquet":
        meta = pq.read_metadata(io.BytesIO(raw))
        assert (meta.num_rows, meta.num_row_groups) == (size, 3)
    else:
        rows = json.loads(raw)["data"] if form == "json" else of_csv(raw)
        assert len({row["userId"] for row in rows}) == size


async def test_a_file_that_breaks_does_not_look_complete(
    pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    await pool.execute(
        "INSERT INTO service.user_span"
        " SELECT 'u' || i, '2026-01-01', '2026-01-01' FROM generate_series(1, 5000) AS i"
    )
    fetch = asyncpg.Pool.fetch
    asked = 0

    async def lost(self: asyncpg.Pool, *arguments: Any, **options: Any) -> Any:
        nonlocal asked
        asked += 1
        if asked > 3:
            raise asyncpg.ConnectionDoesNotExistError("gone")
        return await fetch(self, *arguments, **options)

    async with admin(pool) as given:
        monkeypatch.setattr(asyncpg.Pool, "fetch", lost)
        answer = await given.client.get(f"{A}/export/user_span?format=csv", headers=VIEWER)
        assert answer.status == 200
        with pytest.raises(Exception, match=r"payload|closed|Connection"):
            await answer.read()
        monkeypatch.undo()
        assert (await given.client.head(f"{A}/export/user_span?format=csv", headers=VIEWER)).status == 200
        assert len(of_csv(await file(given, "export/user_span", "csv"))) == 5000


# ── The command line ────────────────────────────────────────────────────────────────────────────────────────


async def typed(folder: Path, dsn: str, *words: str) -> tuple[int, bytes, str]:
    """``python -m service …``: its exit code, what it printed, and what it complained of."""
    environ = {"DATABASE_URL": dsn, "DASHBOARD_URL": dsn, "COLUMNS": "200"}
    async with process_of(folder / "data", *words, **environ) as (process, _):
        code = await process.wait()
    return code, (folder / "stdout").read_bytes(), (folder / "stderr").read_text()


async def test_tables_for_people_say_what_the_api_says(home: str, given: Admin, tmp_path: Path) -> None:
    day = (await ask(given, "daily?from=2026-03-19&to=2026-03-19"))["data"][0]
    code, printed, _ = await typed(
        tmp_path, home, "analytics", "daily", "--from", "2026-03-18", "--to", "2026-03-19"
    )
    lines = [line.split() for line in printed.decode().splitlines()]

    assert code == 0
    assert lines[1][:5] == ["period", "state", "active", "new", "sessions"]
    assert lines[-1][:5] == [
        "2026-03-19",
        "final",
        str(day["activeUsers"]),
        str(day["newUsers"]),
        str(day["totalSessions"]),
    ]


async def test_every_view_has_its_table(home: str, given: Admin) -> None:
    await given.pool.execute(
        "UPDATE service.rollup SET figures = figures || $1 WHERE statistic = 'insights'",
        {
            "insights": [
                {"rule": "r", "text": "Mornings go well.", "p": 0.01, "strength": 0.3, "evidence": {}}
            ]
        },
    )
    told = {}
    for view in reports.VIEWS:
        out = Console(file=io.StringIO(), width=200)
        asked = {"view": view, "since": None, "until": None, "format": "table", "json": False, "out": None}
        options = Namespace(**asked, kind="weekly", mode="unbounded")
        await reports.show(Settings(database_url=home, dashboard_url=home), options, out)
        told[view] = out.file.getvalue()  # type: ignore[attr-defined]

    assert "resurrecting" in told["weekly"]
    assert "at risk" in told["monthly"]
    assert "100 %" in told["retention"].splitlines()[2]
    assert told["retention"].splitlines()[-1].split()[:3] == ["all,", "by", "size"]
    assert "0 days of 0 people wait" in told["watermarks"]
    assert told["insights"].strip().splitlines()[-1].split(maxsplit=3) == [
        "2026-02-01",
        "final",
        "0.3",
        "Mornings go well.",
    ]
    assert told["performance"].startswith("performance: nothing yet")


async def test_a_withdrawn_sentence_is_told_by_api_table_and_file(home: str, given: Admin) -> None:
    await given.pool.execute(
        "INSERT INTO service.rollup_revision (statistic, period, revision, figures, computed_at)"
        " SELECT statistic, period, 0, figures || $1, computed_at FROM service.rollup"
        " WHERE statistic = 'insights' AND period = '2026-02-01'",
        {"insights": [{"rule": "r", "text": "Fridays go well: 4 of 5", "evidence": "4 of 5"}]},
    )
    row = (await ask(given, "insights"))["data"][-1]
    (gone,) = row["withdrawn"]
    assert problems(promised("insights")["application/json"]["schema"], await ask(given, "insights")) == []
    assert (gone["text"], gone["withdrawnAt"]) == ("Fridays go well: 4 of 5", "2026-03-22T12:30:00Z")
    assert json.loads(await file(given, "export/insights", "json"))["data"][-1]["withdrawn"] == [gone]

    out = Console(file=io.StringIO(), width=250)
    asked = {"view": "insights", "since": None, "until": None, "format": "table", "json": False, "out": None}
    await reports.show(
        Settings(database_url=home, dashboard_url=home), Namespace(**asked, kind="weekly", mode="exact"), out
    )
    told = out.file.getvalue()  # type: ignore[attr-defined]
    assert "withdrawn on 2026-03-22 (by late, edited or deleted data it is no longer significant" in told


async def test_files_of_the_command_line_are_those_of_the_api(
    home: str, given: Admin, tmp_path: Path
) -> None:
    target = tmp_path / "days.parquet"
    code, _, _ = await typed(
        tmp_path, home, "export", "user_day", "--format", "parquet", "--out", str(target)
    )
    assert code == 0
    assert of_parquet(target.read_bytes()) == of_parquet(await file(given, "export/user_day", "parquet"))

    _, printed, _ = await typed(tmp_path, home, "analytics", "weekly", "--format", "csv")
    assert printed == await file(given, "weekly", "csv")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("analytics", "daily", "--from", "x"), "use one like 2026-03-01"),
        (("analytics", "daily", "--from", "2026-03-02", "--to", "2026-03-01"), "exchange them"),
        (("export", "user_span", "--out", "/nowhere/at/all.csv"), "--out /nowhere/at/all.csv"),
        (("analytics", "watermarks", "--format", "csv"), "table or json"),
    ],
)
def test_wrong_words_end_with_2(
    dsn: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...], complaint: str,
) -> None:  # fmt: skip
    monkeypatch.setenv("DATABASE_URL", dsn)
    monkeypatch.setenv("DASHBOARD_URL", dsn)
    monkeypatch.setattr("service.cli.local.err", Console(file=sys.stderr, width=200))
    monkeypatch.setattr("service.log.configure", lambda *_, **__: None)  # would outlive this test's stderr
    try:
        code = cli.main(list(words))
    except SystemExit as ended:  # argparse's own way
        code = int(str(ended.code))
    finally:
        structlog.reset_defaults()  # the next test's log must not go to this one's captured stream

    assert code == 2
    assert complaint in capsys.readouterr().err
