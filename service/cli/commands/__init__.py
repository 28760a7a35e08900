"""One command for each operation of the API.

A test compares the commands with openapi.yaml: every operation under /api has exactly one command, and every
parameter and body field has an argument or option.
"""

from service.cli.commands import analytics, jobs, messages, records, suppressions
from service.cli.commands.command import Command

__all__ = ["COMMANDS", "GROUPS", "Command"]

COMMANDS = (
    *jobs.COMMANDS,
    *messages.COMMANDS,
    *suppressions.COMMANDS,
    *records.COMMANDS,
    *analytics.COMMANDS,
)
"""All commands, in the order of the help."""

GROUPS = {
    "runs": "runs of the jobs",
    "gates": "what is stopped",
    "messages": "mails and notifications",
    "suppressions": "addresses that are not written to",
    "user": "one person",
    "analytics": "figures, cohorts, anomalies",
}
"""Groups of commands with the same first word."""
