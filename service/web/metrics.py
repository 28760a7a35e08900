"""/metrics: Prometheus text.

What stands in the ledger is a gauge and the same from every process: take ``max`` over instances, not a sum.
Answers, mails, loop lag and pool are those of this process. ``job_name`` is not called ``job``: that is what
Prometheus calls its targets. ``deploy`` holds rules and a dashboard.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping
from typing import Any

import asyncpg
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from service.analytics.anomaly.verdict import Severity
from service.engine import queries
from service.engine.database_errors import FAILURES
from service.engine.schedule import Schedule
from service.engine.single_flight import SingleFlight
from service.engine.staleness import frequency, stale_after
from service.web.auth import Handler, route_of
from service.web.deps import DEPS, AdminDeps

_SQL = queries.load(__file__)
_DEADLINE = 5.0
_METHODS = frozenset({"GET", "HEAD", "POST", "DELETE"})
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)

routes = web.RouteTableDef()


class AnswerTimes:
    """How long answers of the API took, by route; few labels, however many addresses are asked for."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._seconds = Histogram(
            "jobs_http_request_duration_seconds",
            "Answers of the admin API by this process",
            ["method", "route", "status"],
            registry=registry,
            buckets=_BUCKETS,
        )

    def note(self, method: str, route: str, status: int, seconds: float) -> None:
        """An answer was given. ``route``: its pattern, never its path."""
        known = method if method in _METHODS else "other"
        self._seconds.labels(known, route, f"{status // 100}xx").observe(seconds)


ANSWERS: web.AppKey[AnswerTimes] = web.AppKey("answers", AnswerTimes)
LEDGER: web.AppKey[SingleFlight[CollectorRegistry]] = web.AppKey("ledger", SingleFlight)


@web.middleware
async def timing(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Note how long every answer of the API took; probes and pages of recipients are not the API.

    What is sent in pieces takes as long as its reader likes, so it tells nothing.
    """
    if not request.path.startswith("/api/"):
        return await handler(request)
    started = asyncio.get_running_loop().time()
    status: int | None = 500
    try:
        response = await handler(request)
        status = response.status if isinstance(response, web.Response) else None
        return response
    finally:
        if status:
            seconds = asyncio.get_running_loop().time() - started
            request.app[ANSWERS].note(request.method, route_of(request), status, seconds)
            request.app[DEPS].observe(seconds, status)


def ledger_of(deps: AdminDeps) -> SingleFlight[CollectorRegistry]:
    """Reads the ledger for a scrape; scrapes at the same time share one reading."""
    return SingleFlight(lambda: _ledger(deps.pool, _job_ids(deps)), deadline=_DEADLINE)


@routes.get("/metrics")
async def metrics(request: web.Request) -> web.Response:
    """Prometheus text; while the database is away, all but the ledger."""
    deps = request.app[DEPS]
    try:
        ledger = await request.app[LEDGER].get()
    except FAILURES:
        ledger = CollectorRegistry()
        _gauge(ledger, *_UP).set(0)
    text = b"".join(map(generate_latest, (deps.registry, _process(deps), ledger)))
    return web.Response(body=text, headers={"Content-Type": CONTENT_TYPE_LATEST})


# ── This process ────────────────────────────────────────────────────────────────────────────────────────────


def _process(deps: AdminDeps) -> CollectorRegistry:
    registry = CollectorRegistry()
    pool = _gauge(registry, "jobs_pool_connections", "Connections of this process's pool", "state")
    size, idle = deps.pool.get_size(), deps.pool.get_idle_size()
    pool.labels("idle").set(idle)
    pool.labels("busy").set(size - idle)
    lag = _gauge(registry, "jobs_loop_lag_seconds", "Event-loop lag of this process, last hour", "quantile")
    measured = deps.runtime_metrics()
    for name, milliseconds in measured.get("loopLagMs", {}).items():
        if milliseconds is not None:
            lag.labels(str(int(name[1:]) / 100)).set(milliseconds / 1000)
    if (behind := measured.get("changeStreamLag")) is not None:
        told = "Since the copy had all that the change stream told; of the process that follows it"
        _gauge(registry, "jobs_change_stream_lag_seconds", told).set(behind)
    tasks = _gauge(registry, "jobs_asyncio_tasks", "Tasks of this process that are not done")
    tasks.set(len(asyncio.all_tasks()))
    registry.register(_Mails(deps.mails()))
    if deps.bounces is not None:
        registry.register(_Reports(deps.bounces.totals))
    return registry


class _Mails(Collector):
    def __init__(self, totals: Mapping[str, int]) -> None:
        self._totals = totals

    def collect(self) -> list[Metric]:
        family = CounterMetricFamily(
            "jobs_mails", "What became of mails that this process tried to send", labels=["state"]
        )
        by_state: Counter[str] = Counter()
        for what, n in self._totals.items():
            by_state[what.partition(":")[0]] += n
        for state, n in by_state.items():
            family.add_metric([state], n)
        return [family]


class _Reports(Collector):
    def __init__(self, totals: Mapping[tuple[str, str], int]) -> None:
        self._totals = totals

    def collect(self) -> list[Metric]:
        family = CounterMetricFamily(
            "jobs_reports", "Bounces and complaints that this process took in", labels=["kind", "about"]
        )
        for labels, n in self._totals.items():
            family.add_metric(labels, n)
        return [family]


# ── The ledger ──────────────────────────────────────────────────────────────────────────────────────────────

_UP = ("jobs_database_up", "Whether the database answered this scrape")
_PER_JOB = {
    "age": ("jobs_last_success_age_seconds", "Since a job last succeeded"),
    "lateness": ("jobs_start_lateness_seconds", "How late the newest scheduled run of the last 24 h began"),
}


def _job_ids(deps: AdminDeps) -> list[str]:
    """The jobs of this process: nobody waits for those of a package that was taken away."""
    types = deps.manager.get_status()["jobs"]
    return [f"{type_}.{name}" for type_, status in types.items() for name in status["jobs"]]


async def _ledger(pool: asyncpg.Pool, job_ids: list[str]) -> CollectorRegistry:
    """What stands in the ledger now, from indexes only: a scrape must stay cheap."""
    registry = CollectorRegistry()
    async with pool.acquire() as connection:
        found = {name: await connection.fetch(sql, timeout=_DEADLINE) for name, sql in _SQL.items()}
    _gauge(registry, *_UP).set(1)
    _backlog(registry, found)
    per_job = {name: _gauge(registry, *told, "job_name") for name, told in _PER_JOB.items()}
    for row in found["successes"]:
        per_job["age"].labels(row["job"]).set(row["age"])
    _schedules(registry, [row for row in found["schedules"] if row["job"] in job_ids])
    runs = _gauge(registry, "jobs_recent_runs", "Runs that were due in the last 24 h", "job_name", "state")
    for row in found["recent"]:
        if row["lateness"] is not None:
            per_job["lateness"].labels(row["job"]).set(row["lateness"])
        for state, n in row["states"].items():
            runs.labels(row["job"], state).set(n)
    unsettled = _gauge(
        registry,
        "jobs_unsettled_slots",
        "Slots that failed and are neither made up for nor waived",
        "job_name",
    )
    for row in found["unsettled"]:
        unsettled.labels(row["job"]).set(row["n"])
    condition = _gauge(registry, "jobs_condition", "What is wrong now: of how many", "key", "severity")
    for row in found["conditions"]:
        condition.labels(row["key"], row["severity"]).set(row["n"])
    _open(registry, found["open"])
    _complaints(registry, found["complaints"])
    return registry


def _schedules(registry: CollectorRegistry, rows: list[asyncpg.Record]) -> None:
    age = "Since the instant up to which a job's slots are decided"
    undecided = _gauge(registry, "jobs_undecided_slot_age_seconds", age, "job_name")
    limit = "How old a job's last success may become"
    stale = _gauge(registry, "jobs_stale_after_seconds", limit, "job_name", "frequency")
    for row in rows:
        undecided.labels(row["job"]).set(row["age"])
        schedule = Schedule(row["cron"])
        stale.labels(row["job"], frequency(schedule)).set(stale_after(schedule).total_seconds())


def _backlog(registry: CollectorRegistry, found: Mapping[str, list[asyncpg.Record]]) -> None:
    told = "Runs and deliveries that wait or are under way"
    backlog = _gauge(registry, "jobs_backlog", told, "what", "job_name", "state")
    for row in found["backlog"]:
        backlog.labels(row["what"], row["job"], row["state"]).set(row["n"])
    oldest = _gauge(
        registry, "jobs_outbox_oldest_due_age_seconds", "How long the oldest message that is due has waited"
    )
    oldest.set(found["waiting"][0][0] or 0)


def _open(registry: CollectorRegistry, rows: list[asyncpg.Record]) -> None:
    alerts = _gauge(
        registry, "jobs_alert_open", "Alerts that the service raised and not yet cleared", "alert"
    )
    anomalies = _gauge(registry, "jobs_anomalies_open", "Open anomalies of watched series", "severity")
    for severity in Severity:
        anomalies.labels(severity).set(0)
    for row in rows:
        (alerts if row["what"] == "alert" else anomalies).labels(row["name"]).set(row["n"])


def _complaints(registry: CollectorRegistry, rows: list[asyncpg.Record]) -> None:
    """At most 21 domains of each kind: see ``messages.complaint_rate``."""
    mails = _gauge(registry, "jobs_recent_mails", "Mails of the last 30 days", "kind", "domain")
    told = "Mails of the last 30 days that were reported as spam"
    complaints = _gauge(registry, "jobs_recent_complaints", told, "kind", "domain")
    for row in rows:
        mails.labels(row["kind"], row["domain"]).set(row["sent"])
        complaints.labels(row["kind"], row["domain"]).set(row["complaints"])


def _gauge(registry: CollectorRegistry, name: str, told: str, *labels: str) -> Any:
    return Gauge(name, told, labels, registry=registry)
