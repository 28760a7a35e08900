"""Texts that both local and remote commands use."""

from collections.abc import Mapping
from typing import Any

LOCAL = {
    "serve": "run the service until SIGTERM or Ctrl-C",
    "demo": "a sample dashboard, a local inbox, one run of goalDeadlines; then serve",
    "jobs": "list the jobs with their next slots, local and UTC",
    "run": "run one job now, for each user's local date",
    "preview": "show the mail that a job would write, or send it as a test",
    "explain": "why somebody did, did not, or will (not) get a message",
    "forecast": "how many messages each reminder will send",
    "analytics": "figures per period, cohorts, and how far they have come",
    "export": "a whole analytics table as a file",
    "archive": "the archived sessions by month; verify reads every file",
    "restore": "put a month's archived sessions back into the dashboard",
    "user": "everything that is stored about one person, as JSON; or its erasure",
    "sync": "copy what changed at the dashboard now; or confirm that it lost rows on purpose",
    "schema": "show a built-in profile as a mapping file, or try a mapping file on the dashboard",
    "migrate": "bring our database's schema up to date",
    "check-config": "check the configuration and name every problem",
}
"""The local commands with their help."""

EXAMPLES = {
    "serve": "serve",
    "demo": "demo",
    "jobs": "jobs",
    "run": "run reminder goalDeadlines --dry-run",
    "preview": "preview weeklyReview --variant quiet",
    "explain": "explain goalDeadlines --user 64f0c0ffee",
    "forecast": "forecast --days 2 --job goalDeadlines",
    "analytics": "analytics weekly --from 2026-03-01",
    "export": "export user_day --format parquet --out days.parquet",
    "archive": "archive verify",
    "restore": "restore --month 2026-01",
    "user": "user export 64f0c0ffee",
    "sync": "sync --confirm users",
    "schema": "schema try mapping.toml",
    "migrate": "migrate",
    "check-config": "check-config",
}
"""An example of each local command."""

SHARED = {"jobs", "run", "preview", "explain", "forecast", "export", "sync", "user export", "user erase"} | {
    f"analytics {view}"
    for view in (
        *("daily", "weekly", "monthly", "behaviour", "performance", "insights"),
        *("retention", "watermarks"),
    )
}
"""Commands of a running service that also exist as local ones."""

LOCAL_ONLY = frozenset(LOCAL) - {words.partition(" ")[0] for words in SHARED}
"""Commands that exist as local ones only."""

REASONS = {
    "planned": "mails planned",
    "in_app": "in-app notifications",
    "not_due": "nothing due today in their zone",
    "already_sent": "told before",
    "pref_email_off": "opted out of e-mail",
    "pref_category_off": "opted out of deadline reminders",
    "inactive_account": "account is not active",
    "no_email": "no usable e-mail address",
    "suppressed_address": "address is suppressed",
    "quiet_hours": "in their quiet hours",
    "user_error": "could not be decided (see the run)",
}
"""The counts of a run in words."""


def withdrawn_text(insight: Mapping[str, Any]) -> str:
    """A sentence that no longer holds, since when, and why."""
    return f"withdrawn on {str(insight['withdrawnAt'])[:10]} ({insight['why']}): {insight['text']}"
