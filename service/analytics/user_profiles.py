"""Habits: profiles of people, insights of everybody, and the churn model; figures come from ``domain``."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

import asyncpg

from service.analytics import churn
from service.analytics.churn import ChurnFeatures, ChurnModel
from service.analytics.habits import PersonActivity, SessionCounts, Tally, counts, profile, told
from service.analytics.insight import Subject
from service.engine import queries
from service.engine.database import Connection

_SQL = queries.load(__file__)
_WEEKS = 13
_SLICE = 50


async def due(connection: Connection, as_of: date, after: str, limit: int) -> list[str]:
    """Whose profiles are to be made, in user order after ``after``."""
    return [row["user_id"] for row in await connection.fetch(_SQL["due"], as_of, after, limit)]


async def make_profiles(connection: Connection, users: Sequence[str], as_of: date) -> int:
    """Store the profiles of these users as of a date; returns how many changed."""
    stored = await connection.fetchval(_SQL["model"])
    model = ChurnModel.from_json(stored) if stored and stored.get("coefficients") else None
    rows = await connection.fetch(_SQL["people"], list(users), as_of)
    figures: list[str] = []
    for start in range(0, len(rows), _SLICE):  # the loop is shared
        part = rows[start : start + _SLICE]
        figures += await asyncio.to_thread(_profiles, part, as_of, model)
    tag: str = await connection.execute(_SQL["put"], [row["user_id"] for row in rows], figures, as_of)
    return int(tag.rpartition(" ")[2])


async def stored(pool: asyncpg.Pool, user: str) -> dict[str, Any] | None:
    """The profile of a user as it was last made; None: there is none."""
    row = await pool.fetchrow(_SQL["stored"], user)
    if row is None:
        return None
    return {
        "userId": row["user_id"],
        "asOf": row["as_of"],
        "computedAt": row["computed_at"],
        "figures": row["figures"],
    }


def _profiles(rows: Sequence[asyncpg.Record], as_of: date, model: ChurnModel | None) -> list[str]:
    return [json.dumps(profile(_person(row, as_of), as_of, model)) for row in rows]


async def months_to_portray(connection: Connection, last: date) -> list[date]:
    """Of the months (first dates) up to ``last`` with figures: the last, and those without insights."""
    return [row["month"] for row in await connection.fetch(_SQL["unportrayed"], last)]


async def everybodys_insights(connection: Connection, month: date) -> dict[str, Any]:
    """What everybody's sessions of a local month say, ranked, each with its evidence."""
    row = await connection.fetchrow(_SQL["everybody"], month)
    assert row
    weekdays = row["weekdays"] or {}
    facts = _facts(row, [weekdays.get(str(dow), (0, 0)) for dow in range(7)])
    found = await asyncio.to_thread(lambda: told(counts(facts, Subject.EVERYBODYS)))
    return {"month": f"{month:%Y-%m}", "insights": found}


async def fit_churn(connection: Connection, as_of: date) -> dict[str, Any]:
    """The churn model fitted on people as they stood 28 days ago; ``reason`` where there are too few."""
    rows = await connection.fetch(_SQL["churn"], as_of)
    people = [
        (ChurnFeatures(row["recency"], row["active_28"], row["active_180"], row["tenure"]), row["left"])
        for row in rows
    ]
    model = await asyncio.to_thread(churn.fit, people)
    return model.to_json() if model else {"reason": "insufficient", "rows": len(people)}


def _person(row: Mapping[str, Any] | asyncpg.Record, as_of: date) -> PersonActivity:
    active = [date.fromisoformat(day) for day in row["active"] or ()]
    done = [date.fromisoformat(day) for day in row["done"] or ()]
    first = row["first_date"]
    return PersonActivity(
        facts=_facts(row, _own_weekdays(done, first, as_of)),
        active=active,
        done=done,
        minutes=row["minutes"] or (),
        starts=row["starts"] or (),
        by_hour=[(row["hours"] or {}).get(str(hour), 0) for hour in range(24)],
        first=first,
    )


def _own_weekdays(done: Sequence[date], first: date, as_of: date) -> list[Tally]:
    """Dates with a completed session, of all dates, by weekday from Sunday; 180 days, or since the first."""
    since = max(first.toordinal(), as_of.toordinal() - 179)
    dates = [n % 7 for n in range(since, as_of.toordinal() + 1)]
    hits = [day.toordinal() % 7 for day in done]
    return [(hits.count(dow), dates.count(dow)) for dow in range(7)]


def _facts(row: Mapping[str, Any] | asyncpg.Record, weekdays: Sequence[Tally]) -> SessionCounts:
    weeks = row["weeks"] or {}
    return SessionCounts(
        splits=row["splits"] or {},
        lengths={int(minutes): tally for minutes, tally in (row["lengths"] or {}).items()},
        by_day={date.fromisoformat(day): tally for day, tally in (row["days"] or {}).items()},
        weekdays=weekdays,
        weeks=_whole_weeks(weeks),
    )


def _whole_weeks(minutes: Mapping[str, float]) -> list[float]:
    """Oldest first; the weeks before the first one with anything are no history."""
    found = [float(minutes.get(str(week), 0)) for week in reversed(range(_WEEKS))]
    while found and not found[0]:
        found = found[1:]
    return found
