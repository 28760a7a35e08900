"""The audit log, alerts, anomalies, watched series and user profiles."""

from datetime import timedelta
from typing import Any

from aiohttp import web

from service.analytics import user_profiles
from service.analytics.anomaly import series
from service.analytics.anomaly.verdict import Severity
from service.analytics.export import dumps
from service.engine import queries
from service.errors import BadRequest
from service.web import etag, params
from service.web.audit import history
from service.web.auth import HttpRefusal
from service.web.deps import DEPS

_SQL = queries.load(__file__)
_PAGE = frozenset({"limit", "before"})
_BOOLEANS = frozenset({"true", "false"})

routes = web.RouteTableDef()


@routes.get("/api/admin/audit")
async def audit(request: web.Request) -> web.Response:
    """The audit log, newest first."""
    params.check_parameters(request, _PAGE | {"who", "act", "from", "to"})
    query, size = request.query, params.limit(request)
    rows = await history(
        request.app[DEPS].pool,
        actor=query.get("who"),
        act=query.get("act"),
        dates=params.date_range(request),
        before=params.before(request),
        limit=size,
    )
    data = [dict(row) for row in rows]
    return _answer({"data": data, "next": params.next_before(rows, size)})


@routes.get("/api/admin/alerts")
async def alerts(request: web.Request) -> web.Response:
    """Alerts, newest first: open ones have no ``clearedAt``."""
    params.check_parameters(request, _PAGE | {"open"})
    size = params.limit(request)
    rows = await request.app[DEPS].pool.fetch(
        _SQL["alerts"], _open_filter(request), params.before(request), size
    )
    data = [
        {"id": row["id"], "name": row["name"], "detail": row["detail"]}
        | params.times(row, "raised_at", "cleared_at")
        for row in rows
    ]
    return _answer({"data": data, "next": params.next_before(rows, size)})


@routes.get("/api/admin/analytics/anomalies")
async def anomalies(request: web.Request) -> web.Response:
    """Anomalies, newest first: open ones have no ``closedAt``."""
    params.check_parameters(request, _PAGE | {"open", "series", "severity", "from", "to"})
    size, query = params.limit(request), request.query
    rows = await series.anomalies(
        request.app[DEPS].pool,
        query.get("series"),
        params.one_of(request, "severity", frozenset(Severity)),
        params.date_range(request),
        is_open=_open_filter(request),
        before=params.before(request),
        limit=size,
    )
    return _answer_with_etag(request, {"data": rows, "next": params.next_before(rows, size)})


@routes.get("/api/admin/analytics/series")
async def all_series(request: web.Request) -> web.Response:
    """The series that the anomaly detector watches."""
    params.check_parameters(request, frozenset())
    return _answer_with_etag(request, {"data": await series.list_series(request.app[DEPS].pool)})


@routes.get("/api/admin/analytics/series/{name}")
async def show_series(request: web.Request) -> web.Response:
    """A series' points with their expected ranges, and a forecast."""
    params.check_parameters(request, frozenset({"from", "to"}))
    pool, name = request.app[DEPS].pool, request.match_info["name"]
    forecast = await series.series_forecast(pool, name)
    if forecast is None:
        names = ", ".join(row["name"] for row in await series.list_series(pool)) or "none yet"
        raise HttpRefusal(404, f"Unknown series: {name}; known: {names}")
    since, until = params.date_range(request)
    until = until or forecast.through.date()
    since = since or until - timedelta(days=series.DEFAULT_DAYS[forecast.cadence] - 1)
    points = await series.points(pool, name, forecast.cadence, since, until)
    if points is None:
        raise BadRequest(f"from and to hold more than {series.MAX_POINTS} points; choose a shorter range")
    fields = {
        "name": name,
        "cadence": forecast.cadence,
        "measure": forecast.measure,
        "from": since,
        "to": until,
    }
    return _answer_with_etag(request, {"data": fields | {"points": points, "forecast": forecast.forecast}})


@routes.get("/api/admin/users/{id}/profile")
async def profile(request: web.Request) -> web.Response:
    """A user's profile: habits and risk of leaving."""
    params.check_parameters(request, frozenset())
    user = request.match_info["id"]
    data = await user_profiles.user_profile(request.app[DEPS].pool, user)
    if data is None:
        raise HttpRefusal(404, f"No profile of {user}: there is one of who was active in 90 days")
    return _answer_with_etag(request, {"data": data})


def _open_filter(request: web.Request) -> bool | None:
    word = params.one_of(request, "open", _BOOLEANS)
    return None if word is None else word == "true"


def _answer_with_etag(request: web.Request, fields: dict[str, Any]) -> web.Response:
    return etag.answer(request, dumps({"success": True, **fields}))


def _answer(fields: dict[str, Any]) -> web.Response:
    return web.Response(text=dumps({"success": True, **fields}), content_type="application/json")
