"""What happened and what is out of the ordinary: audit log, alerts, anomalies, series, people's profiles."""

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
_TRUTH = frozenset({"true", "false"})

routes = web.RouteTableDef()


@routes.get("/api/admin/audit")
async def audit(request: web.Request) -> web.Response:
    """Who did what, newest first."""
    params.known(request, _PAGE | {"who", "act", "from", "to"})
    asked, size = request.query, params.limit(request)
    rows = await history(
        request.app[DEPS].pool,
        who=asked.get("who"),
        act=asked.get("act"),
        dates=params.span(request),
        before=params.before(request),
        limit=size,
    )
    found = [dict(row) for row in rows]
    return _answer({"data": found, "next": params.following(rows, size)})


@routes.get("/api/admin/alerts")
async def alerts(request: web.Request) -> web.Response:
    """What is, or was, wrong for hours; newest first."""
    params.known(request, _PAGE | {"open"})
    size = params.limit(request)
    rows = await request.app[DEPS].pool.fetch(_SQL["alerts"], _open(request), params.before(request), size)
    found = [
        {"id": row["id"], "name": row["name"], "detail": row["detail"]}
        | params.times(row, "raised_at", "cleared_at")
        for row in rows
    ]
    return _answer({"data": found, "next": params.following(rows, size)})


@routes.get("/api/admin/analytics/anomalies")
async def anomalies(request: web.Request) -> web.Response:
    """Anomalies, newest first: open ones have no ``closedAt``."""
    params.known(request, _PAGE | {"open", "series", "severity", "from", "to"})
    size, asked = params.limit(request), request.query
    found = await series.anomalies(
        request.app[DEPS].pool,
        asked.get("series"),
        params.one_of(request, "severity", frozenset(Severity)),
        params.span(request),
        is_open=_open(request),
        before=params.before(request),
        limit=size,
    )
    return _checked(request, {"data": found, "next": params.following(found, size)})


@routes.get("/api/admin/analytics/series")
async def watched(request: web.Request) -> web.Response:
    """The series that the detector watches."""
    params.known(request, frozenset())
    return _checked(request, {"data": await series.watched(request.app[DEPS].pool)})


@routes.get("/api/admin/analytics/series/{name}")
async def one_series(request: web.Request) -> web.Response:
    """Points with their expected ranges, and a forecast of what is to come."""
    params.known(request, frozenset({"from", "to"}))
    pool, name = request.app[DEPS].pool, request.match_info["name"]
    told = await series.outlook(pool, name)
    if told is None:
        known = ", ".join(one["name"] for one in await series.watched(pool)) or "none yet"
        raise HttpRefusal(404, f"Unknown series: {name}; known: {known}")
    since, until = params.span(request)
    until = until or told.through.date()
    since = since or until - timedelta(days=series.SHOWN[told.cadence] - 1)
    points = await series.points(pool, name, told.cadence, since, until)
    if points is None:
        raise BadRequest(f"from and to hold more than {series.MOST} points; choose a shorter range")
    shown = {"name": name, "cadence": told.cadence, "measure": told.measure, "from": since, "to": until}
    return _checked(request, {"data": shown | {"points": points, "forecast": told.forecast}})


@routes.get("/api/admin/users/{id}/profile")
async def profile(request: web.Request) -> web.Response:
    """What is known of somebody's habits."""
    params.known(request, frozenset())
    user = request.match_info["id"]
    found = await user_profiles.stored(request.app[DEPS].pool, user)
    if found is None:
        raise HttpRefusal(404, f"No profile of {user}: userBehavior makes them for who was active in 90 days")
    return _checked(request, {"data": found})


def _open(request: web.Request) -> bool | None:
    word = params.one_of(request, "open", _TRUTH)
    return None if word is None else word == "true"


def _checked(request: web.Request, found: dict[str, Any]) -> web.Response:
    return etag.answer(request, dumps({"success": True, **found}))


def _answer(found: dict[str, Any]) -> web.Response:
    return web.Response(text=dumps({"success": True, **found}), content_type="application/json")
