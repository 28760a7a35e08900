"""Stores profiles of users, monthly insights of everybody, and the churn model."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import asyncpg

from service.analytics import churn
from service.analytics.churn import ChurnFeatures, ChurnModel
from service.analytics.comparison import WORKDAYS, DoneDates, weekday_of
from service.analytics.habits import (
    PersonActivity,
    SessionCounts,
    counts,
    insights_to_json,
    profile,
    weeks_at_work,
)
from service.analytics.insight import RULES_VERSION, Subject
from service.analytics.significance import median
from service.analytics.working_hours import MIN_ACTIVE_DAYS
from service.engine import queries
from service.engine.database import Connection

_SQL = queries.load(__file__)
_WEEKS = 14
_BATCH = 50


async def users_due(connection: Connection, as_of: date, after: str, limit: int) -> list[str]:
    """The ids of users whose profile must be computed, in order of id, after ``after``.

    Profiles are kept of those with enough data for their hours; ``user_profile`` computes others when asked.
    """
    rows = await connection.fetch(_SQL["users_due"], as_of, after, limit, MIN_ACTIVE_DAYS)
    return [row["user_id"] for row in rows]


async def make_profiles(connection: Connection, users: Sequence[str], as_of: date) -> int:
    """Store the profiles of these users as of a date; returns how many changed.

    They follow from the days up to the date, and from the churn model of the last month that ended before it.
    """
    await connection.execute(_SQL["delete_profiles"], list(users))
    figures = await _figures(connection, users, as_of)
    status: str = await connection.execute(
        _SQL["store_profiles"], list(figures), [json.dumps(values) for values in figures.values()], as_of
    )
    return int(status.rpartition(" ")[2])


async def user_profile(pool: asyncpg.Pool, user: str) -> dict[str, Any] | None:
    """The stored profile of a user, else one as of today; None: they were not active in 90 days."""
    row = await pool.fetchrow(_SQL["stored"], user)
    if row:
        as_of, computed_at, figures = row["as_of"], row["computed_at"], row["figures"]
    else:
        as_of = await pool.fetchval(_SQL["active_lately"], user)
        if as_of is None:
            return None
        async with pool.acquire() as connection:
            figures = (await _figures(connection, [user], as_of))[user]
        computed_at = datetime.combine(as_of, time(), UTC)
    return {"userId": user, "asOf": as_of, "computedAt": computed_at, "figures": figures}


async def _figures(connection: Connection, users: Sequence[str], as_of: date) -> dict[str, dict[str, Any]]:
    stored = await connection.fetchval(_SQL["churn_model"], as_of)
    model = ChurnModel.from_json(stored) if stored and stored.get("coefficients") else None
    rows = await connection.fetch(_SQL["profile_facts"], list(users), as_of)
    figures: dict[str, dict[str, Any]] = {}
    for start in range(0, len(rows), _BATCH):  # in small batches, for the event loop
        figures |= await asyncio.to_thread(_profiles, rows[start : start + _BATCH], as_of, model)
    return figures


def _profiles(
    rows: Sequence[asyncpg.Record], as_of: date, model: ChurnModel | None
) -> dict[str, dict[str, Any]]:
    return {row["user_id"]: profile(_person(row, as_of), as_of, model) for row in rows}


async def mark_stale(connection: Connection, users: Sequence[str], days: Sequence[date]) -> None:
    """Mark the profiles as stale that rest on these (user, local date): a day up to the date of the profile.

    An edit may leave the rollup of a day as it was, and still change the profile. The first day of all counts
    too, however long ago.
    """
    await connection.execute(_SQL["mark_stale_profiles"], users, days)


async def mark_stale_by_model(connection: Connection, models: Mapping[datetime, dict[str, Any]]) -> None:
    """Mark the profiles as stale that rest on the churn models of these months, where a model has changed."""
    await connection.execute(
        _SQL["mark_stale_by_model"], list(models), [json.dumps(model) for model in models.values()]
    )


async def insights_of_month(connection: Connection, month: date) -> dict[str, Any]:
    """Insights from everybody's sessions of a local month, strongest first; weekdays and weeks from the 14
    weeks up to its end. ``sessions``: how many ended in the month."""
    row = await connection.fetchrow(_SQL["month_counts"], month)
    assert row
    insights = await asyncio.to_thread(
        lambda: insights_to_json(counts(_everybodys_facts(row), Subject.EVERYBODYS))
    )
    sessions = sum(started for *_, started in row["cells"] or ())
    return {"month": f"{month:%Y-%m}", "insights": insights, "sessions": sessions, "rules": RULES_VERSION}


async def churn_model_of_month(connection: Connection, month: date) -> dict[str, Any]:
    """The churn model as of the last date of a month (its first date)."""
    following = (month + timedelta(days=31)).replace(day=1)
    return await fit_churn(connection, following - timedelta(days=1))


async def fit_churn(connection: Connection, as_of: date) -> dict[str, Any]:
    """The churn model as of a date, as JSON; with a ``reason`` instead if there are too few users."""
    rows = await connection.fetch(_SQL["churn_samples"], as_of)
    people = [
        (ChurnFeatures(row["recency"], row["active_28"], row["active_180"], row["tenure"]), row["left"])
        for row in rows
    ]
    model = await asyncio.to_thread(churn.fit, people)
    if model is None:
        return {
            "reason": "insufficient",
            "rows": len(people),
            "left": sum(has_left for _, has_left in people),
        }
    return model.to_json()


def _everybodys_facts(row: Mapping[str, Any] | asyncpg.Record) -> SessionCounts:
    until: date = row["last_day"]
    last = until.toordinal()
    days = {int(day): figures for day, figures in (row["days"] or {}).items()}
    weeks = [
        [(day, days.get(day, (0, 0))[1]) for day in range(last - 7 * back - 6, last - 7 * back + 1)]
        for back in reversed(range(_WEEKS))
    ]
    minutes = [float(sum(value for _, value in week)) for week in weeks]
    middles = [float(median(value for day, value in week if weekday_of(day) in WORKDAYS)) for week in weeks]
    unknown = next((n for n, value in enumerate(minutes) if value), len(minutes))
    return SessionCounts(
        cells=row["cells"] or (),
        dates=DoneDates(
            {day: people for day, (people, _) in days.items()},
            max(min(days, default=last), last - 7 * _WEEKS + 1),
            last,
            row["people"] or 1,
        ),
        weeks=minutes[unknown:],
        middles=middles[unknown:],
    )


def _person(row: Mapping[str, Any] | asyncpg.Record, as_of: date) -> PersonActivity:
    active = [date.fromisoformat(day) for day in row["active"] or ()]
    opened = [date.fromisoformat(day) for day in row["opened"] or ()]
    done = [date.fromisoformat(day) for day in row["done"] or ()]
    first: date = row["first_date"]
    since = max(first.toordinal(), as_of.toordinal() - 179)
    return PersonActivity(
        facts=SessionCounts(
            cells=row["cells"] or (),
            dates=DoneDates(dict.fromkeys((day.toordinal() for day in done), 1), since, as_of.toordinal()),
            weeks=weeks_at_work(_whole_weeks(row["weeks"] or {}), opened, as_of),
        ),
        active=active,
        opened=opened,
        minutes=row["minutes"] or (),
        starts=row["starts"] or (),
        by_hour=[(row["hours"] or {}).get(str(hour), 0) for hour in range(24)],
        first=first,
    )


def _whole_weeks(minutes: Mapping[str, float]) -> list[float]:
    """Minutes by week, oldest first, without leading weeks that have none."""
    history = [float(minutes.get(str(week), 0)) for week in reversed(range(_WEEKS))]
    while history and not history[0]:
        history = history[1:]
    return history
