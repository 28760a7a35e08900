"""performanceMetrics: metrics of the hour before, in UTC; null with a reason where nothing was measured.

Each process reports its own metrics (loop lag, memory, CPU, pools, API responses) with its heartbeat; runs,
mails and lateness are counted in the ledger, for all processes together.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg

from service.analytics import maintenance, rollups
from service.analytics.anomaly.series import ACTIVITY, SERVICE
from service.analytics.maintenance import AnalyticsSettings
from service.analytics.performance import performance_alerts, responses, rounded
from service.engine import queries
from service.engine.context import RunContext
from service.engine.job import CatchUp, Job, JobType, TimeMode

_SQL = queries.load(__file__)
_HOUR = timedelta(hours=1)
NAME = "performance"
"""The statistic's name in the rollups."""


async def work(context: RunContext) -> None:
    """Store the last full hour, once; raise and clear alerts; look for anomalies."""
    until = context.tick.as_of.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    period = (until - _HOUR).replace(tzinfo=None)
    dashboard_metrics = context.resources[AnalyticsSettings].dashboard_metrics
    dashboard = await dashboard_metrics() if dashboard_metrics else None
    await _measure(context, period, until, dashboard)
    for family in (ACTIVITY, SERVICE):
        await maintenance.detect_anomalies(context, family, until)


async def _measure(
    context: RunContext, period: datetime, until: datetime, dashboard: dict[str, Any] | None
) -> None:
    async with context.step() as connection:
        if await connection.fetchval(_SQL["exists"], period):
            return
        figures = await _figures(connection, until) | {"since": f"{period.isoformat()}Z"}
        previous: dict[str, Any] | None = await connection.fetchval(_SQL["previous_hour"], period)
        figures["dashboard"] = _dashboard_figures(dashboard, previous)
        await rollups.store(connection, NAME, {period: figures})
        alerts = await _update_alerts(connection, [previous, figures] if previous else [figures])
        await context.advance(connection, "done", 1, {"measured": 1, "alerts": alerts})


async def _figures(connection: asyncpg.Connection, until: datetime) -> dict[str, Any]:
    since = until - _HOUR
    processes = {row["name"]: row["vitals"] for row in await connection.fetch(_SQL["processes"])}
    mail = await connection.fetchrow(_SQL["mail"], since, until)
    assert mail
    ledger: dict[str, dict[str, int]] = {"runs": {}, "deliveries": {}}
    for row in await connection.fetch(_SQL["ledger"]):
        ledger[row["what"]][row["state"]] = row["n"]
    settled = mail["sent"] + mail["failed"]
    return responses(list(processes.values())) | {
        "processes": processes,
        "jobs": {row["job"]: _job(row) for row in await connection.fetch(_SQL["jobs"], since, until)},
        "mail": {
            "sent": mail["sent"],
            "failed": mail["failed"],
            "unconfirmed": mail["unconfirmed"],
            "errorRate": round(mail["failed"] / settled, 4) if settled else None,
            "latencyMs": {"p50": _ms(mail["p50"]), "p95": _ms(mail["p95"])},
        },
        "ledger": ledger,
    }


def _job(row: asyncpg.Record) -> dict[str, Any]:
    return {
        "runs": row["runs"],
        "failures": row["failures"],
        "seconds": {"p50": rounded(row["p50"]), "p95": rounded(row["p95"])},
        "latenessSeconds": rounded(row["lateness"]),
        "lastSuccessAgeSeconds": rounded(row["success_age"]),
    }


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else rounded(1000 * seconds)


def _dashboard_figures(counters: dict[str, Any] | None, previous: dict[str, Any] | None) -> dict[str, Any]:
    """The responses of the dashboard in this hour, from its counters now and an hour ago."""
    nothing = {"requests": 0, "averageResponseTime": None, "errorRate": None, "throughput": None}
    if counters is None:
        return nothing | {"reason": "DASHBOARD_METRICS_URL is not set"}
    if "reason" in counters:
        return nothing | counters
    earlier = (previous or {}).get("dashboard", {}).get("counters")
    if earlier is None:
        return nothing | {"reason": "first reading: rates need an hour", "counters": counters}
    restarted = counters["requests"] < earlier["requests"]  # counters restart with the process
    delta = {name: value - (0 if restarted else earlier[name]) for name, value in counters.items()}
    if not delta["requests"]:
        return nothing | {"reason": "no request in this hour", "counters": counters}
    return {
        "requests": delta["requests"],
        "averageResponseTime": round(1000 * delta["seconds"] / delta["requests"], 3),
        "errorRate": round(delta["errors"] / delta["requests"], 4),
        "throughput": round(delta["requests"] / _HOUR.total_seconds(), 4),
        "counters": counters,
    }


async def _update_alerts(connection: asyncpg.Connection, hours: list[dict[str, Any]]) -> int:
    """Two hours in a row raise an alert; one good hour clears it."""
    raised = _alerts_of(hours) if len(hours) == 2 else {}
    for name, detail in raised.items():
        await connection.execute(_SQL["raise_alert"], name, detail)
    await connection.execute(_SQL["clear_alerts"], list(_alerts_of(hours[-1:])))
    return len(raised)


def _alerts_of(hours: list[dict[str, Any]]) -> dict[str, str]:
    return performance_alerts("api", hours) | performance_alerts(
        "dashboard", [hour["dashboard"] for hour in hours]
    )


JOB = Job(
    type=JobType.ANALYTICS,
    name="performanceMetrics",
    about="The hour before, in UTC, as it was measured; null with a reason where it was not.",
    schedule="0 * * * *",
    mode=TimeMode.UTC,
    catch_up=CatchUp.NONE,
    useful_until=lambda local: local + timedelta(minutes=10),
    steps=work,
    timeout=timedelta(minutes=5),
)
