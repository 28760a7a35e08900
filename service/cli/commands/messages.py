"""Commands for mails and notifications: show, send, cancel, retry, forecast, explain."""

from service.cli import answers
from service.cli.arguments import (
    Argument,
    Location,
    body,
    client_option,
    day,
    instant,
    path,
    positional,
    positive_integer,
    query,
)
from service.cli.commands.command import BEFORE, Command
from service.cli.tables import ident, name, number, prose, text, time

_MESSAGE = path("id", "the message's number; messages list shows them", positive_integer)
_FILTERS = (
    query("--user", "only this user", metavar="ID"),
    query("--job", "only this job, for example reminder.goalDeadlines", metavar="NAME"),
    query("--reason", "only this reason, for example hard_bounce"),
    query("--channel", "only this channel", choices=("email", "in_app")),
    query("--from", "first local date of the recipient", day),
    query("--to", "last local date of the recipient", day),
    query("--address", "how the address begins; addresses are searched, never shown"),
)
_SOME_MESSAGES = (
    body("--user", "only this user", metavar="ID"),
    body("--job", "only this job, for example reminder.goalDeadlines", metavar="NAME"),
    body("--reason", "only this reason"),
    body("--from", "first local date of the recipient", day),
    body("--to", "last local date of the recipient", day),
    body("--address", "how the address begins"),
    body("--limit", "how many at most; default 1000", positive_integer),
    body("--dry-run", "only count them", field="dryRun", const=True),
)
_MAIL = (
    positional("name", "jobName", "for example weeklyReview"),
    body("--type", "the job's type", field="jobType", default="reminder"),
    body("--user", "what this user would get; without: a sample", field="userId", metavar="ID"),
    body("--at", "at another moment (needs --user)", instant),
    body("--variant", "which sample, for example streak"),
    body("--locale", "in another language"),
)
_PART = client_option("--format", "which part of it", choices=("text", "html", "source"), default="text")

_MESSAGES = answers.table(
    ident("id"), name("user", "userId"), text("job", answers.short_job), text("channel"), text("state"),
    text("reason"), time("settled", "settledAt"), name("date", "localDate", extra=True),
    time("planned", "plannedAt", extra=True),
    empty="no messages",
)  # fmt: skip

COMMANDS = (
    Command(
        "preview", "preview", "POST", "/api/admin/preview",
        "show the mail that a job would write", "preview weeklyReview --user 64f0c0ffee", answers.mail,
        (*_MAIL, _PART),
    ),
    Command(
        "test-send", "testSend", "POST", "/api/admin/test-send",
        "send that mail once to an address, marked as a test", "test-send weeklyReview --to you@example.org",
        answers.fields(text("message id", "messageId")),
        (*_MAIL, body("--to", "where it goes", required=True, metavar="ADDRESS")),
    ),
    # ── Messages ────────────────────────────────────────────────────────────────────────────────────────────
    Command(
        "messages list", "getDeliveries", "GET", "/api/admin/deliveries",
        "messages, newest first", "messages list --user 64f0c0ffee --state failed", _MESSAGES,
        (*_FILTERS, query("--state", "only this state, for example sent"), *BEFORE), pages="before",
    ),
    Command(
        "messages unconfirmed", "getUnconfirmed", "GET", "/api/admin/deliveries/unconfirmed",
        "mails of which nobody knows whether they were taken", "messages unconfirmed",
        answers.table(
            ident("id"), name("user", "userId"), text("job", answers.short_job), time("dot", "dotAt"),
            time("expires", "expiresAt"), number("code", "smtpCode"), prose("reply", "smtpReply"),
            empty="no message is unconfirmed",
        ),
        (*_FILTERS, *BEFORE), pages="before",
    ),
    Command(
        "messages show", "getMessage", "GET", "/api/admin/deliveries/{id}/message",
        "a message as it was, or would be, sent", "messages show 1234 --format source", answers.message,
        (_MESSAGE, _PART),
    ),
    Command(
        "messages attempts", "getAttempts", "GET", "/api/admin/deliveries/{id}/attempts",
        "when it was tried to send a mail, and what the server said", "messages attempts 1234",
        answers.table(
            time("at"), text("state"), text("reason"), number("code", "smtpCode"),
            time("next try", "nextTry"), prose("reply", "smtpReply"), empty="it was not tried yet",
        ),
        (_MESSAGE,),
    ),
    Command(
        "messages cancel", "cancelDelivery", "POST", "/api/admin/deliveries/{id}/cancel",
        "take back a message that is planned", "messages cancel 1234", answers.message_state, (_MESSAGE,),
    ),
    Command(
        "messages retry", "retryDelivery", "POST", "/api/admin/deliveries/{id}/retry",
        "plan a failed mail again", "messages retry 1234", answers.message_state, (_MESSAGE,),
    ),
    Command(
        "messages resend", "resend", "POST", "/api/admin/deliveries/{id}/resend",
        "send an unconfirmed message again", "messages resend 1234",
        answers.sentence("The message is planned again."), (_MESSAGE,),
    ),
    Command(
        "messages retry-failed", "retryDeliveries", "POST", "/api/admin/deliveries/retry",
        "plan all failed mails again that fit a filter",
        "messages retry-failed --reason smtp_timeout --dry-run",
        answers.fields(
            number("fit the filter", "matched"), number("can be sent again", "retryable"),
            number("planned again", "retried"), number("too late", "expired"),
            number("suppressed", "suppressed"), text("dry run", "dryRun"),
        ),
        _SOME_MESSAGES,
    ),
    Command(
        "messages try-now", "tryDeliveriesNow", "POST", "/api/admin/deliveries/try-now",
        "try at once what waits for another try, or for a domain that asked us to wait",
        "messages try-now --domain example.org",
        answers.fields(
            number("wait", "matched"), number("due now", "tried"), text("ended pauses", "domains"),
            text("dry run", "dryRun"),
        ),
        (
            body("--id", "only this message", positive_integer, metavar="ID"),
            body("--domain", "only recipients at this domain"),
            *_SOME_MESSAGES,
        ),
    ),
    Command(
        "bounce", "takeBounce", "POST", "/api/admin/bounces",
        "hand in what came to the bounce address, as it arrived", "bounce report.eml",
        answers.fields(
            text("understood as", "kind"), text("about"), ident("message", "deliveryId"), text("news")
        ),
        (
            Argument("file", "file", Location.RAW, "the mail; - is standard input"),
            query("--recipient", "the recipient of the envelope", metavar="ADDRESS"),
        ),
        content="message/rfc822",
    ),
    Command(
        "bounces", "countBounces", "GET", "/api/admin/bounces",
        "how many messages came back, and why", "bounces --days 7",
        answers.table(text("kind"), text("domain"), text("state"), text("reason"), text("messages")),
        (query("--days", "of how many days, up to 400; default 30", positive_integer),),
    ),
    Command(
        "forecast", "forecast", "GET", "/api/admin/forecast",
        "how many messages each reminder will send", "forecast --days 2 --job goalDeadlines",
        answers.forecast,
        (
            query("--days", "how far to look, up to 31; default 7", positive_integer),
            query("--job", "only this reminder", metavar="NAME"),
            query("--exact", "ask the job itself about its next slot (needs --job)", const=True),
        ),
        timeout=300,
    ),
    Command(
        "explain", "explain", "GET", "/api/admin/users/{id}/explain",
        "why somebody did, did not, or will (not) get a message", "explain goalDeadlines --user 64f0c0ffee",
        answers.explain,
        (
            Argument("name", "job", Location.QUERY, "for example goalDeadlines"),
            Argument("--user", "id", Location.PATH, "whom", required=True, metavar="ID"),
            query("--at", "any moment of the local date that is asked about; default now", instant),
        ),
    ),
)  # fmt: skip
