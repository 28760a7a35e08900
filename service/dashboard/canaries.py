"""Canaries: checks whether the dashboard's answer to a query for a few rows is plausible.

A row that is missing from an answer counts as deleted, and its message is never sent. A table that is empty
for a moment (a restore, TRUNCATE and reload, a view being replaced) looks the same. So each query for a batch
also fetches up to 20 other rows, the canaries, which the dashboard had at the last synchronisation. When more
than a fifth of them are missing, the answer is not used.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

import asyncpg
import structlog

from service.dashboard.loss import LossWindow, is_plausible
from service.dashboard.model import Goal, TimerSession, User
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
    async def fetch_recent(
        self, table: Table, user_ids: Sequence[str], since: datetime
    ) -> list[Document]: ...
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
        if not ids:
            return []
        requested = set(ids)
        records = await self._fetch_with_canaries(reader, collection, requested)
        return [record for record in records if record.id in requested]

    async def fetch_goals(self, reader: Reader, ids: Sequence[str], *, due_dates: bool) -> list[Goal]:
        """The goals with these ids as they are at the dashboard now. Raises AnswerDoubted.

        ``due_dates``: raises DashboardIncomplete when no goal has a date any more, and most had one.
        """
        if not ids:
            return []
        requested = set(ids)
        goals: list[Goal] = await self._fetch_with_canaries(reader, Collection.GOALS, requested)
        if due_dates:
            dated = any(goal.due_date or goal.due_at for goal in goals)
            await self._require_filled("goals.due", "date", [goal.id for goal in goals], filled=dated)
        return [goal for goal in goals if goal.id in requested]

    async def fetch_recent_sessions(
        self, reader: Reader, user_ids: Sequence[str], since: datetime
    ) -> list[TimerSession]:
        """The sessions of these users that started since, as they are at the dashboard now.

        Raises AnswerDoubted where other sessions are missing: then the latest may be missing as well.
        """
        if not user_ids or not reader.profile.sessions.name:
            return []
        documents = await self._source.fetch_recent(reader.profile.sessions, user_ids, since)
        await self._fetch_with_canaries(reader, Collection.SESSIONS, set())
        return reader.read(Collection.SESSIONS, documents).records

    async def _fetch_with_canaries(
        self, reader: Reader, collection: Collection, requested: set[str]
    ) -> list[Any]:
        """The records with these ids and of the canaries."""
        table = reader.profile.table(collection)
        canaries = await self._choose(collection, requested) if table.name else []
        if not (table.name and (requested or canaries)):
            return []
        try:
            documents = await self._source.fetch(table, [*requested, *canaries])
        except SchemaUnknown as error:
            self._record_doubt(collection, f"{error}; messages wait")
            raise
        records = reader.read(collection, documents).records
        existing = {record.id for record in records}
        await self._require_plausible(collection, requested, set(canaries), existing)
        return records

    async def require_addresses(self, users: Sequence[User]) -> None:
        """Raises DashboardIncomplete when none of these users has an address any more, and most had one."""
        filled = any(user.email for user in users)
        await self._require_filled("users.email", "address", [user.id for user in users], filled=filled)

    async def _require_filled(self, field: str, name: str, ids: Sequence[str], *, filled: bool) -> None:
        """Raises DashboardIncomplete when a field is empty (not ``filled``) in all of these rows, and the
        copy has it for most."""
        if filled:
            self.doubts.pop(field, None)
            return
        in_copy = await self._pool.fetchval(_SQL[f"count_{field.replace('.', '_')}"], ids)
        if in_copy >= 2 and 2 * in_copy > len(ids):
            table = field.partition(".")[0]
            message = f"the dashboard has no {name} ({field}) for any of {len(ids)} {table}; messages wait"
            self._record_doubt(field, message)
            raise DashboardIncomplete(message, (field,))

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
