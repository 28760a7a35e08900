"""Reading the analytics: rows as every face shows them, in pages, holding no connection between two pages.

Names are camelCase. Dates are ``date``, instants aware ``datetime``; a period is a date, or for
``behaviour`` and ``performance`` the instant at which its hours begin. Ranges are dates, both included.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from typing import Any

import asyncpg

from service.analytics import cohort_tables
from service.analytics.columns import WholeColumn, flatten, text
from service.analytics.significance import day_trend
from service.analytics.statistic import CALENDARS, Statistic
from service.engine import queries
from service.errors import BadRequest, UnknownUser

_SQL = queries.load(__file__)
CHUNK = 1_000
"""Rows that are read at once, whatever the range."""
_CHUNK_OF_COHORTS = 50
"""The same where a row holds the cells of every cohort."""
INSIGHTS = "insights"
"""Sentences, stored per period like figures."""
PERFORMANCE = "performance"
"""What was measured of the service, per hour."""
STATISTICS = (*Statistic, PERFORMANCE, INSIGHTS)
BY_THE_CLOCK = frozenset({Statistic.BEHAVIOUR, PERFORMANCE})
"""Statistics whose periods are hours in UTC, not dates."""
KINDS = (Statistic.WEEKLY, Statistic.MONTHLY)
"""Statistics that have cohorts."""
_SHOWN = {Statistic.DAILY: 30, Statistic.WEEKLY: 12, Statistic.MONTHLY: 12, Statistic.BEHAVIOUR: 28}
"""How many periods a range that nobody named has."""
_COHORTS = 12
TRENDS = ("activeUsers", "newUsers", "totalSessions", "totalFocusTime", "goalsCreated", "goalsCompleted")
"""Daily figures that are compared with the same weekday before."""

Row = dict[str, Any]
_EVER = datetime.min  # noqa: DTZ901 — naive on purpose: wall-clock time
_EARLIEST = datetime(2, 1, 1)  # noqa: DTZ001 — naive too; leaves room to step back from
_BEGINS = {Statistic.WEEKLY: "a week begins on a Sunday", Statistic.MONTHLY: "a month begins on its first"}


@dataclass(frozen=True, slots=True)
class DateRange:
    """Dates from ``since`` to ``until``, both included."""

    since: date = date.min
    until: date = date.max


@dataclass(frozen=True, slots=True)
class FiguresPage:
    """Rows, and what to go on after; None: these were the last."""

    rows: list[Row]
    after: Any


# ── Periods ─────────────────────────────────────────────────────────────────────────────────────────────────


def period_shown(statistic: str, period: datetime) -> date | datetime:
    """A period as it is shown."""
    return period.replace(tzinfo=UTC) if statistic in BY_THE_CLOCK else period.date()


def period_of(statistic: Statistic, named: str) -> datetime:
    """The period that somebody named by its start. BadRequest: no date, or nothing begins then."""
    remedy = "2026-03-08T06:00Z" if statistic is Statistic.BEHAVIOUR else "2026-03-01"
    try:
        at = datetime.fromisoformat(named)
        at = at.astimezone(UTC).replace(tzinfo=None) if at.tzinfo else at
    except (ValueError, OverflowError):
        raise BadRequest(f"period {named!r} is not a time; use one like {remedy}") from None
    begin = CALENDARS[statistic].begin(at)
    if begin != at:
        why = _BEGINS.get(statistic, "it begins earlier")
        raise BadRequest(f"no {statistic} period begins at {named!r}: {why}; use {begin.isoformat()}")
    return begin


async def recent(pool: asyncpg.Pool, statistic: str, span: DateRange) -> DateRange:
    """``span``; where it has no beginning, that of the last periods up to its end or the newest period."""
    if span.since != date.min or statistic == INSIGHTS:
        return span
    newest: datetime | None = await pool.fetchval(_SQL["newest"], statistic)
    if newest is None:
        return span
    last = min(newest.date(), span.until)
    if statistic == PERFORMANCE:
        return DateRange(max(last, _EARLIEST.date()) - timedelta(days=1), span.until)
    return DateRange(_back(Statistic(statistic), last, _SHOWN[Statistic(statistic)]), span.until)


async def reach(pool: asyncpg.Pool, statistic: Statistic) -> DateRange | None:
    """From the first to the last period of a statistic that have their figures; None: none has."""
    row = await pool.fetchrow(_SQL["reach"], statistic)
    return DateRange(row["first"].date(), row["last"].date()) if row and row["first"] else None


def _back(statistic: Statistic, last: date, count: int) -> date:
    """Where ``count`` periods begin, the last of which holds ``last``; never before year 2."""
    period = CALENDARS[statistic].begin(max(datetime.combine(last, time()), _EARLIEST))
    for _ in range(count - 1):
        period = CALENDARS[statistic].before(max(period, _EARLIEST))
    return period.date()


# ── Figures per period ──────────────────────────────────────────────────────────────────────────────────────


async def rollups(
    pool: asyncpg.Pool,
    statistic: str,
    span: DateRange,
    after: datetime | None,
    limit: int,
    *,
    whole: bool = False,
) -> FiguresPage:
    """Figures per period, oldest first. ``whole``: as stored, with the cohorts' cells; else as shown, a day
    with its trends."""
    rows = await pool.fetch(
        _SQL["rollups"], statistic, span.since, span.until, after or _EVER, limit + 1, whole
    )
    shown = [_rollup(statistic, row) for row in rows[:limit]]
    if statistic == Statistic.DAILY and rows and not whole:
        await _compare(pool, rows[:limit], shown)
    return FiguresPage(shown, rows[limit - 1]["period"] if len(rows) > limit else None)


def _rollup(statistic: str, row: asyncpg.Record) -> Row:
    return {
        "period": period_shown(statistic, row["period"]),
        "revision": row["revision"],
        "final": row["final"],
        "computedAt": row["computed_at"],
        **_kept(row["figures"]),
    }


def _kept(figures: Row) -> Row:
    """Figures of processes stay together: each process would bring columns of its own."""
    return {name: WholeColumn(value) if name == "processes" else value for name, value in figures.items()}


async def _compare(pool: asyncpg.Pool, rows: Sequence[asyncpg.Record], shown: list[Row]) -> None:
    former = await pool.fetch(_SQL["former_days"], rows[0]["period"], rows[-1]["period"])
    days = {row["period"]: row["figures"] for row in former}
    for row, one in zip(rows, shown, strict=True):
        before = [days.get(row["period"] - timedelta(days=7 * week), {}) for week in range(1, 5)]
        one["trends"] = {name: _trend(one[name], [b.get(name) for b in before]) for name in TRENDS}


def _trend(current: float, same_weekdays: Sequence[float | None]) -> Row:
    found = day_trend(current, same_weekdays)
    percent = None if found.percent is None else round(found.percent, 1)
    return {"verdict": str(found.verdict), "baseline": found.baseline, "percent": percent}


async def revisions(pool: asyncpg.Pool, statistic: Statistic, period: datetime) -> list[Row] | None:
    """The figures of a period and what they were before, newest first; None: it has none.

    ``changed`` names what differs from the revision before.
    """
    now = await pool.fetchrow(_SQL["one"], statistic, period)
    if now is None:
        return None
    former = await pool.fetch(_SQL["replaced"], statistic, period)
    rows = [
        {
            "revision": row["revision"],
            "computedAt": row["computed_at"],
            "replacedAt": row.get("replaced_at"),
            "figures": row["figures"],
            "changed": [],
        }
        for row in [now, *former]
    ]
    for row, before in pairwise(rows):
        row["changed"] = _changed(flatten(row["figures"]), flatten(before["figures"]))
    return rows


def _changed(new: Row, old: Row) -> list[str]:
    return sorted(name for name in new.keys() | old.keys() if new.get(name) != old.get(name))


# ── Cohorts ─────────────────────────────────────────────────────────────────────────────────────────────────


async def cohorts(pool: asyncpg.Pool, kind: Statistic, span: DateRange, *, unbounded: bool) -> Row:
    """The cohort table of cohorts that begin in ``span`` (without a beginning: the last twelve)."""
    if span.since == date.min:
        newest: datetime | None = await pool.fetchval(_SQL["newest"], kind)
        if newest:
            span = DateRange(_back(kind, min(newest.date(), span.until), _COHORTS), span.until)
    cells = await (_later_cells if unbounded else _exact_cells)(pool, kind, span)
    return {
        "kind": str(kind),
        "mode": "unbounded" if unbounded else "exact",
        "from": None if span.since == date.min else span.since,
        "to": None if span.until == date.max else span.until,
        **cohort_tables.table(cells),
    }


async def _exact_cells(
    pool: asyncpg.Pool, kind: Statistic, span: DateRange
) -> list[cohort_tables.CohortCell]:
    rows = await pool.fetch(_SQL["cells"], kind, span.since, span.until)
    return [cohort_tables.CohortCell(*row) for row in rows]


async def _later_cells(
    pool: asyncpg.Pool, kind: Statistic, span: DateRange
) -> list[cohort_tables.CohortCell]:
    rows = await pool.fetch(_SQL["last_seen"], kind, span.since, span.until)
    periods = await pool.fetch(_SQL["periods"], kind, span.since)
    return cohort_tables.unbounded(
        kind, [tuple(row) for row in rows], {row["period"]: row["final"] for row in periods}
    )


def cells_of(found: Row) -> list[Row]:
    """A cohort table as one row per cell; what is immature is null."""
    return [
        {"cohort": one["cohort"], "n": n, "size": one["size"], "active": None, "rate": None} | (cell or {})
        for one in found["cohorts"]
        for n, cell in enumerate(one["cells"])
    ]


# ── Days of people ──────────────────────────────────────────────────────────────────────────────────────────


async def days_of_user(
    pool: asyncpg.Pool, user: str, span: DateRange, after: date | None, limit: int
) -> FiguresPage:
    """One user's days, oldest first; a date without anything has no row. Raises UnknownUser."""
    if not await pool.fetchval(_SQL["known_user"], user):
        raise UnknownUser(user)
    rows = await pool.fetch(_SQL["days_of_user"], user, span.since, span.until, after or date.min, limit + 1)
    return FiguresPage(
        [day(row) for row in rows[:limit]], rows[limit - 1]["local_date"] if len(rows) > limit else None
    )


def day(row: asyncpg.Record | Row) -> Row:
    """A user's local day: focus in seconds, by kind of session and by local hour (index 0: from midnight)."""
    return {
        "userId": row["user_id"],
        "localDate": row["local_date"],
        "started": row["started"],
        "focusSeconds": row["focus_seconds"],
        "completed": row["completed"],
        "cancelled": row["cancelled"],
        "abandoned": row["abandoned"],
        "breaks": row["breaks"],
        "tagged": row["tagged"],
        "linked": row["linked"],
        "rated": row["rated"],
        "ratingSum": row["rating_sum"],
        "goalsCreated": row["goals_created"],
        "goalsCompleted": row["goals_completed"],
        "kinds": {
            kind: {"started": started, "completed": completed, "focusSeconds": seconds}
            for kind, (started, completed, seconds) in row["kinds"].items()
        },
        "hours": [row["hours"].get(str(hour), 0) for hour in range(24)],
    }


async def kinds(pool: asyncpg.Pool, span: DateRange, user: str | None = None) -> list[str]:
    """The kinds of sessions of these days."""
    rows = await pool.fetch(_SQL["kinds"], span.since, span.until, user)
    return [row["k"] for row in rows]


# ── Whole tables ────────────────────────────────────────────────────────────────────────────────────────────

_Fetch = Callable[[Any], Awaitable[FiguresPage]]


async def pages(fetch: _Fetch) -> AsyncIterator[list[Row]]:
    """Page after page: ``fetch`` gets what to go on after, None at first."""
    after = None
    while True:
        page = await fetch(after)
        if page.rows:
            yield page.rows
        if page.after is None:
            return
        after = page.after


def all_rollups(
    pool: asyncpg.Pool, statistic: str, span: DateRange, *, whole: bool
) -> AsyncIterator[list[Row]]:
    """Every period of a range."""
    size = _CHUNK_OF_COHORTS if whole and statistic in KINDS else CHUNK
    return pages(lambda after: rollups(pool, statistic, span, after, size, whole=whole))


def all_days_of(pool: asyncpg.Pool, user: str, span: DateRange) -> AsyncIterator[list[Row]]:
    """Every day of one user."""
    return pages(lambda after: days_of_user(pool, user, span, after, CHUNK))


def all_days(pool: asyncpg.Pool, span: DateRange) -> AsyncIterator[list[Row]]:
    """Everybody's days, by date and user."""

    async def fetch(after: tuple[date, str] | None) -> FiguresPage:
        at, user = after or (date.min, "")
        rows = await pool.fetch(_SQL["days"], span.since, span.until, at, user, CHUNK)
        return _full(rows, [day(row) for row in rows], CHUNK, "local_date", "user_id")

    return pages(fetch)


def all_spans(pool: asyncpg.Pool, span: DateRange) -> AsyncIterator[list[Row]]:
    """Everybody's first and last active date, by user."""

    async def fetch(after: tuple[str] | None) -> FiguresPage:
        rows = await pool.fetch(_SQL["spans"], span.since, span.until, (after or ("",))[0], CHUNK)
        shown = [
            {"userId": r["user_id"], "firstDate": r["first_date"], "lastDate": r["last_date"]} for r in rows
        ]
        return _full(rows, shown, CHUNK, "user_id")

    return pages(fetch)


def all_profiles(pool: asyncpg.Pool, span: DateRange) -> AsyncIterator[list[Row]]:
    """What is known of everybody's habits, by user; whole below ``figures``."""

    async def fetch(after: tuple[str] | None) -> FiguresPage:
        rows = await pool.fetch(_SQL["profiles"], span.since, span.until, (after or ("",))[0], CHUNK)
        shown = [
            {
                "userId": row["user_id"],
                "asOf": row["as_of"],
                "computedAt": row["computed_at"],
                "figures": WholeColumn(row["figures"]),
            }
            for row in rows
        ]
        return _full(rows, shown, CHUNK, "user_id")

    return pages(fetch)


def all_revisions(pool: asyncpg.Pool, span: DateRange) -> AsyncIterator[list[Row]]:
    """All former figures. They keep the shape of their statistic, so they stay whole below ``figures``."""

    async def fetch(after: tuple[str, datetime, int] | None) -> FiguresPage:
        at = after or ("", _EVER, 0)
        rows = await pool.fetch(_SQL["revisions"], span.since, span.until, *at, _CHUNK_OF_COHORTS)
        shown = [
            {
                "statistic": row["statistic"],
                "period": text(period_shown(row["statistic"], row["period"])),
                "revision": row["revision"],
                "computedAt": row["computed_at"],
                "replacedAt": row["replaced_at"],
                "figures": WholeColumn(row["figures"]),
            }
            for row in rows
        ]
        return _full(rows, shown, _CHUNK_OF_COHORTS, "statistic", "period", "revision")

    return pages(fetch)


def _full(rows: Sequence[asyncpg.Record], shown: list[Row], size: int, *key: str) -> FiguresPage:
    return FiguresPage(shown, tuple(rows[-1][name] for name in key) if len(rows) == size else None)


# ── How far ─────────────────────────────────────────────────────────────────────────────────────────────────


async def watermarks(pool: asyncpg.Pool) -> Row:
    """Per statistic: the last period that has its row, and the last final one; what must be derived again."""
    rows = await pool.fetch(_SQL["watermarks"], [str(one) for one in Statistic])
    waiting = await pool.fetchrow(_SQL["stale_days"])
    assert waiting
    return {
        "statistics": [
            {
                "statistic": row["statistic"],
                "through": _maybe(row["statistic"], row["through"]),
                "finalThrough": _maybe(row["statistic"], row["final_through"]),
                "working": _maybe(row["statistic"], row["working"]),
                "provisionalPeriods": row["provisional"],
                "stalePeriods": row["stale"],
                "oldestStale": _maybe(row["statistic"], row["oldest_stale"]),
                "updatedAt": row["updated_at"],
            }
            for row in rows
        ],
        "staleDays": {"days": waiting["days"], "users": waiting["users"], "oldest": waiting["oldest"]},
    }


def _maybe(statistic: str, period: datetime | None) -> date | datetime | None:
    return None if period is None else period_shown(statistic, period)
