"""Commands for analytics, and for exports."""

from service.cli import answers
from service.cli.arguments import path, query
from service.cli.commands.command import BEFORE, CURSOR, FILES, FORMAT, FROM, OPEN, TO, Command, Render
from service.cli.tables import ident, name, number, period, prose, share, text, time

_PERIOD = (period("period"), text("state", answers.finality))


def _figures(view: str, operation: str, summary: str, render: Render) -> Command:
    return Command(
        f"analytics {view}", operation, "GET", f"/api/admin/analytics/{view}", summary,
        f"analytics {view} --from 2026-03-01", render, (FROM, TO, FORMAT, *CURSOR),
        pages="cursor", max_rows=1000, files=FILES,
    )  # fmt: skip


COMMANDS = (
    _figures("daily", "getDaily", "figures of days, with their trends", answers.table(
        *_PERIOD, number("active", "activeUsers"), number("sessions", "totalSessions"),
        number("minutes", "totalFocusTime"), share("done", "sessionCompletionRate"),
        prose("trends", answers.trends), number("new", "newUsers", extra=True),
        number("DAU", "dau", extra=True),
        number("WAU", "wau", extra=True), number("MAU", "mau", extra=True),
        share("stickiness", "stickiness", extra=True),
    )),
    _figures("weekly", "getWeekly", "figures of weeks from Sunday", answers.table(
        *_PERIOD, number("active", "activeUsers"), number("sessions", "totalSessions"),
        number("minutes", "totalFocusTime"), number("new", "lifecycle.new"),
        number("back", "lifecycle.returning"), number("dormant", "lifecycle.dormant"),
        number("resurrecting", "lifecycle.resurrecting", extra=True),
        share("D1", "retentionData.d1.rate", extra=True), share("D7", "retentionData.d7.rate", extra=True),
        share("D30", "retentionData.d30.rate", extra=True),
    )),
    _figures("monthly", "getMonthly", "figures of calendar months", answers.table(
        *_PERIOD, number("users", "totalUsers"), number("active", "activeUsers"), number("new", "newUsers"),
        number("at risk", "userSegments.atRisk"), number("churned", "userSegments.churned"),
        share("churn", "churnAnalysis.rate"), number("sessions", "totalSessions"),
        number("power", "userSegments.power", extra=True),
        number("per user", "averageSessionsPerUser", extra=True),
        number("goals made", "goalsCreated", extra=True), number("reached", "goalsCompleted", extra=True),
    )),
    _figures("behaviour", "getBehaviour", "windows of six hours, UTC", answers.table(
        *_PERIOD, number("users"), number("started", "sessionsStarted"),
        number("completed", "sessionsCompleted"), number("minutes each", "averageSessionLength"),
        share("cancelled", "cancelledRate"), number("rating", "averageRating", extra=True),
        number("ratings", "ratings", extra=True),
    )),
    _figures("performance", "getPerformance", "hours of the service itself, UTC", answers.table(
        *_PERIOD, number("requests"), number("ms each", "averageResponseTime"), share("errors", "errorRate"),
        number("mails sent", "mail.sent"), number("failed", "mail.failed"),
    )),
    _figures("insights", "getInsights", "sentences per period, with their evidence", answers.insights),
    Command(
        "analytics retention", "getRetention", "GET", "/api/admin/analytics/retention",
        "the cohort table", "analytics retention --kind monthly --mode unbounded", answers.retention,
        (
            query("--kind", "cohorts by week or month", choices=("weekly", "monthly"), default="weekly"),
            query("--mode", "active in period n, or in n or later", choices=("exact", "unbounded"),
                  default="exact"),
            FROM, TO, FORMAT,
        ),
        files=FILES,
    ),
    Command(
        "analytics watermarks", "getWatermarks", "GET", "/api/admin/analytics/watermarks",
        "how far each statistic has come, and what waits", "analytics watermarks", answers.watermarks,
    ),
    Command(
        "analytics revisions", "getRevisions", "GET", "/api/admin/analytics/{statistic}/{period}/revisions",
        "what the figures of a period were", "analytics revisions daily 2026-03-08",
        answers.table(
            number("revision"), time("computed", "computedAt"), time("replaced", "replacedAt"),
            prose("changed"),
        ),
        (
            path("statistic", "daily, weekly, monthly or behaviour"),
            path("period", "its start: 2026-03-08, or 2026-03-08T06:00Z for behaviour"),
        ),
    ),
    Command(
        "analytics anomalies", "getAnomalies", "GET", "/api/admin/analytics/anomalies",
        "what is out of the ordinary, in words", "analytics anomalies --open",
        answers.table(
            ident("id"), name("series"), period("since"), text("severity"), number("value"),
            number("expected"), text("state", answers.anomaly_state), prose("explanation"),
            empty="no anomalies",
        ),
        (
            *OPEN,
            query("--series", "only this series, for example day.sessions", metavar="NAME"),
            query("--severity", "only this severity", choices=("minor", "major", "critical")),
            FROM, TO, *BEFORE,
        ),
        pages="before",
    ),
    Command(
        "analytics series", "getSeries", "GET", "/api/admin/analytics/series",
        "the series that are watched for anomalies", "analytics series",
        answers.table(
            name("series", "name"), text("cadence"), text("measure"), period("through"),
            text("anomaly", "anomalyOpen"), empty="no series yet",
        ),
    ),
    Command(
        "analytics points", "getOneSeries", "GET", "/api/admin/analytics/series/{name}",
        "one series with its expected ranges, and what is to come", "analytics points day.sessions",
        answers.points, (path("name", "the series; analytics series lists them"), FROM, TO),
    ),
    Command(
        "export", "exportTable", "GET", "/api/admin/analytics/export/{table}",
        "a whole analytics table as a file", "export user_day --format parquet --out days.parquet",
        answers.as_json,
        (
            path("table", "user_day, daily, weekly, …; a wrong one is answered with all of them"),
            FROM, TO,
            query("--format", "how it is written", choices=("csv", "json", "parquet"), default="csv"),
        ),
        files=("*",),
    ),
    Command(
        "contract", "contract", "GET", "/api/openapi.yaml",
        "the description of the API", "contract --out openapi.yaml", answers.as_json, files=("*",),
    ),
)  # fmt: skip
