"""Every operation of the API as a command: one line of this table each.

A test holds the table against openapi.yaml: every operation under /api has exactly one command, and every
parameter and field of a body has its word or option.
"""

from service.cli.commands import analytics, jobs, messages, records
from service.cli.commands.command import Command

__all__ = ["COMMANDS", "GROUPS", "Command"]

COMMANDS = (*jobs.COMMANDS, *messages.COMMANDS, *records.COMMANDS, *analytics.COMMANDS)
"""All of them, in the order of their help."""

GROUPS = {
    "runs": "runs of the jobs",
    "messages": "mails and notifications",
    "user": "one person",
    "analytics": "figures, cohorts, anomalies",
}
"""First words that several commands share."""
