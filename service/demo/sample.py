"""The sample dashboard: a few hundred users in many time zones, with the irregularities of real data."""

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import asyncpg

from service.zones import zone_of

Row = dict[str, Any]

_ZONES = (
    "Europe/Berlin", "Europe/London", "Europe/Paris", "Europe/Madrid", "Europe/Helsinki", "Europe/Athens",
    "Europe/Lisbon", "Europe/Istanbul", "Atlantic/Azores", "Africa/Cairo", "Africa/Lagos", "Africa/Nairobi",
    "Africa/Johannesburg", "Africa/Casablanca", "Asia/Dubai", "Asia/Tehran", "Asia/Karachi", "Asia/Kolkata",
    "Asia/Kathmandu", "Asia/Dhaka", "Asia/Bangkok", "Asia/Singapore", "Asia/Shanghai", "Asia/Tokyo",
    "Australia/Perth", "Australia/Adelaide", "Australia/Sydney", "Australia/Lord_Howe", "Pacific/Auckland",
    "Pacific/Chatham", "Pacific/Kiritimati", "Pacific/Honolulu", "America/Anchorage", "America/Los_Angeles",
    "America/Denver", "America/Chicago", "America/New_York", "America/Havana", "America/St_Johns",
    "America/Sao_Paulo", "America/Santiago", "America/Bogota", "America/Mexico_City",
)  # fmt: skip
_FIRST = (
    "Ada", "Amir", "Ana", "Björn", "Chiara", "Dmitri", "Elif", "Fatima", "Grace", "Hana", "Ibrahim", "Jonas",
    "Kaito", "Lena", "Mateo", "Nia", "Olga", "Priya", "Quentin", "Rosa", "Søren", "Tomás", "Uma", "Víctor",
    "Wei", "Ximena", "Yusuf", "Zoë",
)  # fmt: skip
_LAST = (
    "Almeida", "Berg", "Costa", "Demir", "Eriksen", "Fischer", "García", "Haddad", "Ito", "Jansen",
    "Lind", "Moreau", "Nakamura", "Okafor", "Patel", "Quispe", "Rossi", "Silva", "Tanaka", "Usman", "Vargas",
    "Weiss", "Yilmaz",
)  # fmt: skip
_GOALS = (
    ("Read twelve books", "learning", 12, "books"),
    ("Run 100 kilometres", "health", 100, "km"),
    ("Finish the thesis draft", "work", 80, "pages"),
    ("Practise the cello", "music", 30, "sessions"),
    ("Learn 500 words of Portuguese", "learning", 500, "words"),
    ("Write the quarterly report", "work", 1, "report"),
    ("Meditate every morning", "health", 30, "days"),
    ("Ship the mobile app 📱", "work", 20, "tasks"),
    ("Sort ten years of photos", "home", 3650, "photos"),
    ("Plan the <b>garden</b> & the pond", "home", 8, "steps"),
    ("Save for the trip to Japan 🗾", "money", 2400, "€"),
)
_ODD_TITLES = (
    '<script>alert("x")</script>',
    "A very long title that goes on " * 40,
    "Subject: hello\r\nBcc: everybody@example.org",
    "\u202eright to left\u202c",
)
_DUE_IN = (1, 1, 1, 0, -1, 7, 7, 3, 5, 12, 30, -9, 2)


@dataclass(frozen=True, slots=True)
class SampleDashboard:
    """Rows of the three tables, in the snake_case shape of PostgreSQL dashboards."""

    users: Sequence[Row]
    goals: Sequence[Row]
    timer_sessions: Sequence[Row]


def people(seed: int, today: date, count: int = 300, days: int = 0) -> SampleDashboard:
    """A dashboard with ``count`` users, reproducible by ``seed``; its dates are around ``today`` (UTC).

    ``days``: how many days of regular sessions to add to the few of the last two weeks.
    """
    rng = random.Random(seed)  # noqa: S311 — a sample, not a secret
    users, goals, sessions = [], [], []
    for n in range(count):
        user = _user(rng, n, today)
        users.append(user)
        goals += [_goal(rng, user, n, k, today) for k in range(rng.choice((0, 1, 1, 2, 2, 3, 5)))]
        sessions += [_session(rng, user, n, k, today) for k in range(rng.randrange(6))]
    for user in users:
        sessions += history(seed, user, today, days)
    return SampleDashboard(users, goals, sessions)


def _user(rng: random.Random, n: int, today: date) -> Row:
    first, last = rng.choice(_FIRST), rng.choice(_LAST)
    ascii_name = f"{first}.{last}".lower().encode("ascii", "ignore").decode()
    at = _instant(today - timedelta(days=rng.randrange(20, 700)), 12)
    oddity = n % 25
    return {
        "id": f"u{n:04d}",
        "name": f"{first} {last}",
        "email": {3: None, 4: "not an address"}.get(oddity, f"{ascii_name}{n}@example.org"),
        "timezone": {5: "Mars/Olympus_Mons", 6: None}.get(oddity, rng.choice(_ZONES)),
        "locale": "en",
        "is_active": oddity != 7,
        "last_login_at": _instant(today - timedelta(days=rng.randrange(9)), 8),
        "preferences": _preferences(oddity),
        "created_at": at,
        "updated_at": at,
    }


def _preferences(oddity: int) -> Row:
    notifications: Row = {"email": oddity != 8, "push": True, "reminders": oddity not in {9, 10}}
    if oddity == 11:
        notifications["goalReminders"] = False
    if oddity in {12, 13}:
        notifications["quietHours"] = {"enabled": True, "start": "22:00", "end": "08:00"}
    return {
        "notifications": notifications,
        "pomodoro": {"workDuration": 25, "shortBreak": 5, "longBreak": 15},
    }


def _goal(rng: random.Random, user: Row, n: int, k: int, today: date) -> Row:
    title, category, target, unit = rng.choice(_GOALS)
    if n % 40 == 1 and k == 0:
        title = _ODD_TITLES[n // 40 % len(_ODD_TITLES)]
    due = today + timedelta(days=rng.choice(_DUE_IN))
    hour = rng.choice((0, 0, 0, 17))
    at = _instant(today - timedelta(days=rng.randrange(10, 60)), 12)
    return {
        "id": f"g{n:04d}{k}",
        "user_id": user["id"],
        "title": title,
        "category": category,
        "status": rng.choice(("active", "active", "active", "active", "completed", "paused")),
        "priority": rng.choice(("low", "medium", "medium", "high", "urgent")),
        "target_value": float(target),
        "current_value": float(round(target * rng.choice((0, 0.2, 0.35, 0.5, 0.8, 0.95)))),
        "unit": unit,
        "due_at": _instant(due, hour) if rng.random() < 0.9 else None,
        "completed_at": None,
        "created_at": at,
        "updated_at": at,
    }


def _session(rng: random.Random, user: Row, n: int, k: int, today: date) -> Row:
    start = _instant(today - timedelta(days=rng.randrange(1, 15)), rng.randrange(6, 20))
    seconds = rng.choice((1500, 1500, 1500, 3000, 700))
    return {
        "id": f"s{n:04d}{k}",
        "user_id": user["id"],
        "goal_id": None,
        "kind": rng.choice(("pomodoro", "pomodoro", "focus", "break")),
        "status": "completed",
        "started_at": start,
        "ended_at": start + timedelta(seconds=seconds),
        "paused_at": None,
        "planned_seconds": 1500,
        "focus_seconds": seconds,
        "category": None,
        "tags": [],
        "updated_at": start + timedelta(seconds=seconds),
    }


def history(seed: int, user: Row, today: date, days: int) -> list[Row]:
    """A user's sessions of the ``days`` before ``today``, in their own zone: fewer at weekends.

    Some users join late, some stop for good. On one Wednesday hardly anybody has sessions: see ``quiet_day``.
    """
    rng = random.Random(f"{seed} {user['id']}")  # noqa: S311 - the same for the same person
    probability, hour = (
        rng.uniform(0.2, 0.75),
        rng.gauss(9, 1.5) if rng.random() < 0.7 else rng.gauss(19, 1.5),
    )
    kind, stays = rng.choice(("pomodoro", "pomodoro", "focus")), rng.random() < 0.75
    zone, quiet = zone_of(user["timezone"] or "UTC"), quiet_day(today)
    start = max(today - timedelta(days=days), user["created_at"].date())
    end = today if stays else start + (today - start) * rng.random()
    sessions = []
    for day in (start + timedelta(days=n) for n in range((end - start).days)):
        chance = probability * (0.45 if day.weekday() > 4 else 1.0) * (0.03 if day == quiet else 1.0)
        if rng.random() < chance:
            for k in range(rng.choice((1, 1, 2, 2, 3))):
                clock = timedelta(hours=min(max(hour + k * 0.8, 0), 22), minutes=rng.randrange(20))
                at = (datetime.combine(day, time()) + clock).replace(tzinfo=zone)
                sessions.append(_habit_session(rng, user, f"{day:%y%m%d}{k}", kind, at))
    return sessions


def quiet_day(today: date) -> date:
    """The day with hardly any sessions, an anomaly: a Wednesday 14 to 20 days before ``today``."""
    return today - timedelta(days=14 + (today.weekday() - 2) % 7)


def _habit_session(rng: random.Random, user: Row, name: str, kind: str, start: datetime) -> Row:
    status = "completed" if rng.random() < (0.94 if start.hour < 12 else 0.75) else "cancelled"
    start = start.astimezone(UTC)
    seconds = rng.choice((1500, 1500, 1500, 3000)) if status == "completed" else rng.randrange(120, 1200)
    end = start + timedelta(seconds=seconds)
    return {
        "id": f"h{user['id']}{name}",
        "user_id": user["id"],
        "goal_id": None,
        "kind": "break" if rng.random() < 0.12 else kind,
        "status": status,
        "started_at": start,
        "ended_at": end,
        "paused_at": None,
        "planned_seconds": 1500,
        "focus_seconds": seconds,
        "category": None,
        "tags": ["deep"] if rng.random() < 0.2 else [],
        "updated_at": end,
    }


def _instant(day: date, hour: int) -> datetime:
    return datetime.combine(day, time(hour), UTC)


# ── Into a database ─────────────────────────────────────────────────────────────────────────────────────────

_TABLES = """
CREATE TABLE IF NOT EXISTS users (
    id text PRIMARY KEY, name text, email text, timezone text, locale text, is_active boolean,
    last_login_at timestamptz, preferences jsonb, created_at timestamptz, updated_at timestamptz);
CREATE TABLE IF NOT EXISTS goals (
    id text PRIMARY KEY, user_id text, title text, category text, status text, priority text,
    target_value double precision, current_value double precision, unit text, due_at timestamptz,
    completed_at timestamptz, created_at timestamptz, updated_at timestamptz);
CREATE TABLE IF NOT EXISTS timer_sessions (
    id text PRIMARY KEY, user_id text, goal_id text, kind text, status text, started_at timestamptz,
    ended_at timestamptz, paused_at timestamptz, planned_seconds int, focus_seconds int, category text,
    tags text[], updated_at timestamptz);
CREATE INDEX IF NOT EXISTS users_updated ON users (updated_at);
CREATE INDEX IF NOT EXISTS goals_updated ON goals (updated_at);
CREATE INDEX IF NOT EXISTS timer_sessions_updated ON timer_sessions (updated_at);
"""


async def write(dsn: str, dashboard: SampleDashboard) -> None:
    """Replace the sample dashboard in a PostgreSQL database in one transaction; ``updated_at`` is now."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.set_type_codec(
            "jsonb", encoder=_jsonb, decoder=bytes, schema="pg_catalog", format="binary"
        )
        async with connection.transaction():
            await connection.execute(_TABLES)
            await connection.execute("TRUNCATE users, goals, timer_sessions")
            for table, rows in _tables(dashboard).items():
                columns = list(rows[0])
                records = [tuple(row.values()) for row in rows]
                await connection.copy_records_to_table(table, records=records, columns=columns)
                await connection.execute(f"UPDATE {table} SET updated_at = now()")  # noqa: S608 — our own names
    finally:
        await connection.close()


def _jsonb(value: Row) -> bytes:
    """PostgreSQL's binary jsonb: a version byte, then the text. COPY needs this format."""
    return b"\x01" + json.dumps(value).encode()


def _tables(dashboard: SampleDashboard) -> Mapping[str, Sequence[Row]]:
    return {
        "users": dashboard.users,
        "goals": dashboard.goals,
        "timer_sessions": dashboard.timer_sessions,
    }
