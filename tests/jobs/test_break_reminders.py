"""breakReminders decided: when a break is due, which timer seems forgotten, and when to be still."""

import json
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.dashboard import replica
from service.dashboard.dashboard_state import DashboardState
from service.dashboard.model import Preferences, TimerSession, User
from service.engine.run import RunRequest, Tick, Trigger
from service.jobs import break_reminders
from service.jobs.break_reminders import JOB, Facts, decide
from service.messages.decision import Decision, Message, Skip
from service.messages.kind import Channel
from service.messages.reason import Reason
from tests.given import World, user
from tests.kinds import BREAKS

NOON = datetime(2026, 3, 10, 11, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def tick(at: datetime = NOON, **changes: Any) -> Tick:
    """Noon in Berlin, on a Tuesday in March."""
    return Tick(JOB.id, 1, at, None, Trigger.CRON, **changes)


def session(id: str = "s", owner: str = "ann", since: float = 60, **changes: Any) -> TimerSession:
    """A session without an end in sight, running for so many minutes at noon."""
    values: dict[str, Any] = {
        "goal_id": None,
        "kind": "pomodoro",
        "focus": True,
        "status": "running",
        "started_at": NOON - since * MINUTE,
        "ended_at": None,
        "paused_at": None,
        "planned_seconds": None,
        "focus_seconds": 0,
        "updated_at": NOON - since * MINUTE,
    }
    return TimerSession(id=id, user_id=owner, **{**values, **changes})


def span(begun: float, ended: float) -> tuple[datetime, datetime]:
    """An interval, in minutes before noon."""
    return NOON - begun * MINUTE, NOON - ended * MINUTE


def told(
    *running: TimerSession,
    earlier: tuple[tuple[datetime, datetime], ...] = (),
    who: User | None = None,
    last_write: datetime | None = None,
    on: Tick | None = None,
) -> Decision:
    """What ann is told."""
    return decide(Facts(who or user(), running, earlier, last_write), on or tick())


def message(*running: TimerSession, **others: Any) -> Message:
    found = told(*running, **others)
    assert isinstance(found, Message)
    return found


def reason(*running: TimerSession, **others: Any) -> Reason | None:
    found = told(*running, **others)
    return found.reason if isinstance(found, Skip) else None


def number(*running: TimerSession, **others: Any) -> int:
    """Which break of the stretch is announced; 0: none is due."""
    found = told(*running, **others)
    if isinstance(found, Skip):
        assert found.reason is Reason.NOT_DUE
        return 0
    return int(found.facts["number"])


# ── How long is long ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("minutes", "due"), [(0, 0), (49, 0), (49.99, 0), (50, 1), (74, 1), (75, 2), (99, 2), (100, 3), (600, 3)]
)
def test_the_first_break_after_two_rounds_of_work_then_one_each_round_three_in_all(
    minutes: float, due: int
) -> None:
    assert number(session(since=minutes)) == due


@pytest.mark.parametrize(("work", "minutes", "due"), [(50, 99, 0), (50, 100, 1), (10, 20, 1), (10, 40, 3)])
def test_a_round_of_work_is_as_long_as_the_user_says(work: int, minutes: int, due: int) -> None:
    assert number(session(since=minutes), who=user(preferences=Preferences(work_minutes=work))) == due


@pytest.mark.parametrize(
    ("earlier", "pause", "focused"),
    [
        ((), 5, 30),
        ((span(60, 34),), 5, 60),
        ((span(60, 35),), 5, 30),
        ((span(60, 35),), 6, 60),
        ((span(110, 64), span(60, 31)), 5, 110),
        ((span(60, 31), span(110, 64)), 5, 110),
        ((span(110, 65), span(60, 31)), 5, 60),
        ((span(90, 20),), 5, 90),
    ],
)
def test_focus_is_continuous_over_gaps_shorter_than_a_short_break(
    earlier: tuple[tuple[datetime, datetime], ...], pause: int, focused: int
) -> None:
    who = user(preferences=Preferences(short_break_minutes=pause, work_minutes=10))

    found = message(session(since=30), earlier=earlier, who=who)

    assert found.facts["focused_seconds"] == focused * 60
    begun = NOON - focused * MINUTE
    assert found.dedupe_key == f"breakReminders:ann:{begun:%Y%m%dT%H%M%SZ}:{found.facts['number']}"


@given(st.floats(0, 720), st.integers(5, 90))
def test_the_key_grows_with_the_stretch_and_the_break_is_always_the_latest_due(
    minutes: float, work: int
) -> None:
    who = user(preferences=Preferences(work_minutes=work))
    running = session(since=minutes)

    due = sum(NOON - running.started_at >= (k + 1) * work * MINUTE for k in (1, 2, 3))

    assert number(running, who=who) == due


# ── Which session ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("ages", "said", "chosen"),
    [
        ([], Reason.NOT_DUE, None),
        ([-1], Reason.STALE, None),
        ([721], Reason.STALE, None),
        ([720], None, "720"),
        ([-1, 60], None, "60"),
        ([-5, 60, 900], None, "60"),
        ([60, 90], None, "60"),
        ([-1, 721], Reason.STALE, None),
    ],
)
def test_a_session_from_the_future_or_of_more_than_twelve_hours_is_not_believed(
    ages: list[int], said: Reason | None, chosen: str | None
) -> None:
    found = told(*(session(str(age), since=age) for age in ages))

    if isinstance(found, Message):
        assert found.facts["session_ids"] == [chosen]
    else:
        assert found.reason is said


@pytest.mark.parametrize(
    ("hours", "local", "due"),
    [
        ((None, None), "03:00", True),
        (("09:00", None), "03:00", True),
        (("09:00", "17:00"), "08:59", False),
        (("09:00", "17:00"), "09:00", True),
        (("09:00", "17:00"), "16:59", True),
        (("09:00", "17:00"), "17:00", False),
        (("22:00", "06:00"), "21:59", False),
        (("22:00", "06:00"), "22:00", True),
        (("22:00", "06:00"), "05:59", True),
        (("22:00", "06:00"), "06:00", False),
        (("00:00", "00:00"), "12:00", True),
    ],
)
def test_breaks_belong_into_the_users_own_work_hours(
    hours: tuple[str | None, str | None], local: str, due: bool
) -> None:
    begin, end = (time.fromisoformat(hour) if hour else None for hour in hours)
    who = user(preferences=Preferences(work_start=begin, work_end=end))
    at = datetime.combine(date(2026, 3, 10), time.fromisoformat(local), UTC) - timedelta(hours=1)

    said = reason(session(started_at=at - 60 * MINUTE), who=who, on=tick(at))

    assert said is (None if due else Reason.NOT_DUE)


# ── The forgotten timer ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("planned", "minutes", "written", "variant"),
    [
        (25, 55, None, "break"),
        (25, 56, None, "still_running"),
        (25, 56, 10, "still_running"),
        (25, 56, 9, "break"),
        (25, 56, 0, "break"),
        (60, 90, 60, "break"),
        (60, 91, 60, "still_running"),
        (None, 600, None, "break"),
        (0, 600, None, "break"),
    ],
)
def test_a_timer_half_an_hour_over_its_plan_and_untouched_is_asked_about(
    planned: int | None, minutes: int, written: int | None, variant: str
) -> None:
    running = session(since=minutes, planned_seconds=planned and planned * 60)

    found = message(running, last_write=None if written is None else NOON - written * MINUTE)

    assert found.facts["variant"] == found.in_app["facts"]["variant"] == variant


def test_it_is_asked_once_per_session_and_never_by_mail() -> None:
    found = message(session("s7", since=56, planned_seconds=1500))

    assert found.dedupe_key == "breakReminders:ann:s7:still-running"
    assert found.channels == (Channel.IN_APP,)
    assert found.facts["focused_seconds"] == 56 * 60


# ── What it says, and until when ────────────────────────────────────────────────────────────────────────────


def test_a_break_is_good_for_twenty_five_minutes() -> None:
    found = message(session(since=60), who=user(preferences=Preferences(short_break_minutes=7)))

    assert (found.user_id, found.kind, found.zone) == ("ann", BREAKS, "Europe/Berlin")
    assert found.local_date == date(2026, 3, 10)
    assert set(found.channels) == {Channel.EMAIL, Channel.IN_APP}
    assert found.expires_at == NOON + 25 * MINUTE
    assert found.in_app_life == 25 * MINUTE
    assert (found.in_app["url"], found.kind.in_app_type) == ("/timer", "timer_completed")
    assert found.in_app["data"] == {"sessionId": "s"}
    assert found.facts["break_minutes"] == 7
    assert found.facts == json.loads(json.dumps(found.facts))


@pytest.mark.parametrize(
    ("running", "stands"), [({"s"}, True), ({"s", "t"}, True), ({"t"}, False), ((), False)]
)
def test_it_stands_only_while_the_session_runs(running: set[str], stands: bool) -> None:
    before = message(session(since=60)).facts

    after = break_reminders.revalidate(before, DashboardState({}, {}, frozenset(running)))

    assert after == (before if stands else None)


# ── From the database ───────────────────────────────────────────────────────────────────────────────────────


async def _timed(world: World, *sessions: TimerSession) -> None:
    async with world.pool.acquire() as connection:
        await replica.upsert_timer_sessions(connection, sessions, mark=False)


async def _run(world: World, minutes: float = 0, **options: Any) -> dict[str, int]:
    await world.at((NOON + minutes * MINUTE).isoformat())
    result = await (await world.runner()).run_manual(JOB.id, RunRequest(**options))
    assert result.state == "succeeded"
    return result.counts


async def _sent(world: World, channel: str = "in_app") -> dict[str, list[str]]:
    """Per person the last part of each key: the number of the break, or the question."""
    rows = await world.pool.fetch(
        "SELECT user_id, array_agg(split_part(dedupe_key, ':', 4) ORDER BY id) AS what"
        " FROM service.delivery_with_state WHERE channel = $1 GROUP BY user_id",
        channel,
    )
    return {row["user_id"]: row["what"] for row in rows}


def finished(id: str, owner: str, begun: float, ended: float, **changes: Any) -> TimerSession:
    """A completed session, in minutes before noon."""
    end = NOON - ended * MINUTE
    return session(id, owner, begun, status="completed", ended_at=end, updated_at=end, **changes)


async def test_only_running_focus_counts_and_only_focus_carries_a_stretch(world: World) -> None:
    people = ("alone", "joined", "break", "cancelled", "gap", "paused", "pause", "done")
    await world.live(*map(user, people))
    await _timed(
        world,
        session("1", "alone", 60),
        *(session(f"r-{name}", name, 30) for name in ("joined", "break", "cancelled", "gap")),
        finished("2", "joined", 60, 31),
        finished("3", "break", 60, 31, focus=False, kind="break"),
        session("4", "cancelled", 60, status="cancelled", ended_at=NOON - 31 * MINUTE),
        finished("5", "gap", 60, 35),
        session("6", "paused", 60, status="paused", paused_at=NOON - 5 * MINUTE),
        session("7", "pause", 60, focus=False, kind="break"),
        finished("8", "done", 60, 1),
    )

    await _run(world)

    assert await _sent(world) == {"alone": ["1"], "joined": ["1"]}
    assert await _sent(world, "email") == {}


async def test_a_stretch_is_told_of_each_break_once_and_of_no_more_than_three(world: World) -> None:
    await world.live(user(), user("mail", preferences=Preferences(kinds={BREAKS.name: True})))
    await _timed(world, session("s", "ann", 0), session("t", "mail", 0))

    for minutes in (25, 49, 50, 60, 75, 80, 125, 150, 300):
        await _run(world, minutes)

    assert await _sent(world) == {"ann": ["1", "2", "3"], "mail": ["1", "2", "3"]}
    assert await _sent(world, "email") == {"mail": ["1", "2"]}
    stretch = f"{NOON:%Y%m%dT%H%M%SZ}"
    keys = await world.pool.fetch(
        "SELECT dedupe_key FROM service.delivery_with_state WHERE user_id = 'ann' ORDER BY id"
    )
    assert [row["dedupe_key"] for row in keys] == [f"breakReminders:ann:{stretch}:{n}" for n in (1, 2, 3)]


async def test_any_write_of_the_last_minutes_shows_that_somebody_is_there(world: World) -> None:
    long = {"since": 90, "planned_seconds": 1500}
    people = ("away", "edited", "goal", "session", "afterwards")
    await world.live(*map(user, people))
    await _timed(
        world,
        *(session(f"r-{name}", name, **long) for name in people if name != "edited"),
        session("r-edited", "edited", updated_at=NOON - 5 * MINUTE, **long),
        finished("s", "session", 200, 180),
        finished("t", "session", 95, 9, focus=False),
    )
    await world.pool.execute(
        "INSERT INTO service.goals (id, user_id, title, open, priority, updated_at) VALUES"
        " ('g', 'goal', 'g', true, 'low', $1), ('h', 'afterwards', 'h', true, 'low', $2)",
        NOON - 5 * MINUTE,
        NOON + 5 * MINUTE,
    )

    await _run(world, 10, as_of=NOON)

    questions = {name for name, what in (await _sent(world)).items() if what == ["still-running"]}
    assert questions == {"away", "afterwards"}


async def test_a_pause_and_quiet_hours_hold_and_a_break_is_never_kept_for_later(world: World) -> None:
    await world.live(user("free"), user("paused"), user("quiet"))
    await _timed(world, *(session(name, name) for name in ("free", "paused", "quiet")))
    await world.pool.execute(
        "INSERT INTO service.recipient_setting (user_id, paused_until, quiet_start, quiet_end) VALUES"
        " ('paused', '2026-03-11T00:00:00Z', NULL, NULL), ('quiet', NULL, '12:00', '12:10')"
    )

    await _run(world)

    assert await _sent(world) == {"free": ["1"]}
    reasons = await world.reasons()
    assert (reasons["paused"], reasons["quiet"]) == ("paused_until", "quiet_hours")
