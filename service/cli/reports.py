"""Local analytics commands: tables for people, files for programs."""

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
from service.cli.phrases import withdrawn_text
from service.engine.database import open_pool
from service.engine.schema import require_readable
from service.errors import BadRequest, ConfigurationError
from service.settings import Settings
from service.setup.databases import find_databases

TABLE_FORMAT = "table"
VIEWS = (*figures.STATISTICS, "retention", "watermarks")
"""The views of ``analytics``."""

_Column = tuple[str, str]
_PERIOD: list[_Column] = [("period", "period"), ("state", "state")]
_TABLES: dict[str, list[_Column]] = {
    Statistic.DAILY: [
        *_PERIOD,
        *(("active", "activeUsers"), ("new", "newUsers"), ("sessions", "totalSessions")),
        *(("minutes", "totalFocusTime"), ("completed", "sessionCompletionRate"), ("DAU", "dau")),
        *(("WAU", "wau"), ("MAU", "mau"), ("stickiness", "stickiness"), ("trends", "trendText")),
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
    Statistic.INSIGHTS: [*_PERIOD, ("strength", "strength"), ("insight", "text")],
    figures.PERFORMANCE: [
        *_PERIOD,
        *(("requests", "requests"), ("ms each", "averageResponseTime"), ("errors", "errorRate")),
        *(("mails sent", "mail.sent"), ("mails failed", "mail.failed")),
    ],
}
_PERCENT_SUFFIXES = ("Rate", "rate", "stickiness")
_FIGURE_NAMES = {
    "activeUsers": "active users",
    "newUsers": "new users",
    "totalSessions": "sessions",
    "totalFocusTime": "minutes",
    "goalsCreated": "goals created",
    "goalsCompleted": "goals completed",
}


def day(word: str) -> date:
    """A date argument."""
    try:
        return date.fromisoformat(word)
    except ValueError:
        raise ArgumentTypeError(f"{word!r} is not a date; use one like 2026-03-01") from None


async def show(settings: Settings, options: Namespace, out: Console) -> None:
    """``analytics VIEW``: print a table, or the same data as the API."""
    span = _span(options)
    form = "json" if options.json else options.format
    async with _readable_pool(settings) as pool:
        if options.view == "watermarks":
            await _show_watermarks(pool, form, options, out)
        elif options.view == "retention":
            await _show_retention(pool, span, form, options, out)
        else:
            span = await figures.default_range(pool, options.view, span)
            data = export.statistic(pool, options.view, span)
            if form == TABLE_FORMAT:
                await _show_periods(data, options.view, out)
            else:
                await _write(data, Format(form), options.out)


async def write_table(settings: Settings, options: Namespace) -> None:
    """``export TABLE``: write a whole table as a file."""
    async with _readable_pool(settings) as pool:
        data = export.table(pool, options.table, _span(options))
        await _write(data, Format.JSON if options.json else Format(options.format), options.out)


def _span(options: Namespace) -> DateRange:
    since, until = options.since or date.min, options.until or date.max
    if since > until:
        raise BadRequest(f"--from ({since}) lies after --to ({until}); exchange them")
    return DateRange(since, until)


@asynccontextmanager
async def _readable_pool(settings: Settings) -> AsyncIterator[asyncpg.Pool]:
    """A small connection pool on our database. Raises ConfigurationError if there is no schema."""
    databases = await find_databases(settings)
    pool = await open_pool(databases.service, max_size=2)
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


async def _write(data: Export, form: Format, target: Path | None) -> None:
    """Write to standard output, or to a file that gets its name when it is complete."""
    if target is None:
        if form is Format.PARQUET and sys.stdout.isatty():
            raise BadRequest("parquet is not for a terminal; name a file with --out")
        await _write_chunks(data, form, sys.stdout.buffer)
        return
    temporary = target.with_name(f"{target.name}.part")
    try:
        with temporary.open("wb") as file:
            await _write_chunks(data, form, file)
        await asyncio.to_thread(temporary.replace, target)
    except OSError as error:
        raise BadRequest(f"--out {target}: {error.strerror}") from None
    finally:
        temporary.unlink(missing_ok=True)


async def _write_chunks(data: Export, form: Format, file: BinaryIO) -> None:
    async for chunk in export.encode(data, form):
        await asyncio.to_thread(file.write, chunk)
    file.flush()


# ── Tables ──────────────────────────────────────────────────────────────────────────────────────────────────


async def _show_periods(data: Export, view: str, out: Console) -> None:
    rows = [line async for page in data.pages() for row in page for line in _table_rows(row)]
    _print(view, _TABLES[view], rows, out)


def _table_rows(row: Row) -> list[Row]:
    """A row of figures as one row of a table; insights as one row for each sentence."""
    state = "final" if row["final"] else "provisional"
    trends = ", ".join(
        _trend_text(name, one) for name, one in row.get("trends", {}).items() if _is_notable(one)
    )
    revised = f", revised {row['revision'] - 1}×" if row["revision"] > 1 else ""
    line = flatten(row) | {"state": state + revised, "trendText": trends}
    if "insights" not in row:
        return [line]
    told = [line | one for one in row["insights"]]
    return told + [line | {"state": "withdrawn", "text": withdrawn_text(one)} for one in row["withdrawn"]]


def _is_notable(trend: Row) -> bool:
    return trend["verdict"] in {"trend", "significant"}


def _trend_text(name: str, trend: Row) -> str:
    strong = "!" if trend["verdict"] == "significant" else ""
    return f"{_FIGURE_NAMES[name]} {trend['percent']:+.0f} %{strong}"


async def _show_retention(
    pool: asyncpg.Pool, span: DateRange, form: str, options: Namespace, out: Console
) -> None:
    kind, unbounded = Statistic(options.kind), options.mode == "unbounded"
    retention = await figures.cohorts(pool, kind, span, unbounded=unbounded)
    if form == TABLE_FORMAT:
        width = len(retention["averages"])
        columns = [("cohort", "cohort"), ("size", "size"), *((str(n), str(n)) for n in range(width))]
        rows = [_cohort(cohort["cohort"], cohort["size"], cohort["cells"]) for cohort in retention["cohorts"]]
        if rows:
            rows.append(_cohort("all, by size", None, retention["averages"]))
        _print(f"Retention, {kind}, {retention['mode']}", columns, rows, out)
    elif form == Format.JSON:
        await _write_json(retention, options.out, out)
    else:
        await _write(export.cohorts(retention), Format(form), options.out)


def _cohort(name: Any, size: int | None, cells: Iterable[Row | None]) -> Row:
    shares = {str(n): _cell("rate", (cell or {}).get("rate")) for n, cell in enumerate(cells)}
    return {"cohort": name, "size": size, **shares}


async def _show_watermarks(pool: asyncpg.Pool, form: str, options: Namespace, out: Console) -> None:
    watermarks = await figures.watermarks(pool)
    if form == Format.JSON:
        await _write_json(watermarks, options.out, out)
    elif form == TABLE_FORMAT:
        columns = [
            *(("statistic", "statistic"), ("through", "through"), ("final through", "finalThrough")),
            *(("provisional", "provisionalPeriods"), ("stale", "stalePeriods"), ("working", "working")),
        ]
        _print("Watermarks", columns, watermarks["statistics"], out)
        stale_days = watermarks["staleDays"]
        out.print(f"{stale_days['days']} days of {stale_days['users']} people wait to be rebuilt")
    else:
        raise BadRequest("watermarks are shown as table or json")


async def _write_json(data: Row, target: Path | None, out: Console) -> None:
    if target is None:
        out.print_json(export.dumps(data))
    else:
        await asyncio.to_thread(target.write_text, export.dumps(data), "utf-8")


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
    if name.endswith(_PERCENT_SUFFIXES) and isinstance(value, int | float):
        return f"{100 * value:.0f} %"
    if isinstance(value, float):
        return f"{value:,.1f}"
    return f"{value:,}" if isinstance(value, int) else text(value)
