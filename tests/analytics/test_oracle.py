"""Whatever happens in whatever order, the rollups end up as if computed from scratch."""

import asyncio
import uuid
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from service.analytics import habits, user_profiles
from service.analytics.insight import Counts
from service.analytics.statistic import Statistic
from service.dashboard.model import Goal, TimerSession
from service.engine.database import open_pool
from tests import given as cast
from tests.analytics.given import BEHAVIOUR, DAILY, JOBS, WEEKLY, Lab, session
from tests.conftest import LONG, with_database

ZONES = (
    "Australia/Lord_Howe", "Asia/Kathmandu", "Pacific/Chatham", "Pacific/Apia", "America/Havana",
    "Atlantic/Azores", "Africa/Cairo", "America/Santiago", "UTC", "Pacific/Kiritimati", "Etc/GMT+12",
)  # fmt: skip
SERVICE_ZONES = ("UTC", "Europe/Berlin", "Pacific/Pago_Pago", "Pacific/Kiritimati")
PEOPLE = tuple(f"u{n}" for n in range(6))
# Each with a clock change of many of the zones; in the last, Apia left out a date.
SEASONS = tuple(datetime(*day, tzinfo=UTC) for day in [(2026, 3, 20), (2026, 10, 18), (2011, 12, 20)])
# Midnights and clock changes, in hours after the season's start: found more often by chance like this.
_TURNS = st.sampled_from(
    [h for day in range(45) for h in (day * 24, day * 24 + 3, day * 24 + 11.25, day * 24 + 14)]
)
_MINUTES = st.integers(-70, 70)
_HOURS = st.one_of(
    st.builds(lambda turn, m: turn + m / 60, _TURNS, _MINUTES), st.floats(-30 * 24, 45 * 24, width=32)
)
_KINDS = (("focus", True), ("pomodoro", True), ("break", False), ("longbreak", False))
_STATUSES = ("completed", "completed", "completed", "abandoned", "cancelled", "running", "paused", "rejected")


@st.composite
def _session(draw: st.DrawFn) -> tuple[Any, ...]:
    kind, focus = draw(st.sampled_from(_KINDS))
    minutes = draw(st.one_of(st.just(0), st.integers(1, 200), st.integers(1, 1440)))
    return (
        "session",
        draw(st.integers(0, 9)),
        draw(st.sampled_from(PEOPLE)),
        draw(_HOURS),
        {
            "kind": kind,
            "focus": focus,
            "status": draw(st.sampled_from(_STATUSES)),
            "minutes": minutes,
            "focus_seconds": draw(st.integers(0, min(minutes * 60, 14400))),
            "tags": draw(st.sampled_from([(), ("deep",)])),
            "goal_id": draw(st.sampled_from([None, "g1"])),
            "planned_seconds": draw(st.sampled_from([1500, 3000])),
            "rating": draw(st.sampled_from([None, 1, 4])),
        },
    )


@st.composite
def _goal(draw: st.DrawFn) -> tuple[Any, ...]:
    created = draw(st.none() | _HOURS)
    done = draw(st.none() | st.floats(0, 40 * 24, width=32))
    still_open = draw(st.booleans()) if done is None else draw(st.sampled_from([False, False, True]))
    due = draw(st.none() | _HOURS)
    date_only = draw(st.booleans())
    return (
        "goal",
        draw(st.integers(0, 5)),
        draw(st.sampled_from(PEOPLE)),
        created,
        done,
        still_open,
        due,
        date_only,
    )


_EVENTS = st.one_of(
    _session(),
    _session(),
    _session(),
    _goal(),
    st.tuples(st.just("user"), st.sampled_from(PEOPLE), st.sampled_from(ZONES), st.none() | _HOURS),
    st.tuples(st.just("zone"), st.sampled_from(PEOPLE), st.none() | st.sampled_from(ZONES)),
    st.tuples(st.just("leave"), st.sampled_from(PEOPLE)),
    st.tuples(st.just("drop"), st.integers(0, 9)),
    st.tuples(st.just("forget"), st.integers(0, 5)),
    st.tuples(st.just("burst"), st.sampled_from(PEOPLE), st.integers(0, 30)),
    st.tuples(st.just("crowd"), st.sampled_from(ZONES), st.integers(0, 10), st.sampled_from([1, 7, 30])),
    st.tuples(st.just("wait"), st.sampled_from([0, 5, 20, 24, 60, 170, 400])),
    st.tuples(st.just("run"), st.sampled_from(JOBS), st.none() | st.integers(0, 6)),
    st.tuples(st.just("run"), st.sampled_from(JOBS), st.none()),
)


class Play:
    """Carries the events out."""

    def __init__(self, lab: Lab, start: datetime) -> None:
        self.lab = lab
        self.start = start

    def _at(self, hours: float) -> datetime:
        return self.start + timedelta(seconds=round(hours * 3600))

    async def one(self, event: tuple[Any, ...]) -> None:
        """What happens next."""
        await getattr(self, f"_{event[0]}")(*event[1:])

    async def _session(self, n: int, user: str, hours: float, values: dict[str, Any]) -> None:
        changes = {**values}
        minutes = changes.pop("minutes")
        if changes["status"] in {"running", "paused"}:
            changes["ended_at"] = None
        if changes["status"] == "rejected":
            changes |= {"focus_seconds": 0, "ended_at": self._at(hours) - timedelta(minutes=minutes)}
        await self.lab.put(session(f"s{n}", user, self._at(hours), minutes, **changes))

    async def _goal(
        self,
        n: int,
        user: str,
        created: float | None,
        done: float | None,
        still_open: bool,
        due: float | None,
        date_only: bool,
    ) -> None:
        begin = None if created is None else self._at(created)
        end = None if done is None else (begin or self.start) + timedelta(hours=done)
        at = None if due is None else self._at(due)
        deadline = {"due_date": at and at.date()} if date_only else {"due_at": at}
        changes: dict[str, Any] = {"created_at": begin, "completed_at": end, "open": still_open, **deadline}
        await self.lab.put(cast.goal(f"g{n}", user, **changes))

    async def _user(self, user: str, zone: str, created: float | None) -> None:
        await self.lab.put(cast.user(user, zone, created_at=None if created is None else self._at(created)))

    async def _zone(self, user: str, zone: str | None) -> None:
        await self.lab.choose_zone(user, zone)

    async def plan_anew(self) -> None:
        """Edit every session so that no rollup of a day changes: its planned length."""
        await self.lab.put(
            *(
                replace(one, planned_seconds=(one.planned_seconds or 0) + 600)
                for one in self.lab.sessions.values()
            )
        )

    async def _leave(self, user: str) -> None:
        await self.lab.remove("users", user)

    async def _drop(self, n: int) -> None:
        await self.lab.remove("timer_sessions", f"s{n}")

    async def _forget(self, n: int) -> None:
        await self.lab.remove("goals", f"g{n}")

    async def _burst(self, user: str, day: int) -> None:
        begin = self._at(24 * day)
        await self.lab.put(
            *(session(f"b{user}{n}", user, begin + timedelta(minutes=30 * n)) for n in range(22))
        )

    async def _crowd(self, zone: str, day: int, back: int) -> None:
        names = [f"c{n}" for n in range(12)]
        begin = self._at(24 * day)
        first = [session(f"x{c}", c, begin, kind="break", focus=False) for c in names]
        again: list[TimerSession | Goal] = [
            session(f"y{c}", c, begin + timedelta(days=back)) for c in names[:7]
        ]
        goals = [cast.goal(f"h{c}", c, open=False, created_at=begin, completed_at=begin) for c in names]
        await self.lab.put(*(cast.user(c, zone, created_at=begin) for c in names), *first, *again, *goals)

    async def _wait(self, hours: int) -> None:
        await self.lab.clock(self.lab.now + timedelta(hours=hours))

    async def _run(self, job: str, fuse: int | None) -> None:
        await self.lab.run(job, fuse=fuse)


@pytest.fixture(autouse=True)
def _whole_evidence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Insights hold all that they rest on, so that a stale one shows however few the sessions are."""

    def told(evidence: Counts) -> list[dict[str, Any]]:
        return [{"rule": "all", "text": repr(evidence), "evidence": ""}]

    monkeypatch.setattr(user_profiles, "insights_to_json", told)
    monkeypatch.setattr(habits, "insights_to_json", told)


@pytest.fixture(scope="module")
def house(postgres: str, template: str) -> Iterator[tuple[asyncio.Runner, asyncpg.Pool]]:
    """One database and one loop for all examples; each begins by emptying it."""
    name = f"test_{uuid.uuid4().hex[:12]}"

    async def make() -> asyncpg.Pool:
        server = await asyncpg.connect(postgres)
        await server.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
        await server.close()
        return await open_pool(with_database(postgres, name), max_size=3)

    async def drop(pool: asyncpg.Pool) -> None:
        await pool.close()
        server = await asyncpg.connect(postgres)
        await server.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await server.close()

    with asyncio.Runner() as loop:
        pool = loop.run(make())
        yield loop, pool
        loop.run(drop(pool))


def _examples(short: int, long: int) -> settings:
    return settings(
        max_examples=long if LONG else short,
        deadline=None,
        derandomize=not LONG,
        phases=(Phase.explicit, Phase.reuse, Phase.generate, *((Phase.shrink,) if LONG else ())),
        suppress_health_check=[
            HealthCheck.function_scoped_fixture,
            HealthCheck.too_slow,
            HealthCheck.data_too_large,
        ],
    )


@pytest.mark.long
@_examples(25, 500)
@given(
    season=st.sampled_from(SEASONS),
    service_zone=st.sampled_from(SERVICE_ZONES),
    homes=st.lists(st.sampled_from(ZONES), min_size=len(PEOPLE), max_size=len(PEOPLE)),
    events=st.lists(_EVENTS, min_size=5, max_size=30),
)
def test_whatever_happens_the_rows_equal_the_oracles(
    house: tuple[asyncio.Runner, asyncpg.Pool],
    season: datetime,
    service_zone: str,
    homes: list[str],
    events: list[tuple[Any, ...]],
) -> None:
    loop, pool = house
    loop.run(_live(Lab(pool, service_zone), season, homes, events))


async def _live(lab: Lab, season: datetime, homes: list[str], events: list[tuple[Any, ...]]) -> None:
    await lab.clear()
    await lab.clock(season + timedelta(days=14, hours=1))
    await lab.put(
        *(
            cast.user(name, zone, created_at=season + timedelta(days=n))
            for n, (name, zone) in enumerate(zip(PEOPLE[:4], homes, strict=False))
        )
    )
    play = Play(lab, season)
    for event in events[:-1]:
        await play.one(event)
    await lab.run(*JOBS)
    await lab.check()
    before = await lab.everything()
    await lab.run(*JOBS)
    assert await lab.everything() == before
    await _afterthought(lab, play, events[-1])


async def _afterthought(lab: Lab, play: Play, event: tuple[Any, ...]) -> None:
    """One more event, and an edit that only insights and profiles see: what these changed, and nothing else,
    has a revision more, and its old figures."""
    before = await _figures(lab)
    known = set(await lab.revisions())
    await play.one(event)
    await play.plan_anew()
    await lab.run(DAILY, WEEKLY, BEHAVIOUR)  # dailyAnalytics derives what is stale of a month, too
    await lab.check()
    after = await _figures(lab)
    revised = {(statistic, period) for statistic, period, _ in set(await lab.revisions()) - known}
    assert revised == {key for key, figures in before.items() if after[key] != figures}
    kept = await lab.pool.fetch(
        "SELECT DISTINCT ON (statistic, period) statistic, period, figures FROM service.rollup_revision"
        " ORDER BY statistic, period, revision DESC"
    )
    for row in kept:
        key = row["statistic"], row["period"]
        if key in revised:
            assert row["figures"] == before[key]


async def _figures(lab: Lab) -> dict[tuple[str, datetime], dict[str, Any]]:
    return {(s, p): figures for s in Statistic for p, figures in (await lab.figures(s)).items()}
