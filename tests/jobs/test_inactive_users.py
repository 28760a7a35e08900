"""inactiveUsers decided: which step of which absence, when there is silence, what counts as being there."""

import asyncio
import json
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.analytics.absence import Episode
from service.dashboard import replica
from service.dashboard.dashboard_state import DashboardState
from service.dashboard.model import TimerSession
from service.engine.run import JobRules, RunRequest, Tick, Trigger
from service.engine.trigger import TriggerLoop, timing_of
from service.jobs import inactive_users
from service.jobs.inactive_users import JOB, Facts, decide
from service.messages.decision import Decision, Message, Skip
from service.messages.kind import Channel
from service.messages.reason import Reason
from tests.given import World, goal, user
from tests.kinds import INACTIVE

TODAY = date(2026, 3, 20)
TEN = "2026-03-20T09:00:00Z"


def tick(as_of: str = TEN, **changes: Any) -> Tick:
    """Ten o'clock in Berlin, on a Friday in March."""
    return Tick(JOB.id, 1, datetime.fromisoformat(as_of), None, Trigger.CRON, **changes)


def facts(away: int | None, **changes: Any) -> Facts:
    """Ann, away for so many days."""
    values: dict[str, Any] = {
        "user": user(),
        "last_activity": None if away is None else tick().as_of - timedelta(days=away),
        "away_since": None if away is None else TODAY - timedelta(days=away),
        "sent": frozenset(),
        "episodes": (),
        "active_dates": frozenset(),
        "moved": frozenset(),
        "goals": (),
    }
    return Facts(**{**values, **changes})


def told(away: int | None, on: Tick | None = None, **changes: Any) -> Decision:
    return decide(facts(away, **changes), on or tick())


def message(away: int, on: Tick | None = None, **changes: Any) -> Message:
    found = told(away, on, **changes)
    assert isinstance(found, Message)
    return found


def reason(away: int | None, on: Tick | None = None, **changes: Any) -> Reason | None:
    found = told(away, on, **changes)
    return found.reason if isinstance(found, Skip) else None


def in_vain(*last_steps: int) -> tuple[Episode, ...]:
    """Absences without an answer, whose last steps were so many days ago."""
    on = (TODAY - timedelta(days=n) for n in sorted(last_steps, reverse=True))
    return tuple(Episode(day - timedelta(days=14), day, False) for day in on)


# ── Steps ───────────────────────────────────────────────────────────────────────────────────────────────────

_STEPS = dict.fromkeys(range(3, 7), 1) | dict.fromkeys(range(7, 14), 2) | dict.fromkeys(range(14, 22), 3)


@pytest.mark.parametrize("away", [*range(24), 30, 31, 400])
def test_each_length_of_absence_has_its_step_its_text_or_its_reason(away: int) -> None:
    found = told(away)

    if step := _STEPS.get(away):
        assert isinstance(found, Message)
        gone = TODAY - timedelta(days=away)
        assert found.dedupe_key == f"inactiveUsers:ann:{gone}:{step}"
        assert (found.facts["variant"], found.facts["days_away"]) == (f"step{step}", away)
    else:
        assert isinstance(found, Skip)
        assert found.reason is (Reason.HISTORIC if away > 30 else Reason.NOT_DUE)


@pytest.mark.parametrize(
    ("away", "sent", "said"),
    [
        (3, {1}, Reason.ALREADY_SENT),
        (6, {1}, Reason.ALREADY_SENT),
        (7, {1}, None),
        (7, {1, 2}, Reason.ALREADY_SENT),
        (14, {1}, None),  # after an outage only the current step
        (14, {2}, None),
        (21, {1, 2, 3}, Reason.ALREADY_SENT),
        (5, {2}, Reason.ALREADY_SENT),
        (22, {1}, Reason.NOT_DUE),
    ],
)
def test_a_step_is_said_once_and_an_earlier_one_never_after_a_later(
    away: int, sent: set[int], said: Reason | None
) -> None:
    assert reason(away, sent=frozenset(sent)) is said


@pytest.mark.parametrize(("away", "step"), [(3, 1), (6, 1), (7, None), (14, None), (21, None)])
def test_whoever_never_began_gets_the_first_step_in_words_of_its_own_and_no_other(
    away: int, step: int | None
) -> None:
    found = told(away, last_activity=None)

    if step:
        assert isinstance(found, Message)
        assert found.facts["variant"] == found.in_app["facts"]["variant"] == "never_began"
        assert found.in_app["url"] == found.facts["url_path"] == "/timer"
    else:
        assert isinstance(found, Skip)
        assert found.reason is Reason.NOT_DUE


def test_of_whom_nothing_is_known_nothing_is_said() -> None:
    assert reason(None) is Reason.NOT_DUE


@pytest.mark.parametrize(
    ("steps", "away", "variant"),
    [((5,), 5, "step3"), ((2, 9), 2, "step1"), ((2, 9), 9, "step3"), ((1, 2, 3, 4), 3, "step3")],
)
def test_the_last_step_says_that_it_is_the_last_however_many_there_are(
    steps: tuple[int, ...], away: int, variant: str
) -> None:
    found = message(away, tick(rules=JobRules(inactive_steps=steps)))

    assert found.facts["variant"] == variant


@given(st.sets(st.integers(1, 30), max_size=25))
def test_through_whatever_outages_each_step_comes_at_most_once_and_in_order(running: set[int]) -> None:
    sent: list[int] = []
    for away in sorted(running):
        found = told(away, sent=frozenset(sent))
        if isinstance(found, Message):
            sent.append(int(found.dedupe_key.rpartition(":")[2]))

    assert sent == sorted(set(sent))
    assert sent == sorted({step for away in running if (step := _STEPS.get(away))})


# ── Silence ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("episodes", "silent"),
    [
        ((), False),
        (in_vain(90, 60), False),
        (in_vain(120, 90, 60), True),
        (in_vain(500, 400, 179), True),
        (in_vain(500, 400, 181), False),
        ((*in_vain(120, 90), Episode(TODAY, TODAY - timedelta(days=60), True)), False),
    ],
)
def test_three_absences_in_a_row_without_an_answer_are_followed_by_silence(
    episodes: tuple[Episode, ...], silent: bool
) -> None:
    assert reason(3, episodes=episodes) is (Reason.PAUSED_UNTIL if silent else None)


def test_force_speaks_again_but_invents_no_step() -> None:
    forced = tick(force=True)

    assert reason(5, forced, sent=frozenset({1, 2, 3}), episodes=in_vain(90, 60, 30)) is None
    assert reason(2, forced) is Reason.NOT_DUE
    assert reason(22, forced) is Reason.NOT_DUE


# ── What it says, and until when ────────────────────────────────────────────────────────────────────────────


def test_the_message_belongs_to_the_absence_and_tells_its_story() -> None:
    done = {date(2026, 1, day) for day in (3, 4, 5, 9)}

    found = message(7, active_dates=frozenset(done), goals=(goal("b"), goal("a", due="2026-03-25")))

    assert (found.user_id, found.kind, found.zone) == ("ann", INACTIVE, "Europe/Berlin")
    assert found.local_date == TODAY
    assert set(found.channels) == {Channel.EMAIL, Channel.IN_APP}
    assert found.facts["longest_streak"] == 3
    assert [one["id"] for one in found.facts["goals"]] == ["a", "b"]
    assert found.facts["goals"][0]["percent"] == 30
    assert found.in_app["data"] == {"daysAway": 7}
    assert found.facts == json.loads(json.dumps(found.facts))


@pytest.mark.parametrize(("moved", "longest"), [((), 2), ((date(2026, 1, 5),), 4)])
def test_the_longest_streak_survives_a_journey(moved: tuple[date, ...], longest: int) -> None:
    done = frozenset(date(2026, 1, day) for day in (3, 4, 6, 7))

    assert message(3, active_dates=done, moved=frozenset(moved)).facts["longest_streak"] == longest


@pytest.mark.parametrize(
    ("zone", "as_of", "until"),
    [
        ("Europe/Berlin", TEN, "2026-03-20T19:00:00Z"),
        ("Europe/Berlin", "2026-03-29T08:00:00Z", "2026-03-29T18:00:00Z"),
        ("America/New_York", "2026-11-01T15:00:00Z", "2026-11-02T01:00:00Z"),
    ],
)
def test_it_is_useful_until_eight_in_the_evening(zone: str, as_of: str, until: str) -> None:
    at = tick(as_of)
    gone = at.local_date(zone) - timedelta(days=3)

    assert message(3, at, user=user(zone=zone), away_since=gone).expires_at == datetime.fromisoformat(until)


def test_goals_closed_meanwhile_are_not_shown_and_the_words_remain() -> None:
    before = message(3, goals=(goal("a"), goal("b"))).facts

    after = inactive_users.revalidate(before, DashboardState({}, {"b": goal("b")}))

    assert isinstance(after, dict)
    assert [one["id"] for one in after["goals"]] == ["b"]
    assert inactive_users.revalidate(before, DashboardState({}, {})) is not None


# ── From the database ───────────────────────────────────────────────────────────────────────────────────────


def session(id: str, owner: str, started: str, **changes: Any) -> TimerSession:
    """Half an hour of focus, completed."""
    begun = datetime.fromisoformat(started)
    values: dict[str, Any] = {
        "goal_id": None,
        "kind": "pomodoro",
        "focus": True,
        "status": "completed",
        "started_at": begun,
        "ended_at": begun + timedelta(minutes=30),
        "paused_at": None,
        "planned_seconds": 1800,
        "focus_seconds": 1800,
        "updated_at": begun + timedelta(minutes=30),
    }
    return TimerSession(id=id, user_id=owner, **{**values, **changes})


async def _timed(world: World, *sessions: TimerSession) -> None:
    async with world.pool.acquire() as connection:
        await replica.upsert_timer_sessions(connection, sessions, mark=False)


async def _run(world: World, at: str = TEN, **options: Any) -> dict[str, int]:
    await world.at(at)
    result = await (await world.runner()).run_manual(JOB.id, RunRequest(**options))
    assert result.state == "succeeded"
    return result.counts


async def _away(world: World) -> dict[str, tuple[str, int]]:
    """Per person who got a mail, which text and of how many days."""
    rows = await world.pool.fetch(
        "SELECT user_id, facts FROM service.delivery_with_state WHERE channel = 'email' ORDER BY id"
    )
    return {row["user_id"]: (row["facts"]["variant"], row["facts"]["days_away"]) for row in rows}


async def test_being_there_is_a_session_a_goal_or_a_login_that_was_not_the_signup(world: World) -> None:
    born = datetime(2026, 3, 16, 10, tzinfo=UTC)
    later = datetime(2026, 3, 17, 10, tzinfo=UTC)
    long_ago = datetime(2025, 1, 1, tzinfo=UTC)
    await world.live(
        user("signup", created_at=born, last_login_at=born + timedelta(seconds=60)),
        user("login", created_at=born, last_login_at=born + timedelta(seconds=61)),
        user("back", created_at=born, last_login_at=later),
        user("focus", created_at=long_ago),
        user("goal", created_at=long_ago),
        user("gone", created_at=long_ago),
        goal("g", "goal", updated_at=later),
    )
    await _timed(world, session("s", "focus", "2026-03-17T09:00Z"))

    await _run(world)

    assert await _away(world) == {
        "signup": ("never_began", 4),
        "login": ("step1", 4),
        "back": ("step1", 3),
        "focus": ("step1", 3),
        "goal": ("step1", 3),
    }
    assert await world.reasons() == {}


async def test_the_start_the_end_and_the_last_edit_of_a_session_each_count_as_of_the_slot(
    world: World,
) -> None:
    edit = {"updated_at": datetime(2026, 3, 20, 9, 1, tzinfo=UTC)}
    await world.live(*(user(name) for name in ("started", "ended", "edited", "afterwards", "returned")))
    await _timed(
        world,
        session("1", "started", "2026-03-17T09:00Z", ended_at=None, updated_at=None),
        session("2", "ended", "2026-03-16T23:30Z", ended_at=datetime(2026, 3, 17, 1, tzinfo=UTC)),
        session("3", "edited", "2026-03-10T09:00Z", updated_at=datetime(2026, 3, 17, 9, tzinfo=UTC)),
        session("4", "afterwards", "2026-03-17T09:00Z", **edit),
        session("5", "returned", "2026-03-10T09:00Z"),
        session("6", "returned", "2026-03-20T08:30Z", status="running", ended_at=None, **edit),
    )

    await _run(world, "2026-03-20T10:00:00Z", as_of=datetime.fromisoformat(TEN))

    at_three = dict.fromkeys(("started", "ended", "edited", "afterwards"), ("step1", 3))
    assert await _away(world) == at_three


async def test_the_last_date_is_the_one_on_the_calendar_of_where_somebody_was(world: World) -> None:
    await world.at("2026-03-01T00:00:00Z")
    await world.live(user(zone="Asia/Tokyo"), user("bob", "Asia/Tokyo"))
    late = "2026-03-16T15:30Z"  # the 17th in Tokyo, the 16th in Berlin
    await _timed(world, session("s", "ann", late), session("t", "bob", late))
    await world.at("2026-03-18T00:00:00Z")
    await world.live(user(zone="Europe/Berlin"))

    await _run(world)

    assert await _away(world) == {"ann": ("step1", 3), "bob": ("step1", 3)}
    rows = await world.pool.fetch("SELECT DISTINCT dedupe_key FROM service.delivery_with_state ORDER BY 1")
    assert [row["dedupe_key"] for row in rows] == [
        f"inactiveUsers:{name}:2026-03-17:1" for name in ("ann", "bob")
    ]


async def test_an_absence_goes_through_its_steps_and_a_return_begins_another(world: World) -> None:
    await world.live(user())
    await _timed(world, session("s", "ann", "2026-03-01T09:00Z"))
    said = []
    for day in range(2, 32):
        if day == 17:
            await _timed(world, session("t", "ann", "2026-03-17T08:00Z"))
        counts = await _run(world, f"2026-03-{day:02}T09:00:00Z")
        if counts.get("planned"):
            said.append((day, (await _away(world))["ann"]))

    assert said == [
        (4, ("step1", 3)),
        (8, ("step2", 7)),
        (15, ("step3", 14)),
        (20, ("step1", 3)),
        (24, ("step2", 7)),
        (31, ("step3", 14)),
    ]


async def test_three_absences_in_vain_are_followed_by_silence_and_an_answer_ends_the_row(
    world: World,
) -> None:
    people = ("deaf", "answered")
    await world.live(*map(user, people))
    mails: dict[str, list[int]] = {name: [] for name in people}
    for month in range(1, 5):
        await _timed(
            world, *(session(f"{name}{month}", name, f"2026-{month:02}-01T09:00Z") for name in people)
        )
        await _run(world, f"2026-{month:02}-04T09:00:00Z")
        if month == 2:
            await _timed(world, session("back", "answered", "2026-02-08T09:00Z"))
        for name in people:
            found = await world.pool.fetchval(
                "SELECT count(*) FROM service.delivery_with_state WHERE user_id = $1 AND channel = 'email'",
                name,
            )
            mails[name].append(found)

    assert mails == {"deaf": [1, 2, 3, 3], "answered": [1, 2, 3, 4]}
    assert await world.reasons() == {"deaf": "paused_until"}


async def test_a_step_that_did_not_go_out_is_tried_again_while_it_is_due(world: World) -> None:
    await world.live(user())
    await _timed(world, session("s", "ann", "2026-03-17T09:00Z"))
    await world.pool.execute(
        "INSERT INTO service.recipient_setting (user_id, paused_until) VALUES ('ann', '2026-03-22T00:00:00Z')"
    )

    counts = [await _run(world, f"2026-03-{day}T09:00:00Z") for day in (20, 21, 22, 23)]

    assert counts == [
        {"paused_until": 1},
        {"paused_until": 1},
        {"planned": 1, "in_app": 1},
        {"already_sent": 1},
    ]


async def test_it_comes_at_the_hour_that_somebody_chose(world: World) -> None:
    world.jobs = {JOB.id: JOB}
    await world.at("2026-03-20T05:00:00Z")
    await world.live(*(user(name, last_login_at=datetime(2026, 3, 17, 12, tzinfo=UTC)) for name in "ab"))
    await world.pool.execute(
        "INSERT INTO service.recipient_setting (user_id, hours) VALUES ('b', '{\"inactive\": 7}')"
    )
    ledger, runner = await world.ledger(), await world.runner()
    timing = timing_of(JOB)
    trigger = TriggerLoop(
        ledger, world.jobs, {JOB.id: timing}, ZoneInfo("UTC"), asyncio.Event(), use_crons=False
    )

    mailed = {}
    for hour in (6, 8, 9):
        await world.at(f"2026-03-20T{hour:02}:00:00Z")
        await trigger.sweep_once()
        while await runner.run_one():
            pass
        mailed[hour] = set(await _away(world))

    assert mailed == {6: {"b"}, 8: {"b"}, 9: {"a", "b"}}
