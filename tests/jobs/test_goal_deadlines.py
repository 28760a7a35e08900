"""goalDeadlines decided: which stages, in which order, in whose day, and what is left of it later."""

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from email import message_from_bytes, policy
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.dashboard.dashboard_state import DashboardState
from service.dashboard.model import User
from service.engine.run import RunRequest, Tick, Trigger
from service.jobs import goal_deadlines
from service.jobs.goal_deadlines import JOB, DueGoal, Facts, decide
from service.messages.decision import Decision, Message, Skip
from service.messages.reason import Reason
from service.messages.reminder import Revalidated
from tests.given import GOALS, Scripted, World, goal, user
from tests.kinds import DEADLINES

TODAY = date(2026, 3, 10)
STAGES = ("D7", "D1", "D0", "OV")


def tick(as_of: str = "2026-03-10T08:00:00Z", *, force: bool = False, clock_zone: str | None = None) -> Tick:
    """Nine o'clock in Berlin on a Tuesday in March."""
    at = datetime.fromisoformat(as_of)
    return Tick(GOALS, 1, at, None, Trigger.CRON, force=force, clock_zone=clock_zone)


def due(days: int, id: str = "g", **changes: Any) -> DueGoal:
    """An open goal, so many days before or behind its date."""
    return DueGoal(goal(id, **changes), TODAY + timedelta(days=days))


def key(one: DueGoal, stage: str) -> str:
    return f"goalDeadlines:{one.goal.id}:{one.due}:{stage}"


def told(*goals: DueGoal, used: Mapping[str, bool] | None = None, on: Tick | None = None) -> Decision:
    """What ann is told."""
    return decide(Facts(user(), goals, used or {}), on or tick())


def message(*goals: DueGoal, used: Mapping[str, bool] | None = None, on: Tick | None = None) -> Message:
    found = told(*goals, used=used, on=on)
    assert isinstance(found, Message)
    return found


def stages(decision: Decision) -> list[str]:
    """The stages that a decision announces, without their goals."""
    return [] if isinstance(decision, Skip) else [stage.rpartition(":")[2] for stage in decision.stages]


def sections(facts: Mapping[str, Any]) -> dict[str, list[str]]:
    """Section by section, the ids of its goals."""
    return {section["key"]: [shown["id"] for shown in section["goals"]] for section in facts["sections"]}


# ── Stages ──────────────────────────────────────────────────────────────────────────────────────────────────

_FIRST_TIME = {7: ["D7"], 1: ["D1"], 0: ["D0"]} | {days: ["OV"] for days in range(-30, 0)}


@pytest.mark.parametrize("days", range(-31, 9))
def test_each_distance_has_its_stage_or_none(days: int) -> None:
    decision = told(due(days))

    assert stages(decision) == _FIRST_TIME.get(days, [])
    assert days in _FIRST_TIME or (isinstance(decision, Skip) and decision.reason is Reason.NOT_DUE)


@pytest.mark.parametrize("days", range(-31, 9))
def test_a_stage_is_announced_once_whatever_became_of_its_message(days: int) -> None:
    one = due(days)
    for stands in (True, False):
        decision = told(one, used={key(one, stage): stands for stage in _FIRST_TIME.get(days, ["D7"])})

        assert isinstance(decision, Skip)
        assert decision.reason is Reason.ALREADY_SENT


@pytest.mark.parametrize(
    ("used", "announced"),
    [
        ({}, ["D0"]),
        ({"D1": False}, ["D0"]),
        ({"D1": True}, []),
        ({"D7": True}, ["D0"]),
        ({"D7": True, "D1": False}, ["D0"]),
        ({"D0": False}, []),
    ],
)
def test_the_day_itself_is_announced_only_to_whom_the_eve_was_not(
    used: dict[str, bool], announced: list[str]
) -> None:
    one = due(0)

    decision = told(one, used={key(one, stage): stands for stage, stands in used.items()})

    assert stages(decision) == announced


def test_an_eve_that_another_goal_had_does_not_count() -> None:
    one, other = due(0, "one"), due(0, "other")

    assert message(one, other, used={key(other, "D1"): True}).stages == (key(one, "D0"),)


@pytest.mark.parametrize("earlier", [["D7"], ["D1"], ["D0"], ["D7", "D1", "D0"]])
def test_overdue_is_announced_although_everything_before_was(earlier: list[str]) -> None:
    one = due(-1)

    assert stages(told(one, used={key(one, stage): True for stage in earlier})) == ["OV"]


def test_moving_a_deadline_re_arms_every_stage_and_moving_it_back_none() -> None:
    before, moved = due(1), due(7)
    used = {key(before, "D1"): True}

    assert stages(told(moved, used=used)) == ["D7"]
    assert stages(told(due(0), used=used)) == ["D0"]
    assert stages(told(before, used=used | {key(moved, "D7"): True})) == []


def test_force_repeats_every_stage_and_invents_none() -> None:
    goals = [due(days, f"g{days}") for days in (7, 1, 0, -5, 3, -31, 8)]
    used = {key(one, stage): True for one in goals for stage in STAGES}

    assert stages(told(*goals, used=used)) == []
    assert stages(told(*goals, used=used, on=tick(force=True))) == ["D7", "D1", "D0", "OV"]


def test_nobody_is_told_of_nothing() -> None:
    decision = told()

    assert isinstance(decision, Skip)
    assert (decision.user_id, decision.reason) == ("ann", Reason.NOT_DUE)


# ── The digest ──────────────────────────────────────────────────────────────────────────────────────────────


def test_sections_come_in_the_order_of_what_can_still_be_done() -> None:
    goals = [due(4, "also"), due(7, "week"), due(-3, "overdue"), due(0, "today"), due(1, "tomorrow")]

    facts = message(*goals).facts

    assert list(sections(facts).items()) == [
        ("tomorrow", ["tomorrow"]),
        ("today", ["today"]),
        ("overdue", ["overdue"]),
        ("week", ["week"]),
        ("also", ["also"]),
    ]


def test_within_a_section_the_date_goes_before_the_priority_and_that_before_the_title() -> None:
    ordered = [
        due(-9, "1", priority="low", title="z"),
        due(-2, "2", priority="urgent", title="b"),
        due(-2, "3", priority="high", title="a"),
        due(-2, "4", priority="medium", title="a"),
        due(-2, "5", priority="low", title="a"),
        due(-2, "6", priority="whenever", title="a"),
        due(-2, "7", priority="whenever", title="b"),
    ]
    also = [DueGoal(one.goal, one.due + timedelta(days=12)) for one in ordered[1:]]

    assert sections(message(*reversed(ordered)).facts) == {"overdue": list("1234567")}
    assert sections(message(due(1, "x"), *reversed(also)).facts)["also"] == list("234567")


@pytest.mark.parametrize(
    ("others", "shown", "more"), [(0, 0, 0), (9, 9, 0), (10, 10, 0), (11, 10, 1), (14, 10, 4)]
)
def test_at_most_ten_others_are_shown_and_the_rest_counted(others: int, shown: int, more: int) -> None:
    facts = message(
        due(1, "x"), *(due(3, f"{n:02d}", title=f"{n:02d}") for n in reversed(range(others)))
    ).facts

    assert sections(facts).get("also", []) == [f"{n:02d}" for n in range(shown)]
    assert facts["more"] == more


def test_of_the_others_only_those_still_ahead_are_mentioned() -> None:
    late, today, done_for_now = due(-4, "late"), due(0, "today"), due(7, "week")
    used = {key(late, "OV"): True, key(today, "D1"): True, key(done_for_now, "D7"): True}

    facts = message(due(1, "x"), late, today, done_for_now, used=used).facts

    assert sections(facts) == {"tomorrow": ["x"], "also": ["today", "week"]}


@pytest.mark.parametrize(
    ("days", "count", "tomorrow"),
    [([1], 1, 1), ([0], 1, 0), ([7, 3], 2, 0), ([1, 1, 0, 7], 4, 2), ([1, *[3] * 12], 13, 1)],
)
def test_all_goals_are_counted_and_those_of_tomorrow(days: list[int], count: int, tomorrow: int) -> None:
    facts = message(*(due(d, f"g{n}") for n, d in enumerate(days))).facts

    assert (facts["count"], facts["tomorrow"]) == (count, tomorrow)


def test_a_goal_is_shown_with_its_distance_its_progress_and_its_page() -> None:
    (section,) = message(due(1, "g1", title="long " * 40)).facts["sections"]
    (shown,) = section["goals"]

    assert len(shown.pop("title")) <= 100
    assert shown == {
        "id": "g1",
        "due": "2026-03-11",
        "days": 1,
        "percent": 30,
        "current": 3.0,
        "target": 10.0,
        "unit": "books",
        "url_path": "/goals/g1",
    }


@pytest.mark.parametrize(
    ("changes", "percent"),
    [
        ({"progress": None}, None),
        ({"progress": 12.4}, 12),
        ({"progress": 250.0}, 100),
        ({"progress": -5.0}, 0),
    ],
)
def test_progress_is_a_percentage_or_unknown(changes: dict[str, Any], percent: int | None) -> None:
    (section,) = message(due(1, **changes)).facts["sections"]

    assert [shown["percent"] for shown in section["goals"]] == [percent]


@pytest.mark.parametrize(
    ("days", "section", "priority"),
    [
        ([7, 0, -1, 1], "tomorrow", "high"),
        ([7, -1, 0], "today", "high"),
        ([7, -1], "overdue", "high"),
        ([7], "week", "medium"),
    ],
)
def test_the_notification_speaks_of_the_most_pressing_goal(
    days: list[int], section: str, priority: str
) -> None:
    note = message(*(due(d, f"g{n}") for n, d in enumerate(days))).in_app

    rest = len(days) - 1
    assert note["facts"] == {"section": section, "title": f"Goal g{rest}", "others": rest}
    assert note["priority"] == priority
    assert note["url"] == ("/goals" if rest else f"/goals/g{rest}")


# ── Keys, days and zones ────────────────────────────────────────────────────────────────────────────────────


def test_the_message_is_one_for_the_day_and_takes_the_stages_of_its_goals_with_it() -> None:
    found = message(due(1, "a"), due(7, "b"), due(3, "c"))

    assert found.dedupe_key == "goalDeadlines:ann:2026-03-10"
    assert found.stages == ("goalDeadlines:a:2026-03-11:D1", "goalDeadlines:b:2026-03-17:D7")
    assert (found.user_id, found.kind, found.zone) == ("ann", DEADLINES, "Europe/Berlin")
    assert (found.local_date, found.facts["local_date"]) == (TODAY, "2026-03-10")
    assert found.facts == json.loads(json.dumps(found.facts))


@pytest.mark.parametrize(
    ("zone", "as_of", "until"),
    [
        ("Europe/Berlin", "2026-03-28T08:00:00Z", "2026-03-28T19:00:00Z"),
        ("Europe/Berlin", "2026-03-29T07:00:00Z", "2026-03-29T18:00:00Z"),
        ("Europe/Berlin", "2026-03-28T23:30:00Z", "2026-03-29T18:00:00Z"),
        ("Europe/Berlin", "2026-10-25T08:00:00Z", "2026-10-25T19:00:00Z"),
        ("Europe/Berlin", "2026-10-24T22:30:00Z", "2026-10-25T19:00:00Z"),
        ("America/New_York", "2026-03-08T13:00:00Z", "2026-03-09T00:00:00Z"),
        ("America/New_York", "2026-11-01T14:00:00Z", "2026-11-02T01:00:00Z"),
        ("Australia/Lord_Howe", "2026-10-03T22:00:00Z", "2026-10-04T09:00:00Z"),
    ],
)
def test_it_is_useful_until_eight_in_the_evening_even_when_the_clocks_change(
    zone: str, as_of: str, until: str
) -> None:
    one = user(zone=zone)
    at = tick(as_of)
    tomorrow = at.local_date(zone) + timedelta(days=1)

    found = decide(Facts(one, (DueGoal(goal("g"), tomorrow),), {}), at)

    assert isinstance(found, Message)
    assert found.expires_at == datetime.fromisoformat(until)
    assert found.expires_at.utcoffset() == timedelta(0)


@pytest.mark.parametrize(
    ("zone", "as_of", "today"),
    [
        ("Pacific/Kiritimati", "2026-03-09T19:00:00Z", date(2026, 3, 10)),
        ("America/Los_Angeles", "2026-03-10T16:00:00Z", date(2026, 3, 10)),
        ("America/Los_Angeles", "2026-03-11T06:59:59Z", date(2026, 3, 10)),
        ("Asia/Kathmandu", "2026-03-09T18:15:00Z", date(2026, 3, 10)),
    ],
)
def test_today_is_the_date_on_the_users_own_calendar(zone: str, as_of: str, today: date) -> None:
    found = decide(Facts(user(zone=zone), (due(1),), {}), tick(as_of))

    assert isinstance(found, Message)
    assert (found.local_date, stages(found)) == (today, ["D1"])


def test_on_one_clock_for_everybody_the_day_and_its_end_are_the_services() -> None:
    far: User = user("kai", "Pacific/Kiritimati")
    facts = Facts(far, (due(1),), {})
    own, common = decide(facts, tick()), decide(facts, tick(clock_zone="America/New_York"))

    assert isinstance(own, Message)
    assert isinstance(common, Message)
    assert (own.local_date, own.zone) == (TODAY, "Pacific/Kiritimati")
    assert own.expires_at == datetime(2026, 3, 10, 6, tzinfo=UTC)
    assert (common.local_date, common.zone) == (TODAY, "America/New_York")
    assert common.expires_at == datetime(2026, 3, 11, 0, tzinfo=UTC)


def test_on_one_clock_two_users_a_day_apart_have_the_same_today() -> None:
    at = tick("2026-03-10T23:30:00Z", clock_zone="UTC")
    found = [
        decide(Facts(user(zone=zone), (due(1),), {}), at)
        for zone in ("Pacific/Kiritimati", "America/Los_Angeles", "UTC")
    ]

    assert [(stages(one), isinstance(one, Message) and one.local_date) for one in found] == [
        (["D1"], TODAY)
    ] * 3


# ── Whatever the facts ──────────────────────────────────────────────────────────────────────────────────────

_GOAL = st.tuples(
    st.integers(-35, 12),
    st.sampled_from(["urgent", "high", "medium", "low", "", "HIGH"]),
    st.text(max_size=3),
    st.dictionaries(st.sampled_from(STAGES), st.booleans()),
)


def _fresh(days: int, used: Mapping[str, bool]) -> str | None:
    """The stage to announce, said once more and plainly."""
    if days == 7 and "D7" not in used:
        return "D7"
    if days == 1 and "D1" not in used:
        return "D1"
    if days == 0 and "D0" not in used and used.get("D1") is not True:
        return "D0"
    if days in range(-30, 0) and "OV" not in used:
        return "OV"
    return None


def _ids(groups: Iterable[list[str]]) -> list[str]:
    return [id_ for group in groups for id_ in group]


@settings(deadline=None)
@given(st.lists(_GOAL, max_size=25))
def test_every_goal_with_a_fresh_stage_is_told_exactly_once(
    given_goals: list[tuple[int, str, str, dict[str, bool]]],
) -> None:
    goals: list[DueGoal] = []
    used: dict[str, bool] = {}
    expected: list[tuple[DueGoal, str]] = []
    for n, (days, priority, title, before) in enumerate(given_goals):
        one = due(days, f"g{n}", priority=priority, title=title)
        goals.append(one)
        used |= {key(one, stage): stands for stage, stands in before.items()}
        if stage := _fresh(days, before):
            expected.append((one, stage))

    found = told(*goals, used=used)

    if not expected:
        assert isinstance(found, Skip)
        return
    assert isinstance(found, Message)
    assert sorted(found.stages) == sorted(key(one, stage) for one, stage in expected)
    groups = sections(found.facts)
    also = groups.pop("also", [])
    assert sorted(_ids(groups.values())) == sorted(one.goal.id for one, _ in expected)
    ahead = {one.goal.id for one in goals if one.due >= TODAY} - {one.goal.id for one, _ in expected}
    assert len(also) == len(set(also)) == min(len(ahead), 10)
    assert set(also) <= ahead
    assert len(also) + found.facts["more"] == len(ahead)


# ── Later, before it is sent ────────────────────────────────────────────────────────────────────────────────


def revalidate(facts: dict[str, Any], open_goals: Iterable[str], **changes: Any) -> Any:
    """What is left when of its goals only these are still open; ``changes``: of each of them."""
    dates = {one["id"]: one["due"] for section in facts["sections"] for one in section["goals"]}
    current = {id_: goal(id_, due=dates.get(id_), **changes) for id_ in open_goals}
    return goal_deadlines.revalidate(facts, DashboardState({}, current))


def test_what_still_holds_is_sent_as_it_was() -> None:
    facts = message(due(1, "a"), due(7, "b"), due(3, "c")).facts

    assert revalidate(facts, "abc") == facts


def test_goals_that_were_closed_are_taken_out_and_no_longer_counted() -> None:
    facts = message(due(1, "a"), due(1, "b"), due(7, "c"), due(3, "d")).facts

    left, alone = revalidate(facts, "bcd"), revalidate(facts, "b")

    assert left is not None
    assert alone is not None
    assert sections(left) == {"tomorrow": ["b"], "week": ["c"], "also": ["d"]}
    assert (left["count"], left["tomorrow"], left["goal_ids"]) == (3, 1, ["b", "c", "d"])
    assert sections(alone) == {"tomorrow": ["b"]}
    assert (alone["count"], alone["tomorrow"], alone["local_date"]) == (1, 1, "2026-03-10")


def test_the_words_are_those_of_now() -> None:
    facts = message(due(1, "a"), due(3, "b")).facts

    now = revalidate(facts, "ab", title="Renamed", current_value=5.0, progress=50.0)

    told = [(one["title"], one["percent"]) for section in now["sections"] for one in section["goals"]]
    assert told == [("Renamed", 50)] * 2
    assert {**now, "sections": None} == {**facts, "sections": None}


def test_a_goal_that_is_reached_meanwhile_needs_no_word() -> None:
    facts = message(due(1, "a")).facts

    assert revalidate(facts, "a", current_value=10.0) is None


@pytest.mark.parametrize("listed", [1, 3])
def test_a_date_that_was_moved_is_decided_again(listed: int) -> None:
    """Also where the goal only stands under the others."""
    facts = message(due(1, "a"), due(listed, "b")).facts
    moved = {"a": goal("a", due="2026-03-11"), "b": goal("b", due="2026-03-15")}

    found = goal_deadlines.revalidate(facts, DashboardState({}, moved))

    assert found is Revalidated.DECIDE_AGAIN


@pytest.mark.parametrize("open_goals", ["", "d", "x"])
def test_without_a_goal_that_gave_the_occasion_nothing_is_sent(open_goals: str) -> None:
    facts = message(due(1, "a"), due(-2, "b"), due(3, "d")).facts

    assert revalidate(facts, open_goals) is None


def test_looking_again_does_not_touch_what_was_decided() -> None:
    facts = message(due(1, "a"), due(1, "b")).facts
    before = json.dumps(facts)

    revalidate(facts, "a")

    assert json.dumps(facts) == before


@settings(deadline=None)
@given(st.lists(st.integers(-30, 7), min_size=1, max_size=20), st.data())
def test_only_open_goals_are_left_and_none_of_them_is_lost(days: list[int], data: st.DataObject) -> None:
    found = told(*(due(d, f"g{n}") for n, d in enumerate(days)))
    open_goals = data.draw(st.frozensets(st.sampled_from([f"g{n}" for n in range(len(days))])))
    if isinstance(found, Skip):
        return
    before = sections(found.facts)
    occasion = set(_ids(ids for name, ids in before.items() if name != "also")) & open_goals

    left = revalidate(found.facts, open_goals)

    assert (left is not None) == bool(occasion)
    if left is not None:
        kept = {name: [id_ for id_ in ids if id_ in open_goals] for name, ids in before.items()}
        assert sections(left) == {name: ids for name, ids in kept.items() if ids}


# ── From the database ───────────────────────────────────────────────────────────────────────────────────────


async def _announced(world: World) -> dict[str, dict[str, str]]:
    """Per person, the goals in the mail and their dates there."""
    rows = await world.pool.fetch(
        "SELECT user_id, facts FROM service.delivery_with_state WHERE channel = 'email'"
    )
    return {
        row["user_id"]: {
            shown["id"]: shown["due"] for part in row["facts"]["sections"] for shown in part["goals"]
        }
        for row in rows
    }


async def _run(world: World, at: str, **options: Any) -> dict[str, int]:
    await world.at(at)
    result = await (await world.runner()).run_manual(JOB.id, RunRequest(**options))
    assert result.state == "succeeded"
    return result.counts


async def test_a_goal_that_reached_its_target_gets_nothing_though_it_is_still_active(world: World) -> None:
    people = [user(name) for name in ("below", "exactly", "beyond", "endless", "both")]
    numbers = {"below": (10.0, 9.99), "exactly": (10.0, 10.0), "beyond": (10.0, 11.0), "endless": (0.0, 5.0)}
    await world.live(
        *people,
        *(
            goal(f"g-{name}", name, "2026-03-11", target_value=target, current_value=current)
            for name, (target, current) in numbers.items()
        ),
        goal("reached", "both", "2026-03-11", current_value=10.0),
        goal("open", "both", "2026-03-11", target_value=None),
    )

    await _run(world, "2026-03-10T08:00:00Z")

    assert await _announced(world) == {
        "below": {"g-below": "2026-03-11"},
        "endless": {"g-endless": "2026-03-11"},
        "both": {"open": "2026-03-11"},
    }
    assert await world.reasons() == {}


async def test_a_floating_date_is_the_same_date_in_kiritimati_and_in_los_angeles(world: World) -> None:
    zones = {"kai": "Pacific/Kiritimati", "lee": "America/Los_Angeles"}
    await world.live(
        *(user(name, zone) for name, zone in zones.items()),
        *(goal(f"g-{name}", name, "2026-03-11") for name in zones),
    )

    nine = {"kai": "2026-03-09T19:00:00Z", "lee": "2026-03-10T16:00:00Z"}
    counts = [await _run(world, nine[name], user_id=name) for name in zones]

    assert counts == [{"planned": 1, "in_app": 1}] * 2
    assert await _announced(world) == {name: {f"g-{name}": "2026-03-11"} for name in zones}
    dates = await world.pool.fetch("SELECT DISTINCT local_date FROM service.delivery_with_state")
    assert [row["local_date"] for row in dates] == [TODAY]


async def test_an_instant_is_the_date_that_each_users_calendar_shows(world: World) -> None:
    zones = {"kai": "Pacific/Kiritimati", "lee": "America/Los_Angeles"}
    instant = datetime(2026, 3, 11, 5, tzinfo=UTC)
    await world.live(
        *(user(name, zone) for name, zone in zones.items()),
        *(goal(f"g-{name}", name, due_at=instant) for name in zones),
    )

    await _run(world, "2026-03-09T19:00:00Z")

    assert await _announced(world) == {"kai": {"g-kai": "2026-03-11"}, "lee": {"g-lee": "2026-03-10"}}


@pytest.mark.parametrize(
    ("zone", "as_of"),
    [
        ("Pacific/Kiritimati", "2026-03-09T10:00:00Z"),
        ("Pacific/Kiritimati", "2026-03-09T19:00:00Z"),
        ("Europe/Berlin", "2026-03-10T08:00:00Z"),
        ("America/New_York", "2026-03-10T13:00:00Z"),
        ("America/Los_Angeles", "2026-03-10T16:00:00Z"),
        ("America/Los_Angeles", "2026-03-11T06:59:00Z"),
    ],
)
@pytest.mark.parametrize("minute", ["floating", "00:00", "23:59"])
async def test_the_first_and_the_last_day_of_reach_are_found_in_every_zone(
    world: World, zone: str, as_of: str, minute: str
) -> None:
    goals = []
    for days in (-31, -30, 7, 8):
        day = TODAY + timedelta(days=days)
        if minute == "floating":
            goals.append(goal(str(days), due=day.isoformat()))
        else:
            at = datetime.combine(day, time.fromisoformat(minute), ZoneInfo(zone))
            goals.append(goal(str(days), due_at=at))
    await world.live(user(zone=zone), *goals)

    await _run(world, as_of)

    assert set((await _announced(world))["ann"]) == {"-30", "7"}


async def test_a_stage_is_remembered_with_what_became_of_its_message(world: World) -> None:
    await world.live(
        user("had"), user("missed"), goal("a", "had", "2026-03-11"), goal("b", "missed", "2026-03-11")
    )
    await _run(world, "2026-03-10T08:00:00Z")
    await world.pool.execute(
        "UPDATE service.delivery_state AS s SET claim = 0,"
        " state = CASE d.user_id WHEN 'had' THEN 'sent' ELSE 'expired' END"
        " FROM service.delivery AS d WHERE d.id = s.id"
    )

    counts = await _run(world, "2026-03-11T08:00:00Z")

    assert counts == {"planned": 1, "in_app": 1, "already_sent": 1}
    rows = await world.pool.fetch("SELECT stage_key FROM service.delivery_stage ORDER BY stage_key")
    assert {row["stage_key"] for row in rows} == {
        "goalDeadlines:a:2026-03-11:D1",
        "goalDeadlines:b:2026-03-11:D1",
        "goalDeadlines:b:2026-03-11:D0",
    }


@pytest.mark.parametrize(
    ("days", "subject", "headline"),
    [
        ([1], "Due tomorrow: Goal g0", "Due tomorrow"),
        ([0], "Due today: Goal g0", "Due today"),
        ([-1], "Overdue: Goal g0", "Overdue"),
        ([7], "Due in one week: Goal g0", "Due in one week"),
        ([1, 1], "2 goals due soon, 2 tomorrow", "2 due tomorrow"),
        ([1, 0, 7], "3 goals due soon, 1 tomorrow", "1 due tomorrow, 1 due today"),
        ([7, 3], "2 goals due soon", "1 due in one week, 1 due soon"),
        ([0, -1], "2 goals due soon", "1 due today, 1 overdue"),
        ([1, *[4] * 14], "15 goals due soon, 1 tomorrow", "1 due tomorrow, 14 due soon"),
    ],
)
async def test_the_subject_names_one_goal_or_counts_several_and_the_headline_says_when(
    world: World, days: list[int], subject: str, headline: str
) -> None:
    goals = (goal(f"g{n}", due=(TODAY + timedelta(days=d)).isoformat()) for n, d in enumerate(days))
    await world.live(user(), *goals)
    await _run(world, "2026-03-10T08:00:00Z")
    transport = Scripted()

    await world.delivery(transport).run_once()

    (envelope,) = transport.received
    mail = message_from_bytes(envelope.content, policy=policy.default)
    assert mail["Subject"] == subject
    text = mail.get_body(("plain",))
    assert text is not None
    assert headline in text.get_content().splitlines()


async def test_what_finds_no_room_in_the_mail_is_counted_there(world: World) -> None:
    await world.live(
        user(), goal("x", due="2026-03-11"), *(goal(f"g{n:02d}", due="2026-03-13") for n in range(14))
    )
    await _run(world, "2026-03-10T08:00:00Z")
    transport = Scripted()

    await world.delivery(transport).run_once()

    (envelope,) = transport.received
    assert b"Subject: 15 goals due soon, 1 tomorrow\r\n" in envelope.content
    assert b"+4 more" in envelope.content
    assert b"Goal g09" in envelope.content
    assert b"Goal g10" not in envelope.content
