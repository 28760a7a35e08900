"""Converts documents of the dashboard, and stores them in the copy together with what was wrong with them."""

import asyncio
from collections.abc import Sequence
from typing import Any

import structlog

from service.dashboard import replica
from service.dashboard.needs import MissingDataCheck
from service.dashboard.profiles.reader import Problem, Reader, Reading
from service.dashboard.profiles.shapes import Collection, Document, Table
from service.engine import queries
from service.engine.database import Connection

_SQL = queries.load(__file__)
_AT_ONCE = 250
_log = structlog.get_logger()


class CopyWriter:
    """Stores what ``reader`` reads. ``key``: identifies how it reads: see ``ProfileChoice.reading_key``."""

    def __init__(self, reader: Reader, key: str, missing_data: MissingDataCheck) -> None:
        self._reader = reader
        self.profile = reader.profile
        self.key = key
        self._missing_data = missing_data

    def table(self, collection: Collection) -> Table:
        """Where the dashboard stores these records."""
        return self.profile.table(collection)

    async def read(self, collection: Collection, documents: Sequence[Document]) -> Reading:
        """The records to store, and problems.

        In small batches, so that the event loop is never blocked for more than a few milliseconds.
        """
        records: list[Any] = []
        problems: list[Problem] = []
        digests: dict[str, int] = {}
        for start in range(0, len(documents), _AT_ONCE):
            batch = self._reader.read(collection, documents[start : start + _AT_ONCE])
            records += batch.records
            problems += batch.problems
            digests |= batch.digests
            await asyncio.sleep(0)
        return Reading(list(await self._missing_data.fill_from_copy(collection, records)), problems, digests)

    async def store(
        self, transaction: Connection, collection: Collection, reading: Reading, *, mark: bool = True
    ) -> int:
        """Store records and problems; returns how many rows changed. ``mark``: see ``replica``."""
        changed = await replica.upsert(
            transaction, collection, reading.records, mark=mark, digests=reading.digests
        )
        if reading.problems or mark:  # a first load begins without any
            await _store_problems(transaction, collection, reading)
        return changed


async def _store_problems(transaction: Connection, collection: Collection, reading: Reading) -> None:
    """Store the problems of these documents in place of those that they had before."""
    reasons: dict[str, list[str]] = {}
    for problem in reading.problems:
        reasons.setdefault(problem.id, []).append(problem.reason)
        _log.debug("malformed", collection=collection, id=problem.id, reason=problem.reason)
    left_out = {problem.id for problem in reading.problems if problem.fatal}
    await transaction.execute(
        _SQL["store_problems"],
        collection,
        [record.id for record in reading.records],
        list(reasons),
        [reading.digests.get(id_) for id_ in reasons],
        [id_ in left_out for id_ in reasons],
        [" ".join(one) for one in reasons.values()],
    )
