"""/api/admin/analytics: figures per period, cohorts, people's days, revisions, and whole tables as files."""

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
from service.web.auth import HttpRefusal, harden
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
    """Service days, each with its trends."""
    return await _periods(request, Statistic.DAILY)


@routes.get("/api/admin/analytics/weekly")
async def weekly(request: web.Request) -> web.StreamResponse:
    """Weeks from Sunday."""
    return await _periods(request, Statistic.WEEKLY)


@routes.get("/api/admin/analytics/monthly")
async def monthly(request: web.Request) -> web.StreamResponse:
    """Calendar months."""
    return await _periods(request, Statistic.MONTHLY)


@routes.get("/api/admin/analytics/behaviour")
async def behaviour(request: web.Request) -> web.StreamResponse:
    """Windows of six hours, UTC."""
    return await _periods(request, Statistic.BEHAVIOUR)


@routes.get("/api/admin/analytics/performance")
async def performance(request: web.Request) -> web.StreamResponse:
    """Hours of the service itself, UTC."""
    return await _periods(request, figures.PERFORMANCE)


@routes.get("/api/admin/analytics/insights")
async def insights(request: web.Request) -> web.StreamResponse:
    """Sentences per period; none where nothing wrote any."""
    return await _periods(request, figures.INSIGHTS)


async def _periods(request: web.Request, statistic: str) -> web.StreamResponse:
    params.known(request, RANGE | _PAGE)
    pool, form = request.app[DEPS].pool, format_of(request)
    span = await figures.recent(pool, statistic, span_of(request))
    if form is not Format.JSON:
        _no_pages(request, form)
        return await send_file(request, export.statistic(pool, statistic, span), form)
    page = await figures.rollups(pool, statistic, span, _cursor(request), _limit(request))
    return _answer(request, {**_told(span), "data": page.rows, "next": _next(page.after)})


@routes.get("/api/admin/analytics/retention")
async def retention(request: web.Request) -> web.StreamResponse:
    """The cohort table."""
    params.known(request, RANGE | {"kind", "mode"})
    form = format_of(request)
    kind = params.one_of(request, "kind", frozenset(figures.KINDS)) or Statistic.WEEKLY
    mode = params.one_of(request, "mode", frozenset({"exact", "unbounded"}))
    found = await figures.cohorts(
        request.app[DEPS].pool, Statistic(kind), span_of(request), unbounded=mode == "unbounded"
    )
    if form is not Format.JSON:
        return await send_file(request, export.cohorts(found), form)
    return _answer(request, {"data": found})


@routes.get("/api/admin/analytics/users/{id}/days")
async def days(request: web.Request) -> web.StreamResponse:
    """One user's local days."""
    params.known(request, RANGE | _PAGE)
    pool, user = request.app[DEPS].pool, request.match_info["id"]
    form, span = format_of(request), span_of(request)
    if form is not Format.JSON:
        _no_pages(request, form)
        return await send_file(request, export.days_of_user(pool, user, span), form)
    cursor = _cursor(request)
    page = await figures.days_of_user(pool, user, span, cursor.date() if cursor else None, _limit(request))
    return _answer(request, {**_told(span), "data": page.rows, "next": _next(page.after)})


@routes.get("/api/admin/analytics/{statistic}/{period}/revisions")
async def revisions(request: web.Request) -> web.StreamResponse:
    """What the figures of one period were, newest first."""
    params.known(request, frozenset())
    name = request.match_info["statistic"]
    if name not in set(Statistic):
        raise HttpRefusal(404, f"Unknown statistic: {name}; use one of {', '.join(Statistic)}")
    period = figures.period_of(Statistic(name), request.match_info["period"])
    found = await figures.revisions(request.app[DEPS].pool, Statistic(name), period)
    if found is None:
        raise HttpRefusal(
            404, f"No {name} figures of {request.match_info['period']}; see …/analytics/watermarks"
        )
    return _answer(request, {"data": found})


@routes.get("/api/admin/analytics/watermarks")
async def watermarks(request: web.Request) -> web.StreamResponse:
    """How far each statistic has come, and what is stale."""
    params.known(request, frozenset())
    return _answer(request, {"data": await figures.watermarks(request.app[DEPS].pool)})


@routes.get("/api/admin/analytics/export/{table}")
async def whole(request: web.Request) -> web.StreamResponse:
    """A whole table as a file."""
    params.known(request, RANGE)
    name = request.match_info["table"]
    if name not in export.TABLES:
        raise HttpRefusal(404, f"Unknown table: {name}; use one of {', '.join(export.TABLES)}")
    return await send_file(
        request, export.table(request.app[DEPS].pool, name, span_of(request)), format_of(request)
    )


# ── Asking ──────────────────────────────────────────────────────────────────────────────────────────────────


def format_of(request: web.Request) -> Format:
    """The file format that the query names; JSON by default. Raises BadRequest."""
    return Format(params.one_of(request, "format", frozenset(Format)) or Format.JSON)


def span_of(request: web.Request) -> DateRange:
    """The dates ``from`` and ``to`` of the query, both included. Raises BadRequest."""
    since, until = params.span(request)
    return DateRange(since or date.min, until or date.max)


def _limit(request: web.Request) -> int:
    return params.number(request, "limit", _LIMIT, least=1, most=figures.CHUNK) or _LIMIT


def _cursor(request: web.Request) -> datetime | None:
    text = request.query.get("cursor")
    if text is None:
        return None
    try:
        return datetime.fromisoformat(text).replace(tzinfo=None)
    except ValueError:
        raise BadRequest("cursor is not one of ours; use next of the page before") from None


def _no_pages(request: web.Request, form: Format) -> None:
    if given := sorted(_PAGE & set(request.query)):
        raise BadRequest(f"{given[0]} is for json; {form} holds the whole range: narrow it with from and to")


# ── Answering ───────────────────────────────────────────────────────────────────────────────────────────────


def _told(span: DateRange) -> dict[str, Any]:
    return {
        "from": None if span.since == date.min else span.since,
        "to": None if span.until == date.max else span.until,
    }


def _next(after: date | datetime | None) -> str | None:
    return after.isoformat() if after else None


def _answer(request: web.Request, found: dict[str, Any]) -> web.Response:
    return etag.answer(request, export.dumps({"success": True, **found}))


async def send_file(request: web.Request, wanted: Export, form: Format) -> web.StreamResponse:
    """A file in pieces. What goes wrong before the first one is an error as always."""
    pieces = export.written(wanted, form)
    first = await anext(pieces)
    response = web.StreamResponse(
        headers={"Content-Disposition": f'attachment; filename="{wanted.name}.{form}"'}
    )
    response.content_type = _TYPES[form]
    if form is not Format.PARQUET:
        response.charset = "utf-8"
    harden(response)
    await response.prepare(request)
    if request.method != "HEAD":
        await _send(request, response, first, pieces)
    return response


async def _send(
    request: web.Request, response: web.StreamResponse, first: bytes, rest: AsyncIterator[bytes]
) -> None:
    """After the first byte a failure can only be told by breaking off: the file must not look complete."""
    try:
        await response.write(first)
        async for piece in rest:
            await response.write(piece)
        await response.write_eof()
    except ConnectionError:
        log.info("export_left")
    except (*FAILURES, ServiceError, ValueError):
        log.exception("export_broken_off")
        if request.transport:
            request.transport.abort()
