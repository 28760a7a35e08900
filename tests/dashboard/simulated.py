"""A dashboard that applications, scripts, imports and restores write to at random, and what is true there.

Whatever is written is kept in plain dictionaries first; nothing here asks the service what it thinks of it.
"""

import random
from collections.abc import Awaitable, Callable
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from service.zones import zone_of
from tests.dashboard.conftest import Dashboard

DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)
ZONES = ("Europe/Berlin", "Asia/Kolkata", "America/New_York", "Pacific/Auckland")
TABLES = ("users", "goals", "timer_sessions")
RENAMED = {
    "users": ("email", "contact"),
    "goals": ("due", "finish_by"),
    "timer_sessions": ("started", "begun"),
}
"""The field of each table that is renamed for some hours, and its name meanwhile."""
_MOST_DELETED = 5
"""Rows of a table that are deleted in a day: fewer than what needs a confirmation."""

Row = dict[str, Any]


@dataclass
class SimulatedDashboard:
    """``rows``: table → id → what is stored, in canonical words. ``now`` is the true time."""

    dashboard: Dashboard
    dice: random.Random
    now: datetime
    rows: dict[str, dict[int, Row]] = field(default_factory=lambda: {table: {} for table in TABLES})
    _outages: dict[str, tuple[datetime, Callable[[], Awaitable[None]]]] = field(default_factory=dict)
    _backup: dict[str, dict[int, Row]] | None = None
    _deleted: dict[tuple[str, date], int] = field(default_factory=dict)
    _next_id: int = 0

    async def open(self, people: int) -> None:
        """People with a goal or two, who focused on most of the last days."""
        for _ in range(people):
            user = await self._sign_up(self.now - 60 * DAY)
            for _ in range(self.dice.randint(1, 2)):
                await self._new_goal(user)
            for ago in range(1, 7):
                if self.dice.random() < 0.6:
                    await self._new_session(user, self.now - ago * DAY - self.dice.randrange(300) * MINUTE)

    # ── What is true ────────────────────────────────────────────────────────────────────────────────────────

    def person(self, address: str) -> tuple[int, Row] | None:
        """Who has an address like ``p12@example.org``."""
        number = int(address.partition("@")[0][1:])
        user = self.rows["users"].get(number)
        return (number, user) if user else None

    def local(self, user: Row) -> datetime:
        """The true time by somebody's clock."""
        return self.now.astimezone(zone_of(user["timezone"]))

    def goal_titled(self, title: str) -> Row | None:
        """The goal that has this title now."""
        return next((goal for goal in self.rows["goals"].values() if goal["title"] == title), None)

    def sessions_of(self, user: int) -> list[Row]:
        return [session for session in self.rows["timer_sessions"].values() if session["user"] == user]

    # ── What happens ────────────────────────────────────────────────────────────────────────────────────────

    async def write(self) -> None:
        """Something happens, by one of many roads."""
        acts: list[tuple[int, str, Callable[[], Awaitable[Any]]]] = [
            (6, "goals", self._edit_goal),
            (4, "users", self._edit_user),
            (4, "timer_sessions", self._focus),
            (2, "timer_sessions", self._edit_session),
            (2, "timer_sessions", self._import),
            (1, "users", lambda: self._sign_up(self.now)),
            (2, "goals", self._add_goal),
            (1, "goals", lambda: self._delete("goals")),
            (1, "timer_sessions", lambda: self._delete("timer_sessions")),
            (1, "users", lambda: self._delete("users")),
        ]
        possible = [(weight, act) for weight, table, act in acts if table not in self._outages]
        weights, chosen = zip(*possible, strict=True)
        await self.dice.choices(chosen, weights)[0]()

    async def fail(self) -> None:
        """A table is empty, away or lacks a field for hours; or a backup is made, and later restored."""
        table = self.dice.choice(TABLES)
        if table in self._outages:
            return
        kind = self.dice.choice(("empty", "lose", "rename", "back up"))
        if kind == "back up":
            await self._back_up_or_restore()
            return
        change: Callable[[], Awaitable[None]]
        if kind == "rename":
            await self.dashboard.rename(table, *RENAMED[table])
            change = lambda: self.dashboard.rename_back(table, *RENAMED[table])  # noqa: E731
        else:
            await (self.dashboard.empty if kind == "empty" else self.dashboard.lose)(table)
            change = lambda: self.dashboard.refill(table)  # noqa: E731
        self._outages[table] = (self.now + self.dice.randint(0, 4) * HOUR, change)

    async def mend(self, *, all_of_it: bool = False) -> None:
        """What failed is well again when its time has come."""
        for table, (until, change) in list(self._outages.items()):
            if all_of_it or until <= self.now:
                await change()
                del self._outages[table]

    # ── Roads ───────────────────────────────────────────────────────────────────────────────────────────────

    async def _put(self, table: str, number: int, **changes: Any) -> None:
        """Write a row; its time of writing is right, unchanged, of long ago, or of the far future."""
        row = self.rows[table].get(number, {})
        stamp = self.dice.choice(
            (self.now, self.now, row.get("updated", self.now), self.now - 30 * DAY, self.now + 400 * DAY)
        )
        self.rows[table][number] = {**row, **changes, "updated": stamp}
        await self._store(table, number)

    async def _store(self, table: str, number: int) -> None:
        row = self.rows[table][number]
        await self.dashboard.put(table, number, **{k: v for k, v in row.items() if v is not None})

    def _new_id(self) -> int:
        self._next_id += 1
        return self._next_id

    def _some(self, table: str) -> int | None:
        numbers = sorted(self.rows[table])
        return self.dice.choice(numbers) if numbers else None

    async def _sign_up(self, created: datetime) -> int:
        number = self._new_id()
        await self._put(
            "users", number, name=f"Person {number}", email=f"p{number}@example.org", active=True,
            timezone=self.dice.choice(ZONES), created=created, last_login=created + timedelta(minutes=5),
            preferences={"notifications": {"email": True}},
        )  # fmt: skip
        return number

    async def _edit_user(self) -> None:
        if (number := self._some("users")) is None:
            return
        change: Row = self.dice.choice(
            (
                {"last_login": self.now - self.dice.randrange(120) * MINUTE},
                {"timezone": self.dice.choice(ZONES)},
                {"preferences": {"notifications": {"email": self.dice.random() < 0.7}}},
                {"active": self.dice.random() < 0.8},
            )
        )
        await self._put("users", number, **change)

    async def _add_goal(self) -> None:
        if (user := self._some("users")) is not None:
            await self._new_goal(user)

    async def _new_goal(self, user: int) -> None:
        number = self._new_id()
        await self._put(
            "goals", number, user=user, title=f"Goal {number}.0", status="active", due=self._some_date(),
            created=self.now,
        )  # fmt: skip

    async def _edit_goal(self) -> None:
        if (number := self._some("goals")) is None:
            return
        title = self.rows["goals"][number]["title"]
        stem, _, revision = title.partition(".")
        change: Row = self.dice.choice(
            (
                {"due": self._some_date()},
                {"due": self._some_date()},
                {"title": f"{stem}.{int(revision) + 1}"},
                {"status": self.dice.choice(("active", "active", "completed"))},
            )
        )
        await self._put("goals", number, **change)

    def _some_date(self) -> datetime:
        """A floating date near today."""
        day = self.now.date() + self.dice.choice((-1, 0, 1, 1, 1, 2, 3, 7, 8)) * DAY
        return datetime.combine(day, time(), UTC)

    async def _focus(self) -> None:
        if (user := self._some("users")) is not None:
            await self._new_session(user, self.now - self.dice.randrange(20, 60) * MINUTE)

    async def _import(self) -> None:
        """Sessions with their true, past times."""
        if (user := self._some("users")) is not None:
            for _ in range(self.dice.randint(1, 4)):
                await self._new_session(user, self.now - self.dice.randrange(20 * 24 * 60) * MINUTE)

    async def _new_session(self, user: int, started: datetime) -> None:
        minutes = self.dice.randint(5, 20)
        await self._put(
            "timer_sessions", self._new_id(), user=user, kind="focus", status="completed",
            started=started, ended=started + minutes * MINUTE, planned=1500, focus=minutes * 60,
        )  # fmt: skip

    async def _edit_session(self) -> None:
        if (number := self._some("timer_sessions")) is not None:
            minutes = self.dice.randint(5, 20)
            ended = self.rows["timer_sessions"][number]["started"] + minutes * MINUTE
            await self._put("timer_sessions", number, ended=ended, focus=minutes * 60)

    async def _delete(self, table: str) -> None:
        number, today = self._some(table), self.now.date()
        if number is None or self._deleted.get((table, today), 0) >= _MOST_DELETED:
            return
        self._deleted[table, today] = self._deleted.get((table, today), 0) + 1
        del self.rows[table][number]
        await self.dashboard.remove(table, number)

    async def _back_up_or_restore(self) -> None:
        """Everything is what it was when the backup was made, times of writing too."""
        if self._outages:
            return
        if self._backup is None:
            self._backup = deepcopy(self.rows)
            return
        before, self.rows, self._backup = self.rows, self._backup, None
        for table in TABLES:
            for number in before[table].keys() - self.rows[table].keys():
                await self.dashboard.remove(table, number)
            for number, row in self.rows[table].items():
                if before[table].get(number) != row:
                    await self._store(table, number)
