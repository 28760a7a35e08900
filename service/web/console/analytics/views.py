"""/console/analytics: the figures of the statistics as charts, cohorts, words and files."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import asyncpg
from aiohttp import web

from service.analytics import export, figures
from service.analytics.anomaly import series
from service.analytics.export import Format
from service.analytics.figures import DateRange, Row
from service.analytics.statistic import Statistic
from service.engine.schedule import Schedule
from service.errors import BadRequest
from service.web import params
from service.web.api import analytics
from service.web.auth import HttpRefusal
from service.web.console.analytics import charts
from service.web.console.analytics.labels import WORDS
from service.web.console.pages import page
from service.web.deps import DEPS, AdminDeps
from service.zones import zone_of

RANGES = {"4w": "4 weeks", "3m": "3 months", "1y": "1 year"}
KINDS = {"weekly": "Weeks", "monthly": "Months"}
MODES = {"exact": "In that period", "unbounded": "Then or later"}
_REACH = {"4w": 28, "3m": 91, "1y": 365}
_LONGEST = 3 * 366
_FILES = ("daily", "weekly", "monthly", "behaviour", "retention", "insights")

routes = web.RouteTableDef()


@dataclass(frozen=True, slots=True)
class ChartQuery:
    """What an operator looks at: a named range to the newest day, or own dates; and which cohorts."""

    range: str = "3m"
    since: date | None = None
    until: date | None = None
    kind: str = "weekly"
    mode: str = "exact"

    def query(self, **changes: str) -> str:
        """The query of an address that shows this, but for ``changes``; a named range replaces own dates."""
        wanted = replace(self, **changes)  # type: ignore[arg-type]
        if "range" in changes:
            wanted = replace(wanted, since=None, until=None)
        told = {
            "range": "" if wanted.range == "3m" else wanted.range,
            "from": wanted.since.isoformat() if wanted.since else "",
            "to": wanted.until.isoformat() if wanted.until else "",
            "kind": "" if wanted.kind == "weekly" else wanted.kind,
            "mode": "" if wanted.mode == "exact" else wanted.mode,
        }
        known = {name: value for name, value in told.items() if value}
        return f"?{urlencode(known)}" if known else ""

    @property
    def own(self) -> bool:
        """Whether the dates were chosen."""
        return self.since is not None or self.until is not None


def look_of(request: web.Request) -> ChartQuery:
    """What the query asks for. Raises BadRequest."""
    since, until = _date(request, "from"), _date(request, "to")
    if since and until and since > until:
        raise BadRequest(f"The first date ({since}) lies after the last ({until}); exchange them")
    return ChartQuery(
        params.one_of(request, "range", frozenset(RANGES)) or "3m",
        since,
        until,
        params.one_of(request, "kind", frozenset(KINDS)) or "weekly",
        params.one_of(request, "mode", frozenset(MODES)) or "exact",
    )


def _date(request: web.Request, name: str) -> date | None:
    text = request.query.get(name)
    return params.parse_date(name, text) if text else None


def span_of(look: ChartQuery, reach: DateRange) -> DateRange:
    """The dates to draw, none of them before or after all figures (``reach``). Raises BadRequest."""
    until = min(look.until or reach.until, reach.until)
    since = look.since or until - timedelta(days=_REACH[look.range] - 1)
    if (until - max(since, reach.since)).days > _LONGEST:
        raise BadRequest("Charts hold three years at most; the files at the end of the page hold any range")
    return DateRange(max(since, reach.since), until)


@routes.get("/console/analytics")
async def overview(request: web.Request) -> web.Response:
    """Everything of a range on one page."""
    deps, look = request.app[DEPS], look_of(request)
    reach = await figures.reach(deps.pool, Statistic.DAILY)
    facts: dict[str, Any] = {"look": look, "ranges": RANGES, "kinds": KINDS, "modes": MODES, **WORDS}
    if reach is None:
        return page(request, "analytics.html", **facts, span=None, waits=await _waits(deps))
    span = span_of(look, reach)
    if span.since > span.until:
        facts["problem"] = f"There are figures from {reach.since} to {reach.until}; choose dates among them."
        return page(request, "analytics.html", **facts, span=None, waits=await _waits(deps))
    shown = await _shown(deps, look, span)
    return page(request, "analytics.html", **facts, span=span, **shown)


@routes.get("/console/analytics/files/{name}")
async def file(request: web.Request) -> web.StreamResponse:
    """The figures of a range as a file, as the API exports them."""
    params.check_parameters(request, analytics.RANGE | {"kind", "mode"})
    pool, name = request.app[DEPS].pool, request.match_info["name"]
    form, span = analytics.format_of(request), analytics.date_range(request)
    if name not in _FILES:
        raise HttpRefusal(404, f"There is no file {name}; use one of {', '.join(_FILES)}")
    if name == "retention":
        look = look_of(request)
        found = await figures.cohorts(pool, Statistic(look.kind), span, unbounded=look.mode == "unbounded")
        return await analytics.send_file(request, export.cohorts(found), form)
    return await analytics.send_file(request, export.statistic(pool, name, span), form)


# ── What is shown ───────────────────────────────────────────────────────────────────────────────────────────


async def _shown(deps: AdminDeps, look: ChartQuery, span: DateRange) -> dict[str, Any]:
    pool = deps.pool
    rows = await _rows(pool, Statistic.DAILY, span)
    weeks = await _rows(pool, Statistic.WEEKLY, span)
    cohorts = await figures.cohorts(pool, Statistic(look.kind), span, unbounded=look.mode == "unbounded")
    ranges = await series.ranges(
        pool, [topic.series for topic in charts.TOPICS if topic.series], span.since, span.until
    )
    unusual = await series.marks(pool, span.since, span.until)
    days, by_day = charts.days_between(span.since, span.until), {row["period"]: row for row in rows}
    return {
        "charts": [
            charts.daily(topic, days, by_day, ranges.get(topic.series, {}), unusual)
            for topic in charts.TOPICS
        ],
        "weeks": [charts.lifecycle(weeks), charts.hours(weeks), charts.weekdays(weeks)] if weeks else [],
        "heat": charts.heat(cohorts),
        "other_notes": [charts.note(one) for one in unusual if not one["series"].startswith("day.")],
        "insights": await _insights(pool, span),
        "final": max((row["period"] for row in rows if row["final"]), default=None),
        "computed": max((row["computedAt"] for row in rows), default=None),
        "files": {name: _address(name, look, span) for name in _FILES},
        "formats": list(Format),
        "waits": await _waits(deps),
    }


async def _rows(pool: asyncpg.Pool, statistic: str, span: DateRange) -> list[Row]:
    return [row async for rows in figures.all_rollups(pool, statistic, span, whole=False) for row in rows]


async def _insights(pool: asyncpg.Pool, span: DateRange) -> Row | None:
    """The newest insights up to the end of the range: written once a month, about the month before."""
    rows = await _rows(pool, figures.INSIGHTS, DateRange(until=span.until))
    return rows[-1] if rows else None


def _address(name: str, look: ChartQuery, span: DateRange) -> str:
    more = {"kind": look.kind, "mode": look.mode} if name == "retention" else {}
    dates = {"from": span.since.isoformat(), "to": span.until.isoformat()}
    return f"/console/analytics/files/{name}?{urlencode(dates | more)}"


async def _waits(deps: AdminDeps) -> dict[str, str]:
    """When each statistics job is next due, by the clock that it keeps: job to words."""
    await deps.manager.refresh()
    jobs = deps.manager.get_status()["jobs"]["analytics"]["jobs"]
    now = deps.clock.now()
    return {
        name: due(job, str(deps.settings.get("service_timezone", "UTC")), now) for name, job in jobs.items()
    }


def due(job: Mapping[str, Any], service_zone: str, now: datetime) -> str:
    """When a job of the status runs next, in words, by the clock that it keeps."""
    if job["paused"]:
        return "paused"
    zone = "UTC" if job["mode"] == "utc" else service_zone
    slot = Schedule.parse(job["schedule"]).next(zone_of(zone), now)
    return f"{slot.local:%a} {slot.local.day} {slot.local:%b} {slot.local:%H:%M} {zone}"
