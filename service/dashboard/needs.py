"""Data that jobs need and the dashboard does not have.

A *gap* is a table that does not exist, a field without which a record cannot be read, or a field that some
jobs need (addresses, due dates). While there is a gap, the jobs that need the data wait, and the copy keeps
what it has: a table that cannot be read is not updated, and a missing address or due date overwrites none.
"""

import random
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import asyncpg

from service.dashboard.profiles.detect import REQUIRED
from service.dashboard.profiles.fields import share, values
from service.dashboard.profiles.shapes import NOTIFICATIONS, Collection, Document, Profile, Table
from service.dashboard.profiles.values import identity, instant
from service.engine import gates, queries
from service.engine.gates import Cause, Scope
from service.errors import DashboardIncomplete, JobOff, SchemaUnknown

_SQL = queries.load(__file__)
_ENOUGH_TO_JUDGE = 10
_PROBES = 20
_ADDRESS = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s.]+")
NEEDED_BY_SOME_JOBS = {Collection.USERS: "email", Collection.GOALS: "due"}
"""Fields without which a record can be read, but that some jobs need."""

_GATE, _BY = (Scope.TABLE, Cause.FIELD), "synchronisation"

Samples = Mapping[str, Sequence[Document]]
"""Table name to its newest documents."""


class TableSource(Protocol):
    """The part of ``source.Source`` that is needed here."""

    @property
    def kind(self) -> str: ...
    async def exists(self, table: Table) -> bool: ...
    async def sample(self, table: Table, limit: int) -> list[Document]: ...
    async def fetch(self, table: Table, ids: Sequence[str]) -> list[Document]: ...


@dataclass(frozen=True, slots=True)
class MissingData:
    """A table or field that the dashboard lacks. ``field``: canonical; None: the whole table.

    ``sentence``: a description for people. ``looks_like``: the name of a table or field that may hold it.
    """

    table: Collection
    field: str | None
    sentence: str
    looks_like: str | None = None

    @property
    def name(self) -> str:
        """``goals``, ``users.email``."""
        return f"{self.table}.{self.field}" if self.field else str(self.table)

    @property
    def readable(self) -> bool:
        """Whether records of its table can still be read."""
        return _is_readable_without(self.name)


def waits_for(needs: frozenset[str], name: str) -> bool:
    """Whether a job with these needs waits for missing data of this name (``goals``, ``users.email``).

    A missing address or due date stops the jobs that need that field. Anything else makes its table
    unreadable, which stops every job that needs the table or a field of it.
    """
    if _is_readable_without(name):
        return name in needs
    return any(_table(need) is _table(name) for need in needs)


def _table(name: str) -> Collection:
    return Collection(name.partition(".")[0])


def _is_readable_without(name: str) -> bool:
    """Whether records of the table can be read while this is missing."""
    return NEEDED_BY_SOME_JOBS.get(_table(name)) == name.partition(".")[2]


def absent_tables(profiles: Sequence[Profile]) -> frozenset[str]:
    """Tables that do not exist, according to the mapping file."""
    return frozenset(str(c) for c in Collection if not any(p.table(c).name for p in profiles))


class MissingDataCheck:
    """Finds missing data, and shuts a gate for each of it, which all processes see."""

    def __init__(self, pool: asyncpg.Pool, source: TableSource) -> None:
        self._pool = pool
        self._source = source
        self.current: list[MissingData] = []
        """What was missing when this process checked last."""

    async def check(self, profile: Profile, tables: frozenset[str], samples: Samples) -> None:
        """Compare the tables and fields of the profile with those that exist."""
        missing: list[MissingData] = []
        for collection in Collection:
            if profile.table(collection).name:
                missing += await self._check_table(profile, collection, tables, samples)
        self.current = missing

    def unreadable(self, collection: Collection) -> bool:
        """Whether a table must not be read now, because the result would be wrong."""
        return any(gap.table is collection and not gap.readable for gap in self.current)

    def exists_but_unreadable(self, collection: Collection) -> bool:
        """Whether a table exists, but cannot be read; one that does not exist has lost all of its rows."""
        return self.unreadable(collection) and str(collection) not in {gap.name for gap in self.current}

    async def fill_from_copy(self, collection: Collection, records: Sequence[Any]) -> Sequence[Any]:
        """The records to store; while addresses or due dates are missing, with those of the copy."""
        if not records or not any(gap.table is collection and gap.readable for gap in self.current):
            return records
        rows = await self._pool.fetch(_SQL[f"stored_{collection}"], [record.id for record in records])
        stored = {row["id"]: {k: v for k, v in row.items() if k != "id"} for row in rows}
        return [_fill_missing(record, stored.get(record.id, {})) for record in records]

    # ── Shared by all processes ─────────────────────────────────────────────────────────────────────────────

    async def require(self, needs: frozenset[str]) -> None:
        """Raises DashboardIncomplete where the dashboard lacks some of this."""
        rows = [row for row in await self._pool.fetch(_SQL["load"]) if waits_for(needs, row["name"])]
        if rows:
            raise DashboardIncomplete(
                "; ".join(row["said"] for row in rows), tuple(row["name"] for row in rows)
            )

    async def unreadable_tables(self) -> frozenset[Collection]:
        """The tables that must not be read, by the last synchronisation of any process."""
        names = [row["name"] for row in await self._pool.fetch(_SQL["load"])]
        return frozenset(_table(name) for name in names if not _is_readable_without(name))

    async def store(self) -> frozenset[Collection]:
        """Store what is missing now; returns the tables with data that was missing and is there again."""
        before = {row["name"] for row in await self._pool.fetch(_SQL["load"])}
        for gap in self.current:
            await gates.shut(self._pool, *_GATE, gap.name, by=_BY, details={"said": gap.sentence})
        back = before - {gap.name for gap in self.current}
        return frozenset(map(_table, back))

    async def open_resolved(self) -> None:
        """Open the gates of what is there again, once it has been read: jobs no longer wait for it."""
        await gates.open_others(self._pool, *_GATE, [gap.name for gap in self.current], _BY)

    # ── One table ───────────────────────────────────────────────────────────────────────────────────────────

    async def _check_table(
        self, profile: Profile, collection: Collection, tables: frozenset[str], samples: Samples
    ) -> list[MissingData]:
        table = profile.table(collection)
        documents = samples.get(table.name, ())
        try:
            exists = bool(documents) or table.name in tables or await self._source.exists(table)
        except SchemaUnknown as error:  # a query of the mapping file
            return [MissingData(collection, None, str(error))]
        if not exists:
            gap = await self._missing_table(profile, collection, tables, samples)
            return [gap] if gap else []
        if not documents:
            return []
        missing = [field for field in REQUIRED[collection] if share(table, field, documents) < 0.5]
        if missing:
            return [_missing_field(table, collection, field, documents) for field in missing]
        gap = await self._missing_value(table, collection, documents)
        return [gap] if gap else []

    async def _missing_table(
        self, profile: Profile, collection: Collection, tables: frozenset[str], samples: Samples
    ) -> MissingData | None:
        """A table that does not exist, or None where it may just not exist yet.

        In PostgreSQL a table exists before its rows. MongoDB creates a collection with its first document,
        so that a new dashboard looks like a wrong one. It is a gap if one of these holds:

        - the copy has rows of the table, so it used to exist;
        - the users are missing, but there are goals or sessions;
        - there are ten users or more, of whom somebody would have a goal or a session;
        - a collection that the profile does not know holds ids of users.
        """
        name = profile.table(collection).stored_as
        users = samples.get(profile.users.name, ())
        candidate = None
        if self._source.kind == "mongodb":
            candidate = await self._collection_with_user_ids(profile, tables, users)
            certain = (
                candidate
                or len(users) >= _ENOUGH_TO_JUDGE
                or (collection is Collection.USERS and any(samples.values()))
            )
            if not certain and not await self._pool.fetchval(_SQL[f"holds_{collection}"]):
                return None
        kind = "collection" if self._source.kind == "mongodb" else "table"
        hint = f"; `{candidate}` holds something of its users" if candidate else ""
        sentence = f"the dashboard has no {kind} {name} (profile {profile.name}){hint}"
        return MissingData(
            collection,
            None,
            f"{sentence}; name it in a mapping file, or say there that there is none",
            candidate,
        )

    async def _collection_with_user_ids(
        self, profile: Profile, tables: frozenset[str], users: Sequence[Document]
    ) -> str | None:
        """A collection unknown to the profile whose newest documents hold the id of one of these users."""
        ids = {identity(user.get(profile.users.id)) for user in users} - {None}
        inbox = profile.notifications or NOTIFICATIONS[self._source.kind]
        mapped = {profile.table(collection).stored_as for collection in Collection} | {inbox.name}
        for name in sorted(tables - mapped)[:50] if ids else ():
            for document in await self._source.sample(Table(name, {}), 3):
                if any(identity(value) in ids for key, value in document.items() if key != "_id"):
                    return name
        return None

    async def _missing_value(
        self, table: Table, collection: Collection, documents: Sequence[Document]
    ) -> MissingData | None:
        """Addresses or due dates that none of the newest documents has, although some should.

        Up to 20 documents that have one in our copy are fetched again: if any still has it, all is well.
        """
        field = NEEDED_BY_SOME_JOBS.get(collection)
        if field is None or field not in table.fields or any(values(table, field, documents)):
            return None
        rows = await self._pool.fetch(_SQL[f"filled_{collection}"])
        filled_ids = [row["id"] for row in rows if row["filled"]]
        probe_ids = random.sample(filled_ids, min(_PROBES, len(filled_ids)))
        probes = await self._source.fetch(table, probe_ids) if probe_ids else []
        if any(values(table, field, probes)):
            return None
        if not self._is_certain(table, collection, documents, probes):
            return None
        before = f" (it was filled in {100 * len(filled_ids) / len(rows):.0f} %)" if filled_ids else ""
        candidate = _similar_field(table, field, documents)
        hint = f"; `{candidate}` looks like it" if candidate else ""
        path = " or ".join(table.fields[field])
        place = f"{collection}.{field} ({path}) is in none of the {len(documents)} newest {collection}"
        return MissingData(collection, field, f"{place}{before}{hint}", candidate)

    def _is_certain(
        self, table: Table, collection: Collection, documents: Sequence[Document], probes: Sequence[Document]
    ) -> bool:
        """Whether an empty field is an error. ``probes``: documents that have it in our copy.

        If the field exists but is empty: only if ten documents had it. If it does not exist: always in
        PostgreSQL, where a column exists or not. MongoDB does not store a field that nobody set: there always
        for addresses, and for due dates if two goals had one, or if none of ten goals has one.
        """
        field = NEEDED_BY_SOME_JOBS[collection]
        if share(table, field, documents) > 0:
            return len(probes) >= _ENOUGH_TO_JUDGE
        if self._source.kind == "postgresql" or collection is Collection.USERS:
            return True
        return len(probes) >= 2 or len(documents) >= _ENOUGH_TO_JUDGE


def check_absent(needs: frozenset[str], absent: frozenset[str]) -> None:
    """Raises JobOff for a job that needs a table that does not exist according to the mapping file."""
    if used_tables := sorted(needs & absent):
        raise JobOff(f"the mapping file says that the dashboard has no {', '.join(used_tables)}")


def _fill_missing(record: Any, stored: Mapping[str, Any]) -> Any:
    """A record with the stored values, if it has none of its own."""
    unset = all(getattr(record, name) is None for name in stored)
    return replace(record, **stored) if stored and unset else record


def _missing_field(
    table: Table, collection: Collection, field: str, documents: Sequence[Document]
) -> MissingData:
    name = field.partition("|")[0]
    path = " or ".join(path for alternative in field.split("|") for path in table.fields.get(alternative, ()))
    return MissingData(
        collection,
        name,
        f"{collection}.{name} ({path}) is in fewer than half of the {len(documents)} newest {collection}",
    )


def _similar_field(table: Table, field: str, documents: Sequence[Document]) -> str | None:
    """A field that the profile does not know, whose values look like addresses or future dates."""
    mapped = {path.partition(".")[0] for paths in table.fields.values() for path in paths}
    matches: Callable[[Document, Any], bool] = _is_address if field == "email" else _is_future_date(table)
    counts = Counter(
        key for document in documents for key, value in document.items()
        if key not in mapped and matches(document, value)
    )  # fmt: skip
    best = counts.most_common(1)
    return best[0][0] if best and 2 * best[0][1] >= len(documents) else None


def _is_address(_document: Document, value: Any) -> bool:
    return isinstance(value, str) and _ADDRESS.fullmatch(value.strip()) is not None


def _is_future_date(table: Table) -> Callable[[Document, Any], bool]:
    """Matches dates after the creation of the document, so that its start date does not count."""
    created = table.fields.get("created", ("",))[0]

    def ahead(document: Document, value: Any) -> bool:
        at, since = instant(value), instant(document.get(created))
        return at is not None and not isinstance(value, (int, float)) and (since is None or at > since)

    return ahead
