"""docs/metrics.md says what is stored: its example is played, and every figure of it compared."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, datetime
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from service.analytics import figures as stored
from service.analytics.activity import figures, local_sessions
from service.analytics.figures import DateRange
from service.analytics.periods import Period
from service.analytics.statistic import Statistic
from service.analytics.streak import longest_streak
from tests.analytics.given import Lab, at, session
from tests.given import goal, user

_TEXT = Path("docs/metrics.md").read_text("utf-8")
_PERIODS = {
    Statistic.DAILY: datetime(2026, 3, 9),
    Statistic.WEEKLY: datetime(2026, 3, 8),
    Statistic.MONTHLY: datetime(2026, 3, 1),
    Statistic.BEHAVIOUR: datetime(2026, 3, 9, 6),
}


def _table(heading: str) -> list[list[str]]:
    """The rows of the first table after a heading."""
    text = re.split(rf"^#+ {heading}$", _TEXT, flags=re.MULTILINE)[1]
    lines = re.split(r"^#+ ", text, flags=re.MULTILINE)[0].splitlines()
    rows = [[cell.strip() for cell in line[1:-1].split("|")] for line in lines if line.startswith("|")]
    return rows[2:]


def _documented(heading: str) -> dict[str, Any]:
    """Figure → its value in the example."""
    return {name.strip("`"): json.loads(example) for name, *_, example in _table(heading)}


def _instant(text: str) -> datetime | None:
    return at(text) if text else None


async def _play(lab: Lab) -> None:
    await lab.clock(at("2026-03-10 12:00"))
    accounts = _table("Accounts")
    await lab.put(*(user(name, zone, created_at=at(made)) for name, zone, made, _ in accounts))
    for n, (who, kind, begin, end, status, focus, rating) in enumerate(_table("Sessions")):
        one = session(f"s{n}", who, at(begin), kind=kind, focus=kind != "break", status=status)
        await lab.put(
            replace(
                one,
                ended_at=_instant(end),
                focus_seconds=int(focus),
                rating=int(rating) if rating else None,
            )
        )
    for n, (who, made, done, due) in enumerate(_table("Goals")):
        deadline = {"due": due} if len(due) == 10 else {"due_at": _instant(due)}
        await lab.put(
            goal(f"g{n}", who, created_at=at(made), completed_at=_instant(done), open=not done, **deadline)
        )
    for name, _, _, deleted in accounts:
        if deleted:
            await lab.clock(at(deleted))
            await lab.remove("users", name)
    await lab.clock(at("2026-04-02 13:00"))
    await lab.run()
    await lab.check()


def _at_path(figure: Any, path: str) -> Any:
    for key in path.split("."):
        figure = figure[int(key) if isinstance(figure, list) else key]
    return figure


def _leaves(figure: Any, path: str = "") -> Iterator[str]:
    if isinstance(figure, dict) and figure:
        for key, value in figure.items():
            yield from _leaves(value, f"{path}.{key}" if path else key)
    else:
        yield path


async def test_every_figure_is_documented_with_its_value(lab: Lab) -> None:
    await _play(lab)
    for statistic, period in _PERIODS.items():
        found = (await lab.figures(statistic))[period]
        documented = _documented(statistic.capitalize())
        wrong = {
            path: (value, _at_path(found, path))
            for path, value in documented.items()
            if value != _at_path(found, path)
        }
        assert not wrong, f"{statistic}: {{figure: (docs/metrics.md, stored)}} {wrong}"
        missing = [
            leaf
            for leaf in _leaves(found)
            if not any(
                f"{leaf}.".startswith(f"{path}.") or path.startswith(f"{leaf}.") for path in documented
            )
        ]
        assert not missing, f"{statistic}: write into docs/metrics.md: {missing}"
    assert await _cells(lab.pool) == _documented("Cohort tables")
    assert await _of_person(lab.pool, "ann") == _documented("What one person reads")


async def _cells(pool: asyncpg.Pool) -> dict[str, Any]:
    span = DateRange(date(2026, 2, 8), date(2026, 2, 8))
    tables = {
        mode: await stored.cohorts(pool, Statistic.WEEKLY, span, unbounded=mode == "unbounded")
        for mode in ("exact", "unbounded")
    }
    return {mode: table["cohorts"][0]["cells"][1] for mode, table in tables.items()}


async def _of_person(pool: asyncpg.Pool, who: str) -> dict[str, Any]:
    rows = await pool.fetch(
        "SELECT local_day::text, focus, status, focus_seconds, category FROM service.local_session"
        " WHERE user_id = $1",
        who,
    )
    week = figures(local_sessions([tuple(row) for row in rows]), Period(date(2026, 3, 8), date(2026, 3, 15)))
    active = await pool.fetchval("SELECT service.active_dates($1, $2, NULL)", who, at("2026-03-14 12:00"))
    assert week.active_dates == {day for day in map(date.fromisoformat, active) if day >= date(2026, 3, 8)}
    return {
        "focusSeconds": week.focus_seconds,
        "sessions": week.sessions,
        "averageSeconds": week.average_seconds,
        "activeDays": week.active_days,
        "bestDay": str(week.best_day),
        "longestStreak": longest_streak(week.active_dates),
    }


@pytest.mark.parametrize("statistic", _PERIODS)
def test_the_contract_names_the_same_figures(statistic: Statistic) -> None:
    text = Path("openapi.yaml").read_text("utf-8")
    schema = re.search(rf"^    {statistic.capitalize()}Row:\n(?:      .*\n)+", text, flags=re.MULTILINE)
    assert schema
    contract = set(re.findall(r"^          (\w+):$", schema[0], flags=re.MULTILINE))
    documented = {path.partition(".")[0] for path in _documented(statistic.capitalize())}
    assert contract - {"trends"} == documented - {"cohorts"}
