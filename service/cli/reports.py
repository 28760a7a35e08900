"""The analytics on the command line: tables for people, files for programs."""

import asyncio
import sys
from argparse import ArgumentTypeError, Namespace
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import date
from pathlib import Path
from typing import Any, BinaryIO

import asyncpg
from rich.console import Console
from rich.table import Table

from service.analytics import export, figures
from service.analytics.columns import flatten, text
from service.analytics.export import Export, Format
from service.analytics.figures import DateRange, Row
from service.analytics.statistic import Statistic
from service.engine.database import open_pool
from service.engine.schema import require_readable
from service.errors import BadRequest, ConfigurationError
from service.settings import Settings
from service.setup.databases import find_databases

SHOWN = "table"
VIEWS = (*figures.STATISTICS, "retention", "watermarks")
"""What ``analytics`` shows."""

_Column = tuple[str, str]
_PERIOD: list[_Column] = [("period", "period"), ("state", "state")]
_TABLES: dict[str, list[_Column]] = {
    Statistic.DAILY: [
        *_PERIOD,
        *(("active", "activeUsers"), ("new", "newUsers"), ("sessions", "totalSessions")),
        *(("minutes", "totalFocusTime"), ("completed", "sessionCompletionRate"), ("DAU", "dau")),
        *(("WAU", "wau"), ("MAU", "mau"), ("stickiness", "stickiness"), ("trends", "told")),
    ],
    Statistic.WEEKLY: [
        *_PERIOD,
        *(("active", "activeUsers"), ("new", "lifecycle.new"), ("returning", "lifecycle.returning")),
        *(("resurrecting", "lifecycle.resurrecting"), ("dormant", "lifecycle.dormant")),
        *(("sessions", "totalSessions"), ("minutes", "totalFocusTime"), ("D1", "retentionData.d1.rate")),
        *(("D7", "retentionData.d7.rate"), ("D30", "retentionData.d30.rate")),
    ],
    Statistic.MONTHLY: [
        *_PERIOD,
        *(("users", "totalUsers"), ("active", "activeUsers"), ("new", "newUsers")),
        *(("power", "userSegments.power"), ("at risk", "userSegments.atRisk")),
        *(("churned", "userSegments.churned"), ("churn", "churnAnalysis.rate")),
        *(("sessions", "totalSessions"), ("per user", "averageSessionsPerUser")),
        *(("goals created", "goalsCreated"), ("goals completed", "goalsCompleted")),
    ],
    Statistic.BEHAVIOUR: [
        *_PERIOD,
        *(("users", "users"), ("started", "sessionsStarted"), ("completed", "sessionsCompleted")),
        *(("minutes each", "averageSessionLength"), ("cancelled", "cancelledRate")),
        *(("rating", "averageRating"), ("ratings", "ratings")),
    ],
    figures.INSIGHTS: [*_PERIOD, ("strength", "strength"), ("insight", "text")],
    figures.PERFORMANCE: [
        *_PERIOD,
        *(("requests", "requests"), ("ms each", "averageResponseTime"), ("errors", "errorRate")),
        *(("mails sent", "mail.sent"), ("mails failed", "mail.failed")),
    ],
}
_SHARES = ("Rate", "rate", "stickiness")
_WORDS = {
    "activeUsers": "active users",
    "newUsers": "new users",
    "totalSessions": "sessions",
    "totalFocusTime": "minutes",
    "goalsCreated": "goals created",
    "goalsCompleted": "goals completed",
}


def day(word: str) -> date:
    """A date of the command line."""
    try:
        return date.fromisoformat(word)
    except ValueError:
        raise ArgumentTypeError(f"{word!r} is not a date; use one like 2026-03-01") from None


async def show(settings: Settings, options: Namespace, out: Console) -> None:
    """``analytics VIEW``: a table for people, or what the API would answer."""
    span = _span(options)
    form = "json" if options.json else options.format
    async with _reading(settings) as pool:
        if options.view == "watermarks":
            await _show_watermarks(pool, form, options, out)
        elif options.view == "retention":
            await _show_retention(pool, span, form, options, out)
        else:
            span = await figures.recent(pool, options.view, span)
            wanted = export.statistic(pool, options.view, span)
            if form == SHOWN:
                await _show_periods(wanted, options.view, out)
            else:
                await _write(wanted, Format(form), options.out)


async def write_table(settings: Settings, options: Namespace) -> None:
    """``export TABLE``: a whole table as a file."""
    async with _reading(settings) as pool:
        wanted = export.table(pool, options.table, _span(options))
        await _write(wanted, Format.JSON if options.json else Format(options.format), options.out)


def _span(options: Namespace) -> DateRange:
    since, until = options.since or date.min, options.until or date.max
    if since > until:
        raise BadRequest(f"--from ({since}) lies after --to ({until}); exchange them")
    return DateRange(since, until)


@asynccontextmanager
async def _reading(settings: Settings) -> AsyncIterator[asyncpg.Pool]:
    """A small pool on our database; nothing else is opened."""
    databases = await find_databases(settings)
    pool = await open_pool(databases.ours, max_size=2)
    try:
        await require_readable(pool)
        yield pool
    except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError):
        raise ConfigurationError(
            ["the database has no such tables yet: run python -m service migrate"]
        ) from None
    finally:
        await pool.close()


# ── Files ───────────────────────────────────────────────────────────────────────────────────────────────────


async def _write(wanted: Export, form: Format, target: Path | None) -> None:
    """Into a file, under a passing name until it is whole; or to where the output goes."""
    if target is None:
        if form is Format.PARQUET and sys.stdout.isatty():
            raise BadRequest("parquet is not for a terminal; name a file with --out")
        await _pour(wanted, form, sys.stdout.buffer)
        return
    passing = target.with_name(f"{target.name}.part")
    try:
        with passing.open("wb") as file:
            await _pour(wanted, form, file)
        await asyncio.to_thread(passing.replace, target)
    except OSError as error:
        raise BadRequest(f"--out {target}: {error.strerror}") from None
    finally:
        passing.unlink(missing_ok=True)


async def _pour(wanted: Export, form: Format, file: BinaryIO) -> None:
    async for piece in export.written(wanted, form):
        await asyncio.to_thread(file.write, piece)
    file.flush()


# ── Tables ──────────────────────────────────────────────────────────────────────────────────────────────────


async def _show_periods(wanted: Export, view: str, out: Console) -> None:
    rows = [one async for page in wanted.pages() for row in page for one in _described(row)]
    _print(view, _TABLES[view], rows, out)


def _described(row: Row) -> list[Row]:
    """A row of figures as one line of a table, one of insights as a line for each sentence."""
    state = "final" if row["final"] else "provisional"
    told = ", ".join(_told(name, one) for name, one in row.get("trends", {}).items() if _worth(one))
    revised = f", revised {row['revision'] - 1}×" if row["revision"] > 1 else ""
    line = flatten(row) | {"state": state + revised, "told": told}
    return [line | one for one in row["insights"]] if "insights" in row else [line]


def _worth(trend: Row) -> bool:
    return trend["verdict"] in {"trend", "significant"}


def _told(name: str, trend: Row) -> str:
    strong = "!" if trend["verdict"] == "significant" else ""
    return f"{_WORDS[name]} {trend['percent']:+.0f} %{strong}"


async def _show_retention(
    pool: asyncpg.Pool, span: DateRange, form: str, options: Namespace, out: Console
) -> None:
    kind, unbounded = Statistic(options.kind), options.mode == "unbounded"
    found = await figures.cohorts(pool, kind, span, unbounded=unbounded)
    if form == SHOWN:
        width = len(found["averages"])
        columns = [("cohort", "cohort"), ("size", "size"), *((str(n), str(n)) for n in range(width))]
        rows = [_cohort(one["cohort"], one["size"], one["cells"]) for one in found["cohorts"]]
        if rows:
            rows.append(_cohort("all, by size", None, found["averages"]))
        _print(f"Retention, {kind}, {found['mode']}", columns, rows, out)
    elif form == Format.JSON:
        await _plain(found, options.out, out)
    else:
        await _write(export.cohorts(found), Format(form), options.out)


def _cohort(name: Any, size: int | None, cells: Iterable[Row | None]) -> Row:
    shares = {str(n): _cell("rate", (cell or {}).get("rate")) for n, cell in enumerate(cells)}
    return {"cohort": name, "size": size, **shares}


async def _show_watermarks(pool: asyncpg.Pool, form: str, options: Namespace, out: Console) -> None:
    found = await figures.watermarks(pool)
    if form == Format.JSON:
        await _plain(found, options.out, out)
    elif form == SHOWN:
        columns = [
            *(("statistic", "statistic"), ("through", "through"), ("final through", "finalThrough")),
            *(("provisional", "provisionalPeriods"), ("stale", "stalePeriods"), ("working", "working")),
        ]
        _print("Watermarks", columns, found["statistics"], out)
        waiting = found["staleDays"]
        out.print(f"{waiting['days']} days of {waiting['users']} people wait to be rebuilt")
    else:
        raise BadRequest("watermarks are shown as table or json")


async def _plain(found: Row, target: Path | None, out: Console) -> None:
    if target is None:
        out.print_json(export.dumps(found))
    else:
        await asyncio.to_thread(target.write_text, export.dumps(found), "utf-8")


def _print(title: str, columns: list[_Column], rows: list[Row], out: Console) -> None:
    if not rows:
        out.print(f"{title}: nothing yet; see python -m service analytics watermarks", highlight=False)
        return
    table = Table(title=title, title_justify="left", box=None)
    for heading, name in columns:
        table.add_column(heading, justify="right" if _is_number(name, rows) else "left")
    for row in rows:
        table.add_row(*(_cell(name, row.get(name)) for _, name in columns))
    out.print(table)


def _is_number(name: str, rows: list[Row]) -> bool:
    return name.isdigit() or any(isinstance(row.get(name), int | float) for row in rows)


def _cell(name: str, value: Any) -> str:
    if value is None:
        return "–"
    if name.endswith(_SHARES) and isinstance(value, int | float):
        return f"{100 * value:.0f} %"
    if isinstance(value, float):
        return f"{value:,.1f}"
    return f"{value:,}" if isinstance(value, int) else text(value)
