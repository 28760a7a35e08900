"""Exports analytics as JSON, CSV or Parquet, page by page, so that memory does not grow with the range."""

import asyncio
import csv
import io
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import asyncpg

from service.analytics import figures
from service.analytics.columns import Column, Columns, ColumnType, arrange, csv_cell, text
from service.analytics.figures import DateRange, Row
from service.errors import BadRequest


class Format(StrEnum):
    """The format of an export."""

    JSON = "json"
    CSV = "csv"
    PARQUET = "parquet"


@dataclass(frozen=True, slots=True)
class Export:
    """The file's name (without extension), its pages, and its columns, which JSON does not need."""

    name: str
    pages: Callable[[], AsyncIterator[list[Row]]]
    columns: Callable[[], Awaitable[list[Column]]]


TABLES = ("user_day", "user_span", "user_profile", *figures.STATISTICS, "revisions")
"""The names of tables that can be exported."""


def table(pool: asyncpg.Pool, name: str, span: DateRange) -> Export:
    """A complete table, as stored. Raises BadRequest when there is no table of this name."""
    if name == "user_day":
        return Export(name, lambda: figures.all_days(pool, span), lambda: day_columns(pool, span))
    if name == "user_span":
        return Export(name, lambda: figures.all_spans(pool, span), _fixed(_SPAN))
    if name == "user_profile":
        return Export(name, lambda: figures.all_profiles(pool, span), _fixed(_PROFILE))
    if name == "revisions":
        return Export(name, lambda: figures.all_revisions(pool, span), _fixed(_REVISION))
    if name not in TABLES:
        raise BadRequest(f"no table {name!r}; use one of {', '.join(TABLES)}")
    return statistic(pool, name, span, whole=True)


def statistic(pool: asyncpg.Pool, name: str, span: DateRange, *, whole: bool = False) -> Export:
    """Figures per period. ``whole``: as stored, with the cells of the cohorts."""
    return _with_figure_columns(name, lambda: figures.all_rollups(pool, name, span, whole=whole))


def days_of_user(pool: asyncpg.Pool, user: str, span: DateRange) -> Export:
    """One user's days."""
    return Export(
        "days", lambda: figures.all_days_of(pool, user, span), lambda: day_columns(pool, span, user)
    )


def cohorts(table: Row) -> Export:
    """A cohort table, one row per cell."""
    return Export(
        f"retention_{table['kind']}_{table['mode']}",
        lambda: _single_page(figures.cells_of(table)),
        _fixed(_CELL),
    )


_SPAN = [
    Column("userId", ColumnType.TEXT),
    Column("firstDate", ColumnType.DATE),
    Column("lastDate", ColumnType.DATE),
]
_PROFILE = [
    Column("userId", ColumnType.TEXT),
    Column("asOf", ColumnType.DATE),
    Column("computedAt", ColumnType.INSTANT),
    Column("figures", ColumnType.TEXT),
]
_REVISION = [
    Column("statistic", ColumnType.TEXT),
    Column("period", ColumnType.TEXT),
    Column("revision", ColumnType.INTEGER),
    Column("computedAt", ColumnType.INSTANT),
    Column("replacedAt", ColumnType.INSTANT),
    Column("figures", ColumnType.TEXT),
]
_STATE = (
    Column("revision", ColumnType.INTEGER),
    Column("final", ColumnType.BOOLEAN),
    Column("computedAt", ColumnType.INSTANT),
)
_CELL = [
    Column("cohort", ColumnType.DATE),
    Column("n", ColumnType.INTEGER),
    Column("size", ColumnType.INTEGER),
    Column("active", ColumnType.INTEGER),
    Column("rate", ColumnType.NUMBER),
    Column("final", ColumnType.BOOLEAN),
]
_COUNTS = {
    *("started", "focus_seconds", "completed", "cancelled", "abandoned", "breaks", "tagged", "linked"),
    *("rated", "rating_sum", "goals_created", "goals_completed"),
}


async def day_columns(pool: asyncpg.Pool, span: DateRange, user: str | None = None) -> list[Column]:
    """The columns of days: those of every day, and three for each kind of session that occurs."""
    kinds = {kind: [0, 0, 0] for kind in await figures.kinds(pool, span, user)}
    counts = dict.fromkeys(_COUNTS, 0)
    sample = {"user_id": "", "local_date": span.since, "kinds": kinds, "hours": {}, **counts}
    columns = Columns()
    columns.add([figures.day(sample)])
    return columns.as_list()


def _fixed(columns: list[Column]) -> Callable[[], Awaitable[list[Column]]]:
    async def get_columns() -> list[Column]:
        return columns

    return get_columns


async def _single_page(rows: list[Row]) -> AsyncIterator[list[Row]]:
    yield rows


def _with_figure_columns(name: str, pages: Callable[[], AsyncIterator[list[Row]]]) -> Export:
    """Figures have no fixed columns, so they are read once to collect these, which is cheap: they are few."""
    period = ColumnType.INSTANT if name in figures.HOURLY_STATISTICS else ColumnType.DATE

    async def columns() -> list[Column]:
        collected = Columns(Column("period", period), *_STATE)
        async for rows in pages():
            await asyncio.to_thread(collected.add, rows)
        return collected.as_list()

    return Export(name, pages, columns)


# ── Writing ─────────────────────────────────────────────────────────────────────────────────────────────────


def encode(export: Export, form: Format) -> AsyncIterator[bytes]:
    """The bytes of the file, piece by piece; encoded in a thread, not in the event loop."""
    return {Format.JSON: _json, Format.CSV: _csv, Format.PARQUET: _parquet}[form](export)


def dumps(value: Any) -> str:
    """JSON as the API writes it: dates and times as text."""
    return json.dumps(value, default=text, ensure_ascii=False, separators=(",", ":"))


async def _json(export: Export) -> AsyncIterator[bytes]:
    before = '{"success":true,"data":['
    async for rows in export.pages():
        yield (before + (await asyncio.to_thread(dumps, rows))[1:-1]).encode()
        before = ","
    yield b"]}" if before == "," else f"{before}]}}".encode()


async def _csv(export: Export) -> AsyncIterator[bytes]:
    columns = await export.columns()
    # Sent with the first page, if there is one.
    head = _csv_lines([[csv_cell(column.name) for column in columns]])
    async for rows in export.pages():
        yield head + await asyncio.to_thread(_csv_page, columns, rows)
        head = b""
    if head:
        yield head


def _csv_page(columns: list[Column], rows: list[Row]) -> bytes:
    return _csv_lines([[csv_cell(value) for value in values] for values in arrange(columns, rows)])


def _csv_lines(rows: list[list[str]]) -> bytes:
    text_ = io.StringIO()
    csv.writer(text_).writerows(rows)
    return text_.getvalue().encode()


async def _parquet(export: Export) -> AsyncIterator[bytes]:
    columns = await export.columns()
    writer = await asyncio.to_thread(_writer, columns)
    async for rows in export.pages():
        arranged = await asyncio.to_thread(arrange, columns, rows)
        if piece := await asyncio.to_thread(writer.write, arranged):
            yield piece
    yield await asyncio.to_thread(writer.close)


def _writer(columns: list[Column]) -> Any:
    from service.analytics.export_parquet import ExportWriter  # noqa: PLC0415 — importing it takes half a second

    return ExportWriter(columns)
