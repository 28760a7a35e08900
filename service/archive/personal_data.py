"""One person's data: export as JSON (GDPR Art. 20) and erasure (GDPR Art. 17).

Both cover every table of ours with a ``user_id``, whichever module owns it. Erased are the copy of the
dashboard, days and spans, messages, reasons, inbox and settings, and the archived sessions: their files are
written anew. What remains does not identify anybody: a tombstone (a keyed hash of the id), so that no
sync brings the person back; a keyed hash of each suppressed address, still refused; and totals that
had counted the person, frozen as they were. The dashboard itself is not touched.
"""

import json
from collections import Counter
from datetime import date, datetime
from typing import Any, cast

import asyncpg

from service.analytics.statistic import CALENDARS
from service.archive.archive import Archive
from service.dashboard import replica
from service.engine import lease, queries
from service.errors import SourceUnavailable, UnknownUser
from service.messages.refusals import packed_id

_SQL = queries.load(__file__)
_FOREVER = datetime(9999, 1, 1)  # noqa: DTZ001 — naive on purpose: wall-clock time


_AS_IT_STANDS = {"delivery": "delivery_with_state"}
"""Views that show a table together with what lies in another."""


class PersonalData:
    """Export and erasure. ``archive``: the archive of old sessions."""

    def __init__(self, pool: asyncpg.Pool, archive: Archive) -> None:
        self._pool = pool
        self._archive = archive

    async def export(self, user_id: str) -> dict[str, Any]:
        """Everything that is stored about a user, by table. Raises UnknownUser."""
        async with self._pool.acquire() as connection, connection.transaction(isolation="repeatable_read"):
            if not await connection.fetchval(_SQL["user_exists"], user_id):
                raise UnknownUser(user_id)
            addresses = await _addresses(connection, user_id)
            tables = {
                "users": await _rows(connection, _SQL["profile"], user_id),
                "delivery_stage": await _rows(connection, _SQL["stages"], user_id),
                "delivery_attempt": await _rows(connection, _SQL["attempts"], user_id),
                "suppression": await _rows(connection, _SQL["suppressions"], addresses),
                "hard_bounce": await _rows(connection, _SQL["bounces"], addresses),
                "mailbox_bounce": await _rows(connection, _SQL["mailbox_bounces"], addresses),
                "mailbox_rest": await _rows(connection, _SQL["mailbox_rests"], addresses),
                "audit": await _rows(connection, _SQL["audited"], [user_id, *addresses]),
            }
            for table in await _tables(connection):
                source = _AS_IT_STANDS.get(table, table)
                sql = f'SELECT to_jsonb(t) AS row FROM service."{source}" AS t WHERE user_id = $1 ORDER BY 1'  # noqa: S608
                tables[table] = await _rows(connection, sql, user_id)
            tables["decision"] = await _rows(connection, _SQL["refusals"], packed_id(user_id))
        tables["archive"] = [json.loads(row.body) async for row in self._archive.rows_of(user_id)]
        return tables

    async def erase(self, user_id: str, actor: str) -> dict[str, Any]:
        """Erase a user for good; doing it again does nothing. ``actor``: for the audit log.

        If the archive is being written, that run erases its part (``archivePending``).
        Raises UnknownUser, SourceUnavailable while a sync or a statistic holds locks, and ArchiveDamaged:
        then repair the archive and repeat the erasure.
        """
        async with self._pool.acquire() as connection, connection.transaction():
            deleted = await self.forget(cast("asyncpg.Connection", connection), user_id, actor)
        return {"deleted": deleted, "archivePending": await self.clear_archive(user_id)}

    async def forget(self, connection: asyncpg.Connection, user_id: str, actor: str) -> dict[str, int]:
        """The first part of ``erase``, in one transaction: rows by table. ``clear_archive`` follows."""
        if not await connection.fetchval(_SQL["user_exists"], user_id):
            raise UnknownUser(user_id)
        months = await self._archive.months_of(user_id)
        try:
            return dict(await _erase(connection, user_id, actor, months))
        except asyncpg.LockNotAvailableError:
            raise SourceUnavailable(
                "the dashboard is being read, or figures derived; try again soon"
            ) from None

    async def clear_archive(self, user_id: str) -> bool:
        """The second part of ``erase``: rewrite files. True: they are being written, and that run does it."""
        async with self._archive.exclusive(wait=False) as locked:
            if locked:
                await self._archive.rewrite()
        return bool(await self._archive.months_of(user_id))


async def _erase(connection: Any, user_id: str, actor: str, months: list[date]) -> Counter[str]:
    await connection.execute(_SQL["wait_for_locks"])
    await connection.execute(_SQL["beside_0_1_0"], replica.SYNC_LOCK)
    await lease.revoke(connection, lease.SYNC)
    for lock in ("lock_rollups", "lock_erasure", "mark_no_days"):
        await connection.execute(_SQL[lock])
    deleted: Counter[str] = Counter()
    addresses = await _addresses(connection, user_id)
    await connection.execute(_SQL["lock_mails"], user_id)
    await connection.execute(_SQL["tombstone"], user_id)
    await connection.execute(_SQL["forget_missing"], user_id)
    await connection.execute(_SQL["forget_malformed"], user_id)
    deleted["frozenFigures"] = await _freeze(connection, user_id)
    await connection.execute(_SQL["flag_archive"], user_id, months)
    deleted["suppressionsKept"] = _count(await connection.execute(_SQL["keep_suppressions"], addresses))
    deleted["hard_bounce"] = _count(await connection.execute(_SQL["forget_bounces"], addresses))
    deleted["users"] = _count(await connection.execute(_SQL["forget_user"], user_id))
    deleted["decision"] = _count(await connection.execute(_SQL["forget_refusals"], packed_id(user_id)))
    for table in await _tables(connection):
        sql = f'DELETE FROM service."{table}" WHERE user_id = $1'  # noqa: S608 — a name from the catalogue
        deleted[table] += _count(await connection.execute(sql, user_id))
    await connection.execute(_SQL["scrub_runs"], user_id)
    await connection.execute(_SQL["scrub_audit"], [user_id, *addresses])
    counts = Counter({name: n for name, n in deleted.items() if n})
    await connection.execute(_SQL["audit"], actor, dict(counts))
    return counts


async def _freeze(connection: Any, user_id: str) -> int:
    """Freeze the figures that counted this user: every period that depends on one of their dates."""
    days = sorted(row["day"] for row in await connection.fetch(_SQL["days"], user_id))
    frozen = 0
    for statistic, calendar in CALENDARS.items():
        spans = [calendar.reach(day) for day in days]
        if days and calendar.onward:
            spans.append((spans[0][0], _FOREVER))
        lows, highs = [lo for lo, _ in spans], [hi for _, hi in spans]
        frozen += _count(await connection.execute(_SQL["freeze"], statistic, lows, highs))
    return frozen


async def _tables(connection: Any) -> list[str]:
    return [row["name"] for row in await connection.fetch(_SQL["tables"])]


async def _addresses(connection: Any, user_id: str) -> list[str]:
    return [row["address"] for row in await connection.fetch(_SQL["addresses"], user_id)]


async def _rows(connection: Any, sql: str, value: Any) -> list[Any]:
    return [row["row"] for row in await connection.fetch(sql, value)]


def _count(tag: str) -> int:
    return int(tag.rpartition(" ")[2])
