"""What both kinds of dashboard share: a slice of a table in id order, and the name of the inbox."""

from dataclasses import dataclass

from service.sources.profiles import Document

INBOX = "notifications"
"""The collection or table of the dashboard's own in-app notifications."""
INSTEAD = "or set IN_APP=service to keep notifications here"
"""The other remedy for an inbox that is closed."""


@dataclass(frozen=True)
class Page:
    """Documents, and the position behind the last of them (opaque; belongs to the source)."""

    documents: list[Document]
    after: str
