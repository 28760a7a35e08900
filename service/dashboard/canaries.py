"""Canaries: whether an answer of the dashboard about a few rows may be believed.

A row that is missing from an answer counts as deleted, and its message is refused for good. A table that is
empty for a moment (a restore, TRUNCATE and reload, a view being replaced) looks the same. So each question
about a batch also asks, in the same query, for up to 20 other rows that the dashboard had at the last look.
When more than a fifth of them are missing, nothing of the answer is used.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import asyncpg
import structlog

from service.dashboard.loss import LossWindow, believable
from service.dashboard.model import User
from service.dashboard.profiles.reader import Reader
from service.dashboard.profiles.shapes import Collection, Document, Table
from service.engine import queries
from service.errors import AnswerDoubted, DashboardIncomplete, SchemaUnknown

_SQL = queries.load(__file__)
_log = structlog.get_logger()

CANARIES = 20
_SHARE = 0.2


class RowSource(Protocol):
    """The part of a source that canaries need."""

    async def fetch(self, table: Table, ids: Sequence[str]) -> list[Document]: ...
    async def existing(self, table: Table, ids: Sequence[str]) -> frozenset[str]: ...


def lost(rows: int, missing: int) -> bool:
    """Whether a table lost too much for a deletion: over 20 % and over 10 rows, or all of two or more."""
    return not believable(LossWindow(rows, 0), rows, missing)


@dataclass(frozen=True, slots=True)
class CanaryAnswer:
    """How many rows were asked for, and did not come: ``own`` of the batch itself, and canaries."""

    own: int
    own_missing: int
    canaries: int
    canaries_missing: int

    @property
    def doubtful(self) -> bool:
        """More than a fifth of the canaries are missing, and at least two.

        Fewer canaries than wanted: the batch asked about nearly the whole table, which is judged as one.
        """
        if self.canaries_missing >= 2 and self.canaries_missing > self.canaries * _SHARE:
            return True
        missing = self.own_missing + self.canaries_missing
        return self.canaries < CANARIES and lost(self.own + self.canaries, missing)


class Canaries:
    """Asks the dashboard about rows, and believes the answer or raises.

    ``doubts``: why answers are not believed now, by what they were about; empty while all is well.
    """

    def __init__(self, pool: asyncpg.Pool, source: RowSource) -> None:
        self._pool = pool
        self._source = source
        self._seen: dict[Collection, list[str]] = {}
        self.doubts: dict[str, str] = {}

    async def ask(self, reader: Reader, collection: Collection, ids: Sequence[str]) -> list[Any]:
        """The records with these ids as they are at the dashboard now. Raises AnswerDoubted."""
        table = reader.profile.table(collection)
        if not ids or not table.name:
            return []
        own = set(ids)
        canaries = await self._chosen(collection, own)
        try:
            documents = await self._source.fetch(table, [*own, *canaries])
        except SchemaUnknown as error:
            self._doubt(collection, f"{error}; messages wait")
            raise
        records = reader.read(collection, documents).records
        there = {record.id for record in records}
        await self._believe(collection, own, set(canaries), there)
        return [record for record in records if record.id in own]

    async def require_addresses(self, users: Sequence[User]) -> None:
        """Raises DashboardIncomplete when none of these people has an address and most of them had one."""
        if any(user.email for user in users):
            self.doubts.pop("users.email", None)
            return
        had = await self._pool.fetchval(_SQL["addresses"], [user.id for user in users])
        if had >= 2 and 2 * had > len(users):
            said = f"the dashboard has no address (users.email) for any of {len(users)} users; messages wait"
            self._doubt("users.email", said)
            raise DashboardIncomplete(said, ("users.email",))

    async def renew(self, collection: Collection, table: Table) -> None:
        """Take other canaries: rows that the dashboard has now. Did it lose too many, the old ones stay."""
        drawn = [row["id"] for row in await self._pool.fetch(_SQL[f"draw_{collection}"])]
        there = await self._source.existing(table, drawn) if drawn else frozenset()
        missing = len(drawn) - len(there)
        if lost(len(drawn), missing):
            self._seen.setdefault(collection, drawn)
            self._doubt(collection, _said(collection, missing, len(drawn)))
            return
        self._seen[collection] = sorted(there)
        self.doubts.pop(collection, None)

    async def _chosen(self, collection: Collection, own: set[str]) -> list[str]:
        if collection not in self._seen:  # nothing was synchronised by this process yet
            rows = await self._pool.fetch(_SQL[f"draw_{collection}"])
            self._seen[collection] = [row["id"] for row in rows]
        others = [id_ for id_ in self._seen[collection] if id_ not in own]
        return random.sample(others, min(CANARIES, len(others)))

    async def _believe(
        self, collection: Collection, own: set[str], canaries: set[str], there: set[str]
    ) -> None:
        answer = CanaryAnswer(len(own), len(own - there), len(canaries), len(canaries - there))
        if answer.doubtful:  # what the copy has let go of meanwhile may be missing there too
            answer = CanaryAnswer(
                await self._held(collection, own),
                await self._held(collection, own - there),
                await self._held(collection, canaries),
                await self._held(collection, canaries - there),
            )
        if answer.doubtful:
            said = (
                _said(collection, answer.own_missing + answer.canaries_missing, answer.own + answer.canaries)
                if answer.canaries < CANARIES
                else _said(collection, answer.canaries_missing, answer.canaries)
            )
            self._doubt(collection, said)
            raise AnswerDoubted(said)
        self.doubts.pop(collection, None)

    async def _held(self, collection: Collection, ids: set[str]) -> int:
        found: int = await self._pool.fetchval(_SQL[f"held_{collection}"], list(ids)) if ids else 0
        return found

    def _doubt(self, what: str, said: str) -> None:
        if what not in self.doubts:
            _log.error("dashboard_doubted", what=str(what), error=said)
        self.doubts[str(what)] = said


def _said(collection: Collection, missing: int, asked: int) -> str:
    return f"the dashboard answered without {missing} of {asked} {collection} that it had; messages wait"
