"""What is asked of a dashboard, of whichever kind: ``Source``, and what its answers consist of."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from service.dashboard.notification import Notification
from service.dashboard.profiles.shapes import Document, Table

INBOX = "notifications"
"""The collection or table of the dashboard's own in-app notifications."""
IN_APP_REMEDY = "or set IN_APP=service to keep notifications here"
"""The other remedy for an inbox that is closed."""


@dataclass(frozen=True)
class SourcePage:
    """Documents, and the position behind the last of them (opaque; belongs to the source)."""

    documents: list[Document]
    after: str


@dataclass(frozen=True)
class IdPage:
    """Ids as text, and the position behind the last of them; ``after`` did not move: there are no more."""

    ids: list[str]
    after: str


@dataclass(frozen=True)
class SourceDocument:
    """A document, and all of it as text from which the source makes the same again (None: it could not)."""

    document: Document
    body: str | None


class Source(Protocol):
    """What a dashboard is asked. Every method raises SourceUnavailable when it cannot be reached."""

    async def ping(self) -> None: ...
    async def close(self) -> None: ...
    async def table_names(self) -> frozenset[str]: ...
    async def exists(self, name: str) -> bool: ...
    async def sample(self, name: str, limit: int) -> list[Document]: ...
    async def newest_update(self, table: Table) -> datetime | None: ...
    async def page(self, table: Table, after: str, limit: int) -> SourcePage: ...
    def changes(self, table: Table, since: datetime, limit: int) -> AsyncGenerator[list[Document], None]: ...
    async def has_undated(self, table: Table) -> bool: ...
    async def lacks_index(self, table: Table) -> bool: ...
    async def ids(self, table: Table, after: str, limit: int) -> IdPage: ...
    async def fetch(self, table: Table, ids: Sequence[str]) -> list[Document]: ...
    async def existing(self, table: Table, ids: Sequence[str]) -> frozenset[str]: ...
    @property
    def kind(self) -> str: ...
    async def removal_obstacle(self, table: Table) -> str | None: ...
    async def originals(self, table: Table, ids: Sequence[str]) -> list[SourceDocument]: ...
    async def remove(self, table: Table, bodies: Mapping[str, str]) -> frozenset[str]: ...
    async def insert(self, table: Table, bodies: Mapping[str, str]) -> frozenset[str]: ...

    async def notify(self, notifications: Sequence[Notification]) -> dict[str, str]:
        """Write notes into the dashboard's inbox; one that is there already is left as it is.

        Returns what the dashboard refused: key to its words. No notes: only ask whether it could be done.
        Raises InboxClosed where there is no inbox, or none that we may write to.
        """
        ...
