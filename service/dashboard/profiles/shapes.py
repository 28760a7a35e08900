"""Profiles: the tables and fields in which a dashboard stores users, goals and sessions; four are built in.

``A``, ``B`` and ``J`` are for MongoDB, ``PG`` is for PostgreSQL (snake_case); ``mapping`` reads others. Pure.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from service.dashboard.profiles.rules import Rule

Document = Mapping[str, Any]
Paths = tuple[str, ...]
DIGEST = "__row_digest__"
"""The key under which a document holds its digest: 64 bits that change when a mapped field changes.

It is compared only with a digest of the same dashboard, read by the same mapping.
"""


class Collection(StrEnum):
    """The three kinds of records; the values are the names of our own tables."""

    USERS = "users"
    GOALS = "goals"
    SESSIONS = "timer_sessions"


@dataclass(frozen=True)
class SourceQuery:
    """A query of a mapping file that stands for a table.

    ``text``: a SELECT for PostgreSQL, or a pipeline as JSON for MongoDB, which starts from ``collection``.
    ``kind``: of the database, as ``Source.kind``.
    """

    kind: str
    text: str
    collection: str = ""


@dataclass(frozen=True)
class Table:
    """Where one kind of record is stored: the table's or collection's name, and canonical field → paths.

    An empty name: the dashboard has no such table, and needs none. ``rules``: canonical field → how its
    stored value becomes ours; fields without a rule are read as they are stored. ``query``: what is read in
    place of a table; ``name`` is then for messages only.
    """

    name: str
    fields: Mapping[str, Paths]
    rules: Mapping[str, Rule] = field(default_factory=dict)
    query: SourceQuery | None = None

    @property
    def stored_as(self) -> str:
        """The name of the table or collection in the database; empty for a SELECT."""
        return self.query.collection if self.query else self.name

    @property
    def id(self) -> str:
        """The field that identifies a record."""
        return self.fields["id"][0]

    @property
    def updated(self) -> str | None:
        """The field of a record's update time; None: there is none."""
        paths = self.fields.get("updated", ())
        return paths[0] if paths else None


@dataclass(frozen=True)
class Profile:
    """One shape of dashboard. ``planned_unit`` and ``focus_unit``: seconds per stored unit.

    ``notifications``: the dashboard's own inbox, if a mapping file describes it; None: the usual one.
    """

    name: str
    users: Table
    goals: Table
    sessions: Table
    open_states: frozenset[str]
    focus_kinds: frozenset[str]
    running_states: frozenset[str]
    planned_unit: float
    focus_unit: float
    notifications: Table | None = None

    def table(self, collection: Collection) -> Table:
        """Where a kind of record is stored."""
        tables = {Collection.USERS: self.users, Collection.GOALS: self.goals}
        return tables.get(collection, self.sessions)


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

NOTIFICATIONS: Mapping[str, Table] = {
    "mongodb": _table(
        "notifications", id="_id", user="userId", type="type", title="title", message="message", data="data",
        related_id="relatedId", related_model="relatedModel", priority="priority", channels="channels",
        status="status", action="action", scheduled="scheduledFor", sent="sentAt", read="readAt",
        expires="expiresAt", created="createdAt", updated="updatedAt",
    ),
    "postgresql": _table(
        "notifications", id="id", user="user_id", type="type", title="title", message="message", data="data",
        related_id="related_id", related_model="related_model", priority="priority", channels="channels",
        status="status", action="action", scheduled="scheduled_for", sent="sent_at", read="read_at",
        expires="expires_at", created="created_at", updated="updated_at",
    ),
}  # fmt: skip
"""The usual inbox of a dashboard, by the kind of its database."""

PROFILES: Mapping[str, Profile] = {p.name: p for p in (_A, _B, _J, _PG)}
