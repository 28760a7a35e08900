"""The replica of the dashboard: canonical users, goals and timer sessions, as rows and as JSON.

Writing is set-based: records are COPYed into a temporary table and upserted from there; what was read last
wins, and unchanged rows are not touched. Triggers mark the (user, local day) of each changed row as stale for
the rollups.
"""

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import fields
from datetime import date, datetime, time
from operator import attrgetter
from types import MappingProxyType
from typing import Any

import asyncpg

from service.dashboard.model import Goal, Preferences, QuietHours, TimerSession, User
from service.dashboard.profiles.shapes import Collection
from service.engine import queries
from service.engine.database import Connection
from service.mail_address import mail_address

_SQL = queries.load(__file__)

_USER_COLUMNS = (
    "id", "name", "email", "timezone", "timezone_valid", "locale", "active", "preferences",
    "created_at", "last_login_at", "updated_at",
)  # fmt: skip
_GOAL_COLUMNS = tuple(f.name for f in fields(Goal))
_SESSION_COLUMNS = tuple(f.name for f in fields(TimerSession))
_OPTIONAL_FLAGS = ("email", "reminders", "in_app")
_DEFAULTS = Preferences()
SYNC_LOCK = 0x73796E63
"""Advisory lock ("sync") of release 0.1.0; today that is a lease (``engine.lease``)."""


# ── Preferences as JSON ─────────────────────────────────────────────────────────────────────────────────────


def preferences_to_json(preferences: Preferences) -> dict[str, Any]:
    """The stored form: only what is set; times as local ``HH:MM``."""
    found: dict[str, Any] = {
        name: value for name in _OPTIONAL_FLAGS if (value := getattr(preferences, name)) is not None
    }
    if preferences.kinds:
        found["kinds"] = preferences.kinds
    if preferences.quiet:
        found["quiet"] = [_clock(preferences.quiet.start), _clock(preferences.quiet.end)]
    for name in ("work_start", "work_end"):
        if (at := getattr(preferences, name)) is not None:
            found[name] = _clock(at)
    for name in ("work_minutes", "short_break_minutes", "week_start"):
        if (value := getattr(preferences, name)) != getattr(_DEFAULTS, name):
            found[name] = value
    return found


def preferences_from_json(stored: Mapping[str, Any]) -> Preferences:
    """The inverse of ``preferences_to_json``."""
    quiet = stored.get("quiet")
    return Preferences(
        email=stored.get("email"),
        reminders=stored.get("reminders"),
        in_app=stored.get("in_app"),
        kinds=dict(stored.get("kinds", {})),
        quiet=QuietHours(time.fromisoformat(quiet[0]), time.fromisoformat(quiet[1])) if quiet else None,
        work_start=_time(stored.get("work_start")),
        work_end=_time(stored.get("work_end")),
        work_minutes=stored.get("work_minutes", _DEFAULTS.work_minutes),
        short_break_minutes=stored.get("short_break_minutes", _DEFAULTS.short_break_minutes),
        week_start=stored.get("week_start", _DEFAULTS.week_start),
    )


def _clock(at: time) -> str:
    return at.isoformat("minutes")


def _time(text: str | None) -> time | None:
    return time.fromisoformat(text) if text else None


# ── Rows to records ─────────────────────────────────────────────────────────────────────────────────────────


def user_from_row(row: Mapping[str, Any] | asyncpg.Record) -> User:
    """A user from a row holding the columns of ``service.users`` (further columns are ignored)."""
    return User(
        id=row["id"],
        name=row["name"],
        email=row["email"],
        timezone=row["timezone"],
        locale=row["locale"],
        active=row["active"],
        created_at=row["created_at"],
        last_login_at=row["last_login_at"],
        preferences=preferences_from_json(row["preferences"]),
        timezone_valid=row["timezone_valid"],
        updated_at=row["updated_at"],
    )


def goal_from_json(stored: Mapping[str, Any]) -> Goal:
    """A goal from ``to_jsonb(goals)``: instants and dates are ISO text, absent keys are None."""
    values: dict[str, Any] = {name: stored.get(name) for name in _GOAL_COLUMNS}
    for name in ("due_at", "created_at", "completed_at", "updated_at"):
        values[name] = datetime.fromisoformat(values[name]) if values[name] else None
    due = values["due_date"]
    values["due_date"] = date.fromisoformat(due) if due else None
    return Goal(**values)


def session_from_json(stored: Mapping[str, Any]) -> TimerSession:
    """A session from ``to_jsonb(timer_sessions)``."""
    values: dict[str, Any] = {name: stored.get(name) for name in _SESSION_COLUMNS}
    for name in ("started_at", "ended_at", "paused_at", "updated_at"):
        values[name] = datetime.fromisoformat(values[name]) if values[name] else None
    return TimerSession(**{**values, "tags": tuple(values["tags"] or ())})


# ── Writing ─────────────────────────────────────────────────────────────────────────────────────────────────


def upsert(
    connection: Connection,
    collection: Collection,
    records: Sequence[Any],
    *,
    mark: bool,
    digests: Mapping[str, int] = MappingProxyType({}),
) -> Awaitable[int]:
    """Store records of one table; see the functions below.

    ``digests``: of the rows as they were read, by id.
    """
    if collection is Collection.USERS:
        return upsert_users(connection, records, mark=mark, digests=digests)
    if collection is Collection.GOALS:
        return upsert_goals(connection, records, mark=mark, digests=digests)
    return upsert_timer_sessions(connection, records, mark=mark, digests=digests)


async def upsert_users(
    connection: Connection,
    users: Sequence[User],
    *,
    mark: bool = True,
    digests: Mapping[str, int] = MappingProxyType({}),
) -> int:
    """Store users; with ``mark`` their days become stale. Returns how many rows changed."""
    columns = (*_USER_COLUMNS, "mail_address")
    return await _upsert(connection, "users", columns, users, _user_row, digests, mark=mark)


async def upsert_goals(
    connection: Connection,
    goals: Sequence[Goal],
    *,
    mark: bool = True,
    digests: Mapping[str, int] = MappingProxyType({}),
) -> int:
    """Store goals; with ``mark`` their days become stale. Returns how many rows changed."""
    return await _upsert(connection, "goals", _GOAL_COLUMNS, goals, _goal_row, digests, mark=mark)


async def upsert_timer_sessions(
    connection: Connection,
    sessions: Sequence[TimerSession],
    *,
    mark: bool = True,
    digests: Mapping[str, int] = MappingProxyType({}),
) -> int:
    """Store sessions; with ``mark`` their days become stale. Returns how many rows changed."""
    columns = _SESSION_COLUMNS
    return await _upsert(connection, "timer_sessions", columns, sessions, _session_row, digests, mark=mark)


async def _upsert(
    connection: Connection,
    table: str,
    columns: Sequence[str],
    records: Sequence[Any],
    row: Callable[[Any], tuple[Any, ...]],
    digests: Mapping[str, int],
    *,
    mark: bool,
) -> int:
    if not records:
        return 0
    last = {record.id: record for record in records}  # a batch may hold a document twice
    rows = ((*row(record), digests.get(id_)) for id_, record in last.items())
    async with connection.transaction():
        await connection.execute(_SQL["set_loading"], "off" if mark else "on")
        await connection.execute(_SQL[f"incoming_{table}"])
        await connection.copy_records_to_table(
            f"incoming_{table}", records=rows, columns=[*columns, "digest"]
        )
        status: str = await connection.execute(_SQL[f"upsert_{table}"])
        return int(status.rpartition(" ")[2])


async def delete(connection: Connection, table: str, ids: Sequence[str]) -> None:
    """Remove rows that the dashboard no longer has. ``table``: users | goals | timer_sessions."""
    await connection.execute(_SQL[f"delete_{table}"], list(ids))


async def mark_everything_stale(connection: Connection, table: str) -> None:
    """After the first load of ``users``, ``goals`` or ``timer_sessions``: all their days need a rollup."""
    await connection.execute(_SQL[f"mark_all_{table}"])


_goal_row: Callable[[Goal], tuple[Any, ...]] = attrgetter(*_GOAL_COLUMNS)
_session_row: Callable[[TimerSession], tuple[Any, ...]] = attrgetter(*_SESSION_COLUMNS)
_user_values: Callable[[User], tuple[Any, ...]] = attrgetter(*_USER_COLUMNS)


def _user_row(user: User) -> tuple[Any, ...]:
    values = list(_user_values(user))
    stored = preferences_to_json(user.preferences)
    values[_USER_COLUMNS.index("preferences")] = json.dumps(stored) if stored else "{}"
    international = user.email is not None and not user.email.isascii()
    return (*values, mail_address(user.email) if international else None)
