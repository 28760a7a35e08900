"""dailyCheck decided: a streak at risk, a small step, a nudge, or nothing; and what the database tells it."""

import asyncio
import json
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.dashboard import replica
from service.dashboard.dashboard_state import DashboardState
from service.dashboard.model import TimerSession
from service.engine.run import JobRules, RunRequest, Tick, Trigger
from service.engine.trigger import TriggerLoop, timing_of
from service.jobs import daily_check
from service.jobs.daily_check import JOB, Facts, decide
from service.messages.decision import Decision, Message, Skip
from service.messages.kind import Channel
from service.messages.reason import Reason
from tests.given import Scripted, World, goal, user
from tests.kinds import DAILY

TODAY = date(2026, 3, 10)
SIX = "2026-03-10T17:00:00Z"
BOTH, NOTE = {Channel.EMAIL, Channel.IN_APP}, {Channel.IN_APP}


def tick(as_of: str = SIX, **changes: Any) -> Tick:
    """Six o'clock in the evening in Berlin, on a Tuesday in March."""
    return Tick(JOB.id, 1, datetime.fromisoformat(as_of), None, Trigger.CRON, **changes)


def ago(*numbers: int) -> frozenset[date]:
    """So many days before today."""
    return frozenset(TODAY - timedelta(days=n) for n in numbers)


def facts(**changes: Any) -> Facts:
    """Ann, who logged in yesterday; whatever she completed she also did."""
    values: dict[str, Any] = {
        "user": user(),
        "away_since": TODAY - timedelta(days=1),
        "active_dates": frozenset(),
        "recent_days": changes.get("active_dates", frozenset()),
        "in_session": False,
        "moved": frozenset(),
        "gentle_on": None,
        "steps": (),
        "goals": (),
    }
    return Facts(**{**values, **changes})


def told(on: Tick | None = None, **changes: Any) -> Decision:
    return decide(facts(**changes), on or tick())


def message(on: Tick | None = None, **changes: Any) -> Message:
    found = told(on, **changes)
    assert isinstance(found, Message)
    return found


def reason(on: Tick | None = None, **changes: Any) -> Reason | None:
    found = told(on, **changes)
    return found.reason if isinstance(found, Skip) else None


# ── Which word ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("done", "others", "variant"),
    [
        ((1, 2, 3), (), "streak"),
        ((1, 2, 3, 4, 5, 7), (), "streak"),
        ((1, 2), (), "nudge"),
        ((2, 3, 4), (), "nudge"),
        ((1, 3, 4, 5), (), "nudge"),
        ((), (), "gentle"),
        ((3, 4, 5), (), "gentle"),
        ((3, 4, 5), (2,), "nudge"),
        ((), (0,), "nudge"),
        ((), (1,), "nudge"),
        ((), (2,), "nudge"),
        ((), (3,), "gentle"),
    ],
)
def test_a_streak_comes_first_then_three_quiet_days_then_a_nudge(
    done: tuple[int, ...], others: tuple[int, ...], variant: str
) -> None:
    found = message(active_dates=ago(*done), recent_days=ago(*done, *others))

    assert found.facts["variant"] == found.in_app["facts"]["variant"] == variant
    assert set(found.channels) == (NOTE if variant == "nudge" else BOTH)


@pytest.mark.parametrize(("moved", "streak"), [((), 1), ((2,), 3), ((1,), 3), ((3,), 1)])
def test_a_date_lost_on_a_journey_breaks_no_streak(moved: tuple[int, ...], streak: int) -> None:
    found = message(active_dates=ago(1, 3, 4), moved=ago(*moved))

    assert found.facts["streak"] == found.in_app["data"]["streak"] == streak
    assert (found.facts["variant"] == "streak") == (streak == 3)


@pytest.mark.parametrize(
    ("days_ago", "variant"), [(None, "gentle"), (1, "nudge"), (2, "nudge"), (3, "gentle"), (9, "gentle")]
)
def test_the_gentle_mail_comes_once_in_three_days(days_ago: int | None, variant: str) -> None:
    before = None if days_ago is None else TODAY - timedelta(days=days_ago)

    assert message(gentle_on=before).facts["variant"] == variant


def test_a_streak_does_not_wait_for_the_gentle_mail() -> None:
    assert (
        message(active_dates=ago(1, 2, 3), gentle_on=TODAY - timedelta(days=1)).facts["variant"] == "streak"
    )


# ── Giving way to inactiveUsers ─────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("away", "sent", "gives_way"),
    [
        (0, {}, False),
        (1, {}, False),
        (2, {}, True),  # tomorrow is the third day
        (3, {1: 0}, True),  # written today
        (3, {}, True),  # not yet, so tomorrow
        (4, {1: 1}, False),
        (5, {1: 2}, False),
        (6, {1: 3}, True),  # tomorrow is the seventh day
        (7, {1: 4, 2: 0}, True),
        (7, {2: 1}, False),
    ],
)
def test_the_gentle_mail_gives_way_to_a_step_today_or_tomorrow(
    away: int, sent: dict[int, int], gives_way: bool
) -> None:
    away_since = TODAY - timedelta(days=away)
    steps = tuple((away_since, step, TODAY - timedelta(days=on)) for step, on in sent.items())

    said = reason(away_since=TODAY - timedelta(days=away), steps=steps)

    assert said is (Reason.SUPERSEDED_BY if gives_way else None)


def test_steps_of_an_earlier_absence_do_not_answer_for_this_one() -> None:
    before = (TODAY - timedelta(days=20), 1, TODAY - timedelta(days=17))

    assert reason(away_since=TODAY - timedelta(days=2), steps=(before,)) is Reason.SUPERSEDED_BY


def test_only_the_gentle_mail_gives_way() -> None:
    step_today = ((TODAY - timedelta(days=3), 1, TODAY),)

    assert message(active_dates=ago(1, 2, 3), steps=step_today).facts["variant"] == "streak"
    assert message(recent_days=ago(2), steps=step_today).facts["variant"] == "nudge"


def test_the_steps_are_those_that_the_operator_chose() -> None:
    assert reason(tick(rules=JobRules(inactive_steps=(5,))), away_since=TODAY - timedelta(days=2)) is None
    assert (
        reason(tick(rules=JobRules(inactive_steps=(5,))), away_since=TODAY - timedelta(days=4))
        is Reason.SUPERSEDED_BY
    )


# ── To whom ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, None),
        ({"active_dates": ago(0)}, Reason.NOT_DUE),
        ({"active_dates": ago(0, 1, 2, 3)}, Reason.NOT_DUE),
        ({"recent_days": ago(0)}, None),  # a break or a session cancelled is not focus
        ({"in_session": True}, Reason.NOT_DUE),
        ({"away_since": None}, Reason.NOT_DUE),
        ({"away_since": TODAY - timedelta(days=7), "recent_days": ago(2)}, None),
        ({"away_since": TODAY - timedelta(days=8), "recent_days": ago(2)}, Reason.NOT_DUE),
        ({"away_since": TODAY - timedelta(days=60)}, Reason.NOT_DUE),
    ],
)
def test_it_is_for_people_who_were_there_lately_but_did_not_focus_today(
    changes: dict[str, Any], said: Reason | None
) -> None:
    assert reason(**changes) is said


@pytest.mark.parametrize(("seconds", "too_new"), [(0, True), (86_399, True), (86_400, False)])
def test_an_account_is_left_alone_for_a_day(seconds: int, too_new: bool) -> None:
    born = tick().as_of - timedelta(seconds=seconds)

    assert reason(user=user(created_at=born)) is (Reason.TOO_NEW if too_new else None)


@pytest.mark.parametrize("weekday", range(7))
def test_the_operator_chooses_the_days_of_the_week(weekday: int) -> None:
    chosen = tick(rules=JobRules(daily_check_days=frozenset({weekday})))

    assert reason(chosen) is (None if weekday == 1 else Reason.NOT_DUE)


def test_the_day_of_the_week_is_the_users() -> None:
    wednesday = JobRules(daily_check_days=frozenset({2}))

    assert reason(tick(rules=wednesday), user=user(zone="Pacific/Kiritimati"), away_since=TODAY) is None


def test_force_asks_no_questions() -> None:
    forced = tick(force=True, rules=JobRules(daily_check_days=frozenset()))
    against: dict[str, Any] = {
        "user": user(created_at=forced.as_of),
        "active_dates": ago(0),
        "in_session": True,
        "away_since": None,
        "gentle_on": TODAY,
        "steps": ((TODAY, 1, TODAY),),
    }

    assert isinstance(told(forced, **against), Message)
    assert message(forced, **against | {"active_dates": frozenset()}).facts["variant"] == "gentle"


dates_lately = st.frozensets(st.integers(0, 9)).map(lambda numbers: ago(*numbers))


@settings(max_examples=200)
@given(dates_lately, dates_lately, st.integers(0, 10), st.booleans())
def test_whoever_is_told_did_not_focus_today_and_a_mail_has_its_reason(
    done: frozenset[date], others: frozenset[date], away: int, in_session: bool
) -> None:
    found = told(
        active_dates=done,
        recent_days=done | others,
        away_since=TODAY - timedelta(days=away),
        in_session=in_session,
    )

    if isinstance(found, Message):
        assert TODAY not in done
        assert away <= 7
        assert not in_session
        streak = ago(1, 2, 3) <= done
        quiet = not ago(0, 1, 2) & (done | others)
        assert (Channel.EMAIL in found.channels) == (streak or quiet)
        assert (found.facts["variant"] == "streak") == streak


# ── What it says, and until when ────────────────────────────────────────────────────────────────────────────


def test_the_message_is_one_for_the_day() -> None:
    found = message(active_dates=ago(1, 2, 3))

    assert found.dedupe_key == "dailyCheck:ann:2026-03-10"
    assert (found.user_id, found.kind, found.zone) == ("ann", DAILY, "Europe/Berlin")
    assert found.local_date == TODAY
    assert found.facts == json.loads(json.dumps(found.facts))
    assert (found.facts["url_path"], found.in_app["url"]) == ("/timer", "/timer")


def test_the_goals_are_shown_by_date_then_priority_and_those_without_a_date_last() -> None:
    goals = (
        goal("someday", due=None),
        goal("later", due="2026-04-01"),
        goal("low", due="2026-03-12", priority="low"),
        goal("high", due="2026-03-12", priority="high"),
        goal("midnight", due_at=datetime(2026, 3, 10, 23, 30, tzinfo=UTC)),
    )

    shown = message(goals=goals).facts["goals"]

    assert [one["id"] for one in shown] == ["midnight", "high", "low", "later", "someday"]
    assert [one["due"] for one in shown[:2]] == ["2026-03-11", "2026-03-12"]


@pytest.mark.parametrize(
    ("zone", "as_of", "until"),
    [
        ("Europe/Berlin", SIX, "2026-03-10T20:00:00Z"),
        ("Europe/Berlin", "2026-03-29T16:00:00Z", "2026-03-29T19:00:00Z"),
        ("Europe/Berlin", "2026-10-25T17:00:00Z", "2026-10-25T20:00:00Z"),
        ("America/New_York", "2026-03-08T22:00:00Z", "2026-03-09T01:00:00Z"),
        ("Asia/Kathmandu", "2026-03-10T12:15:00Z", "2026-03-10T15:15:00Z"),
    ],
)
def test_it_is_useful_until_nine_in_the_evening(zone: str, as_of: str, until: str) -> None:
    at = tick(as_of)

    found = message(at, user=user(zone=zone), away_since=at.local_date(zone))

    assert found.expires_at == datetime.fromisoformat(until)


def test_on_one_clock_for_everybody_the_day_is_the_services() -> None:
    late = tick("2026-03-10T23:30:00Z", clock_zone="UTC")

    found = message(late, user=user("kai", "Pacific/Kiritimati"))

    assert (found.local_date, found.zone) == (TODAY, "UTC")
    assert found.expires_at == datetime(2026, 3, 10, 21, tzinfo=UTC)


def test_goals_closed_meanwhile_are_not_shown_and_the_word_remains() -> None:
    before = message(goals=(goal("a"), goal("b"))).facts

    for still_open in ({"a"}, set()):
        current = DashboardState({}, {id_: goal(id_) for id_ in still_open})
        after = daily_check.revalidate(before, current)
        assert isinstance(after, dict)
        assert {one["id"] for one in after["goals"]} == still_open
        assert {**after, "goals": None} == {**before, "goals": None}


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


async def _run(world: World, at: str = SIX, **options: Any) -> dict[str, int]:
    await world.at(at)
    result = await (await world.runner()).run_manual(JOB.id, RunRequest(**options))
    assert result.state == "succeeded"
    return result.counts


async def _variants(world: World) -> dict[str, tuple[str, int]]:
    """Per person who got a mail, what kind of word and of which streak."""
    rows = await world.pool.fetch(
        "SELECT user_id, facts FROM service.delivery_with_state WHERE channel = 'email'"
    )
    return {row["user_id"]: (row["facts"]["variant"], row["facts"]["streak"]) for row in rows}


async def test_sessions_lie_on_the_dates_of_the_zone_that_was_valid_then(world: World) -> None:
    await world.at("2026-03-01T00:00:00Z")
    await world.live(user(zone="Asia/Tokyo"))
    starts = ["2026-03-05T15:30Z", "2026-03-07T14:00Z", "2026-03-08T14:00Z", "2026-03-09T03:00Z"]
    await _timed(world, *(session(start, "ann", start) for start in starts))  # the 6th to the 9th in Tokyo
    await world.at("2026-03-09T20:00:00Z")
    await world.live(user(zone="Europe/Berlin"))

    await _run(world)

    assert await _variants(world) == {"ann": ("streak", 4)}


async def test_what_was_known_at_the_slot_keeps_no_mail_back(world: World) -> None:
    """A session of yesterday by the former zone's date, of today by this one's; and one of next year."""
    await world.at("2026-03-09T20:30:00Z")
    await world.live(user(zone="America/Los_Angeles"))
    starts = ["2026-03-07T20:00Z", "2026-03-08T20:00Z", "2026-03-09T20:00Z", "2027-03-09T20:00Z"]
    await _timed(world, *(session(start, "ann", start) for start in starts))
    await world.at("2026-03-09T22:00:00Z")
    await world.live(user(zone="Asia/Tokyo"))

    await _run(world, "2026-03-10T09:00:00Z")
    await world.delivery(Scripted()).run_once()

    assert await _variants(world) == {"ann": ("streak", 3)}
    assert await world.mails() == {"ann": ("sent", None)}


@pytest.mark.parametrize(
    ("zone", "last", "due"),
    [
        ("Europe/Berlin", "2026-03-02T23:30:00Z", True),
        ("Europe/Berlin", "2026-03-02T22:30:00Z", False),
        ("America/Los_Angeles", "2026-03-03T08:00:00Z", True),
        ("America/Los_Angeles", "2026-03-03T07:59:00Z", False),
    ],
)
async def test_seven_days_are_local_dates(world: World, zone: str, last: str, due: bool) -> None:
    await world.live(user(zone=zone, last_login_at=datetime.fromisoformat(last)))

    counts = await _run(world, user_id="ann")

    assert counts == ({"superseded_by": 1} if due else {"not_due": 1})


async def test_only_completed_focus_before_the_slot_ends_the_matter(world: World) -> None:
    people = ("done", "later", "pause", "running", "paused", "forgotten", "cancelled", "idle")
    await world.live(*map(user, people))
    open_: dict[str, Any] = {"ended_at": None, "updated_at": None}
    await _timed(
        world,
        *(session(f"yesterday-{name}", name, "2026-03-09T12:00Z") for name in people),
        session("1", "done", "2026-03-10T16:00Z"),
        session("2", "later", "2026-03-10T17:30Z"),
        session("3", "pause", "2026-03-10T16:00Z", focus=False, kind="break"),
        session("4", "running", "2026-03-10T16:55Z", status="running", **open_),
        session("5", "paused", "2026-03-10T08:00Z", status="paused", **open_),
        session("6", "forgotten", "2026-03-09T16:00Z", status="running", **open_),
        session("7", "cancelled", "2026-03-10T16:00Z", status="cancelled"),
    )

    await _run(world, "2026-03-10T18:30:00Z", as_of=datetime.fromisoformat(SIX))

    assert await world.reasons() == dict.fromkeys(("done", "running", "paused"), "not_due")
    nudged = await world.pool.fetch(
        "SELECT user_id FROM service.delivery_with_state WHERE channel = 'in_app'"
    )
    assert {row["user_id"] for row in nudged} == set(people) - {"done", "running", "paused"}
    assert await _variants(world) == {}


async def test_a_login_right_after_the_signup_is_no_activity_and_a_later_one_is(world: World) -> None:
    born = datetime(2026, 3, 9, 10, tzinfo=UTC)
    logins = {"never": None, "minute": 60, "after": 61}
    await world.live(
        *(
            user(name, created_at=born, last_login_at=born + timedelta(seconds=s) if s else None)
            for name, s in logins.items()
        ),
        user("old", last_login_at=born),
    )

    await _run(world)

    assert await _variants(world) == {"after": ("gentle", 0), "old": ("gentle", 0)}


async def test_the_gentle_mail_remembers_the_last_one_that_stood(world: World) -> None:
    await world.live(user("had"), user("lost"))
    for day in range(9, 12):
        visits = datetime(2026, 3, day, 12, tzinfo=UTC)
        await world.live(*(goal(f"g-{name}", name, updated_at=visits) for name in ("had", "lost")))
        await _run(world, f"2026-03-{day:02}T17:00:00Z")
        if day == 9:
            await world.pool.execute(
                "UPDATE service.delivery_state AS s SET claim = 0, state = 'expired'"
                " FROM service.delivery AS d WHERE d.id = s.id AND d.user_id = 'lost'"
            )

    rows = await world.pool.fetch(
        "SELECT user_id, array_agg(extract(day FROM local_date)::int ORDER BY local_date) AS days"
        " FROM service.delivery_with_state WHERE channel = 'email' GROUP BY user_id"
    )
    assert {row["user_id"]: row["days"] for row in rows} == {"had": [9], "lost": [9, 10]}


async def test_it_comes_at_the_hour_that_somebody_chose_and_never_in_a_pause(world: World) -> None:
    world.jobs = {JOB.id: JOB}
    await world.at("2026-03-10T12:00:00Z")
    await world.live(*(user(name, last_login_at=datetime(2026, 3, 10, tzinfo=UTC)) for name in "abc"))
    await world.pool.execute(
        "INSERT INTO service.recipient_setting (user_id, hours, paused_until) VALUES"
        " ('b', '{\"daily\": 20}', NULL), ('c', '{}', '2026-04-01T00:00:00Z')"
    )
    ledger, runner = await world.ledger(), await world.runner()
    timing = timing_of(JOB)
    trigger = TriggerLoop(
        ledger, world.jobs, {JOB.id: timing}, ZoneInfo("UTC"), asyncio.Event(), use_crons=False
    )

    mailed = {}
    for hour in (17, 18, 19):
        await world.at(f"2026-03-10T{hour}:00:00Z")
        await trigger.sweep_once()
        while await runner.run_one():
            pass
        mailed[hour] = set(await _variants(world))

    assert mailed == {17: {"a"}, 18: {"a"}, 19: {"a", "b"}}
    assert await world.reasons() == {"c": "paused_until"}
