"""Reads the analytics as rows for the API, the console and exports, in pages.

No connection is held between two pages. Names are camelCase. A period is a date, or for ``behaviour`` and
``performance`` the aware ``datetime`` at which its hours begin. Ranges are dates, both included.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise, product
from typing import Any

import asyncpg

from service.analytics import cohort_tables, withdrawn
from service.analytics.columns import WholeColumn, flatten, text
from service.analytics.significance import DAY_HISTORY_WEEKS, day_trends
from service.analytics.statistic import CALENDARS, Statistic
from service.engine import queries
from service.errors import BadRequest, UnknownUser

_SQL = queries.load(__file__)
CHUNK = 1_000
"""Rows per query, whatever the range."""
_CHUNK_OF_COHORTS = 50
"""The same if a row has the cells of every cohort."""
PERFORMANCE = "performance"
"""Measured figures of the service, per hour."""
STATISTICS = (*(statistic for statistic in Statistic if statistic is not Statistic.CHURN_MODEL), PERFORMANCE)
"""Statistics that are read as rows."""
HOURLY_STATISTICS = frozenset({Statistic.BEHAVIOUR, PERFORMANCE})
"""Statistics whose periods are hours in UTC, not dates."""
COHORT_KINDS = (Statistic.WEEKLY, Statistic.MONTHLY)
"""Statistics that have cohorts."""
_DEFAULT_PERIODS = {Statistic.DAILY: 30, Statistic.WEEKLY: 12, Statistic.MONTHLY: 12, Statistic.BEHAVIOUR: 28}
"""The number of periods without a given range."""
_DEFAULT_COHORTS = 12
TRENDS = ("activeUsers", "newUsers", "totalSessions", "totalFocusTime", "goalsCreated", "goalsCompleted")
"""Daily figures that are compared with the same weekday before."""

Row = dict[str, Any]
_EVER = datetime.min  # noqa: DTZ901 — naive on purpose: wall-clock time
_EARLIEST = datetime(2, 1, 1)  # noqa: DTZ001 — naive too; leaves room to step back from
_START_RULES = {
    Statistic.WEEKLY: "a week begins on a Sunday",
    Statistic.MONTHLY: "a month begins on its first",
}


@dataclass(frozen=True, slots=True)
class DateRange:
    """Dates from ``since`` to ``until``, both included."""

    since: date = date.min
    until: date = date.max


@dataclass(frozen=True, slots=True)
class FiguresPage:
    """Rows, and the position after which the next page begins; None: this is the last page."""

    rows: list[Row]
    after: Any


# ── Periods ─────────────────────────────────────────────────────────────────────────────────────────────────


def period_json(statistic: str, period: datetime) -> date | datetime:
    """A period as the API shows it."""
    return period.replace(tzinfo=UTC) if statistic in HOURLY_STATISTICS else period.date()


def period_of(statistic: Statistic, text_: str) -> datetime:
    """The period that starts at this text. Raises BadRequest: not a date, or no period starts then."""
    remedy = "2026-03-08T06:00Z" if statistic is Statistic.BEHAVIOUR else "2026-03-01"
    try:
        at = datetime.fromisoformat(text_)
        at = at.astimezone(UTC).replace(tzinfo=None) if at.tzinfo else at
    except (ValueError, OverflowError):
        raise BadRequest(f"period {text_!r} is not a time; use one like {remedy}") from None
    begin = CALENDARS[statistic].begin(at)
    if begin != at:
        hint = _START_RULES.get(statistic, "it begins earlier")
        raise BadRequest(f"no {statistic} period begins at {text_!r}: {hint}; use {begin.isoformat()}")
    return begin


async def default_range(pool: asyncpg.Pool, statistic: str, span: DateRange) -> DateRange:
    """``span``; without a beginning, the latest periods up to its end or up to the newest period."""
    if span.since != date.min or statistic == Statistic.INSIGHTS:
        return span
    newest: datetime | None = await pool.fetchval(_SQL["newest"], statistic)
    if newest is None:
        return span
    last = min(newest.date(), span.until)
    if statistic == PERFORMANCE:
        return DateRange(max(last, _EARLIEST.date()) - timedelta(days=1), span.until)
    return DateRange(_back(Statistic(statistic), last, _DEFAULT_PERIODS[Statistic(statistic)]), span.until)


async def reach(pool: asyncpg.Pool, statistic: Statistic) -> DateRange | None:
    """From the first to the last period of a statistic that has figures; None: none has."""
    row = await pool.fetchrow(_SQL["first_and_last"], statistic)
    return DateRange(row["first"].date(), row["last"].date()) if row and row["first"] else None


def _back(statistic: Statistic, last: date, count: int) -> date:
    """The start of ``count`` periods, the last of which contains ``last``; never before year 2."""
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
    """Figures per period, oldest first. ``whole``: as stored, with the cohorts' cells; otherwise without
    them, and each day with its trends, which are never stored and so never stale: at each reading they are
    compared with the stored days. Insights come with the sentences that were withdrawn."""
    rows = await pool.fetch(
        _SQL["rollups"], statistic, span.since, span.until, after or _EVER, limit + 1, whole
    )
    page_rows = [_rollup(statistic, row) for row in rows[:limit]]
    if statistic == Statistic.DAILY and rows and not whole:
        await _add_trends(pool, rows[:limit], page_rows)
    if statistic == Statistic.INSIGHTS:
        await withdrawn.add_withdrawn(pool, rows[:limit], page_rows)
    return FiguresPage(page_rows, rows[limit - 1]["period"] if len(rows) > limit else None)


def _rollup(statistic: str, row: asyncpg.Record) -> Row:
    return {
        "period": period_json(statistic, row["period"]),
        "revision": row["revision"],
        "final": row["final"],
        "computedAt": row["computed_at"],
        **_keep_processes_together(row["figures"]),
    }


def _keep_processes_together(figures: Row) -> Row:
    """Keep the figures of processes in one column: each process would add columns of its own."""
    return {name: WholeColumn(value) if name == "processes" else value for name, value in figures.items()}


async def _add_trends(pool: asyncpg.Pool, rows: Sequence[asyncpg.Record], page_rows: list[Row]) -> None:
    first: datetime = rows[0]["period"] - timedelta(weeks=DAY_HISTORY_WEEKS)
    earlier = await pool.fetch(_SQL["earlier_days"], first, rows[0]["period"], list(TRENDS))
    days: dict[datetime, Row] = {row["period"]: row["figures"] for row in earlier}
    shown = {row["period"]: page_row for row, page_row in zip(rows, page_rows, strict=True)}
    days |= shown
    trends = await asyncio.to_thread(_trends, days, first, rows[-1]["period"])  # of 1,000 days: 0.1 s
    for day, page_row in shown.items():
        page_row["trends"] = {name: trends[name, day] for name in TRENDS}


def _trends(days: Mapping[datetime, Row], first: datetime, last: datetime) -> dict[tuple[str, datetime], Row]:
    """The trends of all days from ``first`` to ``last``, by figure and day."""
    dates = [first + timedelta(days=n) for n in range((last - first).days + 1)]
    trends: dict[tuple[str, datetime], Row] = {}
    for name, weekday in product(TRENDS, range(7)):
        same = dates[weekday::7]
        for day, trend in zip(same, day_trends([days.get(d, {}).get(name) for d in same]), strict=True):
            percent = None if trend.percent is None else round(trend.percent, 1)
            trends[name, day] = {
                "verdict": str(trend.verdict),
                "baseline": trend.baseline,
                "percent": percent,
            }
    return trends


async def revisions(pool: asyncpg.Pool, statistic: Statistic, period: datetime) -> list[Row] | None:
    """The figures of a period and their earlier revisions, newest first; None: it has none.

    ``changed``: the names of the figures that differ from the previous revision.
    """
    current = await pool.fetchrow(_SQL["figures_of_period"], statistic, period)
    if current is None:
        return None
    earlier = await pool.fetch(_SQL["earlier_figures"], statistic, period)
    rows = [
        {
            "revision": row["revision"],
            "computedAt": row["computed_at"],
            "replacedAt": row.get("replaced_at"),
            "figures": row["figures"],
            "changed": [],
        }
        for row in [current, *earlier]
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
            span = DateRange(_back(kind, min(newest.date(), span.until), _DEFAULT_COHORTS), span.until)
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


def cells_of(table: Row) -> list[Row]:
    """A cohort table as one row per cell; immature cells are null."""
    return [
        {"cohort": row["cohort"], "n": n, "size": row["size"], "active": None, "rate": None, "final": None}
        | (cell or {})
        for row in table["cohorts"]
        for n, cell in enumerate(row["cells"])
    ]


# ── Days of people ──────────────────────────────────────────────────────────────────────────────────────────


async def days_of_user(
    pool: asyncpg.Pool, user: str, span: DateRange, after: date | None, limit: int
) -> FiguresPage:
    """One user's days, oldest first; dates without any activity have no row. Raises UnknownUser."""
    if not await pool.fetchval(_SQL["user_exists"], user):
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
    """All pages: ``fetch`` gets the position after which the page begins, None at first."""
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
    size = _CHUNK_OF_COHORTS if whole and statistic in COHORT_KINDS else CHUNK
    return pages(lambda after: rollups(pool, statistic, span, after, size, whole=whole))


def all_days_of(pool: asyncpg.Pool, user: str, span: DateRange) -> AsyncIterator[list[Row]]:
    """Every day of one user."""
    return pages(lambda after: days_of_user(pool, user, span, after, CHUNK))


def all_days(pool: asyncpg.Pool, span: DateRange) -> AsyncIterator[list[Row]]:
    """Everybody's days, by date and user."""

    async def fetch(after: tuple[date, str] | None) -> FiguresPage:
        at, user = after or (date.min, "")
        rows = await pool.fetch(_SQL["days"], span.since, span.until, at, user, CHUNK)
        return _page(rows, [day(row) for row in rows], CHUNK, "local_date", "user_id")

    return pages(fetch)


def all_spans(pool: asyncpg.Pool, span: DateRange) -> AsyncIterator[list[Row]]:
    """Everybody's first and last active date, by user."""

    async def fetch(after: tuple[str] | None) -> FiguresPage:
        rows = await pool.fetch(_SQL["spans"], span.since, span.until, (after or ("",))[0], CHUNK)
        page_rows = [
            {"userId": r["user_id"], "firstDate": r["first_date"], "lastDate": r["last_date"]} for r in rows
        ]
        return _page(rows, page_rows, CHUNK, "user_id")

    return pages(fetch)


def all_profiles(pool: asyncpg.Pool, span: DateRange) -> AsyncIterator[list[Row]]:
    """All profiles, by user, as one object in ``figures``."""

    async def fetch(after: tuple[str] | None) -> FiguresPage:
        rows = await pool.fetch(_SQL["profiles"], span.since, span.until, (after or ("",))[0], CHUNK)
        page_rows = [
            {
                "userId": row["user_id"],
                "asOf": row["as_of"],
                "computedAt": row["computed_at"],
                "figures": WholeColumn(row["figures"]),
            }
            for row in rows
        ]
        return _page(rows, page_rows, CHUNK, "user_id")

    return pages(fetch)


def all_revisions(pool: asyncpg.Pool, span: DateRange) -> AsyncIterator[list[Row]]:
    """All earlier revisions, each as one object in ``figures``: every statistic has columns of its own."""

    async def fetch(after: tuple[str, datetime, int] | None) -> FiguresPage:
        at = after or ("", _EVER, 0)
        rows = await pool.fetch(_SQL["revisions"], span.since, span.until, *at, _CHUNK_OF_COHORTS)
        page_rows = [
            {
                "statistic": row["statistic"],
                "period": text(period_json(row["statistic"], row["period"])),
                "revision": row["revision"],
                "computedAt": row["computed_at"],
                "replacedAt": row["replaced_at"],
                "figures": WholeColumn(row["figures"]),
            }
            for row in rows
        ]
        return _page(rows, page_rows, _CHUNK_OF_COHORTS, "statistic", "period", "revision")

    return pages(fetch)


def _page(rows: Sequence[asyncpg.Record], page_rows: list[Row], size: int, *key: str) -> FiguresPage:
    return FiguresPage(page_rows, tuple(rows[-1][name] for name in key) if len(rows) == size else None)


# ── Progress ────────────────────────────────────────────────────────────────────────────────────────────────


async def watermarks(pool: asyncpg.Pool) -> Row:
    """Per statistic: the last derived and the last final period, and how much must be derived again."""
    rows = await pool.fetch(_SQL["watermarks"], [str(statistic) for statistic in Statistic])
    stale_days = await pool.fetchrow(_SQL["stale_days"])
    assert stale_days
    return {
        "statistics": [
            {
                "statistic": row["statistic"],
                "through": _optional_period(row["statistic"], row["through"]),
                "finalThrough": _optional_period(row["statistic"], row["final_through"]),
                "working": _optional_period(row["statistic"], row["working"]),
                "provisionalPeriods": row["provisional"],
                "stalePeriods": row["stale"],
                "oldestStale": _optional_period(row["statistic"], row["oldest_stale"]),
                "updatedAt": row["updated_at"],
            }
            for row in rows
        ],
        "staleDays": {
            "days": stale_days["days"],
            "users": stale_days["users"],
            "oldest": stale_days["oldest"],
        },
    }


def _optional_period(statistic: str, period: datetime | None) -> date | datetime | None:
    return None if period is None else period_json(statistic, period)
