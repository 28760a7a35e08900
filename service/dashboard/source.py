"""What both kinds of dashboard share: a slice of a table, a document as it is stored, the inbox's name."""

from dataclasses import dataclass

from service.dashboard.profiles.shapes import Document

INBOX = "notifications"
"""The collection or table of the dashboard's own in-app notifications."""
INSTEAD = "or set IN_APP=service to keep notifications here"
"""The other remedy for an inbox that is closed."""


@dataclass(frozen=True)
class Page:
    """Documents, and the position behind the last of them (opaque; belongs to the source)."""

    documents: list[Document]
    after: str


@dataclass(frozen=True)
class Keys:
    """Ids as text, and the position behind the last of them; ``after`` did not move: there are no more."""

    ids: list[str]
    after: str


@dataclass(frozen=True)
class Original:
    """A document, and all of it as text from which the source makes the same again (None: it could not)."""

    document: Document
    body: str | None
