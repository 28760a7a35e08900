"""``Source``: what the service needs of a dashboard's database, whichever kind it is."""

from collections.abc import AsyncGenerator, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from service.dashboard.notification import Notification
from service.dashboard.profiles.shapes import Document, SourceQuery, Table
from service.errors import CleanupRefused, SchemaUnknown

IN_APP_REMEDY = "or set IN_APP=service to keep notifications here"
"""The other remedy where we cannot write to the dashboard's inbox."""

LONGEST_COMMAND = 60.0
"""Seconds after which a command that has no answer is given up: its connection may lead nowhere any more."""


@dataclass(frozen=True)
class SourcePage:
    """Documents, and the position behind the last of them (opaque; belongs to the source)."""

    documents: list[Document]
    after: str


@dataclass(frozen=True)
class DigestPage:
    """(id as text, digest) of documents, and the position behind the last of them.

    If ``after`` is unchanged, there are no more.
    """

    rows: list[tuple[str, int]]
    after: str


@dataclass(frozen=True)
class ChangeBatch:
    """Changes at the dashboard: the ids of documents that were written or deleted, by collection.

    ``replaced``: collections that were dropped or renamed. ``more``: whether others may follow at once.
    ``token``: the position behind all of it (opaque; belongs to the source).
    """

    ids: Mapping[str, Set[str]]
    replaced: frozenset[str]
    more: bool
    token: str


class ChangeStream(Protocol):
    """An open stream of changes; see ``MongoChangeStream``."""

    @property
    def watched(self) -> frozenset[str]: ...
    async def next_batch(self) -> ChangeBatch: ...
    async def close(self) -> None: ...


@dataclass(frozen=True)
class SourceDocument:
    """A document, and its complete text, from which the source can restore it (None: it cannot)."""

    document: Document
    body: str | None


_QUERY_KINDS = {"mongodb": "a pipeline of MongoDB", "postgresql": "a SELECT of PostgreSQL"}


def require_kind(table: Table, kind: str) -> SourceQuery | None:
    """The query that stands for a table, if any. Raises SchemaUnknown if it is for another database."""
    if table.query is not None and table.query.kind != kind:
        raise SchemaUnknown(
            f"{table.name} is {_QUERY_KINDS[table.query.kind]}; DASHBOARD_URL is of another kind"
        )
    return table.query


def read_only_obstacle(table: Table) -> str | None:
    """Why rows of a query of the mapping file cannot be removed or restored; None for a table."""
    if table.query is None:
        return None
    return f"{table.name} is a query of the mapping file: its rows can only be read, not removed or restored"


def require_writable(table: Table) -> None:
    """Raises CleanupRefused for a query of the mapping file."""
    if obstacle := read_only_obstacle(table):
        raise CleanupRefused(obstacle)


class Source(Protocol):
    """A dashboard's database. Every method raises SourceUnavailable when it cannot be reached, and
    SchemaUnknown where it refuses a query of the mapping file.

    The methods are described where ``MongoSource`` and ``PostgresSource`` implement them.
    """

    async def ping(self) -> None: ...
    async def close(self) -> None: ...
    async def table_names(self) -> frozenset[str]: ...
    async def exists(self, table: Table) -> bool: ...
    async def count(self, table: Table) -> int: ...
    async def hides_rows(self, table: Table) -> bool: ...
    async def sample(self, table: Table, limit: int) -> list[Document]: ...
    async def newest_update(self, table: Table) -> datetime | None: ...
    async def page(self, table: Table, after: str, limit: int) -> SourcePage: ...
    def changes(self, table: Table, since: datetime, limit: int) -> AsyncGenerator[list[Document], None]: ...
    async def lacks_index(self, table: Table) -> bool: ...
    async def digests(
        self, table: Table, after: str, limit: int, since: datetime | None = None
    ) -> DigestPage: ...
    async def watch(self, tables: Sequence[Table], token: str | None) -> ChangeStream: ...
    async def fetch(self, table: Table, ids: Sequence[str]) -> list[Document]: ...
    async def fetch_recent(
        self, table: Table, user_ids: Sequence[str], since: datetime
    ) -> list[Document]: ...
    async def existing(self, table: Table, ids: Sequence[str]) -> frozenset[str]: ...
    @property
    def kind(self) -> str: ...
    async def removal_obstacle(self, table: Table) -> str | None: ...
    async def originals(self, table: Table, ids: Sequence[str]) -> list[SourceDocument]: ...
    async def remove(self, table: Table, bodies: Mapping[str, str]) -> frozenset[str]: ...
    async def insert(self, table: Table, bodies: Mapping[str, str]) -> frozenset[str]: ...

    async def notify(
        self, notifications: Sequence[Notification], inbox: Table | None = None
    ) -> dict[str, str]:
        """Write notifications to the dashboard's inbox; existing ones are left unchanged.

        ``inbox``: where a mapping file says that they are stored; None: at the usual place. Returns the error
        message for each one that the dashboard refused, by its key. An empty list only checks whether writing
        is possible. Raises InboxClosed where there is no inbox, or where we may not write to it.
        """
        ...
