"""Which releases may work with the database: a process that is too old stands down.

A release knows a schema by the number of its newest migration. The row of ``service.schema_range`` holds the
numbers that a release must know to read, and to write. A migration that breaks older releases
raises them.

The first line of a migration says what it does to processes of older releases, which run beside it during a
roll-out: ``-- expand`` (only adds), or ``-- contract: after 0.1.1`` (takes something away that releases up to
0.1.1 use: it waits until none of their processes is alive).
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from service.engine import queries
from service.errors import ConfigurationError

_SQL = queries.load(__file__)
_Executor = asyncpg.Connection | asyncpg.pool.PoolConnectionProxy | asyncpg.Pool
MIGRATIONS = Path(__file__).parent / "migrations"


def files() -> list[Path]:
    """The migrations of this release, in the order in which they are applied."""
    return sorted(MIGRATIONS.glob("*.sql"))


_CONTRACT = re.compile(r"-- contract: after (\d+(?:\.\d+)*)\n")


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:3])


async def process_in_the_way(executor: _Executor, migration: str) -> str | None:
    """A process that a migration (its text) would break, which therefore waits; None: it may be applied."""
    contract = _CONTRACT.match(migration)
    if contract is None or not await executor.fetchval(_SQL["replicas_exist"]):
        return None
    last = _version(contract[1])
    for row in await executor.fetch(_SQL["replicas"]):
        if _version(row["version"]) <= last:
            return f"{row['name']} (release {row['version']})"
    return None


def number(name: str) -> int:
    """The number of a migration: ``0018_schema_range`` is 18."""
    return int(name.partition("_")[0])


SCHEMA = max(number(path.name) for path in files())
"""The newest schema that this release knows."""


@dataclass(frozen=True, slots=True)
class SchemaRange:
    """``version``: the database's schema; the others: what a release must know to read it, and to write."""

    version: int
    readable_from: int
    writable_from: int

    @property
    def readable(self) -> bool:
        """Whether this release may read."""
        return self.readable_from <= SCHEMA

    @property
    def writable(self) -> bool:
        """Whether this release may write: claim, decide slots, send, copy the dashboard."""
        return self.readable and self.writable_from <= SCHEMA

    @property
    def problem(self) -> str | None:
        """Why this release may not work here; None: it may."""
        if self.writable:
            return None
        needed = self.writable_from if self.readable else self.readable_from
        return f"this release (schema {SCHEMA}) is too old for the database (needs {needed}): upgrade it"


_ANY = SchemaRange(0, 0, 0)


async def read_range(executor: _Executor) -> SchemaRange:
    """The database's range; one that no release since 0.1.1 has migrated accepts any release."""
    if not await executor.fetchval(_SQL["range_exists"]):
        return _ANY
    row = await executor.fetchrow(_SQL["range"])
    return SchemaRange(**row) if row else _ANY


async def require_readable(executor: _Executor) -> SchemaRange:
    """The range; raises ConfigurationError for a database that this release cannot read."""
    schema_range = await read_range(executor)
    if not schema_range.readable:
        raise ConfigurationError([str(schema_range.problem)])
    return schema_range


async def note_version(executor: _Executor, applied: Iterable[str]) -> None:
    """Record the newest of the applied migrations."""
    if await executor.fetchval(_SQL["range_exists"]):
        await executor.execute(_SQL["version"], max(map(number, applied)))
