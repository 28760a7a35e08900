"""/api/admin/analytics: figures by period, cohorts, users' days, revisions, and exports of whole tables."""

from collections.abc import AsyncIterator
from datetime import date, datetime
from typing import Any

import structlog
from aiohttp import web

from service.analytics import export, figures
from service.analytics.export import Export, Format
from service.analytics.figures import DateRange
from service.analytics.statistic import Statistic
from service.engine.database_errors import FAILURES
from service.errors import BadRequest, ServiceError
from service.web import etag, params
from service.web.auth import HttpRefusal, add_security_headers
from service.web.deps import DEPS

log = structlog.get_logger()

RANGE = frozenset({"from", "to", "format"})
_PAGE = frozenset({"limit", "cursor"})
_TYPES = {
    Format.JSON: "application/json",
    Format.CSV: "text/csv",
    Format.PARQUET: "application/vnd.apache.parquet",
}
_LIMIT = 100

routes = web.RouteTableDef()


@routes.get("/api/admin/analytics/daily")
async def daily(request: web.Request) -> web.StreamResponse:
    """Figures of days in the service's zone, with trends."""
    return await _rollups(request, Statistic.DAILY)


@routes.get("/api/admin/analytics/weekly")
async def weekly(request: web.Request) -> web.StreamResponse:
    """Figures of weeks, which begin on Sunday."""
    return await _rollups(request, Statistic.WEEKLY)


@routes.get("/api/admin/analytics/monthly")
async def monthly(request: web.Request) -> web.StreamResponse:
    """Figures of calendar months."""
    return await _rollups(request, Statistic.MONTHLY)


@routes.get("/api/admin/analytics/behaviour")
async def behaviour(request: web.Request) -> web.StreamResponse:
    """Figures of windows of six hours, UTC."""
    return await _rollups(request, Statistic.BEHAVIOUR)


@routes.get("/api/admin/analytics/performance")
async def performance(request: web.Request) -> web.StreamResponse:
    """The service's own performance by hour, UTC."""
    return await _rollups(request, figures.PERFORMANCE)


@routes.get("/api/admin/analytics/insights")
async def insights(request: web.Request) -> web.StreamResponse:
    """Insights in words, by period."""
    return await _rollups(request, Statistic.INSIGHTS)


async def _rollups(request: web.Request, statistic: str) -> web.StreamResponse:
    params.check_parameters(request, RANGE | _PAGE)
    pool, file_format = request.app[DEPS].pool, format_of(request)
    dates = await figures.default_range(pool, statistic, date_range(request))
    if file_format is not Format.JSON:
        _refuse_paging(request, file_format)
        return await send_file(request, export.statistic(pool, statistic, dates), file_format)
    page = await figures.rollups(pool, statistic, dates, _cursor(request), _limit(request))
    return _answer(request, {**_range_fields(dates), "data": page.rows, "next": _next(page.after)})


@routes.get("/api/admin/analytics/retention")
async def retention(request: web.Request) -> web.StreamResponse:
    """The cohort table."""
    params.check_parameters(request, RANGE | {"kind", "mode"})
    file_format = format_of(request)
    kind = params.one_of(request, "kind", frozenset(figures.COHORT_KINDS)) or Statistic.WEEKLY
    mode = params.one_of(request, "mode", frozenset({"exact", "unbounded"}))
    cohorts = await figures.cohorts(
        request.app[DEPS].pool, Statistic(kind), date_range(request), unbounded=mode == "unbounded"
    )
    if file_format is not Format.JSON:
        return await send_file(request, export.cohorts(cohorts), file_format)
    return _answer(request, {"data": cohorts})


@routes.get("/api/admin/analytics/users/{id}/days")
async def days(request: web.Request) -> web.StreamResponse:
    """One user's days, by the user's local date."""
    params.check_parameters(request, RANGE | _PAGE)
    pool, user = request.app[DEPS].pool, request.match_info["id"]
    file_format, dates = format_of(request), date_range(request)
    if file_format is not Format.JSON:
        _refuse_paging(request, file_format)
        return await send_file(request, export.days_of_user(pool, user, dates), file_format)
    cursor = _cursor(request)
    page = await figures.days_of_user(pool, user, dates, cursor.date() if cursor else None, _limit(request))
    return _answer(request, {**_range_fields(dates), "data": page.rows, "next": _next(page.after)})


@routes.get("/api/admin/analytics/{statistic}/{period}/revisions")
async def revisions(request: web.Request) -> web.StreamResponse:
    """Earlier figures of one period, newest first."""
    params.check_parameters(request, frozenset())
    name = request.match_info["statistic"]
    if name not in set(Statistic):
        raise HttpRefusal(404, f"Unknown statistic: {name}; use one of {', '.join(Statistic)}")
    period = figures.period_of(Statistic(name), request.match_info["period"])
    rows = await figures.revisions(request.app[DEPS].pool, Statistic(name), period)
    if rows is None:
        raise HttpRefusal(
            404, f"No {name} figures of {request.match_info['period']}; see …/analytics/watermarks"
        )
    return _answer(request, {"data": rows})


@routes.get("/api/admin/analytics/watermarks")
async def watermarks(request: web.Request) -> web.StreamResponse:
    """How far each statistic is computed, and what is stale."""
    params.check_parameters(request, frozenset())
    return _answer(request, {"data": await figures.watermarks(request.app[DEPS].pool)})


@routes.get("/api/admin/analytics/export/{table}")
async def export_table(request: web.Request) -> web.StreamResponse:
    """Export a whole table."""
    params.check_parameters(request, RANGE)
    name = request.match_info["table"]
    if name not in export.TABLES:
        raise HttpRefusal(404, f"Unknown table: {name}; use one of {', '.join(export.TABLES)}")
    return await send_file(
        request, export.table(request.app[DEPS].pool, name, date_range(request)), format_of(request)
    )


# ── Request ─────────────────────────────────────────────────────────────────────────────────────────────────


def format_of(request: web.Request) -> Format:
    """The query's export format; JSON by default. Raises BadRequest."""
    return Format(params.one_of(request, "format", frozenset(Format)) or Format.JSON)


def date_range(request: web.Request) -> DateRange:
    """The query's ``from`` and ``to``, both included; without them, any date. Raises BadRequest."""
    since, until = params.date_range(request)
    return DateRange(since or date.min, until or date.max)


def _limit(request: web.Request) -> int:
    return params.number(request, "limit", _LIMIT, minimum=1, maximum=figures.CHUNK) or _LIMIT


def _cursor(request: web.Request) -> datetime | None:
    text = request.query.get("cursor")
    if text is None:
        return None
    try:
        return datetime.fromisoformat(text).replace(tzinfo=None)
    except ValueError:
        raise BadRequest("cursor is not one of ours; use next of the page before") from None


def _refuse_paging(request: web.Request, file_format: Format) -> None:
    if paging := sorted(_PAGE & set(request.query)):
        raise BadRequest(
            f"{paging[0]} is for json; {file_format} holds the whole range: narrow it with from and to"
        )


# ── Response ────────────────────────────────────────────────────────────────────────────────────────────────


def _range_fields(dates: DateRange) -> dict[str, Any]:
    return {
        "from": None if dates.since == date.min else dates.since,
        "to": None if dates.until == date.max else dates.until,
    }


def _next(after: date | datetime | None) -> str | None:
    return after.isoformat() if after else None


def _answer(request: web.Request, fields: dict[str, Any]) -> web.Response:
    return etag.answer(request, export.dumps({"success": True, **fields}))


async def send_file(request: web.Request, data: Export, file_format: Format) -> web.StreamResponse:
    """Stream an export. An error before the first chunk is answered as any other."""
    chunks = export.encode(data, file_format)
    first = await anext(chunks)
    response = web.StreamResponse(
        headers={"Content-Disposition": f'attachment; filename="{data.name}.{file_format}"'}
    )
    response.content_type = _TYPES[file_format]
    if file_format is not Format.PARQUET:
        response.charset = "utf-8"
    add_security_headers(response)
    await response.prepare(request)
    if request.method != "HEAD":
        await _send(request, response, first, chunks)
    return response


async def _send(
    request: web.Request, response: web.StreamResponse, first: bytes, rest: AsyncIterator[bytes]
) -> None:
    """Send the chunks; on an error abort the connection, so that the file does not look complete."""
    try:
        await response.write(first)
        async for chunk in rest:
            await response.write(chunk)
        await response.write_eof()
    except ConnectionError:
        log.info("export_left")
    except (*FAILURES, ServiceError, ValueError):
        log.exception("export_broken_off")
        if request.transport:
            request.transport.abort()
