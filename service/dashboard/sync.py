"""Keeps the canonical tables as fresh as the dashboard: first load, changes, deletions.

The *first load* walks each collection in id order, page by page; rows and position are one transaction, so a
crash costs one page. Then it *follows* the time of writing, re-reading a small overlap, because writes become
visible late; re-reading is harmless. A *sweep* compares once a day which ids are there and which are here.

When documents exist and no schema profile fits them, nothing is read and ``SchemaUnknown`` says why: a job
that silently matches nothing is the worst failure this service can have. An empty dashboard is healthy.
"""

import asyncio
import hashlib
import json
import secrets
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Literal

import asyncpg
import structlog

from service.dashboard import replica, sweep
from service.dashboard.canaries import Canaries
from service.dashboard.dashboard_state import Standing
from service.dashboard.loss import Loss
from service.dashboard.model import TimerSession
from service.dashboard.needs import Gaps, absent, check_absent, unmet
from service.dashboard.notification import Note
from service.dashboard.profiles.detect import Match, detect
from service.dashboard.profiles.reader import Problem, Reader, Reading
from service.dashboard.profiles.session_tail import Tail, judge_tail, uses_tail
from service.dashboard.profiles.shapes import PROFILES, Collection, Document, Profile, Table
from service.dashboard.profiles.values import identity
from service.dashboard.source import Page, Source
from service.dashboard.sweep import Sweep
from service.engine import queries, zone_table
from service.engine.database import Connection
from service.engine.lease import SYNC, Held, Lease
from service.engine.schema import read_range
from service.errors import (
    DashboardBusy,
    LeaseLost,
    ReleaseTooOld,
    SchemaUnknown,
    ServiceError,
    SourceUnavailable,
)

_SQL = queries.load(__file__)
_LONG_AGO = datetime(1900, 1, 1, tzinfo=UTC)
_A_MOMENT = 2.0
_A_MINUTE = 60.0
_log = structlog.get_logger()

Progress = Callable[[str, int], None]
"""``progress(collection, rows read so far)``, called after each page of a first load."""


@dataclass
class SyncReport:
    """What one synchronisation did, per collection. ``pending``: the dashboard is empty, profile unknown."""

    profile: str | None = None
    pending: bool = False
    read: Counter[str] = field(default_factory=Counter)
    changed: Counter[str] = field(default_factory=Counter)
    deleted: Counter[str] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)
    """``collection.reason`` → count, of documents that were new or edited."""


@dataclass
class _State:
    """A row of service.sync_state."""

    collection: Collection
    phase: str
    profile: str
    watermark: datetime | None
    last_id: str
    rows_read: int
    rejected: Counter[str]
    zones: str | None


class Sync:
    """Copies one dashboard into our tables.

    ``schema``: auto, A, B, J, PG, or ``profile`` gives one (from a mapping file). ``session_tail``: see
    the profiles. ``overlap``: how far behind the newest write each reading starts. ``batch``: rows per
    transaction. ``owner``: a name that no other process has; None: one is made up. ``lease``: after so long
    without a sign of life another process takes over. ``needs``: what each job rests on, by its name, so that
    health can say which of them wait. The pool must be able to lend three connections.
    """

    def __init__(
        self,
        pool: asyncpg.Pool,
        source: Source,
        *,
        default_timezone: str = "UTC",
        schema: str = "auto",
        profile: Profile | None = None,
        deadline_date_only: Literal["auto", "never"] = "auto",
        session_tail: Literal["auto", "included", "excluded"] = "auto",
        interval: float = 120.0,
        overlap: timedelta = timedelta(minutes=5),
        sweep_every: timedelta = timedelta(hours=24),
        batch: int = 2000,
        progress: Progress | None = None,
        owner: str | None = None,
        lease: timedelta = timedelta(seconds=30),
        needs: Mapping[str, frozenset[str]] | None = None,
    ) -> None:
        self._pool = pool
        self._source = source
        self._canaries = Canaries(pool, source)
        self._gaps = Gaps(pool, source)
        self._needs = needs or {}
        self._default_timezone = default_timezone
        self._candidates = _candidates(schema, profile)
        self._absent = absent(self._candidates)
        self._date_only = deadline_date_only == "auto"
        self._session_tail = session_tail
        self._interval = interval
        self._overlap = overlap
        self._sweep_every = sweep_every
        self._batch = batch
        self._progress = progress or (lambda _collection, _rows: None)
        self._turn = asyncio.Lock()
        self._lease = Lease(pool, SYNC, owner or secrets.token_hex(8), lease)
        self._held: Held | None = None
        self._lost: list[Loss] = []
        self._zones: frozenset[str] | None = None
        self._reader: Reader | None = None
        self._match = Match(None)
        self._tail = Tail()
        self._key = ""
        self._warnings: list[str] = []
        self._warned_for = ""
        self._problem: ServiceError | None = None
        self._rejected: dict[str, dict[str, int]] = {}
        self._synced_at: datetime | None = None
        self._began = _LONG_AGO

    # ── The face ────────────────────────────────────────────────────────────────────────────────────────────

    async def run_once(self, *, sweep: bool | None = None, patience: float = _A_MINUTE) -> SyncReport:
        """Bring everything up to date. ``sweep``: compare all ids now; None: when it is time; False: never.

        Raises DashboardBusy (another process still reads it after ``patience`` seconds), SourceUnavailable
        (try later), SchemaUnknown (refuse to work) or ReleaseTooOld (write nothing).
        """
        if problem := (await read_range(self._pool)).problem:
            raise ReleaseTooOld(problem)
        try:
            async with self._alone(patience):
                return await self._attempt(sweep=sweep)
        except DashboardBusy:
            await self._learn()
            raise

    async def refresh(self, since: datetime | None = None) -> None:
        """Bring the copy up to date; where another process is at it, take it as it is: nobody waits for long.

        Raises DashboardBusy where the copy was not read after ``since`` (None: is not complete yet), and what
        ``run_once`` raises.
        """
        try:
            await self.run_once(patience=_A_MOMENT)
        except DashboardBusy:
            if not await self._pool.fetchval(_SQL["fresh"], since, await self._expected()):
                raise

    async def serve(self, stop: asyncio.Event) -> None:
        """Synchronise every ``interval`` seconds until ``stop``; an unreachable dashboard is tried again."""
        while not stop.is_set():
            pause = self._interval
            try:
                await self.run_once(patience=_A_MOMENT)
            except DashboardBusy:
                pause = min(pause, self._lease.length.total_seconds() / 3)  # its holder may be frozen
            except (SourceUnavailable, SchemaUnknown, ReleaseTooOld) as error:
                _log.warning("sync_failed", error=str(error), kind=type(error).__name__)
            try:
                async with asyncio.timeout(pause):
                    await stop.wait()
            except TimeoutError:
                continue

    async def confirm(self, table: str, who: str) -> int:
        """Accept that the rows of a table are gone which are missing now; see ``sweep.confirm``."""
        return await sweep.confirm(self._pool, Collection(table), who)

    async def standing(
        self,
        user_ids: Sequence[str],
        goal_ids: Sequence[str],
        session_ids: Sequence[str] = (),
        *,
        addresses: bool = True,
    ) -> Standing:
        """How these users, goals and sessions stand at the dashboard now; what is missing was deleted.

        ``addresses``: the answer is about mails. Raises AnswerDoubted when rows are missing that nobody asked
        about, DashboardIncomplete when everybody's address is, SourceUnavailable and SchemaUnknown.
        """
        reader = await self._ready()
        known = await self._canaries.ask(reader, Collection.USERS, user_ids)
        if addresses:
            await self._canaries.require_addresses(known)
        stand = await self._canaries.ask(reader, Collection.GOALS, goal_ids)
        timed = await self._canaries.ask(reader, Collection.SESSIONS, session_ids)
        return Standing(
            {user.id: user for user in known},
            frozenset(goal.id for goal in stand if goal.open),
            frozenset(session.id for session in timed if session.status == "running"),
        )

    async def require(self, needs: frozenset[str]) -> None:
        """Whether a job with these needs may run, as the last synchronisation found it, in whichever process.

        Raises DashboardIncomplete (wait) where the dashboard lacks some of it, and JobOff where the mapping
        file says that there is no such table.
        """
        check_absent(needs, self._absent)
        await self._gaps.require(needs)

    async def notify(self, notes: Sequence[Note]) -> dict[str, str]:
        """Write notifications into the dashboard's own inbox: see ``Source.notify``."""
        return await self._source.notify(notes)

    # ── Archiving: never beside a sweep, which would take it for deletions ───────────────────────────────

    async def place(self) -> tuple[str, str]:
        """Where the sessions lie: the kind of database, and the table's or collection's name."""
        return self._source.kind, (await self._ready()).profile.sessions.name

    async def obstacle(self) -> str | None:
        """Why the dashboard's sessions may not be removed, in a sentence; None: they may."""
        if Collection.SESSIONS in self._absent:
            return "the mapping file says that the dashboard has no timer_sessions"
        return await self._source.obstacle((await self._ready()).profile.sessions)

    async def originals(self, ids: Sequence[str]) -> list[tuple[TimerSession, str]]:
        """The sessions with these ids as they are stored now, with their text; the copy is made as fresh.

        Those that cannot be read, or not be made again from text, are left out.
        """
        reader = await self._ready()
        async with self._alone(_A_MOMENT):
            found = await self._source.originals(reader.profile.sessions, ids)
            reading = await _read(reader, Collection.SESSIONS, [one.document for one in found])
            async with self._step() as connection:
                await _store(connection, Collection.SESSIONS, reading.records, mark=True)
        key = reader.profile.sessions.id
        bodies = {identity(one.document[key]): one.body for one in found}
        return [(record, body) for record in reading.records if (body := bodies.get(record.id))]

    async def remove(self, bodies: Mapping[str, str]) -> frozenset[str]:
        """Remove these sessions (id: text) where they are unchanged; returns the ids that were not."""
        reader = await self._ready()
        async with self._alone(_A_MOMENT) as held:
            await held.check()
            return await self._source.remove(reader.profile.sessions, bodies)

    async def put_back(self, bodies: Mapping[str, str]) -> frozenset[str]:
        """Put sessions back that the dashboard lacks; returns the ids that it has afterwards."""
        reader = await self._ready()
        async with self._alone(_A_MINUTE) as held:
            await held.check()
            return await self._source.insert(reader.profile.sessions, bodies)

    async def present(self, ids: Sequence[str]) -> frozenset[str]:
        """Which of these sessions the dashboard has."""
        return await self._source.existing((await self._ready()).profile.sessions, ids)

    async def ping(self) -> None:
        """Raises SourceUnavailable when the dashboard does not answer."""
        await self._source.ping()

    async def close(self) -> None:
        """Close the connections to the dashboard."""
        await self._source.close()

    def health(self) -> dict[str, Any]:
        """What an operator should know, JSON-able.

        ``healthy`` is False on a wrong schema, no answer, one that is not believed, or rows that went missing
        in numbers.
        """
        match = self._match
        missing = self._missing()
        warnings = list(self._warnings)
        if self._tail.ambiguous:
            warnings.append(
                f"SESSION_TAIL is ambiguous: {self._tail.agreement:.0%} of {self._tail.votes} sessions agree"
            )
        problems = [
            *([str(self._problem)] if self._problem else []),
            *self._canaries.doubts.values(),
            *(one["said"] for one in missing),
            *(loss.sentence for loss in self._lost),
        ]
        return {
            "healthy": not problems,
            "profile": match.profile.name if match.profile else "pending",
            "score": round(match.score, 2),
            "complete": match.complete,
            "session_tail": "included" if self._tail.included else "excluded",
            "warnings": warnings,
            "missing": missing,
            "rejected": self._rejected,
            "schema_unknown": isinstance(self._problem, SchemaUnknown),
            "error": "; ".join(problems) or None,
            "lost": {loss.table: _described(loss) for loss in self._lost},
            "synced_at": self._synced_at.isoformat() if self._synced_at else None,
        }

    def _missing(self) -> list[dict[str, Any]]:
        """What the dashboard lacks, and which jobs wait for it."""
        found = []
        for gap in self._gaps.now:
            jobs = sorted(job for job, needs in self._needs.items() if unmet(needs, gap.name))
            wait = f"; waiting for it: {', '.join(jobs)}" if jobs else ""
            found.append(
                {"table": str(gap.table), "field": gap.field, "looks_like": gap.looks_like, "jobs": jobs,
                 "said": gap.said + wait}
            )  # fmt: skip
        return found

    # ── One run ─────────────────────────────────────────────────────────────────────────────────────────────

    @asynccontextmanager
    async def _alone(self, patience: float) -> AsyncIterator[Held]:
        """Several replicas share one dashboard: they read it in turns.

        Raises DashboardBusy when another is at it for ``patience`` seconds, or has taken over meanwhile.
        """
        clock = asyncio.get_running_loop().time
        until = clock() + patience
        try:
            async with _turn(self._turn, patience), self._lease.hold(max(0.0, until - clock())) as held:
                if held is None:
                    raise DashboardBusy("another process reads the dashboard now; try again in a moment")
                self._held = held
                try:
                    yield held
                finally:
                    self._held = None
        except LeaseLost as error:
            raise DashboardBusy(f"another process has begun to read the dashboard: {error}") from error

    @asynccontextmanager
    async def _step(self, connection: Connection | None = None) -> AsyncIterator[asyncpg.Connection]:
        """A transaction that counts only while we are alone; whatever changes the copy is in one."""
        assert self._held
        async with self._held.step(connection) as ours:
            if not await ours.fetchval(_SQL["beside_0_1_0"], replica.SYNC_LOCK):
                raise DashboardBusy("a process of the former release reads the dashboard now")
            yield ours

    async def _attempt(self, *, sweep: bool | None) -> SyncReport:
        try:
            report = await self._run(sweep=sweep)
        except DashboardBusy:
            raise
        except (SourceUnavailable, SchemaUnknown) as error:
            self._problem = error
            async with self._step() as connection:
                await connection.execute(_SQL["failed"], str(error))
            raise
        self._problem = None
        await self._learn()
        return report

    async def _learn(self) -> None:
        """What concerns all processes, whoever found it out: losses, and how far the copy has come."""
        self._lost = await sweep.losses(self._pool)
        self._synced_at = (
            await self._pool.fetchval(_SQL["synced_at"], await self._expected()) or self._synced_at
        )

    async def _run(self, *, sweep: bool | None) -> SyncReport:
        self._began = await self._pool.fetchval("SELECT service.now()")
        states = await self._states()
        self._rejected = {str(c): dict(state.rejected) for c, state in states.items() if state.rejected}
        reader = await self._recognise(states)
        report = SyncReport(profile=reader.profile.name if reader else None, pending=reader is None)
        if reader is None:
            return report
        back = await self._gaps.note()
        for collection in self._readable():
            state = states.get(collection)
            read_before = state is not None and state.phase == "live" and state.profile == self._key
            if state is None or state.profile != self._key:
                state = await self._begin(reader, collection)
            if state.phase == "loading":
                await self._load(reader, state, report)
            await self._follow(reader, state, report)
            if collection is Collection.USERS:
                await self._read_zones_again(reader, state, report)
            if collection in back and read_before:  # what was written meanwhile was read without it
                async with self._pool.acquire() as connection:
                    await self._read_all(connection, reader, collection, report)
        await self._gaps.forget_healed()
        await self._sweep(reader, report, wanted=sweep)
        for collection in self._readable():
            await self._canaries.renew(collection, reader.profile.table(collection))
        return report

    def _readable(self) -> list[Collection]:
        """The tables that can be read now; the others keep what the copy has."""
        return [c for c in Collection if c not in self._absent and not self._gaps.unreadable(c)]

    async def _expected(self) -> list[Collection]:
        """The tables without which the copy is not complete: those that the dashboard is known to have."""
        unread = await self._gaps.unread()
        return [c for c in Collection if c not in self._absent and c not in unread]

    async def _states(self) -> dict[Collection, _State]:
        rows = await self._pool.fetch(_SQL["states"])
        return {Collection(row["collection"]): _state(row) for row in rows}

    # ── Schema ──────────────────────────────────────────────────────────────────────────────────────────────

    async def _ready(self) -> Reader:
        if self._reader is None:
            self._reader = await self._recognise(await self._states())
        if self._reader is None:
            raise SourceUnavailable("the dashboard is empty; its schema is not known yet")
        return self._reader

    async def _recognise(self, states: Mapping[Collection, _State]) -> Reader | None:
        """The reader for what the dashboard holds now; None while it is empty and was never seen full.

        Where nothing fits any more that once did, the profile of before stays, and what it misses is a gap:
        only the jobs that need it wait.
        """
        tables = await self._source.tables()
        samples = await self._samples(tables)
        match = detect(self._candidates, samples)
        stored = _stored_profile(self._candidates, states)
        if match.problem and stored is None:
            self._match = match
            raise SchemaUnknown(match.problem)
        profile = match.profile or stored
        if profile is None:
            self._match = match
            return None
        self._match = Match(profile, match.score, match.complete)
        await self._gaps.look(profile, tables, samples)
        self._tail = await self._judge_tail(profile, states)
        await self._warn(profile, tables)
        key = _reading_key(profile, self._tail, self._default_timezone, date_only=self._date_only)
        if self._reader is None or key != self._key:
            self._reader = Reader(
                profile,
                default_timezone=self._default_timezone,
                zones=await self._zone_names(),
                date_only=self._date_only,
                tail_included=self._tail.included,
            )
            self._key = key
        return self._reader

    async def _samples(self, tables: frozenset[str]) -> dict[str, list[Document]]:
        """Newest documents of all collections that a profile names; of others when those hold nothing."""
        named = {name for profile in self._candidates for c in Collection if (name := profile.table(c).name)}
        samples = {name: await self._source.sample(name, 50) for name in sorted(named)}
        if not any(samples.values()):
            for name in sorted(tables - named)[:50]:
                samples[name] = await self._source.sample(name, 1)
        return samples

    async def _judge_tail(self, profile: Profile, states: Mapping[Collection, _State]) -> Tail:
        if not profile.sessions.name or not uses_tail(profile) or self._session_tail != "auto":
            return Tail(included=self._session_tail == "included")
        tail = judge_tail(profile, await self._source.sample(profile.sessions.name, 400))
        before = states.get(Collection.SESSIONS)
        if before and (tail.ambiguous or not tail.votes):  # keep what was decided while the evidence wavers
            return Tail("tail=included" in before.profile, tail.agreement, tail.votes)
        return tail

    async def _warn(self, profile: Profile, tables: frozenset[str]) -> None:
        if self._warned_for == profile.name:
            return
        self._warned_for, self._warnings = profile.name, []
        for collection in Collection:
            table = profile.table(collection)
            if not table.name:
                continue
            if table.name not in tables and not await self._source.exists(table.name):
                self._warnings.append(f"{table.name} does not exist")
            elif table.updated is None:
                self._warnings.append(f"{table.name} has no time of writing: edits are found once a day")
            elif await self._source.unindexed(table):
                self._warnings.append(
                    f"{table.name}.{table.updated} has no index: every reading scans it all"
                )
        for warning in self._warnings:
            _log.warning("dashboard_warning", warning=warning)

    async def _zone_names(self) -> frozenset[str]:
        if self._zones is None:
            self._zones = frozenset(await zone_table.accepted(self._pool))
        return self._zones

    async def _read_zones_again(self, reader: Reader, state: _State, report: SyncReport) -> None:
        """Whose zone was not known is read again when others are known: after an upgrade on either side."""
        known = await self._zones_digest()
        if state.zones == known:
            return
        after, state.rejected["timezone"] = "", 0
        while ids := [row["id"] for row in await self._pool.fetch(_SQL["zoneless"], after, self._batch)]:
            documents = await self._source.fetch(reader.profile.users, ids)
            reading = await _read(reader, Collection.USERS, documents)
            state.rejected["timezone"] += sum(problem.reason == "timezone" for problem in reading.problems)
            async with self._step() as connection:
                report.changed["users"] += await _store(
                    connection, Collection.USERS, reading.records, mark=True
                )
            after = ids[-1]
        state.rejected += Counter()  # a reason that nobody has is not told
        async with self._step() as connection:
            await connection.execute(_SQL["zones_read"], known, dict(state.rejected))
        self._rejected[Collection.USERS] = dict(state.rejected)

    async def _zones_digest(self) -> str:
        names = "\n".join(sorted(await self._zone_names()))
        return hashlib.sha256(names.encode()).hexdigest()[:16]

    # ── First load ──────────────────────────────────────────────────────────────────────────────────────────

    async def _begin(self, reader: Reader, collection: Collection) -> _State:
        newest = await self._source.newest(reader.profile.table(collection))
        async with self._step() as connection:
            row = await connection.fetchrow(_SQL["begin"], collection, self._key, newest)
        assert row
        return _state(row)

    async def _load(self, reader: Reader, state: _State, report: SyncReport) -> None:
        writing: asyncio.Task[None] | None = None  # one page is stored while the next is read
        async with aclosing(self._pages(reader.profile.table(state.collection), state.last_id)) as stream:
            try:
                async for page in stream:
                    reading = await _read(reader, state.collection, page.documents)
                    self._note(state, reading, report)
                    if writing:
                        await writing
                    writing = asyncio.create_task(self._store_page(state, page, reading, report))
            finally:
                if writing:
                    await writing
        async with self._step() as connection:
            await replica.mark_everything_stale(connection, state.collection)
            state.zones = await self._zones_digest()
            await connection.execute(_SQL["live"], state.collection, state.zones)
        state.phase = "live"

    async def _store_page(self, state: _State, page: Page, reading: Reading, report: SyncReport) -> None:
        """Rows and position in one transaction; what a crash of the server loses is read again."""
        rows = len(page.documents)
        records = await self._gaps.kept(state.collection, reading.records)
        async with self._step() as connection:
            await connection.execute("SET LOCAL synchronous_commit = off")
            changed = await _store(connection, state.collection, records, mark=False)
            await connection.execute(_SQL["loaded"], state.collection, page.after, rows, dict(state.rejected))
        state.last_id, state.rows_read = page.after, state.rows_read + rows
        report.read[state.collection] += rows
        report.changed[state.collection] += changed
        self._progress(state.collection, state.rows_read)

    async def _pages(self, table: Table, after: str) -> AsyncGenerator[Page, None]:
        """Pages in id order; the next is fetched while the last is stored."""
        following = asyncio.create_task(self._source.page(table, after, self._batch))
        try:
            while (page := await following).documents:
                following = asyncio.create_task(self._source.page(table, page.after, self._batch))
                yield page
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)

    # ── Changes ─────────────────────────────────────────────────────────────────────────────────────────────

    async def _follow(self, reader: Reader, state: _State, report: SyncReport) -> None:
        table = reader.profile.table(state.collection)
        watermark = state.watermark or await self._source.newest(table)
        if table.updated is None or watermark is None:  # nothing is dated: new rows only, the rest is swept
            async with aclosing(self._pages(table, state.last_id)) as stream:
                async for page in stream:
                    await self._store_changes(reader, state, page.documents, page.after, report)
        else:
            since = state.watermark - self._overlap if state.watermark else _LONG_AGO
            async with aclosing(self._source.changed(table, since, self._batch)) as stream:
                async for documents in stream:
                    await self._store_changes(reader, state, documents, None, report)
        async with self._step() as connection:
            await connection.execute(_SQL["synced"], state.collection, self._began)

    async def _store_changes(
        self,
        reader: Reader,
        state: _State,
        documents: Sequence[Document],
        after: str | None,
        report: SyncReport,
    ) -> None:
        reading = await _read(reader, state.collection, documents)
        self._note(state, reading, report)
        records = await self._gaps.kept(state.collection, reading.records)
        async with self._step() as connection:
            changed = await _store(connection, state.collection, records, mark=True)
            await connection.execute(
                _SQL["followed"],
                state.collection, reading.newest, after, changed, dict(state.rejected),
            )  # fmt: skip
        report.read[state.collection] += len(documents)
        report.changed[state.collection] += changed

    def _note(self, state: _State, reading: Reading, report: SyncReport) -> None:
        """Count what is malformed once, although the overlap reads it again."""
        loading = state.phase == "loading"
        for problem in reading.problems:
            seen = not loading and problem.updated and state.watermark and problem.updated <= state.watermark
            if seen:
                continue
            state.rejected[problem.reason] += 1
            report.rejected[f"{state.collection}.{problem.reason}"] += 1
            _log.debug(
                "malformed",
                collection=state.collection,
                id=problem.id,
                reason=problem.reason,
                out=problem.fatal,
            )
        self._rejected[state.collection] = dict(state.rejected)

    # ── Comparing ───────────────────────────────────────────────────────────────────────────────────────────

    async def _sweep(self, reader: Reader, report: SyncReport, *, wanted: bool | None) -> None:
        if wanted is False:
            return
        comparable = [c for c in Collection if c not in self._absent and not self._gaps.illegible(c)]
        async with self._pool.acquire() as connection:
            for collection in await sweep.asked(connection):
                if collection in comparable:
                    table = reader.profile.table(collection)
                    await sweep.look_again(connection, self._source, table, collection, self._step)
            due = await sweep.due(connection, timedelta(0) if wanted else self._sweep_every)
            for collection in comparable:
                if wanted or collection in due:
                    await self._sweep_one(connection, reader, collection, report)

    async def _sweep_one(
        self, connection: Connection, reader: Reader, collection: Collection, report: SyncReport
    ) -> None:
        keep = partial(self._keep, reader)
        if await self._source.undated(reader.profile.table(collection)):  # not all say when they were written
            await self._read_all(connection, reader, collection, report)
        comparison = Sweep(connection, self._source, reader.profile, collection, self._step, keep)
        changed, deleted = await comparison.run()
        report.changed[collection] += changed
        if deleted:
            report.deleted[collection] += deleted

    async def _read_all(
        self, connection: Connection, reader: Reader, collection: Collection, report: SyncReport
    ) -> None:
        """Read a whole table again, and store what differs."""
        async with aclosing(self._pages(reader.profile.table(collection), "")) as stream:
            async for page in stream:
                report.changed[collection] += await self._keep(reader, connection, collection, page.documents)

    async def _keep(
        self, reader: Reader, connection: Connection, collection: Collection, documents: Sequence[Document]
    ) -> int:
        """Store what is read again; what is malformed in it was counted before."""
        reading = await _read(reader, collection, documents)
        records = await self._gaps.kept(collection, reading.records)
        async with self._step(connection) as ours:
            return await _store(ours, collection, records, mark=True)


@asynccontextmanager
async def _turn(lock: asyncio.Lock, patience: float) -> AsyncIterator[None]:
    """Hold a lock of this process. Raises DashboardBusy."""
    try:
        async with asyncio.timeout(patience):
            await lock.acquire()
    except TimeoutError:
        raise DashboardBusy("this process reads the dashboard now; try again in a moment") from None
    try:
        yield
    finally:
        lock.release()


def _described(loss: Loss) -> dict[str, Any]:
    return {
        "missing": loss.missing,
        "of": loss.of,
        "waiting": loss.waiting,
        "since": loss.since.isoformat(),
    }


def _candidates(schema: str, profile: Profile | None) -> list[Profile]:
    if profile is not None:
        return [profile]
    return list(PROFILES.values()) if schema == "auto" else [PROFILES[schema]]


def _reading_key(profile: Profile, tail: Tail, default_timezone: str, *, date_only: bool) -> str:
    """Names everything that decides how documents are read; when it changes, all is loaded again."""
    shape = {name: sorted(v) if isinstance(v, frozenset) else v for name, v in asdict(profile).items()}
    digest = hashlib.sha256(json.dumps(shape, sort_keys=True).encode()).hexdigest()[:8]
    tail_word = "included" if tail.included else "excluded"
    return f"{profile.name} {digest} tail={tail_word} zone={default_timezone} dates={date_only}"


def _stored_profile(candidates: Sequence[Profile], states: Mapping[Collection, _State]) -> Profile | None:
    names = {state.profile.split(" ")[0] for state in states.values()}
    return next((profile for profile in candidates if profile.name in names), None)


def _state(row: asyncpg.Record) -> _State:
    return _State(
        collection=Collection(row["collection"]),
        phase=row["phase"],
        profile=row["profile"] or "",
        watermark=row["watermark"],
        last_id=row["last_id"] or "",
        rows_read=row["rows_read"],
        rejected=Counter(row["rejected"]),
        zones=row["zones"],
    )


async def _read(reader: Reader, collection: Collection, documents: Sequence[Document]) -> Reading:
    """Read in slices: the loop is shared and must not wait longer than a few milliseconds."""
    records: list[Any] = []
    problems: list[Problem] = []
    newest: datetime | None = None
    for start in range(0, len(documents), 250):
        part = reader.read(collection, documents[start : start + 250])
        records += part.records
        problems += part.problems
        newest = max(filter(None, (newest, part.newest)), default=None)
        await asyncio.sleep(0)
    return Reading(records, problems, newest)


def _store(
    connection: Connection, collection: Collection, records: Sequence[Any], *, mark: bool
) -> Awaitable[int]:
    if collection is Collection.USERS:
        return replica.upsert_users(connection, records, mark=mark)
    if collection is Collection.GOALS:
        return replica.upsert_goals(connection, records, mark=mark)
    return replica.upsert_timer_sessions(connection, records, mark=mark)
