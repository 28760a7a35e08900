"""What the dashboard lacks of what jobs rest on.

A *gap* is a table that does not exist, a field that a record cannot be read without, or a field that a job
rests on (addresses, due dates). While there is one, the jobs that need it wait, and the copy keeps what it
has: a table that cannot be read is left alone, and a missing address or due date overwrites none.
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
from service.dashboard.profiles.shapes import Collection, Document, Profile, Table
from service.dashboard.profiles.values import identity, instant
from service.dashboard.source import INBOX
from service.engine import queries
from service.errors import DashboardIncomplete, JobOff

_SQL = queries.load(__file__)
_MANY = 10
_PROBES = 20
_ADDRESS = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s.]+")
FILLED = {Collection.USERS: "email", Collection.GOALS: "due"}
"""Fields that a record can be read without, and that some jobs cannot do without."""

Samples = Mapping[str, Sequence[Document]]
"""Table name to its newest documents."""


class TableSource(Protocol):
    """The part of a source that is asked here."""

    @property
    def kind(self) -> str: ...
    async def exists(self, name: str) -> bool: ...
    async def sample(self, name: str, limit: int) -> list[Document]: ...
    async def fetch(self, table: Table, ids: Sequence[str]) -> list[Document]: ...


@dataclass(frozen=True, slots=True)
class MissingData:
    """Something that the dashboard lacks. ``field``: canonical; None: the whole table.

    ``said``: in a sentence. ``looks_like``: where it may be instead.
    """

    table: Collection
    field: str | None
    said: str
    looks_like: str | None = None

    @property
    def name(self) -> str:
        """``goals``, ``users.email``."""
        return f"{self.table}.{self.field}" if self.field else str(self.table)

    @property
    def readable(self) -> bool:
        """Whether records can be read all the same."""
        return _readable(self.name)


def unmet(needs: frozenset[str], name: str) -> bool:
    """Whether a job with these needs waits for a gap of this name.

    A missing address or due date is waited for by those that name it; anything else keeps the table from
    being read, which concerns whoever names the table or any field of it.
    """
    if _readable(name):
        return name in needs
    return any(_table(need) is _table(name) for need in needs)


def _table(name: str) -> Collection:
    return Collection(name.partition(".")[0])


def _readable(name: str) -> bool:
    """Whether records of its table can be read all the same while this is missing."""
    return FILLED.get(_table(name)) == name.partition(".")[2]


def absent(profiles: Sequence[Profile]) -> frozenset[str]:
    """Tables of which the mapping file says that there are none."""
    return frozenset(str(c) for c in Collection if not any(p.table(c).name for p in profiles))


class MissingDataCheck:
    """Finds out what is missing, and remembers it for all processes."""

    def __init__(self, pool: asyncpg.Pool, source: TableSource) -> None:
        self._pool = pool
        self._source = source
        self.now: list[MissingData] = []
        """As this process saw it last."""

    async def look(self, profile: Profile, tables: frozenset[str], samples: Samples) -> None:
        """Compare what the profile names with what is there."""
        found: list[MissingData] = []
        for collection in Collection:
            if profile.table(collection).name:
                found += await self._look_at(profile, collection, tables, samples)
        self.now = found

    def unreadable(self, collection: Collection) -> bool:
        """Whether a table is to be left alone: what is read of it now would be wrong."""
        return any(gap.table is collection and not gap.readable for gap in self.now)

    def illegible(self, collection: Collection) -> bool:
        """Whether a table is there, but cannot be read; one that is not there has lost all of its rows."""
        return self.unreadable(collection) and str(collection) not in {gap.name for gap in self.now}

    async def kept(self, collection: Collection, records: Sequence[Any]) -> Sequence[Any]:
        """Records to store: while addresses or due dates are missing, with those that the copy has."""
        if not records or not any(gap.table is collection and gap.readable for gap in self.now):
            return records
        rows = await self._pool.fetch(_SQL[f"kept_{collection}"], [record.id for record in records])
        known = {row["id"]: {k: v for k, v in row.items() if k != "id"} for row in rows}
        return [_filled_up(record, known.get(record.id, {})) for record in records]

    # ── What all processes know ─────────────────────────────────────────────────────────────────────────────

    async def require(self, needs: frozenset[str]) -> None:
        """Raises DashboardIncomplete where the dashboard lacks something of this."""
        rows = [row for row in await self._pool.fetch(_SQL["gaps"]) if unmet(needs, row["name"])]
        if rows:
            raise DashboardIncomplete(
                "; ".join(row["said"] for row in rows), tuple(row["name"] for row in rows)
            )

    async def unread(self) -> frozenset[Collection]:
        """The tables that are left alone, as the last synchronisation found it, in whichever process."""
        names = [row["name"] for row in await self._pool.fetch(_SQL["gaps"])]
        return frozenset(_table(name) for name in names if not _readable(name))

    async def note(self) -> frozenset[Collection]:
        """Remember what is missing now; returns the tables of what was missing before and is there again."""
        before = {row["name"] for row in await self._pool.fetch(_SQL["gaps"])}
        if self.now:
            await self._pool.execute(
                _SQL["note"], [gap.name for gap in self.now], [gap.said for gap in self.now]
            )
        back = before - {gap.name for gap in self.now}
        return frozenset(map(_table, back))

    async def forget_healed(self) -> None:
        """What is there again was read: nobody waits for it any more."""
        await self._pool.execute(_SQL["healed"], [gap.name for gap in self.now])

    # ── One table ───────────────────────────────────────────────────────────────────────────────────────────

    async def _look_at(
        self, profile: Profile, collection: Collection, tables: frozenset[str], samples: Samples
    ) -> list[MissingData]:
        table = profile.table(collection)
        documents = samples.get(table.name, ())
        if not documents and table.name not in tables and not await self._source.exists(table.name):
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
        """A table that does not exist, or None where it may just not be there yet.

        In PostgreSQL tables are there before their rows. MongoDB makes a collection with its first document,
        so that a new dashboard looks like a wrong one. It is a gap when one of these holds, else "not yet":

        - the copy holds rows of it: it was there;
        - it is the users' that is missing, while goals or sessions are there;
        - there are ten people or more: by then somebody has a goal or has used the timer;
        - a collection that the profile does not know belongs to them: it holds a user's id.
        """
        name = profile.table(collection).name
        people = samples.get(profile.users.name, ())
        other = None
        if self._source.kind == "mongodb":
            other = await self._belonging(profile, tables, people)
            sure = other or len(people) >= _MANY or (collection is Collection.USERS and any(samples.values()))
            if not sure and not await self._pool.fetchval(_SQL[f"holds_{collection}"]):
                return None
        kind = "collection" if self._source.kind == "mongodb" else "table"
        hint = f"; `{other}` holds something of its users" if other else ""
        said = f"the dashboard has no {kind} {name} (profile {profile.name}){hint}"
        return MissingData(
            collection, None, f"{said}; name it in a mapping file, or say there that there is none", other
        )

    async def _belonging(
        self, profile: Profile, tables: frozenset[str], people: Sequence[Document]
    ) -> str | None:
        """A collection unknown to the profile whose newest documents hold the id of one of these people."""
        ids = {identity(person.get(profile.users.id)) for person in people} - {None}
        known = {profile.table(collection).name for collection in Collection} | {INBOX}
        for name in sorted(tables - known)[:50] if ids else ():
            for document in await self._source.sample(name, 3):
                if any(identity(value) in ids for key, value in document.items() if key != "_id"):
                    return name
        return None

    async def _missing_value(
        self, table: Table, collection: Collection, documents: Sequence[Document]
    ) -> MissingData | None:
        """Addresses or due dates that are in none of the newest documents, and should be in some.

        Of those that had one by our copy, up to 20 are asked for again: one that still has it is enough.
        """
        field = FILLED.get(collection)
        if field is None or field not in table.fields or any(values(table, field, documents)):
            return None
        rows = await self._pool.fetch(_SQL[f"filled_{collection}"])
        had = [row["id"] for row in rows if row["filled"]]
        asked = random.sample(had, min(_PROBES, len(had)))
        probes = await self._source.fetch(table, asked) if asked else []
        if any(values(table, field, probes)):
            return None
        if not self._sure(table, collection, documents, probes):
            return None
        was = f" (it was filled in {100 * len(had) / len(rows):.0f} %)" if had else ""
        other = _look_alike(table, field, documents)
        hint = f"; `{other}` looks like it" if other else ""
        path = " or ".join(table.fields[field])
        said = (
            f"{collection}.{field} ({path}) is in none of the {len(documents)} newest {collection}{was}{hint}"
        )
        return MissingData(collection, field, said, other)

    def _sure(
        self, table: Table, collection: Collection, documents: Sequence[Document], probes: Sequence[Document]
    ) -> bool:
        """Whether a field that nobody fills is a fault. ``probes``: documents that had it by our copy.

        The field is there and empty: only where ten had it. It is not there at all: always in PostgreSQL,
        where a column is there or not; in MongoDB a field that nobody set is not stored: addresses always,
        due dates where two had one, or of ten goals none has.
        """
        field = FILLED[collection]
        if share(table, field, documents) > 0:
            return len(probes) >= _MANY
        if self._source.kind == "postgresql" or collection is Collection.USERS:
            return True
        return len(probes) >= 2 or len(documents) >= _MANY


def check_absent(needs: frozenset[str], none: frozenset[str]) -> None:
    """Raises JobOff for a job about a table of which the mapping file says that there is none."""
    if about := sorted(needs & none):
        raise JobOff(f"the mapping file says that the dashboard has no {', '.join(about)}")


def _filled_up(record: Any, known: Mapping[str, Any]) -> Any:
    """A record with what the copy knows where it says nothing."""
    silent = all(getattr(record, name) is None for name in known)
    return replace(record, **known) if known and silent else record


def _missing_field(
    table: Table, collection: Collection, field: str, documents: Sequence[Document]
) -> MissingData:
    name = field.partition("|")[0]
    path = " or ".join(path for one in field.split("|") for path in table.fields.get(one, ()))
    return MissingData(
        collection,
        name,
        f"{collection}.{name} ({path}) is in fewer than half of the {len(documents)} newest {collection}",
    )


def _look_alike(table: Table, field: str, documents: Sequence[Document]) -> str | None:
    """A field that the profile does not know, whose values look like addresses or dates to come."""
    known = {path.partition(".")[0] for paths in table.fields.values() for path in paths}
    like: Callable[[Document, Any], bool] = _is_address if field == "email" else _is_ahead(table)
    found = Counter(
        key for document in documents for key, value in document.items()
        if key not in known and like(document, value)
    )  # fmt: skip
    best = found.most_common(1)
    return best[0][0] if best and 2 * best[0][1] >= len(documents) else None


def _is_address(_document: Document, value: Any) -> bool:
    return isinstance(value, str) and _ADDRESS.fullmatch(value.strip()) is not None


def _is_ahead(table: Table) -> Callable[[Document, Any], bool]:
    """Dates after the creation: when it began is none to come."""
    created = table.fields.get("created", ("",))[0]

    def ahead(document: Document, value: Any) -> bool:
        at, since = instant(value), instant(document.get(created))
        return at is not None and not isinstance(value, (int, float)) and (since is None or at > since)

    return ahead
