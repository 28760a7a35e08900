"""/console/analytics: figures as charts, cohorts, insights and files."""

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
from service.analytics.replaced_values import replaced_values
from service.analytics.statistic import Statistic
from service.engine.schedule import Schedule
from service.errors import BadRequest
from service.web import params
from service.web.api import analytics
from service.web.auth import HttpRefusal
from service.web.console.analytics import charts
from service.web.console.analytics.labels import WORDS
from service.web.console.analytics.topics import TOPICS
from service.web.console.pages import page
from service.web.deps import DEPS, AdminDeps
from service.zones import zone_of

RANGES = {"4w": "4 weeks", "3m": "3 months", "1y": "1 year"}
KINDS = {"weekly": "Weeks", "monthly": "Months"}
MODES = {"exact": "In that period", "unbounded": "Then or later"}
_DAYS = {"4w": 28, "3m": 91, "1y": 365}
_MAX_DAYS = 3 * 366
_FILES = ("daily", "weekly", "monthly", "behaviour", "retention", "insights")

routes = web.RouteTableDef()


@dataclass(frozen=True, slots=True)
class ChartQuery:
    """What the page shows: a named range up to the newest day, or chosen dates; and the kind of cohorts."""

    range: str = "3m"
    since: date | None = None
    until: date | None = None
    kind: str = "weekly"
    mode: str = "exact"

    def query(self, **changes: str) -> str:
        """The query string for this view with ``changes``; a named range replaces chosen dates."""
        changed = replace(self, **changes)  # type: ignore[arg-type]
        if "range" in changes:
            changed = replace(changed, since=None, until=None)
        parameters = {
            "range": "" if changed.range == "3m" else changed.range,
            "from": changed.since.isoformat() if changed.since else "",
            "to": changed.until.isoformat() if changed.until else "",
            "kind": "" if changed.kind == "weekly" else changed.kind,
            "mode": "" if changed.mode == "exact" else changed.mode,
        }
        given_ = {name: value for name, value in parameters.items() if value}
        return f"?{urlencode(given_)}" if given_ else ""

    @property
    def own(self) -> bool:
        """Whether the dates were chosen."""
        return self.since is not None or self.until is not None


def chart_query(request: web.Request) -> ChartQuery:
    """The view that the query string describes. Raises BadRequest."""
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


def dates_of(query: ChartQuery, available: DateRange) -> DateRange:
    """The dates to draw, within those that have figures (``available``). Raises BadRequest."""
    until = min(query.until or available.until, available.until)
    since = query.since or until - timedelta(days=_DAYS[query.range] - 1)
    if (until - max(since, available.since)).days > _MAX_DAYS:
        raise BadRequest("Charts hold three years at most; the files at the end of the page hold any range")
    return DateRange(max(since, available.since), until)


@routes.get("/console/analytics")
async def overview(request: web.Request) -> web.Response:
    """The page with all charts of a range."""
    deps, query = request.app[DEPS], chart_query(request)
    available = await figures.reach(deps.pool, Statistic.DAILY)
    facts: dict[str, Any] = {"query": query, "ranges": RANGES, "kinds": KINDS, "modes": MODES, **WORDS}
    if available is None:
        return page(request, "analytics.html", **facts, span=None, next_runs=await _next_runs(deps))
    dates = dates_of(query, available)
    if dates.since > dates.until:
        facts["problem"] = (
            f"There are figures from {available.since} to {available.until}; choose dates among them."
        )
        return page(request, "analytics.html", **facts, span=None, next_runs=await _next_runs(deps))
    content = await _charts(deps, query, dates)
    return page(request, "analytics.html", **facts, span=dates, **content)


@routes.get("/console/analytics/files/{name}")
async def file(request: web.Request) -> web.StreamResponse:
    """Export the figures of a range, as the API does."""
    params.check_parameters(request, analytics.RANGE | {"kind", "mode"})
    pool, name = request.app[DEPS].pool, request.match_info["name"]
    file_format, dates = analytics.format_of(request), analytics.date_range(request)
    if name not in _FILES:
        raise HttpRefusal(404, f"There is no file {name}; use one of {', '.join(_FILES)}")
    if name == "retention":
        query = chart_query(request)
        cohorts = await figures.cohorts(
            pool, Statistic(query.kind), dates, unbounded=query.mode == "unbounded"
        )
        return await analytics.send_file(request, export.cohorts(cohorts), file_format)
    return await analytics.send_file(request, export.statistic(pool, name, dates), file_format)


# ── Content ─────────────────────────────────────────────────────────────────────────────────────────────────


async def _charts(deps: AdminDeps, query: ChartQuery, dates: DateRange) -> dict[str, Any]:
    pool = deps.pool
    rows = await _rows(pool, Statistic.DAILY, dates)
    weeks = await _rows(pool, Statistic.WEEKLY, dates)
    cohorts = await figures.cohorts(pool, Statistic(query.kind), dates, unbounded=query.mode == "unbounded")
    ranges = await series.ranges(
        pool, [topic.series for topic in TOPICS if topic.series], dates.since, dates.until
    )
    anomalies = await series.anomalies_between(pool, dates.since, dates.until)
    drawn = [name for topic in TOPICS for name in topic.figures]
    replaced = await replaced_values(pool, Statistic.DAILY, drawn, dates.since, dates.until)
    shown = charts.ChartDays(
        charts.days_between(dates.since, dates.until),
        {row["period"]: row for row in rows},
        anomalies,
        replaced,
        charts.holidays_of(ranges.values()),
    )
    return {
        "charts": [charts.daily(topic, shown, ranges.get(topic.series, {})) for topic in TOPICS],
        "weeks": [charts.lifecycle(weeks), charts.hours(weeks), charts.weekdays(weeks)] if weeks else [],
        "heat": charts.heat_map(weeks),
        "retention": charts.cohort_table(cohorts),
        "other_notes": [
            charts.note(anomaly) for anomaly in anomalies if not anomaly["series"].startswith("day.")
        ],
        "insights": await _insights(pool, dates),
        "final": max((row["period"] for row in rows if row["final"]), default=None),
        "computed": max((row["computedAt"] for row in rows), default=None),
        "files": {name: _address(name, query, dates) for name in _FILES},
        "formats": list(Format),
        "next_runs": await _next_runs(deps),
    }


async def _rows(pool: asyncpg.Pool, statistic: str, span: DateRange) -> list[Row]:
    return [row async for rows in figures.all_rollups(pool, statistic, span, whole=False) for row in rows]


async def _insights(pool: asyncpg.Pool, span: DateRange) -> Row | None:
    """The newest insights up to the end of the range; they are written monthly about the previous month."""
    rows = await _rows(pool, Statistic.INSIGHTS, DateRange(until=span.until))
    return rows[-1] if rows else None


def _address(name: str, query: ChartQuery, dates_: DateRange) -> str:
    extra = {"kind": query.kind, "mode": query.mode} if name == "retention" else {}
    range_ = {"from": dates_.since.isoformat(), "to": dates_.until.isoformat()}
    return f"/console/analytics/files/{name}?{urlencode(range_ | extra)}"


async def _next_runs(deps: AdminDeps) -> dict[str, str]:
    """The next run of each statistics job, in words."""
    await deps.manager.refresh()
    jobs = deps.manager.get_status()["jobs"]["analytics"]["jobs"]
    now = deps.clock.now()
    return {
        name: next_run(job, str(deps.settings.get("service_timezone", "UTC")), now)
        for name, job in jobs.items()
    }


def next_run(job: Mapping[str, Any], service_zone: str, now: datetime) -> str:
    """When a job runs next, in words, in the zone of its schedule."""
    if job["paused"]:
        return "paused"
    zone = "UTC" if job["mode"] == "utc" else service_zone
    slot = Schedule.parse(job["schedule"]).next(zone_of(zone), now)
    return f"{slot.local:%a} {slot.local.day} {slot.local:%b} {slot.local:%H:%M} {zone}"
