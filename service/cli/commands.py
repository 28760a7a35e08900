"""Every operation of the API as a command: one line of this table each.

A test holds the table against openapi.yaml: every operation under /api has exactly one command, and every
parameter and field of a body has its word or option.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from service.cli import answers
from service.cli.arguments import Argument, Where, body, day, delay, here, instant, path, query, whole, word
from service.cli.tables import Block, ident, name, number, period, prose, share, text, time

Show = Callable[..., list[Block]]
"""From an answer to what is printed; mails are asked for one part of them."""


@dataclass(frozen=True, slots=True)
class Command:
    """One command of a running service."""

    words: str
    operation: str
    """Its operationId in openapi.yaml."""
    method: str
    path: str
    text: str
    example: str
    show: Show
    arguments: tuple[Argument, ...] = ()
    pages: str = ""
    """The parameter that asks for the next page; empty: the answer is whole."""
    most: int = 500
    """Rows that one page may hold."""
    content: str = "application/json"
    """The type of what is sent."""
    files: tuple[str, ...] = ()
    """Values of --format that are streamed as they come; ``*``: always."""
    well: Callable[[Any], bool] = answers.always
    """Whether the answer is a success; where not, the exit code is 1."""
    answered: tuple[int, ...] = (200, 201, 202)
    """Statuses that are answers, not errors."""
    patience: float = 60
    """Seconds that the service may keep silent."""

    @property
    def acts(self) -> bool:
        """Whether it changes something: then the service takes an Idempotency-Key, and acts once for it."""
        return self.method != "GET" and self.operation != "preview"


_JOB = (path("type", "reminder or analytics"), path("name", "for example goalDeadlines"))
_JOB_BODY = (
    word("type", "jobType", "reminder or analytics"),
    word("name", "jobName", "for example goalDeadlines"),
)
_RUN = path("id", "the run's number; runs list shows them", whole)
_MESSAGE = path("id", "the message's number; messages list shows them", whole)
_PERSON = path("id", "the user's id, as the dashboard has it")
_FROM = query("--from", "first date, included", day)
_TO = query("--to", "last date, included", day)
_BEFORE = (
    query("--limit", "how many rows; default 50", whole),
    query("--before", "only older than this number", whole),
)
_CURSOR = (
    query("--limit", "how many rows; default 100", whole),
    query("--cursor", "from where the page before ended"),
)
_FILES = ("csv", "parquet")
_FORMAT = query("--format", "how it is written", choices=("table", "json", *_FILES), default="table")
_OPEN = (
    query("--open", "only what holds now", sent=True),
    query("--over", "only what is over", field="open", sent=False),
)
_FILTERS = (
    query("--user", "only this user", metavar="ID"),
    query("--job", "only this job, for example reminder.goalDeadlines", metavar="NAME"),
    query("--reason", "only this reason, for example hard_bounce"),
    query("--channel", "only this channel", choices=("email", "in_app")),
    query("--from", "first local date of the recipient", day),
    query("--to", "last local date of the recipient", day),
    query("--address", "how the address begins; addresses are searched, never shown"),
)
_MAIL = (
    word("name", "jobName", "for example weeklyReview"),
    body("--type", "the job's type", field="jobType", default="reminder"),
    body("--user", "what this user would get; without: a sample", field="userId", metavar="ID"),
    body("--at", "at another moment (needs --user)", instant),
    body("--variant", "which sample, for example streak"),
    body("--locale", "in another language"),
)
_PART = here("--format", "which part of it", choices=("text", "html", "source"), default="text")

_MESSAGES = answers.listed(
    ident("id"), name("user", "userId"), text("job", answers.short_job), text("channel"), text("state"),
    text("reason"), time("settled", "settledAt"), name("date", "localDate", extra=True),
    time("planned", "plannedAt", extra=True),
    empty="no messages",
)  # fmt: skip
_PERIOD = (period("period"), text("state", answers.standing))


def _figures(view: str, operation: str, what: str, show: Show) -> Command:
    return Command(
        f"analytics {view}", operation, "GET", f"/api/admin/analytics/{view}", what,
        f"analytics {view} --from 2026-03-01", show, (_FROM, _TO, _FORMAT, *_CURSOR),
        pages="cursor", most=1000, files=_FILES,
    )  # fmt: skip


COMMANDS = (
    # ── Jobs ────────────────────────────────────────────────────────────────────────────────────────────────
    Command(
        "jobs", "getStatus", "GET", "/api/admin/jobs/status",
        "the jobs now: schedule, pause, last run", "jobs", answers.jobs,
    ),
    Command(
        "health", "getHealth", "GET", "/api/admin/jobs/health",
        "healthy or not, and why; exit code 1 when not", "health", answers.health,
        well=answers.healthy, answered=(200, 503),
    ),
    Command(
        "statistics", "getStatistics", "GET", "/api/admin/jobs/statistics",
        "runs by their state, per type and job", "statistics", answers.statistics,
    ),
    Command(
        "run", "runJob", "POST", "/api/admin/jobs/run",
        "run one job now, for each user's local date", "run reminder goalDeadlines --dry-run", answers.ran,
        (
            *_JOB_BODY,
            body("--dry-run", "decide, write nothing", field="dryRun", sent=True),
            body("--as-of", "another moment, ISO 8601 with a zone", instant, field="asOf"),
            body("--user", "one user only", field="userId", metavar="ID"),
            body("--force", "send even if it was sent before (needs --user)", sent=True),
            body("--confirm", "dataCleanup: more than 20 %% of the sessions may go", sent=True),
            body("--no-wait", "do not wait for its end; see runs watch", field="wait", sent=False),
        ),
        well=answers.run_went_well, patience=3600,
    ),
    Command(
        "restart", "restart", "POST", "/api/admin/jobs/restart",
        "stop and start the loops of a job type", "restart reminder", answers.restarted,
        (word("type", "jobType", "reminder or analytics"),),
    ),
    Command(
        "schedule", "scheduleOnce", "POST", "/api/admin/jobs/schedule",
        "run a job once, later", "schedule reminder goalDeadlines --in 30m",
        answers.told(ident("run", "id"), text("state"), time("runs at", "runAt")),
        (
            *_JOB_BODY,
            body("--in", "after this while: 90s, 30m, 2h, 7d (30 days at most)", delay, field="delayMs",
                 required=True),
        ),
    ),
    Command(
        "unschedule", "unschedule", "DELETE", "/api/admin/jobs/schedule/{id}",
        "take back a run that was scheduled", "unschedule 42", answers.said("The run is taken back."),
        (path("id", "its number, as schedule told it", whole),),
    ),
    Command(
        "pause", "pause", "POST", "/api/admin/jobs/{type}/{name}/pause",
        "let a job's slots pass", "pause reminder dailyCheck --reason holidays --until 2026-12-27T00:00:00Z",
        answers.said("The job is paused; its slots pass."),
        (
            *_JOB,
            body("--reason", "why, for those who wonder"),
            body("--until", "resume by itself then; without: until resume", instant),
        ),
    ),
    Command(
        "resume", "resume", "POST", "/api/admin/jobs/{type}/{name}/resume",
        "end a pause", "resume reminder dailyCheck", answers.said("The job is not paused."), _JOB,
    ),
    Command(
        "backfill", "backfill", "POST", "/api/admin/jobs/{type}/{name}/backfill",
        "derive the figures of a range again",
        "backfill analytics dailyAnalytics --from 2026-03-01 --to 2026-03-08 --preview", answers.backfilled,
        (
            *_JOB,
            body("--from", "first date, included", day, required=True),
            body("--to", "last date, included", day, required=True),
            body("--preview", "only tell which periods", sent=True),
        ),
    ),
    # ── Runs ────────────────────────────────────────────────────────────────────────────────────────────────
    Command(
        "runs list", "getHistory", "GET", "/api/admin/jobs/history",
        "runs, newest first", "runs list --type reminder --state failed",
        answers.listed(
            ident("id"), name("job", "jobName"), text("state"), text("trigger"), time("slot", "nominalAt"),
            text("took", answers.took), number("done"), text("reason", extra=True),
            name("type", "jobType", extra=True), empty="no runs",
        ),
        (
            query("--type", "only this type", field="jobType"),
            query("--name", "only this job (needs --type)", field="jobName"),
            query("--state", "only this state, for example failed"),
            *_BEFORE,
        ),
        pages="before",
    ),
    Command(
        "runs show", "getRun", "GET", "/api/admin/runs/{id}",
        "one run: its attempts, its counts, its messages", "runs show 42", answers.run, (_RUN,),
    ),
    Command(
        "runs watch", "getRunEvents", "GET", "/api/admin/runs/{id}/events",
        "a run's progress, line by line, up to its end; exit code 1 unless it succeeded", "runs watch 42",
        answers.progress, (_RUN,), well=answers.run_went_well,
    ),
    Command(
        "runs cancel", "cancelRun", "POST", "/api/admin/runs/{id}/cancel",
        "ask a run to stop", "runs cancel 42", answers.said("The run is asked to stop."), (_RUN,),
    ),
    Command(
        "runs retry", "retryRun", "POST", "/api/admin/runs/{id}/retry",
        "let a run that failed, or is dead, go on where it stopped", "runs retry 42",
        answers.said("The run goes on; see runs watch."), (_RUN,),
    ),
    Command(
        "runs waive", "waiveRun", "POST", "/api/admin/runs/{id}/waive",
        "leave a run that failed, or is dead, as it is; health is red about it no longer",
        "runs waive 42 --reason imported-twice", answers.said("The run is waived."),
        (_RUN, body("--reason", "why, for those who wonder", required=True)),
    ),
    # ── Mails ───────────────────────────────────────────────────────────────────────────────────────────────
    Command(
        "preview", "preview", "POST", "/api/admin/preview",
        "show the mail that a job would write", "preview weeklyReview --user 64f0c0ffee", answers.mail,
        (*_MAIL, _PART),
    ),
    Command(
        "test-send", "testSend", "POST", "/api/admin/test-send",
        "send that mail once to an address, marked as a test", "test-send weeklyReview --to you@example.org",
        answers.told(text("message id", "messageId")),
        (*_MAIL, body("--to", "where it goes", required=True, metavar="ADDRESS")),
    ),
    # ── Messages ────────────────────────────────────────────────────────────────────────────────────────────
    Command(
        "messages list", "getDeliveries", "GET", "/api/admin/deliveries",
        "messages, newest first", "messages list --user 64f0c0ffee --state failed", _MESSAGES,
        (*_FILTERS, query("--state", "only this state, for example sent"), *_BEFORE), pages="before",
    ),
    Command(
        "messages unconfirmed", "getUnconfirmed", "GET", "/api/admin/deliveries/unconfirmed",
        "mails of which nobody knows whether they were taken", "messages unconfirmed",
        answers.listed(
            ident("id"), name("user", "userId"), text("job", answers.short_job), time("dot", "dotAt"),
            time("expires", "expiresAt"), number("code", "smtpCode"), prose("reply", "smtpReply"),
            empty="no message is unconfirmed",
        ),
        (*_FILTERS, *_BEFORE), pages="before",
    ),
    Command(
        "messages show", "getMessage", "GET", "/api/admin/deliveries/{id}/message",
        "a message as it was, or would be, sent", "messages show 1234 --format source", answers.message,
        (_MESSAGE, _PART),
    ),
    Command(
        "messages cancel", "cancelDelivery", "POST", "/api/admin/deliveries/{id}/cancel",
        "take back a message that is planned", "messages cancel 1234", answers.acted, (_MESSAGE,),
    ),
    Command(
        "messages retry", "retryDelivery", "POST", "/api/admin/deliveries/{id}/retry",
        "plan a failed mail again", "messages retry 1234", answers.acted, (_MESSAGE,),
    ),
    Command(
        "messages resend", "resend", "POST", "/api/admin/deliveries/{id}/resend",
        "send an unconfirmed message again", "messages resend 1234",
        answers.said("The message is planned again."), (_MESSAGE,),
    ),
    Command(
        "messages retry-failed", "retryDeliveries", "POST", "/api/admin/deliveries/retry",
        "plan all failed mails again that fit a filter",
        "messages retry-failed --reason smtp_timeout --dry-run",
        answers.told(
            number("fit the filter", "matched"), number("can be sent again", "retryable"),
            number("planned again", "retried"), number("too late", "expired"),
            number("suppressed", "suppressed"), text("dry run", "dryRun"),
        ),
        (
            body("--user", "only this user", metavar="ID"),
            body("--job", "only this job, for example reminder.goalDeadlines", metavar="NAME"),
            body("--reason", "only this reason"),
            body("--from", "first local date of the recipient", day),
            body("--to", "last local date of the recipient", day),
            body("--address", "how the address begins"),
            body("--limit", "how many at most; default 1000", whole),
            body("--dry-run", "only count them", field="dryRun", sent=True),
        ),
    ),
    Command(
        "bounce", "takeBounce", "POST", "/api/admin/bounces",
        "hand in a bounce or a complaint as it arrived", "bounce report.eml",
        answers.told(text("understood as", "kind"), ident("message", "deliveryId"), text("news")),
        (
            Argument("file", "file", Where.RAW, "the mail; - is standard input"),
            query("--recipient", "the recipient of the envelope", metavar="ADDRESS"),
        ),
        content="message/rfc822",
    ),
    Command(
        "forecast", "forecast", "GET", "/api/admin/forecast",
        "how many messages each reminder will send", "forecast --days 2 --job goalDeadlines",
        answers.forecast,
        (
            query("--days", "how far to look, up to 31; default 7", whole),
            query("--job", "only this reminder", metavar="NAME"),
            query("--exact", "ask the job itself about its next slot (needs --job)", sent=True),
        ),
        patience=300,
    ),
    Command(
        "explain", "explain", "GET", "/api/admin/users/{id}/explain",
        "why somebody did, did not, or will (not) get a message", "explain goalDeadlines --user 64f0c0ffee",
        answers.explain,
        (
            Argument("name", "job", Where.QUERY, "for example goalDeadlines"),
            Argument("--user", "id", Where.PATH, "whom", required=True, metavar="ID"),
            query("--at", "any moment of the local date that is asked about; default now", instant),
        ),
    ),
    # ── What happened ───────────────────────────────────────────────────────────────────────────────────────
    Command(
        "audit", "getAudit", "GET", "/api/admin/audit",
        "who did what, newest first", "audit --act pause",
        answers.listed(
            ident("id"), time("at", "at"), text("who"), name("act"), prose("what"), empty="no acts",
        ),
        (
            query("--who", "only this actor"), query("--act", "only this act, for example pause"),
            _FROM, _TO, *_BEFORE,
        ),
        pages="before",
    ),
    Command(
        "alerts", "getAlerts", "GET", "/api/admin/alerts",
        "what is, or was, wrong for hours", "alerts --open",
        answers.listed(
            ident("id"), name("alert", "name"), time("raised", "raisedAt"), time("cleared", "clearedAt"),
            prose("detail"), empty="no alerts",
        ),
        (*_OPEN, *_BEFORE), pages="before",
    ),
    # ── People ──────────────────────────────────────────────────────────────────────────────────────────────
    Command(
        "user export", "exportUser", "GET", "/api/admin/users/{id}/data",
        "everything that is stored about one person, as JSON", "user export 64f0c0ffee --out person.json",
        answers.whole, (_PERSON,), patience=300,
    ),
    Command(
        "user erase", "eraseUser", "DELETE", "/api/admin/users/{id}/data",
        "erase one person for good", "user erase 64f0c0ffee", answers.whole, (_PERSON,), patience=300,
    ),
    Command(
        "user profile", "getProfile", "GET", "/api/admin/users/{id}/profile",
        "what is known of somebody's habits", "user profile 64f0c0ffee", answers.profile, (_PERSON,),
    ),
    Command(
        "user days", "getUserDays", "GET", "/api/admin/analytics/users/{id}/days",
        "somebody's local days", "user days 64f0c0ffee --from 2026-03-01",
        answers.listed(
            name("date", "localDate"), number("started"), number("completed"), number("cancelled"),
            number("minutes", answers.minutes), number("goals made", "goalsCreated"),
            number("reached", "goalsCompleted"), number("abandoned", extra=True), empty="no days",
        ),
        (_PERSON, _FROM, _TO, _FORMAT, *_CURSOR), pages="cursor", most=1000, files=_FILES,
    ),
    Command(
        "user notifications", "getNotifications", "GET", "/api/users/{id}/notifications",
        "somebody's in-app inbox", "user notifications 64f0c0ffee --unread",
        answers.listed(
            ident("id"), time("since", "visibleFrom"), time("read", "readAt"), text("type"), text("title"),
            prose("message"), empty="no notifications",
        ),
        (_PERSON, query("--unread", "only unread ones", sent=True), *_BEFORE), pages="before",
    ),
    Command(
        "user read", "markRead", "POST", "/api/users/{id}/notifications/read",
        "mark notifications as read, some or all", "user read 64f0c0ffee --ids 3 4",
        answers.told(number("marked", "changed"), number("still unread", "unread")),
        (_PERSON, body("--ids", "which; without: all", whole, many=True)),
    ),
    # ── Analytics ───────────────────────────────────────────────────────────────────────────────────────────
    _figures("daily", "getDaily", "figures of days, with their trends", answers.listed(
        *_PERIOD, number("active", "activeUsers"), number("sessions", "totalSessions"),
        number("minutes", "totalFocusTime"), share("done", "sessionCompletionRate"),
        prose("trends", answers.trends), number("new", "newUsers", extra=True),
        number("DAU", "dau", extra=True),
        number("WAU", "wau", extra=True), number("MAU", "mau", extra=True),
        share("stickiness", "stickiness", extra=True),
    )),
    _figures("weekly", "getWeekly", "figures of weeks from Sunday", answers.listed(
        *_PERIOD, number("active", "activeUsers"), number("sessions", "totalSessions"),
        number("minutes", "totalFocusTime"), number("new", "lifecycle.new"),
        number("back", "lifecycle.returning"), number("dormant", "lifecycle.dormant"),
        number("resurrecting", "lifecycle.resurrecting", extra=True),
        share("D1", "retentionData.d1.rate", extra=True), share("D7", "retentionData.d7.rate", extra=True),
        share("D30", "retentionData.d30.rate", extra=True),
    )),
    _figures("monthly", "getMonthly", "figures of calendar months", answers.listed(
        *_PERIOD, number("users", "totalUsers"), number("active", "activeUsers"), number("new", "newUsers"),
        number("at risk", "userSegments.atRisk"), number("churned", "userSegments.churned"),
        share("churn", "churnAnalysis.rate"), number("sessions", "totalSessions"),
        number("power", "userSegments.power", extra=True),
        number("per user", "averageSessionsPerUser", extra=True),
        number("goals made", "goalsCreated", extra=True), number("reached", "goalsCompleted", extra=True),
    )),
    _figures("behaviour", "getBehaviour", "windows of six hours, UTC", answers.listed(
        *_PERIOD, number("users"), number("started", "sessionsStarted"),
        number("completed", "sessionsCompleted"), number("minutes each", "averageSessionLength"),
        share("cancelled", "cancelledRate"), number("rating", "averageRating", extra=True),
        number("ratings", "ratings", extra=True),
    )),
    _figures("performance", "getPerformance", "hours of the service itself, UTC", answers.listed(
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
            _FROM, _TO, _FORMAT,
        ),
        files=_FILES,
    ),
    Command(
        "analytics watermarks", "getWatermarks", "GET", "/api/admin/analytics/watermarks",
        "how far each statistic has come, and what waits", "analytics watermarks", answers.watermarks,
    ),
    Command(
        "analytics revisions", "getRevisions", "GET", "/api/admin/analytics/{statistic}/{period}/revisions",
        "what the figures of a period were", "analytics revisions daily 2026-03-08",
        answers.listed(
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
        answers.listed(
            ident("id"), name("series"), period("since"), text("severity"), number("value"),
            number("expected"), text("state", answers.openness), prose("explanation"), empty="no anomalies",
        ),
        (
            *_OPEN,
            query("--series", "only this series, for example day.sessions", metavar="NAME"),
            query("--severity", "only this severity", choices=("minor", "major", "critical")),
            _FROM, _TO, *_BEFORE,
        ),
        pages="before",
    ),
    Command(
        "analytics series", "getSeries", "GET", "/api/admin/analytics/series",
        "the series that are watched for anomalies", "analytics series",
        answers.listed(
            name("series", "name"), text("cadence"), text("measure"), period("through"),
            text("anomaly", "anomalyOpen"), empty="no series yet",
        ),
    ),
    Command(
        "analytics points", "getOneSeries", "GET", "/api/admin/analytics/series/{name}",
        "one series with its expected ranges, and what is to come", "analytics points day.sessions",
        answers.points, (path("name", "the series; analytics series lists them"), _FROM, _TO),
    ),
    Command(
        "export", "exportTable", "GET", "/api/admin/analytics/export/{table}",
        "a whole analytics table as a file", "export user_day --format parquet --out days.parquet",
        answers.whole,
        (
            path("table", "user_day, daily, weekly, …; a wrong one is answered with all of them"),
            _FROM, _TO,
            query("--format", "how it is written", choices=("csv", "json", "parquet"), default="csv"),
        ),
        files=("*",),
    ),
    Command(
        "contract", "contract", "GET", "/api/openapi.yaml",
        "the description of the API", "contract --out openapi.yaml", answers.whole, files=("*",),
    ),
)  # fmt: skip
"""All of them, in the order of their help."""

BY_WORDS = {command.words: command for command in COMMANDS}

GROUPS = {
    "runs": "runs of the jobs",
    "messages": "mails and notifications",
    "user": "one person",
    "analytics": "figures, cohorts, anomalies",
}
"""First words that several commands share."""
