"""Chooses the dashboard's profile, and makes the reader of its documents.

When there are documents and no profile fits them, nothing is read and ``SchemaUnknown`` says why: a job that
silently matches nothing is the worst failure this service can have. An empty dashboard is healthy.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import asyncpg
import structlog

from service.dashboard import sync_state
from service.dashboard.doubts import Doubt, doubts_about
from service.dashboard.needs import MissingDataCheck
from service.dashboard.profiles.detect import Match, detect
from service.dashboard.profiles.reader import Reader
from service.dashboard.profiles.session_tail import SessionTail, judge_tail, uses_tail
from service.dashboard.profiles.shapes import PROFILES, Collection, Document, Profile, Table
from service.dashboard.source import Source
from service.dashboard.sync_settings import SyncSettings
from service.dashboard.sync_state import SyncState
from service.errors import SchemaUnknown, SourceUnavailable

_log = structlog.get_logger()


class ProfileChoice:
    """Chooses one of ``candidates`` by what the dashboard holds, again at each synchronisation.

    ``match``: the choice. ``reading_key``: identifies everything that decides how documents are read.
    ``warnings``: what makes reading slow or late. ``doubts``: what looks like the wrong database.
    """

    def __init__(
        self,
        pool: asyncpg.Pool,
        source: Source,
        missing_data: MissingDataCheck,
        settings: SyncSettings,
    ) -> None:
        self._pool = pool
        self._source = source
        self._missing_data = missing_data
        self.candidates = candidate_profiles(settings)
        self._default_timezone = settings.default_timezone
        self._date_only = settings.deadline_date_only == "auto"
        self._session_tail = settings.session_tail
        self._reader: Reader | None = None
        self.match = Match(None)
        self.tail = SessionTail()
        self.reading_key = ""
        self.warnings: list[str] = []
        self.doubts: list[Doubt] = []
        self._warned_for = ""

    async def reader(self) -> Reader:
        """The reader, even before the first synchronisation. Raises SourceUnavailable, SchemaUnknown."""
        if self._reader is None:
            self._reader = await self.recognise(await sync_state.load_states(self._pool))
        if self._reader is None:
            raise SourceUnavailable("the dashboard is empty; its schema is not known yet")
        return self._reader

    async def recognise(self, states: Mapping[Collection, SyncState]) -> Reader | None:
        """The reader for what the dashboard holds now; None while it is empty and always has been.

        If no profile fits any more, the previous one is kept, and what it lacks is missing data: only the
        jobs that need it wait.
        """
        tables = await self._source.table_names()
        samples = await self._samples(tables)
        match = detect(self.candidates, samples)
        named = [self.match.profile] if self.match.profile else self.candidates
        mapped = [table for profile in named for table in map(profile.table, Collection) if table.name]
        self.doubts = await doubts_about(self._source, mapped, tables, samples)
        stored = _stored_profile(self.candidates, states)
        if match.problem and stored is None:
            self.match = match
            raise SchemaUnknown(match.problem)
        profile = match.profile or stored
        if profile is None:
            self.match = match
            return None
        self.match = Match(profile, match.score, match.complete)
        await self._missing_data.check(profile, tables, samples)
        self.tail = await self._judge_tail(profile, states)
        await self._warn(profile, tables)
        key = _reading_key(profile, self.tail, self._default_timezone, date_only=self._date_only)
        if self._reader is None or key != self.reading_key:
            self._reader = Reader(
                profile,
                default_timezone=self._default_timezone,
                date_only=self._date_only,
                tail_included=self.tail.included,
            )
            self.reading_key = key
        return self._reader

    async def check_missing(self) -> None:
        """Check anew what the dashboard lacks of the profile. Raises SourceUnavailable, SchemaUnknown."""
        if self.match.profile:
            tables = await self._source.table_names()
            await self._missing_data.check(self.match.profile, tables, await self._samples(tables))

    async def _samples(self, tables: frozenset[str]) -> Mapping[str, Sequence[Document]]:
        """The newest documents of all collections that a profile names; of others if those are empty."""
        mapped = {
            t.name: t for profile in self.candidates for c in Collection if (t := profile.table(c)).name
        }
        samples: dict[str, Sequence[Document]] = {}
        refused: list[SchemaUnknown] = []
        for name, table in sorted(mapped.items()):
            try:
                samples[name] = await self._source.sample(table, 50)
            except SchemaUnknown as error:
                samples[name] = []
                refused.append(error)
        if not any(samples.values()):
            if refused:
                raise refused[0]
            for name in sorted(tables - set(mapped))[:50]:
                samples[name] = await self._source.sample(Table(name, {}), 1)
        return samples

    async def _judge_tail(self, profile: Profile, states: Mapping[Collection, SyncState]) -> SessionTail:
        if not profile.sessions.name or not uses_tail(profile) or self._session_tail != "auto":
            return SessionTail(included=self._session_tail == "included")
        readable = not self._missing_data.unreadable(Collection.SESSIONS)
        tail = judge_tail(profile, await self._source.sample(profile.sessions, 400) if readable else [])
        previous = states.get(Collection.SESSIONS)
        if previous and (tail.ambiguous or not tail.votes):  # unclear: keep the previous decision
            return SessionTail("tail=included" in previous.profile, tail.agreement, tail.votes)
        return tail

    async def _warn(self, profile: Profile, tables: frozenset[str]) -> None:
        if self._warned_for == profile.name:
            return
        self._warned_for, self.warnings = profile.name, []
        for collection in Collection:
            table = profile.table(collection)
            if not table.name or (table.query and self._missing_data.unreadable(collection)):
                continue
            if not table.query and table.name not in tables and not await self._source.exists(table):
                self.warnings.append(f"{table.name} does not exist")
            elif table.updated is None:
                self.warnings.append(f"{table.name} has no time of writing: edits are found once a day")
            elif await self._source.lacks_index(table):
                self.warnings.append(f"{table.name}.{table.updated} has no index: every reading scans it all")
        for warning in self.warnings:
            _log.warning("dashboard_warning", warning=warning)


def candidate_profiles(settings: SyncSettings) -> list[Profile]:
    """The profiles to choose from: the mapping file's, the one that is named, or all built-in ones."""
    if settings.profile is not None:
        return [settings.profile]
    return list(PROFILES.values()) if settings.schema == "auto" else [PROFILES[settings.schema]]


def _reading_key(profile: Profile, tail: SessionTail, default_timezone: str, *, date_only: bool) -> str:
    """Identifies everything that decides how documents are read; when it changes, all is loaded again."""
    shape: dict[str, Any] = {
        name: sorted(v) if isinstance(v, frozenset) else v for name, v in asdict(profile).items()
    }
    del shape["notifications"]  # written, never read
    for table in (shape["users"], shape["goals"], shape["sessions"]):
        for name in (
            "rules",
            "query",
        ):  # a profile without them keeps the key that it had before there were any
            if not table[name]:
                del table[name]
    digest = hashlib.sha256(json.dumps(shape, sort_keys=True).encode()).hexdigest()[:8]
    tail_word = "included" if tail.included else "excluded"
    return f"{profile.name} {digest} tail={tail_word} zone={default_timezone} dates={date_only}"


def _stored_profile(candidates: Sequence[Profile], states: Mapping[Collection, SyncState]) -> Profile | None:
    names = {state.profile.split(" ")[0] for state in states.values()}
    return next((profile for profile in candidates if profile.name in names), None)
