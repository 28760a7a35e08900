"""A dashboard that a test writes to, mirrored in plain lists for the oracle; and the analytics jobs on it."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, time, timedelta
from typing import Any

import asyncpg

from service.analytics import user_profiles
from service.analytics.maintenance import AnalyticsSettings
from service.analytics.statistic import WITH_MONTHS, Statistic
from service.analytics.working_hours import MIN_ACTIVE_DAYS
from service.archive.manifest import RetentionPolicy
from service.clock import SystemClock
from service.dashboard import replica
from service.dashboard.model import Goal, TimerSession, User
from service.engine.context import Resources
from service.engine.ledger import JobDefinition, Ledger, Run
from service.engine.run import RunRequest, RunResult
from service.engine.runner import Runner
from service.engine.schedule import Schedule
from service.jobs import all_jobs
from service.messages.mail.render import Notice
from tests import given
from tests.analytics import oracle
from tests.analytics.oracle import Truth
from tests.clock import stop_clock

DAILY, WEEKLY, MONTHLY, BEHAVIOUR = (
    f"analytics.{name}" for name in ("dailyAnalytics", "weeklyAggregation", "monthlyInsights", "userBehavior")
)
JOBS = (DAILY, WEEKLY, MONTHLY, BEHAVIOUR)
_TABLES = (
    "users, departed_user, kept_row, goals, timer_sessions, user_zone, recipient_setting, stale_day,"
    " user_day, user_span, user_profile, rollup, rollup_revision, watermark, stale_period, delivery,"
    " job_run, job_def"
)
_COLUMNS = (
    "started", "focus_seconds", "completed", "cancelled", "abandoned", "breaks", "tagged", "linked", "rated",
    "rating_sum", "goals_created", "goals_completed", "kinds", "hours",
)  # fmt: skip


def at(text: str) -> datetime:
    """An instant of UTC: ``2026-03-10 09:00``."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def session(id: str, user: str, start: datetime, minutes: float = 25, **changes: Any) -> TimerSession:
    """A focus session that was completed without a pause."""
    values: dict[str, Any] = {
        "goal_id": None,
        "kind": "focus",
        "focus": True,
        "status": "completed",
        "ended_at": start + timedelta(minutes=minutes),
        "paused_at": None,
        "planned_seconds": 1500,
        "focus_seconds": int(minutes * 60),
    }
    return TimerSession(id=id, user_id=user, started_at=start, **{**values, **changes})


class Crash(Exception):
    """The process dies here."""


class FusedLedger(Ledger):
    """Loses the power at the end of a step, before its commit."""

    fuse: int | None = None

    @asynccontextmanager
    async def step(self, run: Run) -> AsyncIterator[asyncpg.Connection]:
        async with super().step(run) as connection:
            yield connection
            if self.fuse is not None:
                self.fuse -= 1
                if self.fuse < 0:
                    raise Crash


async def _no_refresh(_since: datetime | None) -> None:
    return


def _no_notice(_template: str, _facts: Mapping[str, Any], _locale: str) -> Notice:
    raise NotImplementedError


_START = at("2026-03-01 00:00")


@dataclass
class Lab:
    """One database with a stopped clock, and what it was told."""

    pool: asyncpg.Pool
    service_zone: str = "UTC"
    now: datetime = _START
    users: dict[str, User] = field(default_factory=dict)
    goals: dict[str, Goal] = field(default_factory=dict)
    sessions: dict[str, TimerSession] = field(default_factory=dict)
    settings: dict[str, str | None] = field(default_factory=dict)
    zones: dict[str, list[tuple[datetime, str]]] = field(default_factory=dict)
    departed: dict[str, tuple[User, datetime]] = field(default_factory=dict)

    # ── What happens at the dashboard ───────────────────────────────────────────────────────────────────────

    async def clear(self) -> None:
        """An empty database."""
        await self.pool.execute("".join(f"DELETE FROM service.{table};" for table in _TABLES.split(", ")))

    async def clock(self, instant: datetime) -> None:
        """Stop the clock here."""
        self.now = instant
        await stop_clock(self.pool, instant.isoformat())

    async def put(self, *records: User | Goal | TimerSession) -> None:
        """Write records, as the sync does: in one transaction."""
        people = [r for r in records if isinstance(r, User)]
        goals = [r for r in records if isinstance(r, Goal)]
        sessions = [r for r in records if isinstance(r, TimerSession)]
        async with self.pool.acquire() as connection, connection.transaction():
            await replica.upsert_users(connection, people)
            await replica.upsert_goals(connection, goals)
            await replica.upsert_timer_sessions(connection, sessions)
        self.users |= {u.id: u for u in people}
        self.departed = {name: gone for name, gone in self.departed.items() if name not in self.users}
        self.goals |= {g.id: g for g in goals}
        self.sessions |= {s.id: s for s in sessions}
        for user in people:
            self._note_zone(user.id)

    async def remove(self, table: str, *ids: str) -> None:
        """Delete at the dashboard, found by the sweep."""
        async with self.pool.acquire() as connection:
            await replica.delete(connection, table, ids)
        tables: dict[str, dict[str, Any]] = {
            "users": self.users, "goals": self.goals, "timer_sessions": self.sessions,
        }  # fmt: skip
        for gone in ids:
            record = tables[table].get(gone)
            if isinstance(record, Goal | TimerSession) and record.user_id in self.departed:
                continue  # what goes with an account stays counted
            tables[table].pop(gone, None)
            if isinstance(record, User):
                self.departed[gone] = record, self.now

    async def choose_zone(self, user: str, zone: str | None) -> None:
        """Somebody says on the preference page where they are (None: where the dashboard says)."""
        await self.pool.execute(
            "INSERT INTO service.recipient_setting (user_id, timezone) VALUES ($1, $2)"
            " ON CONFLICT (user_id) DO UPDATE SET timezone = excluded.timezone",
            user,
            zone,
        )
        self.settings[user] = zone
        self._note_zone(user)

    def _note_zone(self, user: str) -> None:
        if user not in self.users:
            return
        zone = self.settings.get(user) or self.users[user].timezone
        history = self.zones.setdefault(user, [])
        if not history:
            history.append((oracle.ALWAYS, zone))
        elif history[-1][1] != zone:
            if history[-1][0] == self.now:
                history.pop()
            history.append((self.now, zone))

    async def take(self) -> None:
        """Believe what the replica holds: others wrote it."""
        fetch = self.pool.fetch
        self.users = {r["id"]: replica.user_from_row(r) for r in await fetch("SELECT * FROM service.users")}
        goals = await fetch("SELECT to_jsonb(g) AS j FROM service.goals AS g")
        self.goals = {row["j"]["id"]: replica.goal_from_json(row["j"]) for row in goals}
        sessions = await fetch("SELECT to_jsonb(s) AS j FROM service.timer_sessions AS s")
        self.sessions = {row["j"]["id"]: replica.session_from_json(row["j"]) for row in sessions}
        self.departed = {
            r["user_id"]: (given.user(r["user_id"], created_at=r["created_at"]), r["left_at"])
            for r in await fetch("SELECT * FROM service.departed_user")
        }
        self.zones = {}
        for row in await fetch("SELECT * FROM service.user_zone ORDER BY since"):
            since = oracle.ALWAYS if row["since"].year == 1 else row["since"]
            self.zones.setdefault(row["user_id"], []).append((since, row["timezone"]))

    def truth(self) -> Truth:
        """What is known now."""
        return Truth(
            list(self.users.values()),
            self.zones,
            list(self.goals.values()),
            list(self.sessions.values()),
            service_zone=self.service_zone,
            departed=list(self.departed.values()),
        )

    # ── Jobs ────────────────────────────────────────────────────────────────────────────────────────────────

    async def ledger(self, *jobs: str, fuse: int | None = None, attempts: int | None = None) -> "FusedLedger":
        """A ledger that knows these jobs. ``fuse``: how many steps it survives."""
        ledger = FusedLedger(self.pool, f"process-{os.getpid()}", timedelta(seconds=60))
        ledger.fuse = fuse
        found = [all_jobs()[name] for name in jobs or JOBS]
        await ledger.register(
            [
                JobDefinition(
                    j.id,
                    j.schedule,
                    j.mode,
                    Schedule.parse(j.schedule).hash,
                    j.timeout,
                    attempts or j.max_attempts,
                )
                for j in found
            ]
        )
        return ledger

    def runner(self, ledger: Ledger) -> Runner:
        """A runner of its own."""
        return Runner(
            self.pool,
            ledger,
            all_jobs(),
            refresh=_no_refresh,
            clock=SystemClock(),
            wake=asyncio.Event(),
            resources=Resources(AnalyticsSettings(service_zone=self.service_zone), RetentionPolicy()),
        )

    async def run(self, *jobs: str, fuse: int | None = None, as_of: datetime | None = None) -> RunResult:
        """Run jobs one after the other (default: all four); returns the last one's result."""
        runner = self.runner(await self.ledger(fuse=fuse))
        for job in jobs or JOBS:
            result = await runner.run_manual(job, RunRequest(as_of=as_of))
            if fuse is None and result.state != "pending":
                assert result.state == "succeeded", result.error
        return result

    # ── What is stored ──────────────────────────────────────────────────────────────────────────────────────

    async def figures(self, statistic: str) -> dict[datetime, dict[str, Any]]:
        """Period → figures."""
        rows = await self.pool.fetch(
            "SELECT period, figures FROM service.rollup WHERE statistic = $1 ORDER BY period", statistic
        )
        return {row["period"]: row["figures"] for row in rows}

    async def daily(self, day: str) -> dict[str, Any]:
        """The figures of one service day."""
        return (await self.figures("daily"))[datetime.fromisoformat(day)]

    async def revisions(self) -> list[tuple[str, datetime, int]]:
        """(statistic, period, revision that was replaced)."""
        rows = await self.pool.fetch(
            "SELECT statistic, period, revision FROM service.rollup_revision ORDER BY 1, 2, 3"
        )
        return [tuple(row) for row in rows]

    async def everything(self) -> dict[str, list[Any]]:
        """All rows, as they are."""
        tables = ("user_day", "user_span", "user_profile", "rollup", "rollup_revision")
        return {t: sorted(map(repr, await self.pool.fetch(f"SELECT * FROM service.{t}"))) for t in tables}

    async def substance(self) -> dict[str, list[Any]]:
        """All rows without the moments at which they were computed."""
        questions = {
            "user_day": "SELECT * FROM service.user_day ORDER BY user_id, local_date",
            "user_span": "SELECT * FROM service.user_span ORDER BY user_id",
            "user_profile": "SELECT user_id, as_of, figures FROM service.user_profile ORDER BY 1",
            "rollup": "SELECT statistic, period, figures FROM service.rollup ORDER BY 1, 2",
        }
        return {name: [tuple(row) for row in await self.pool.fetch(q)] for name, q in questions.items()}

    async def check(self) -> None:
        """Every row equals the oracle's, and no period up to a watermark lacks its row."""
        truth = self.truth()
        await self.check_days(truth)
        for statistic in Statistic:
            await self._check_periods(truth, statistic)
        await self._check_profiles(truth)
        assert await self.pool.fetchval("SELECT count(*) FROM service.stale_day") == 0
        assert await self.pool.fetchval("SELECT count(*) FROM service.stale_period") == 0

    async def check_days(self, truth: Truth | None = None) -> None:
        """Every user's days and spans equal the oracle's."""
        truth = truth or self.truth()
        stored = await self.pool.fetch("SELECT * FROM service.user_day")
        rows = {(row["user_id"], row["local_date"]): {c: row[c] for c in _COLUMNS} for row in stored}
        _same(rows, truth.days, "user_day")
        spans = await self.pool.fetch("SELECT * FROM service.user_span")
        _same({r["user_id"]: (r["first_date"], r["last_date"]) for r in spans}, truth.spans, "user_span")

    async def _check_periods(self, truth: Truth, statistic: Statistic) -> None:
        through = await self.pool.fetchval(
            "SELECT through FROM service.watermark WHERE statistic = $1", statistic
        )
        found = await self.figures(statistic)
        if through is None:
            assert not found
            return
        begin = min([*found, *_begin(truth, statistic)])
        periods = _periods(statistic, begin, through)
        assert list(found) == periods, f"{statistic}: periods {sorted({*found} ^ {*periods})}"
        if statistic in WITH_MONTHS:
            expected = await self._months_from_scratch(statistic, periods)
        else:
            expected = {p: _expected(truth, statistic, p) for p in periods}
        _same(found, expected, statistic)

    async def _months_from_scratch(
        self, statistic: Statistic, months: Sequence[datetime]
    ) -> dict[datetime, dict[str, Any]]:
        compute = {
            Statistic.INSIGHTS: user_profiles.insights_of_month,
            Statistic.CHURN_MODEL: user_profiles.churn_model_of_month,
        }[statistic]
        async with self.pool.acquire() as connection:
            return {month: _as_stored(await compute(connection, month.date())) for month in months}

    async def _check_profiles(self, truth: Truth) -> None:
        """Every profile is what its day would compute now; whoever was active on five days has one."""
        rows = await self.pool.fetch("SELECT user_id, as_of, figures FROM service.user_profile")
        if await self.pool.fetchval("SELECT count(*) FROM service.watermark WHERE statistic = 'behaviour'"):
            since = self.now.date() - timedelta(days=90)
            recent = {
                user
                for user, days in truth.active.items()
                if sum(since < day <= self.now.date() for day in days) >= MIN_ACTIVE_DAYS
            }
            missing = recent - {row["user_id"] for row in rows}
            assert not missing, f"no profile of {missing}"
        async with self.pool.acquire() as connection:
            transaction = connection.transaction()
            await transaction.start()
            await connection.execute("DELETE FROM service.user_profile")
            for as_of in {row["as_of"] for row in rows}:
                users = [row["user_id"] for row in rows if row["as_of"] == as_of]
                await user_profiles.make_profiles(connection, users, as_of)
            fresh = await connection.fetch("SELECT user_id, as_of, figures FROM service.user_profile")
            await transaction.rollback()
        found, expected = ({r["user_id"]: (r["as_of"], r["figures"]) for r in some} for some in (rows, fresh))
        _same(found, expected, "user_profile")


def _as_stored(figures: dict[str, Any]) -> dict[str, Any]:
    stored: dict[str, Any] = json.loads(json.dumps(figures))
    return stored


def _same(found: dict[Any, Any], expected: dict[Any, Any], what: str) -> None:
    wrong = [key for key in {*found, *expected} if found.get(key) != expected.get(key)]
    for key in sorted(wrong, key=repr):
        one, other = found.get(key), expected.get(key)
        if isinstance(one, dict) and isinstance(other, dict):
            names = [name for name in {*one, *other} if one.get(name) != other.get(name)]
            one, other = ({name: row.get(name) for name in names} for row in (one, other))
        raise AssertionError(f"{what} {key}: stored {one}, oracle {other}")


def _begin(truth: Truth, statistic: Statistic) -> list[datetime]:
    """The first period that cannot be missing, if there is one."""
    instant, local = truth.first_instant(), truth.first_local_date()
    if instant is None or local is None:
        return []
    if statistic is Statistic.BEHAVIOUR:
        return [instant.replace(tzinfo=None, hour=instant.hour // 6 * 6, minute=0, second=0, microsecond=0)]
    day = {
        Statistic.DAILY: min(local, truth.service_day(instant)),
        Statistic.WEEKLY: oracle.sunday_of(local),
    }.get(statistic, oracle.month_of(local))
    return [datetime.combine(day, time())]


def _periods(statistic: Statistic, begin: datetime, through: datetime) -> list[datetime]:
    found = []
    while begin <= through:
        found.append(begin)
        if statistic in {Statistic.MONTHLY, *WITH_MONTHS}:
            begin = datetime.combine(oracle.month_after(begin.date()), time())
        else:
            step = {"daily": timedelta(days=1), "weekly": timedelta(days=7), "behaviour": timedelta(hours=6)}
            begin += step[statistic]
    return found


def _expected(truth: Truth, statistic: Statistic, period: datetime) -> dict[str, Any]:
    if statistic is Statistic.BEHAVIOUR:
        return truth.behaviour(period)
    question = {
        Statistic.DAILY: truth.daily,
        Statistic.WEEKLY: truth.weekly,
        Statistic.MONTHLY: truth.monthly,
    }
    return question[statistic](period.date())


def people(*names: str, zone: str = "UTC", created: datetime | None = None) -> Sequence[User]:
    """Accounts in order."""
    return [given.user(name, zone, created_at=created) for name in names]


def moved(one: TimerSession, by: timedelta) -> TimerSession:
    """The same session at another time."""
    return replace(one, started_at=one.started_at + by, ended_at=one.ended_at and one.ended_at + by)
