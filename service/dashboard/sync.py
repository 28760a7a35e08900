"""Keeps our copy of the dashboard up to date: first load, changes, deletions.

The rest of the service reaches the dashboard only through ``Sync``: it synchronises (each time with a
``SyncRun``), reads the current state of users and goals, writes to the dashboard's inbox, gives sessions to
the archive, and reports its health.
"""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import asyncpg

from service import zones
from service.dashboard import full_sync, reconciliation, sync_state
from service.dashboard.canaries import Canaries
from service.dashboard.change_stream import ChangeStreamConsumer
from service.dashboard.copy_writer import CopyWriter
from service.dashboard.dashboard_state import DashboardState, StateQuery
from service.dashboard.doubts import Doubt
from service.dashboard.full_sync import FullSync
from service.dashboard.loss import Loss
from service.dashboard.model import Goal, TimerSession, User
from service.dashboard.needs import MissingDataCheck, absent_tables, check_absent, waits_for
from service.dashboard.notification import Notification
from service.dashboard.profile_choice import ProfileChoice
from service.dashboard.profiles.reader import Reader
from service.dashboard.profiles.shapes import Collection
from service.dashboard.profiles.values import identity
from service.dashboard.source import Source
from service.dashboard.sync_lock import SyncLock
from service.dashboard.sync_run import SyncReport, SyncRun
from service.dashboard.sync_settings import SyncSettings
from service.engine import queries
from service.engine.fault_log import FaultLog
from service.engine.loops import first_of
from service.engine.schema import read_range
from service.errors import DashboardBusy, ReleaseTooOld, SchemaUnknown, ServiceError, SourceUnavailable

_SQL = queries.load(__file__)
_SHORT_WAIT = 2.0
_LONG_WAIT = 60.0


class Sync:
    """Copies one dashboard into our tables. The pool must be able to lend three connections."""

    def __init__(self, pool: asyncpg.Pool, source: Source, settings: SyncSettings | None = None) -> None:
        self._pool = pool
        self._source = source
        self._settings = settings = settings or SyncSettings()
        self._canaries = Canaries(pool, source)
        self._missing_data = MissingDataCheck(pool, source)
        self._choice = ProfileChoice(pool, source, self._missing_data, settings)
        self._absent_tables = absent_tables(self._choice.candidates)
        self._lock = SyncLock(pool, settings.owner, settings.lease)
        self._changes = ChangeStreamConsumer(pool, source, self._lock, self._check_readable, settings)
        self._wake = asyncio.Event()
        self._fault = FaultLog("sync_failed")
        self._losses: list[Loss] = []
        self._full: list[FullSync] = []
        self._problem: ServiceError | None = None
        self._rejected: dict[str, dict[str, int]] = {}
        self._synced_at: datetime | None = None
        self._compared_at: dict[str, str] = {}

    # ── Synchronising ───────────────────────────────────────────────────────────────────────────────────────

    async def run_once(
        self, *, compare: bool | None = None, full: bool = False, max_wait: float = _LONG_WAIT
    ) -> SyncReport:
        """Bring the copy up to date.

        ``compare``: compare all tables now; None: those that are due; False: none. ``full``: read every row
        again, and compare all tables. Raises DashboardBusy (another process still holds the lock after
        ``max_wait`` seconds), SourceUnavailable (try again later), SchemaUnknown (nothing can be read) or
        ReleaseTooOld (this release must not write to the database).
        """
        if problem := (await read_range(self._pool)).problem:
            raise ReleaseTooOld(problem)
        try:
            async with self._lock.hold(max_wait):
                return await self._attempt(compare=True if full else compare, full=full)
        except DashboardBusy:
            await self._load_shared_state()
            raise

    async def refresh(self, since: datetime | None = None) -> None:
        """Bring the copy up to date; while another process synchronises, use the copy as it is.

        Raises DashboardBusy if the copy was not read after ``since`` (None: if its first load is not
        complete), and what ``run_once`` raises.
        """
        try:
            await self.run_once(max_wait=_SHORT_WAIT)
        except DashboardBusy:
            if not await self._pool.fetchval(_SQL["is_fresh"], since, await self._expected_tables()):
                raise

    async def serve(self, stop: asyncio.Event) -> None:
        """Synchronise every ``interval`` seconds until ``stop``, and follow the change stream between.

        Errors are logged and it is tried again.
        """
        while not stop.is_set():
            self._wake.clear()
            pause = self._settings.interval
            try:
                report = await self.run_once(max_wait=_SHORT_WAIT)
                self._fault.over()
                if not report.pending:
                    writer = self._writer(await self._choice.reader())
                    await self._changes.follow(pause, writer, stop, self._wake)
                    continue
            except DashboardBusy:
                pause = min(pause, self._lock.length.total_seconds() / 3)  # the holder may be frozen
            except (SourceUnavailable, SchemaUnknown, ReleaseTooOld) as error:
                self._fault.occurred(error, kind=type(error).__name__)
            await first_of(pause, stop, self._wake)

    def wake(self) -> None:
        """Let ``serve`` synchronise now: somebody asked for something."""
        self._wake.set()

    async def confirm_loss(self, table: str, actor: str, reason: str = "") -> int:
        """Accept that the rows which a table misses now were deleted; see ``reconciliation.confirm_loss``."""
        return await reconciliation.confirm_loss(self._pool, Collection(table), actor, reason)

    async def current_state(self, query: StateQuery, *, addresses: bool = True) -> DashboardState:
        """The dashboard's answer now; users, goals and sessions that are missing from it were deleted.

        ``addresses``: mails will be sent, so addresses are needed. Raises AnswerDoubted when rows are missing
        that should be there, DashboardIncomplete when no user has an address, or no goal a date any more,
        SourceUnavailable and SchemaUnknown.
        """
        reader, fetch = await self._choice.reader(), self._canaries.fetch_records
        users = await fetch(reader, Collection.USERS, query.users)
        if addresses:
            await self._canaries.require_addresses(users)
        goals = await self._canaries.fetch_goals(reader, query.goals, due_dates=query.due_dates)
        sessions = await fetch(reader, Collection.SESSIONS, query.sessions)
        recent = await self._recent_sessions(reader, query.recent)
        return DashboardState(
            users={user.id: user for user in users},
            open_goals={goal.id: goal for goal in goals if goal.open},
            running_sessions=frozenset(session.id for session in sessions if session.status == "running"),
            closed_goals={goal.id: goal for goal in goals if not goal.open},
            unclear=await self._unclear(
                query, {Collection.USERS: users, Collection.GOALS: goals, Collection.SESSIONS: sessions}
            ),
            recent_sessions=recent,
        )

    async def _unclear(
        self, query: StateQuery, found: Mapping[Collection, Sequence[User | Goal | TimerSession]]
    ) -> frozenset[tuple[Collection, str]]:
        """Those of the missing rows that belong to a loss which nobody has confirmed."""
        asked = {(table, id_) for table, ids in query.ids.items() for id_ in ids}
        present = {(table, record.id) for table, records in found.items() for record in records}
        return await reconciliation.unconfirmed_rows(self._pool, asked - present)

    async def _recent_sessions(
        self, reader: Reader, since: Mapping[str, datetime]
    ) -> dict[str, list[TimerSession]]:
        """The latest sessions of some users, each since an instant of their own, by user."""
        found: dict[str, list[TimerSession]] = {}
        if since:
            for session in await self._canaries.fetch_recent_sessions(
                reader, list(since), min(since.values())
            ):
                if session.user_id in since and session.started_at >= since[session.user_id]:
                    found.setdefault(session.user_id, []).append(session)
        return found

    async def require(self, needs: frozenset[str]) -> None:
        """Check that the dashboard has what a job needs, by the last synchronisation of any process.

        Raises DashboardIncomplete (the job waits) where some of it is missing, and JobOff where the mapping
        file says that there is no such table.
        """
        check_absent(needs, self._absent_tables)
        await self._missing_data.require(needs)

    async def notify(self, notifications: Sequence[Notification]) -> dict[str, str]:
        """Write notifications into the dashboard's own inbox: see ``Source.notify``."""
        profile = self._settings.profile
        return await self._source.notify(notifications, profile.notifications if profile else None)

    # ── Archiving: never during a comparison, which would take it for deletions
    # ───────────────────────────────

    async def sessions_table(self) -> tuple[str, str]:
        """Where the sessions are stored: the kind of database, and the name of the table or collection."""
        return self._source.kind, (await self._choice.reader()).profile.sessions.name

    async def removal_obstacle(self) -> str | None:
        """Why sessions must not be removed from the dashboard, in a sentence; None: they may be."""
        if Collection.SESSIONS in self._absent_tables:
            return "the mapping file says that the dashboard has no timer_sessions"
        return await self._source.removal_obstacle((await self._choice.reader()).profile.sessions)

    async def original_sessions(self, ids: Sequence[str]) -> list[tuple[TimerSession, str]]:
        """The sessions with these ids as they are stored now, each with its text; the copy is updated too.

        Sessions that cannot be read, or cannot be restored from their text, are left out.
        """
        reader = await self._choice.reader()
        async with self._lock.hold(_SHORT_WAIT):
            originals = await self._source.originals(reader.profile.sessions, ids)
            documents = [original.document for original in originals]
            reading = await self._writer(reader).read(Collection.SESSIONS, documents)
            async with self._lock.step() as connection:
                await self._writer(reader).store(connection, Collection.SESSIONS, reading)
        key = reader.profile.sessions.id
        bodies = {identity(original.document[key]): original.body for original in originals}
        return [(record, body) for record in reading.records if (body := bodies.get(record.id))]

    async def remove_sessions(self, bodies: Mapping[str, str]) -> frozenset[str]:
        """Remove these sessions (id → text) if they are unchanged; returns the ids that were not removed."""
        reader = await self._choice.reader()
        async with self._lock.hold(_SHORT_WAIT) as lease:
            await lease.check()
            return await self._source.remove(reader.profile.sessions, bodies)

    async def restore_sessions(self, bodies: Mapping[str, str]) -> frozenset[str]:
        """Restore sessions that the dashboard lacks; returns the ids that it has afterwards."""
        reader = await self._choice.reader()
        async with self._lock.hold(_LONG_WAIT) as lease:
            await lease.check()
            return await self._source.insert(reader.profile.sessions, bodies)

    async def existing_sessions(self, ids: Sequence[str]) -> frozenset[str]:
        """Which of these sessions the dashboard has."""
        return await self._source.existing((await self._choice.reader()).profile.sessions, ids)

    async def ping(self) -> None:
        """Raises SourceUnavailable when the dashboard does not answer."""
        await self._source.ping()

    async def close(self) -> None:
        """Close the connections to the dashboard."""
        await self._source.close()

    def change_stream_lag(self) -> float | None:
        """Seconds since the copy had all that the change stream told; None unless this process follows it."""
        return self._changes.lag()

    @property
    def doubts(self) -> Sequence[Doubt]:
        """What looks like a mistake at the dashboard, by this process's last look."""
        return self._choice.doubts

    def health(self) -> dict[str, Any]:
        """The state of the copy for operators, as JSON.

        ``healthy`` is False when the schema is wrong, the dashboard does not answer or its answers are
        doubted, or too many rows are missing.
        """
        match, tail = self._choice.match, self._choice.tail
        missing = self._missing_entries()
        warnings = [*(doubt.sentence for doubt in self.doubts), *self._choice.warnings]
        if tail.ambiguous:
            warnings.append(f"SESSION_TAIL is ambiguous: {tail.agreement:.0%} of {tail.votes} sessions agree")
        problems = [
            *([str(self._problem)] if self._problem else []),
            *self._canaries.doubts.values(),
            *(entry["said"] for entry in missing),
            *(loss.sentence for loss in self._losses),
        ]
        return {
            "healthy": not problems,
            "profile": match.profile.name if match.profile else "pending",
            "score": round(match.score, 2),
            "complete": match.complete,
            "session_tail": "included" if tail.included else "excluded",
            "warnings": warnings,
            "missing": missing,
            "rejected": self._rejected,
            "schema_unknown": isinstance(self._problem, SchemaUnknown),
            "problems": problems,
            "error": "; ".join(problems) or None,
            "lost": {loss.table: _loss_json(loss) for loss in self._losses},
            "full_sync": {one.table: one.to_json() for one in self._full},
            "compared_at": self._compared_at,
            "change_stream": self._changes.health(),
            "zone_data": zones.version(),
            "synced_at": self._synced_at.isoformat() if self._synced_at else None,
        }

    def _missing_entries(self) -> list[dict[str, Any]]:
        """What the dashboard lacks, and which jobs wait for it."""
        entries = []
        for missing in self._missing_data.current:
            jobs = sorted(
                job for job, needs in self._settings.needs.items() if waits_for(needs, missing.name)
            )
            waiting = f"; waiting for it: {', '.join(jobs)}" if jobs else ""
            entries.append(
                {
                    "table": str(missing.table),
                    "field": missing.field,
                    "looks_like": missing.looks_like,
                    "jobs": jobs,
                    "said": missing.sentence + waiting,
                }
            )
        return entries

    # ── One run ─────────────────────────────────────────────────────────────────────────────────────────────

    async def _attempt(self, *, compare: bool | None, full: bool) -> SyncReport:
        try:
            report = await self._run(compare=compare, full=full)
        except DashboardBusy:
            raise
        except (SourceUnavailable, SchemaUnknown) as error:
            self._problem = error
            async with self._lock.step() as connection:
                await connection.execute(_SQL["record_error"], str(error))
            raise
        self._problem = None
        await self._load_shared_state()
        return report

    async def _load_shared_state(self) -> None:
        """Load what all processes share: open losses, a full synchronisation, and how old the copy is."""
        self._losses = await reconciliation.open_losses(self._pool)
        self._rejected = {}
        for row in await self._pool.fetch(_SQL["rejected"]):
            self._rejected.setdefault(row["collection"], {})[row["reason"]] = row["n"]
        self._full = await full_sync.under_way(self._pool)
        rows = await self._pool.fetch(_SQL["compared_at"])
        self._compared_at = {row["collection"]: row["swept_at"].isoformat() for row in rows}
        self._synced_at = (
            await self._pool.fetchval(_SQL["synced_at"], await self._expected_tables()) or self._synced_at
        )

    async def _run(self, *, compare: bool | None, full: bool) -> SyncReport:
        started_at = await self._pool.fetchval("SELECT service.now()")
        states = await sync_state.load_states(self._pool)
        reader = await self._choice.recognise(states)
        if reader is None:
            return SyncReport(pending=True)
        run = SyncRun(
            self._pool,
            self._source,
            self._lock,
            self._writer(reader),
            self._settings,
            zones=zones.version(),
            started_at=started_at,
        )
        restored = await self._missing_data.store()
        for collection in self._readable_tables():
            await run.update(collection, states.get(collection), restored=collection in restored)
        await self._missing_data.open_resolved()
        if full:
            async with self._lock.step() as connection:
                await full_sync.restart(connection)
        await run.go_on_with_full(self._readable_tables(), requested=full)
        await run.compare(self._comparable_tables(), requested=compare)
        for collection in self._readable_tables():
            await self._canaries.renew(collection, reader.profile.table(collection))
        return run.report

    def _writer(self, reader: Reader) -> CopyWriter:
        return CopyWriter(reader, self._choice.reading_key, self._missing_data)

    def _readable_tables(self) -> list[Collection]:
        """The tables that can be read now; the others keep what the copy has."""
        return [
            c for c in Collection if c not in self._absent_tables and not self._missing_data.unreadable(c)
        ]

    async def _check_readable(self) -> list[Collection]:
        """The same, by a new look at the dashboard."""
        await self._choice.check_missing()
        return self._readable_tables()

    def _comparable_tables(self) -> list[Collection]:
        """The tables that can be read now, and those that do not exist: these have lost all of their rows."""
        return [
            c
            for c in Collection
            if c not in self._absent_tables and not self._missing_data.exists_but_unreadable(c)
        ]

    async def _expected_tables(self) -> list[Collection]:
        """The tables that a complete copy has: those that the dashboard has and that can be read."""
        unread = await self._missing_data.unreadable_tables()
        return [c for c in Collection if c not in self._absent_tables and c not in unread]


def _loss_json(loss: Loss) -> dict[str, Any]:
    return {
        "missing": loss.missing,
        "of": loss.of,
        "waiting": loss.waiting,
        "since": loss.since.isoformat(),
    }
