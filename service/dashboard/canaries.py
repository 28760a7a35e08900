"""Canaries: checks whether the dashboard's answer to a query for a few rows is plausible.

A row that is missing from an answer counts as deleted, and its message is never sent. A table that is empty
for a moment (a restore, TRUNCATE and reload, a view being replaced) looks the same. So each query for a batch
also fetches up to 20 other rows, the canaries, which the dashboard had at the last synchronisation. When more
than a fifth of them are missing, the answer is not used.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import asyncpg
import structlog

from service.dashboard.loss import LossWindow, is_plausible
from service.dashboard.model import User
from service.dashboard.profiles.reader import Reader
from service.dashboard.profiles.shapes import Collection, Document, Table
from service.engine import queries
from service.errors import AnswerDoubted, DashboardIncomplete, SchemaUnknown

_SQL = queries.load(__file__)
_log = structlog.get_logger()

SAMPLE_SIZE = 20
_MAX_MISSING_SHARE = 0.2


class RowSource(Protocol):
    """The part of a source that canaries need."""

    async def fetch(self, table: Table, ids: Sequence[str]) -> list[Document]: ...
    async def existing(self, table: Table, ids: Sequence[str]) -> frozenset[str]: ...


def lost_too_many(rows: int, missing: int) -> bool:
    """Whether too many rows are missing for a deletion: over 20 % and over 10, or all of two or more."""
    return not is_plausible(LossWindow(rows, 0), rows, missing)


@dataclass(frozen=True, slots=True)
class CanaryAnswer:
    """How many rows were fetched, and how many of them are missing: those requested, and canaries."""

    requested: int
    requested_missing: int
    canaries: int
    canaries_missing: int

    @property
    def doubtful(self) -> bool:
        """More than a fifth of the canaries are missing, and at least two.

        With fewer than ``SAMPLE_SIZE`` canaries, the batch is nearly the whole table, and all rows count.
        """
        if self.canaries_missing >= 2 and self.canaries_missing > self.canaries * _MAX_MISSING_SHARE:
            return True
        missing = self.requested_missing + self.canaries_missing
        return self.canaries < SAMPLE_SIZE and lost_too_many(self.requested + self.canaries, missing)


class Canaries:
    """Fetches rows from the dashboard, and raises when the answer is not plausible.

    ``doubts``: why answers are not used at the moment, by their subject; empty while all is well.
    """

    def __init__(self, pool: asyncpg.Pool, source: RowSource) -> None:
        self._pool = pool
        self._source = source
        self._candidates: dict[Collection, list[str]] = {}
        self.doubts: dict[str, str] = {}

    async def fetch_records(self, reader: Reader, collection: Collection, ids: Sequence[str]) -> list[Any]:
        """The records with these ids as they are at the dashboard now. Raises AnswerDoubted."""
        table = reader.profile.table(collection)
        if not ids or not table.name:
            return []
        requested = set(ids)
        canaries = await self._choose(collection, requested)
        try:
            documents = await self._source.fetch(table, [*requested, *canaries])
        except SchemaUnknown as error:
            self._record_doubt(collection, f"{error}; messages wait")
            raise
        records = reader.read(collection, documents).records
        existing = {record.id for record in records}
        await self._require_plausible(collection, requested, set(canaries), existing)
        return [record for record in records if record.id in requested]

    async def require_addresses(self, users: Sequence[User]) -> None:
        """Raises DashboardIncomplete when none of these users has an address any more, and most had one."""
        if any(user.email for user in users):
            self.doubts.pop("users.email", None)
            return
        with_address = await self._pool.fetchval(_SQL["count_addresses"], [user.id for user in users])
        if with_address >= 2 and 2 * with_address > len(users):
            message = (
                f"the dashboard has no address (users.email) for any of {len(users)} users; messages wait"
            )
            self._record_doubt("users.email", message)
            raise DashboardIncomplete(message, ("users.email",))

    async def renew(self, collection: Collection, table: Table) -> None:
        """Choose other canaries that the dashboard has now; if it lost too many rows, keep the old ones."""
        sample = [row["id"] for row in await self._pool.fetch(_SQL[f"sample_{collection}"])]
        existing = await self._source.existing(table, sample) if sample else frozenset()
        missing = len(sample) - len(existing)
        if lost_too_many(len(sample), missing):
            self._candidates.setdefault(collection, sample)
            self._record_doubt(collection, _missing_message(collection, missing, len(sample)))
            return
        self._candidates[collection] = sorted(existing)
        self.doubts.pop(collection, None)

    async def _choose(self, collection: Collection, requested: set[str]) -> list[str]:
        if collection not in self._candidates:  # this process has not synchronised yet
            rows = await self._pool.fetch(_SQL[f"sample_{collection}"])
            self._candidates[collection] = [row["id"] for row in rows]
        others = [id_ for id_ in self._candidates[collection] if id_ not in requested]
        return random.sample(others, min(SAMPLE_SIZE, len(others)))

    async def _require_plausible(
        self, collection: Collection, requested: set[str], canaries: set[str], existing: set[str]
    ) -> None:
        answer = CanaryAnswer(
            len(requested), len(requested - existing), len(canaries), len(canaries - existing)
        )
        if answer.doubtful:  # rows deleted from the copy meanwhile may be missing
            answer = CanaryAnswer(
                await self._count_in_copy(collection, requested),
                await self._count_in_copy(collection, requested - existing),
                await self._count_in_copy(collection, canaries),
                await self._count_in_copy(collection, canaries - existing),
            )
        if answer.doubtful:
            message = (
                _missing_message(
                    collection,
                    answer.requested_missing + answer.canaries_missing,
                    answer.requested + answer.canaries,
                )
                if answer.canaries < SAMPLE_SIZE
                else _missing_message(collection, answer.canaries_missing, answer.canaries)
            )
            self._record_doubt(collection, message)
            raise AnswerDoubted(message)
        self.doubts.pop(collection, None)

    async def _count_in_copy(self, collection: Collection, ids: set[str]) -> int:
        count: int = await self._pool.fetchval(_SQL[f"count_{collection}"], list(ids)) if ids else 0
        return count

    def _record_doubt(self, subject: str, message: str) -> None:
        if subject not in self.doubts:
            _log.error("dashboard_doubted", what=str(subject), error=message)
        self.doubts[str(subject)] = message


def _missing_message(collection: Collection, missing: int, requested: int) -> str:
    return f"the dashboard answered without {missing} of {requested} {collection} that it had; messages wait"
