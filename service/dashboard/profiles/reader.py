"""Schema profiles: how documents or rows of a dashboard become canonical users, goals and sessions. Pure.

Four shapes are built in: ``A``, ``B`` and ``J`` (MongoDB) and ``PG`` (PostgreSQL, snake_case). Any other is
described by a mapping file (TOML), which starts from one of them and names only what differs::

    name = "acme"
    extends = "A"

    [tables]
    users = "members"
    timer_sessions = "sittings"             # "" where the dashboard has no such table

    [users]
    name = ["givenName", "familyName"]      # joined by a space; elsewhere the first that is there counts
    timezone = "profile.zone"               # dots walk into embedded documents

    [goals]
    due = "finishBy"                        # "" where it has no such field
    open_states = ["open", "late"]

    [timer_sessions]
    planned = "length"
    planned_unit = "minutes"                # milliseconds | seconds | minutes
    focus = "worked"
    focus_unit = "minutes"
    focus_kinds = ["work"]
    running_states = ["ticking"]

A malformed value never stops anything: it is left out, or its document is, and the reason is counted by name.
"""

import math
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any

from service import zones
from service.dashboard.model import Goal, Kind, Preferences, QuietHours, TimerSession, User
from service.errors import ConfigurationError

Document = Mapping[str, Any]
Paths = tuple[str, ...]


class Collection(StrEnum):
    """The three kinds of records; the values are the names of our own tables."""

    USERS = "users"
    GOALS = "goals"
    SESSIONS = "timer_sessions"


@dataclass(frozen=True)
class Table:
    """Where one kind of record lies: the table's (collection's) name, and canonical field → paths.

    An empty name: the dashboard has no such table, and need not.
    """

    name: str
    fields: Mapping[str, Paths]

    @property
    def id(self) -> str:
        """The field that identifies a record."""
        return self.fields["id"][0]

    @property
    def updated(self) -> str | None:
        """The field that says when a record was last written; None: there is no such field."""
        paths = self.fields.get("updated", ())
        return paths[0] if paths else None


@dataclass(frozen=True)
class Profile:
    """One shape of dashboard. ``planned_unit`` and ``focus_unit``: seconds per stored unit."""

    name: str
    users: Table
    goals: Table
    sessions: Table
    open_states: frozenset[str]
    focus_kinds: frozenset[str]
    running_states: frozenset[str]
    planned_unit: float
    focus_unit: float

    def table(self, collection: Collection) -> Table:
        """Where a kind of record lies."""
        tables = {Collection.USERS: self.users, Collection.GOALS: self.goals}
        return tables.get(collection, self.sessions)


# ── The built-in shapes ─────────────────────────────────────────────────────────────────────────────────────


def _table(name: str, /, **fields: str) -> Table:
    return Table(name, {field: tuple(paths.split()) for field, paths in fields.items()})


_N = "preferences.notifications"
_A_PREFERENCES = {
    "pref_email": f"{_N}.email",
    "pref_reminders": f"{_N}.reminders",
    "pref_in_app": f"{_N}.inApp",
    "pref_deadlines": f"{_N}.goalReminders",
    "pref_breaks": f"{_N}.timerNotifications",
    "pref_weekly": f"{_N}.weeklyReports",
    "quiet": f"{_N}.quietHours",
    "week_start": "preferences.general.weekStartDay",
    "work_minutes": "preferences.pomodoro.workDuration",
    "short_break": "preferences.pomodoro.shortBreak",
    "locale": "locale preferences.general.language",
}

_A = Profile(
    name="A",
    users=_table(
        "users", id="_id", name="name", email="email", timezone="timezone preferences.general.timezone",
        active="isActive", last_login="lastLoginAt", created="createdAt", updated="updatedAt",
        **_A_PREFERENCES,
    ),
    goals=_table(
        "goals", id="_id", user="userId", title="title", category="category", status="status",
        priority="priority", target="targetValue", current="currentValue", unit="unit", due="deadline",
        created="createdAt", completed="completedAt", updated="updatedAt",
    ),
    sessions=_table(
        "timersessions", id="_id", user="userId", goal="goalId", kind="type", status="status",
        started="createdAt", resumed="startTime", ended="endTime", paused="pausedAt", planned="duration",
        elapsed="elapsedTime", category="category", tags="tags", rating="productivity.rating",
        updated="updatedAt",
    ),
    open_states=frozenset({"active"}),
    focus_kinds=frozenset({"pomodoro", "focus"}),
    running_states=frozenset({"active"}),
    planned_unit=0.001,
    focus_unit=0.001,
)  # fmt: skip

_B = Profile(
    name="B",
    users=_table(
        "users", id="_id", name="firstName lastName", email="email", timezone="timezone", locale="locale",
        active="isActive", last_login="lastLogin", created="createdAt", updated="updatedAt",
        pref_email=f"{_N}.email", pref_in_app=f"{_N}.inApp", pref_reminders=f"{_N}.reminders",
        pref_deadlines=f"{_N}.goals", pref_breaks=f"{_N}.timers", quiet=f"{_N}.quietHours",
        work_start="preferences.productivity.workingHoursStart",
        work_end="preferences.productivity.workingHoursEnd",
        work_minutes="preferences.productivity.defaultTimerDuration",
        short_break="preferences.productivity.breakDuration",
    ),
    goals=_table(
        "goals", id="_id", user="userId", title="title", category="category", status="status",
        priority="priority", target="targetValue", current="currentValue", unit="unit", progress="progress",
        due="deadlineDate", created="createdAt", completed="completedDate", updated="updatedAt",
    ),
    sessions=_table(
        "timersessions", id="_id", user="userId", goal="goalId", kind="type", status="status",
        started="startTime", ended="endTime", paused="pausedAt", planned="plannedDuration",
        focus="actualDuration", category="category", tags="tags", rating="productivity.rating",
        updated="updatedAt",
    ),
    open_states=frozenset({"not_started", "in_progress"}),
    focus_kinds=frozenset({"pomodoro", "focus", "custom"}),
    running_states=frozenset({"running"}),
    planned_unit=60,
    focus_unit=60,
)  # fmt: skip

_P = "notificationPreferences"
_J = Profile(
    name="J",
    users=_table(
        "users", id="_id", name="name", email="email", timezone="timezone", locale="locale",
        active="isActive", last_login="lastLoginAt", created="createdAt", updated="updatedAt",
        pref_email=f"{_P}.email", pref_deadlines=f"{_P}.goalReminders", pref_daily=f"{_P}.dailyCheckins",
        pref_weekly=f"{_P}.weeklyReports", pref_monthly=f"{_P}.monthlyReports",
        pref_inactive=f"{_P}.general", pref_breaks=f"{_P}.general", quiet=f"{_P}.quietHours",
    ),
    goals=_table(
        "goals", id="_id", user="userId", title="title", category="category", status="status",
        priority="priority", target="targetValue", current="currentValue", unit="unit", progress="progress",
        due="dueDate", created="createdAt", completed="completedAt", updated="updatedAt",
    ),
    sessions=_table(
        "timersessions", id="_id", user="userId", goal="goalId", kind="timerType", status="status",
        started="startedAt", ended="endedAt", paused="pausedAt", planned="duration",
        focus="actualDuration duration", category="category", tags="tags", rating="productivity.rating",
        updated="updatedAt",
    ),
    open_states=frozenset({"active"}),
    focus_kinds=frozenset({"pomodoro", "custom"}),
    running_states=frozenset({"running"}),
    planned_unit=1,
    focus_unit=1,
)  # fmt: skip

_PG = Profile(
    name="PG",
    users=_table(
        "users", id="id", name="name", email="email", timezone="timezone preferences.general.timezone",
        active="is_active", last_login="last_login_at", created="created_at", updated="updated_at",
        **_A_PREFERENCES,
    ),
    goals=_table(
        "goals", id="id", user="user_id", title="title", category="category", status="status",
        priority="priority", target="target_value", current="current_value", unit="unit",
        due="due_date due_at", created="created_at", completed="completed_at", updated="updated_at",
    ),
    sessions=_table(
        "timer_sessions", id="id", user="user_id", goal="goal_id", kind="kind", status="status",
        started="started_at", ended="ended_at", paused="paused_at", planned="planned_seconds",
        focus="focus_seconds", category="category", tags="tags", rating="rating", updated="updated_at",
    ),
    open_states=frozenset({"active", "open", "not_started", "in_progress"}),
    focus_kinds=frozenset({"pomodoro", "focus", "custom"}),
    running_states=frozenset({"running", "active"}),
    planned_unit=1,
    focus_unit=1,
)  # fmt: skip

PROFILES: Mapping[str, Profile] = {p.name: p for p in (_A, _B, _J, _PG)}


# ── The mapping file ────────────────────────────────────────────────────────────────────────────────────────

_UNITS = {"milliseconds": 0.001, "seconds": 1.0, "minutes": 60.0}
_STATES = {"open_states": "goals", "focus_kinds": "timer_sessions", "running_states": "timer_sessions"}
_UNIT_KEYS = ("planned_unit", "focus_unit")
_KNOWN = {
    "users": {field for p in PROFILES.values() for field in p.users.fields},
    "goals": {field for p in PROFILES.values() for field in p.goals.fields},
    "timer_sessions": {field for p in PROFILES.values() for field in p.sessions.fields},
}


def parse_mapping(text: str) -> Profile:
    """A profile from the text of a mapping file. Raises ConfigurationError naming every problem."""
    try:
        given = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError([f"DASHBOARD_SCHEMA: the mapping file is not TOML: {error}"]) from None
    problems = _mapping_problems(given)
    if problems:
        raise ConfigurationError([f"DASHBOARD_SCHEMA: {problem}" for problem in problems])
    base = PROFILES[given.get("extends", "A")]
    sessions = given.get("timer_sessions", {})
    return replace(
        base,
        name=given.get("name", "mapping"),
        users=_overlaid(base.users, given, "users"),
        goals=_overlaid(base.goals, given, "goals"),
        sessions=_overlaid(base.sessions, given, "timer_sessions"),
        open_states=frozenset(given.get("goals", {}).get("open_states", base.open_states)),
        focus_kinds=frozenset(sessions.get("focus_kinds", base.focus_kinds)),
        running_states=frozenset(sessions.get("running_states", base.running_states)),
        planned_unit=_UNITS.get(sessions.get("planned_unit", ""), base.planned_unit),
        focus_unit=_UNITS.get(sessions.get("focus_unit", ""), base.focus_unit),
    )


def _overlaid(base: Table, given: Mapping[str, Any], section: str) -> Table:
    named = {
        field: (value,) if isinstance(value, str) else tuple(value)
        for field, value in given.get(section, {}).items()
        if field not in _STATES and field not in _UNIT_KEYS
    }
    kept = dict(base.fields)
    if "focus" in named:  # a shape that stores focus time does not need profile A's arithmetic
        kept.pop("elapsed", None)
        kept.pop("resumed", None)
    fields = {field: paths for field, paths in {**kept, **named}.items() if paths != ("",)}
    return Table(given.get("tables", {}).get(section, base.name), fields)


def _mapping_problems(given: Mapping[str, Any]) -> list[str]:
    problems = []
    if given.get("extends", "A") not in PROFILES:
        problems.append(f"extends must be one of {', '.join(PROFILES)}")
    strange = set(given) - {"name", "extends", "tables", *_KNOWN}
    problems += [f"unknown section or key {section!r}" for section in sorted(strange)]
    for section in {"tables", *_KNOWN} & set(given):
        if not isinstance(given[section], dict):
            problems.append(f"[{section}] must be a table")
            continue
        for key, value in given[section].items():
            problems += _entry_problems(section, key, value)
    return problems


def _entry_problems(section: str, key: str, value: Any) -> list[str]:
    listed = isinstance(value, list) and all(isinstance(part, str) for part in value)
    if section == "tables":
        if key == "users" and value == "":
            return ["[tables] users: there must be people; name where they are"]
        fine = key in _KNOWN and isinstance(value, str)
        return [] if fine else [f"[tables] {key}: name one of {', '.join(_KNOWN)}"]
    if section == "timer_sessions" and key in _UNIT_KEYS:
        return [] if value in _UNITS else [f"[{section}] {key} must be one of {', '.join(_UNITS)}"]
    if _STATES.get(key) == section:
        return [] if listed else [f"[{section}] {key} must be a list of strings"]
    if key not in _KNOWN[section]:
        return [f"[{section}] unknown field {key!r}; known are {', '.join(sorted(_KNOWN[section]))}"]
    return (
        [] if listed or isinstance(value, str) else [f"[{section}] {key} must be a path or a list of paths"]
    )


# ── Which shape is it? ──────────────────────────────────────────────────────────────────────────────────────

_CORE = {
    Collection.USERS: ("name", "email", "timezone", "active", "last_login"),
    Collection.GOALS: ("user", "title", "status", "due", "created"),
    Collection.SESSIONS: ("user", "kind", "status", "started", "ended", "planned", "elapsed|focus"),
}
REQUIRED = {
    Collection.USERS: ("name|email",),
    Collection.GOALS: ("user", "title", "status"),
    Collection.SESSIONS: ("user", "kind", "status", "started", "planned|focus"),
}
"""Fields without which a record cannot be read; of alternatives, ``planned|focus``, one is enough."""


@dataclass(frozen=True)
class Match:
    """How well a profile fits what was sampled.

    ``profile`` None: nothing to look at yet (``problem`` empty) or nothing fits (``problem`` says why).
    ``complete``: every collection had documents, so the choice is final.
    ``score``: share of the core fields that were seen, 0–1.
    """

    profile: Profile | None
    score: float = 0.0
    complete: bool = False
    problem: str = ""


def detect(candidates: Sequence[Profile], samples: Mapping[str, Sequence[Document]]) -> Match:
    """Choose the profile that fits best. ``samples``: table name → newest documents."""
    if not any(samples.values()):
        return Match(None)
    matches = [_fit(profile, samples) for profile in candidates]
    fitting = [match for match in matches if not match.problem]
    if fitting:  # the first of equals: A is the default
        return max(fitting, key=lambda match: match.score)
    closest = max(matches, key=lambda match: match.score)
    name = closest.profile.name if closest.profile else "none"
    return replace(
        closest, profile=None, problem=f"no schema profile fits; closest is {name}: {closest.problem}"
    )


def _fit(profile: Profile, samples: Mapping[str, Sequence[Document]]) -> Match:
    scores: list[float] = []
    problems: list[str] = []
    names = [name for c in Collection if (name := profile.table(c).name)]
    for collection in Collection:
        table = profile.table(collection)
        documents = samples.get(table.name, ())
        if not documents:
            continue
        core = _CORE[collection]
        scores.append(sum(share(table, field, documents) > 0 for field in core) / len(core))
        problems += [
            f"{table.name} has no {_named(table, field)}"
            for field in REQUIRED[collection]
            if share(table, field, documents) < 0.5
        ]
    if not scores:
        seen = ", ".join(sorted(name for name, documents in samples.items() if documents))
        return Match(profile, 0.0, problem=f"none of {', '.join(names)} holds anything, but there is {seen}")
    return Match(
        profile, sum(scores) / len(scores), complete=len(scores) == len(names), problem="; ".join(problems)
    )


def share(table: Table, field: str, documents: Sequence[Document]) -> float:
    """The share of documents that have a field; alternatives are written ``planned|focus``."""
    paths = [path for name in field.split("|") for path in table.fields.get(name, ())]
    return sum(any(_has(document, path) for path in paths) for document in documents) / len(documents)


def values(table: Table, field: str, documents: Sequence[Document]) -> list[Any]:
    """What documents hold in a field, without those that hold nothing (no value, or empty text)."""
    get = _getter(table.fields[field])
    found = [get(document) for document in documents]
    return [value for value in found if value is not None and value != ""]


def _named(table: Table, field: str) -> str:
    return " or ".join(path for name in field.split("|") for path in table.fields.get(name, ()))


def _has(document: Any, path: str) -> bool:
    for part in path.split("."):
        if not isinstance(document, Mapping) or part not in document:
            return False
        document = document[part]
    return True


# ── The tail of a session (profile A) ───────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Tail:
    """Whether ``elapsedTime`` already holds the last running stretch. ``agreement``: of the votes, 0–1."""

    included: bool = False
    agreement: float = 1.0
    votes: int = 0

    @property
    def ambiguous(self) -> bool:
        """Below 90 % agreement health says so."""
        return self.votes > 0 and self.agreement < 0.9


def uses_tail(profile: Profile) -> bool:
    """Whether focus time is computed from elapsed time and the last stretch."""
    return "elapsed" in profile.sessions.fields


def judge_tail(profile: Profile, documents: Sequence[Document]) -> Tail:
    """Decide by majority among completed sessions that were never paused (nor resumed)."""
    get = {field: _getter(paths) for field, paths in profile.sessions.fields.items()}
    ballots = [vote for document in documents if (vote := _vote(profile, get, document)) is not None]
    if not ballots:
        return Tail()
    yes = sum(ballots)
    included = yes * 2 > len(ballots)
    return Tail(included, max(yes, len(ballots) - yes) / len(ballots), len(ballots))


def _vote(profile: Profile, get: Mapping[str, "Getter"], document: Document) -> bool | None:
    created, resumed, ended = (instant(get[name](document)) for name in ("started", "resumed", "ended"))
    elapsed = number(get["elapsed"](document)) or 0.0
    if get["status"](document) != "completed" or get["paused"](document) is not None:
        return None
    if not created or not resumed or not ended or abs(resumed - created) > timedelta(seconds=2):
        return None
    stretch = (ended - resumed).total_seconds()
    return elapsed * profile.focus_unit >= stretch / 2 if stretch >= 10 else None


# ── Values ──────────────────────────────────────────────────────────────────────────────────────────────────

Getter = Callable[[Document], Any]
_EARLIEST = datetime(1900, 1, 1, tzinfo=UTC)
_LATEST = datetime(2200, 1, 1, tzinfo=UTC)
_INT4 = 2**31 - 1
_HHMM = re.compile(r"(\d{1,2}):(\d{2})(?::\d{2})?")


def _getter(paths: Paths) -> Getter:
    """A reader of the first path that holds something."""
    if len(paths) == 1 and "." not in paths[0]:
        key = paths[0]
        return lambda document: document.get(key)
    split = [tuple(path.split(".")) for path in paths]

    def walk(document: Document) -> Any:
        for parts in split:
            value: Any = document
            for part in parts:
                value = value.get(part) if isinstance(value, dict) else None
            if value is not None:
                return value
        return None

    return walk


class _Getters(dict[str, Getter]):
    """Field → reader; a field that the profile does not map reads as nothing."""

    def __missing__(self, field: str) -> Getter:
        return _nothing


def _nothing(_: Document) -> Any:
    return None


def _getters(table: Table) -> _Getters:
    return _Getters({field: _getter(paths) for field, paths in table.fields.items()})


def text(value: Any, limit: int = 1000) -> str | None:
    """Clean text: no NUL, no half characters (PostgreSQL refuses both), trimmed; None when there is none."""
    if not isinstance(value, str):
        return None
    if not value.isascii():
        value = value.encode("utf-8", "replace").decode("utf-8")
    if "\0" in value:
        value = value.replace("\0", "")
    return value.strip()[:limit] or None


def identity(value: Any) -> str | None:
    """An id as text: ObjectId, UUID, number or string."""
    if value is None or isinstance(value, (bool, float, dict, list, bytes, datetime)):
        return None
    return text(value if isinstance(value, str) else str(value), 200)


def number(value: Any) -> float | None:
    """A finite number, or None."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value) if abs(value) < 1e300 else None  # false for NaN too
    if hasattr(value, "to_decimal"):  # bson's Decimal128, which only the MongoDB source may import
        value = value.to_decimal()
    if not isinstance(value, Decimal) or not value.is_finite():
        return None
    found = float(value)
    return found if math.isfinite(found) else None


def instant(value: Any) -> datetime | None:
    """An instant: a date and time, ISO text, or milliseconds since 1970; None when it cannot be one."""
    if isinstance(value, datetime):
        found = value if value.tzinfo else value.replace(tzinfo=UTC)
        return found if _EARLIEST <= found < _LATEST else None
    try:
        if isinstance(value, str):
            return instant(datetime.fromisoformat(value.strip()))
        if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) > 1e10:
            return instant(datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=value))
    except (ValueError, OverflowError):
        return None
    if isinstance(value, date):
        return instant(datetime(value.year, value.month, value.day, tzinfo=UTC))
    return None


def flag(value: Any) -> bool | None:
    """A stored yes or no; None for everything else."""
    if isinstance(value, bool):
        return value
    return {"true": True, "false": False}.get(value.strip().lower()) if isinstance(value, str) else None


def clock_time(value: Any) -> time | None:
    """A local time of day: ``HH:MM`` or a whole hour."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 24:
        return time(value)
    if isinstance(value, str) and (found := _HHMM.fullmatch(value.strip())):
        hour, minute = int(found[1]), int(found[2])
        return time(hour % 24, minute) if hour <= 24 and minute < 60 else None
    return None


def due(value: Any, *, date_only: bool) -> tuple[date | None, datetime | None]:
    """A floating date or an instant: exactly midnight UTC came from a date picker and is a date."""
    if isinstance(value, str) and len(value.strip()) == 10:
        found = instant(value)
        return (found.date(), None) if found else (None, None)
    if isinstance(value, date) and not isinstance(value, datetime):
        found = instant(value)
        return (value, None) if found else (None, None)
    found = instant(value)
    if found is None:
        return None, None
    utc = found.astimezone(UTC)
    if date_only and utc.time() == time(0):
        return utc.date(), None
    return None, utc


# ── Documents to records ────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Problem:
    """What was wrong with a document. ``fatal``: the document was left out, else only the value was."""

    id: str
    reason: str
    fatal: bool
    updated: datetime | None


@dataclass(frozen=True)
class Reading:
    """A batch of documents, read."""

    records: list[Any]
    problems: list[Problem]
    newest: datetime | None
    """The newest ``updated`` of all documents, good or bad."""


class _Unusable(Exception):
    """A document that cannot become a record; the argument is the reason."""


_PREF_KINDS = {
    "pref_deadlines": Kind.DEADLINES,
    "pref_daily": Kind.DAILY,
    "pref_weekly": Kind.WEEKLY,
    "pref_inactive": Kind.INACTIVE,
    "pref_breaks": Kind.BREAKS,
    "pref_monthly": Kind.MONTHLY,
}
_COMPLETED = {"completed", "complete", "finished", "done"}
_CANCELLED = {"cancelled", "canceled", "abandoned", "stopped", "interrupted", "skipped"}
_DAY = 24 * 3600
_MOST_CREDIT = 4 * 3600


def credit(status: str, span: float | None, focus: float, planned: int | None) -> tuple[str, int]:
    """Status and credited seconds of a session that ran ``span`` seconds and claims ``focus`` seconds.

    Longer than 24 h, or an end before the start: rejected. A completed one far beyond its plan was abandoned
    and counts as planned. Otherwise at most 4 h.
    """
    if span is not None and (span < 0 or span > _DAY or focus > _DAY):
        return "rejected", 0
    focus = max(focus, 0.0)
    if status in {"completed", "cancelled"} and planned and focus > planned + 3600 and focus > 2 * planned:
        return ("abandoned" if status == "completed" else status), min(planned, _MOST_CREDIT)
    return status, int(min(focus, _MOST_CREDIT))


class Reader:
    """Reads documents of one profile. ``zones``: the names that Python and PostgreSQL know."""

    def __init__(
        self,
        profile: Profile,
        *,
        default_timezone: str,
        zones: Set[str],
        date_only: bool = True,
        tail_included: bool = False,
    ) -> None:
        self.profile = profile
        self._default_timezone = default_timezone
        self._zones = zones
        self._date_only = date_only
        self._tail_included = tail_included
        self._get = {collection: _getters(profile.table(collection)) for collection in Collection}
        self._user_name = [_getter((path,)) for path in profile.users.fields["name"]]
        self._blocks = {
            field: [_getter((path,)) for path in paths]
            for field, paths in profile.users.fields.items()
            if field.startswith("pref_")
        }
        self._one = {
            Collection.USERS: self._user,
            Collection.GOALS: self._goal,
            Collection.SESSIONS: self._session,
        }

    def read(self, collection: Collection, documents: Sequence[Document]) -> Reading:
        """Canonical records of a batch; whatever is malformed is named, never raised."""
        one, get = self._one[collection], self._get[collection]
        records: list[Any] = []
        problems: list[Problem] = []
        newest: datetime | None = None
        for document in documents:
            updated = instant(get["updated"](document)) if "updated" in get else None
            if updated and (newest is None or updated > newest):
                newest = updated
            found: list[str] = []
            key = identity(get["id"](document)) or ""
            try:
                records.append(one(key, updated, document, found))
            except _Unusable as reason:
                problems.append(Problem(key, str(reason), True, updated))  # noqa: FBT003
            problems += [Problem(key, reason, False, updated) for reason in found]  # noqa: FBT003
        return Reading(records, problems, newest)

    def _user(self, key: str, updated: datetime | None, document: Document, found: list[str]) -> User:
        get = self._get[Collection.USERS]
        if not key:
            raise _Unusable("id")
        zone = zones.spelled(get["timezone"](document))
        valid = zone in self._zones
        if not valid:
            found.append("timezone")
        active = get["active"](document)
        is_active = flag(active)
        if active is not None and is_active is None:
            found.append("active")
        return User(
            id=key,
            name=" ".join(part for getter in self._user_name if (part := text(getter(document), 200))),
            email=text(get["email"](document), 320),
            timezone=zones.used(zone) if valid and zone else self._default_timezone,
            timezone_valid=valid,
            locale=text(get["locale"](document), 35) or "en",
            active=is_active if is_active is not None else active is None,
            created_at=_optional(get["created"](document), "created", found),
            last_login_at=_optional(get["last_login"](document), "last_login", found),
            preferences=self._preferences(document, found),
            updated_at=updated,
        )

    def _preferences(self, document: Document, found: list[str]) -> Preferences:
        get = self._get[Collection.USERS]
        said = {field: self._said(field, document) for field in self._blocks}
        quiet = _quiet(get["quiet"](document), found)
        week_start = number(get["week_start"](document))
        return Preferences(
            email=said.get("pref_email"),
            reminders=said.get("pref_reminders"),
            in_app=said.get("pref_in_app"),
            kinds={kind: on for field, kind in _PREF_KINDS.items() if (on := said.get(field)) is not None},
            quiet=quiet,
            work_start=clock_time(get["work_start"](document)),
            work_end=clock_time(get["work_end"](document)),
            work_minutes=_minutes(get["work_minutes"](document), 25),
            short_break_minutes=_minutes(get["short_break"](document), 5),
            week_start=int(week_start) if week_start in {0, 1, 2, 3, 4, 5, 6} else 1,
        )

    def _said(self, field: str, document: Document) -> bool | None:
        """Any block blocks: one ``false`` wins over any number of ``true``."""
        values = [value for getter in self._blocks[field] if (value := flag(getter(document))) is not None]
        return all(values) if values else None

    def _goal(self, key: str, updated: datetime | None, document: Document, found: list[str]) -> Goal:
        get = self._get[Collection.GOALS]
        owner = identity(get["user"](document))
        title = text(get["title"](document), 500)
        if not (key and owner and title):
            raise _Unusable(_first_missing(id=key, user=owner, title=title))
        stored_due = get["due"](document)
        due_date, due_at = due(stored_due, date_only=self._date_only)
        if stored_due is not None and due_date is None and due_at is None:
            found.append("due")
        status = text(get["status"](document), 50)
        if status is None:
            found.append("status")
        target = number(get["target"](document))
        current = number(get["current"](document))
        stored = number(get["progress"](document))
        return Goal(
            id=key,
            user_id=owner,
            title=title,
            category=text(get["category"](document), 200),
            open=status in self.profile.open_states,
            priority=(text(get["priority"](document), 20) or "medium").lower(),
            target_value=target,
            current_value=current,
            unit=text(get["unit"](document), 50),
            progress=_progress(stored, target, current),
            due_date=due_date,
            due_at=due_at,
            created_at=_optional(get["created"](document), "created", found),
            completed_at=_optional(get["completed"](document), "completed", found),
            updated_at=updated,
        )

    def _session(
        self, key: str, updated: datetime | None, document: Document, found: list[str]
    ) -> TimerSession:
        get = self._get[Collection.SESSIONS]
        owner = identity(get["user"](document))
        kind = text(get["kind"](document), 50)
        started = instant(get["started"](document))
        status = self._status(get["status"](document))
        if not (key and owner and kind and started and status):
            raise _Unusable(_first_missing(id=key, user=owner, kind=kind, started=started, status=status))
        ended = _optional(get["ended"](document), "ended", found)
        planned = _seconds(get["planned"](document), self.profile.planned_unit)
        span = (ended - started).total_seconds() if ended else None
        focus = self._focus_seconds(document, started, ended)
        running = status in {"running", "paused"}
        status, seconds = credit(status, span, focus, planned)
        if status == "rejected":
            found.append("impossible_times")
        return TimerSession(
            id=key,
            user_id=owner,
            goal_id=identity(get["goal"](document)),
            kind=kind.lower(),
            focus=kind in self.profile.focus_kinds,
            status=status,
            started_at=started,
            ended_at=None if running and status != "rejected" else ended,
            paused_at=_optional(get["paused"](document), "paused", found),
            planned_seconds=planned,
            focus_seconds=seconds,
            category=text(get["category"](document), 200),
            tags=_tags(get["tags"](document)),
            rating=_rating(get["rating"](document)),
            updated_at=updated,
        )

    def _status(self, stored: Any) -> str | None:
        if not isinstance(stored, str):
            return None
        if stored in self.profile.running_states:
            return "running"
        status = stored.strip().lower()
        if status in _COMPLETED:
            return "completed"
        if status in _CANCELLED:
            return "cancelled"
        return "paused" if status == "paused" else None

    def _focus_seconds(self, document: Document, started: datetime, ended: datetime | None) -> float:
        """Stored focus time, or profile A's: elapsed, and the last stretch where elapsed does not hold it."""
        get = self._get[Collection.SESSIONS]
        if "elapsed" not in get:
            return (
                (number(get["focus"](document)) or 0.0) * self.profile.focus_unit if "focus" in get else 0.0
            )
        elapsed = (number(get["elapsed"](document)) or 0.0) * self.profile.focus_unit
        if ended is None:
            return elapsed
        resumed = instant(get["resumed"](document)) if "resumed" in get else None
        paused = get["paused"](document) is not None if "paused" in get else False
        if not self._tail_included and not paused and resumed:
            elapsed += max((ended - resumed).total_seconds(), 0.0)
        return min(elapsed, max((ended - started).total_seconds(), 0.0))


def _first_missing(**values: Any) -> str:
    return next(name for name, value in values.items() if not value)


def _optional(value: Any, reason: str, found: list[str]) -> datetime | None:
    if value is None:
        return None
    at = instant(value)
    if at is None:
        found.append(reason)
    return at


def _quiet(value: Any, found: list[str]) -> QuietHours | None:
    if not isinstance(value, Mapping) or flag(value.get("enabled", True)) is not True:
        return None
    start, end = clock_time(value.get("start", "22:00")), clock_time(value.get("end", "08:00"))
    if start is None or end is None:
        found.append("quiet_hours")
        return None
    return QuietHours(start, end)


def _minutes(value: Any, default: int) -> int:
    found = number(value)
    return int(found) if found and 1 <= found <= 24 * 60 else default


def _seconds(value: Any, unit: float) -> int | None:
    found = number(value)
    return min(int(found * unit), _INT4) if found is not None and found >= 0 else None


def _progress(stored: float | None, target: float | None, current: float | None) -> float | None:
    if stored is None and target and target > 0 and current is not None:
        stored = 100 * current / target
    return min(max(stored, 0.0), 100.0) if stored is not None else None


def _rating(value: Any) -> int | None:
    found = number(value)
    return int(found) if found is not None and 1 <= found <= 5 else None


def _tags(value: Any) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)):
        return ()
    return tuple(tag for part in value[:50] if (tag := text(part, 100)))
