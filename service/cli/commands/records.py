"""Commands for the audit log, alerts, and one person's data."""

from service.cli import answers
from service.cli.arguments import body, path, positive_integer, query
from service.cli.commands.command import BEFORE, CURSOR, FILES, FORMAT, FROM, OPEN, TO, Command
from service.cli.tables import ident, name, number, prose, text, time

_PERSON = path("id", "the user's id, as the dashboard has it")

COMMANDS = (
    Command(
        "audit", "getAudit", "GET", "/api/admin/audit",
        "who did what, newest first", "audit --act pause",
        answers.table(
            ident("id"), time("at", "at"), text("who"), name("act"), prose("what"), empty="no acts",
        ),
        (
            query("--who", "only this actor"), query("--act", "only this act, for example pause"),
            FROM, TO, *BEFORE,
        ),
        pages="before",
    ),
    Command(
        "alerts", "getAlerts", "GET", "/api/admin/alerts",
        "what is, or was, wrong for hours", "alerts --open",
        answers.table(
            ident("id"), name("alert", "name"), time("raised", "raisedAt"), time("cleared", "clearedAt"),
            prose("detail"), empty="no alerts",
        ),
        (*OPEN, *BEFORE), pages="before",
    ),
    Command(
        "sync", "sync", "POST", "/api/admin/sync",
        "read everything at the dashboard again; or confirm that it lost rows on purpose",
        'sync --full --reason "edited by hand"', answers.sync,
        (
            body("--full", "read every row again, whatever is known about it", const=True),
            body("--confirm", "rows that are missing at the dashboard are gone for good", field="confirmLoss",
                 choices=("users", "goals", "timer_sessions"), metavar="TABLE"),
            body("--rows", "confirm only if so many rows are missing", positive_integer),
            body("--reason", "why, for those who wonder", required=True),
        ),
    ),
    # ── People ──────────────────────────────────────────────────────────────────────────────────────────────
    Command(
        "user export", "exportUser", "GET", "/api/admin/users/{id}/data",
        "everything that is stored about one person, as JSON", "user export 64f0c0ffee --out person.json",
        answers.as_json, (_PERSON,), timeout=300,
    ),
    Command(
        "user erase", "eraseUser", "DELETE", "/api/admin/users/{id}/data",
        "erase one person for good", "user erase 64f0c0ffee", answers.as_json, (_PERSON,), timeout=300,
    ),
    Command(
        "user profile", "getProfile", "GET", "/api/admin/users/{id}/profile",
        "what is known of somebody's habits", "user profile 64f0c0ffee", answers.profile, (_PERSON,),
    ),
    Command(
        "user days", "getUserDays", "GET", "/api/admin/analytics/users/{id}/days",
        "somebody's local days", "user days 64f0c0ffee --from 2026-03-01",
        answers.table(
            name("date", "localDate"), number("started"), number("completed"), number("cancelled"),
            number("minutes", answers.focus_minutes), number("goals made", "goalsCreated"),
            number("reached", "goalsCompleted"), number("abandoned", extra=True), empty="no days",
        ),
        (_PERSON, FROM, TO, FORMAT, *CURSOR), pages="cursor", max_rows=1000, files=FILES,
    ),
    Command(
        "user notifications", "getNotifications", "GET", "/api/users/{id}/notifications",
        "somebody's in-app inbox", "user notifications 64f0c0ffee --unread",
        answers.table(
            ident("id"), time("since", "visibleFrom"), time("read", "readAt"), text("type"), text("title"),
            prose("message"), empty="no notifications",
        ),
        (_PERSON, query("--unread", "only unread ones", const=True), *BEFORE), pages="before",
    ),
    Command(
        "user read", "markRead", "POST", "/api/users/{id}/notifications/read",
        "mark notifications as read, some or all", "user read 64f0c0ffee --ids 3 4",
        answers.fields(number("marked", "changed"), number("still unread", "unread")),
        (_PERSON, body("--ids", "which; without: all", positive_integer, many=True)),
    ),
)  # fmt: skip
