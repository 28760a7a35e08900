"""Each shape of dashboard, and every kind of rubbish in it, as canonical records."""

import random
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import pytest
from bson import Decimal128, ObjectId
from bson.datetime_ms import DatetimeMS

from service.dashboard.model import Goal, QuietHours, TimerSession, User
from service.dashboard.profiles import mapping
from service.dashboard.profiles.detect import detect
from service.dashboard.profiles.mapping import parse_mapping
from service.dashboard.profiles.reader import Reader
from service.dashboard.profiles.session_tail import judge_tail
from service.dashboard.profiles.shapes import PROFILES, Collection, Profile
from service.errors import ConfigurationError
from tests.kinds import BREAKS, DAILY, DEADLINES, INACTIVE

T0 = datetime(2026, 3, 10, 9, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
MIDNIGHT = datetime(2026, 4, 1, tzinfo=UTC)

SAMPLES: dict[str, dict[str, dict[str, Any]]] = {
    "A": {
        "users": {"_id": 1, "name": "Ana Sol", "email": "a@example.org", "timezone": "Europe/Berlin",
                  "isActive": True, "lastLoginAt": T0, "createdAt": T0, "updatedAt": T0,
                  "preferences": {"notifications": {"email": True, "goalReminders": False},
                                  "pomodoro": {"workDuration": 50, "shortBreak": 10}}},
        "goals": {"_id": 2, "userId": 1, "title": "Read", "status": "active", "targetValue": 10,
                  "currentValue": 3, "deadline": T0, "createdAt": T0, "updatedAt": T0},
        "timersessions": {"_id": 3, "userId": 1, "type": "focus", "status": "completed", "createdAt": T0,
                          "startTime": T0, "endTime": T0 + 25 * MINUTE, "duration": 1_500_000,
                          "elapsedTime": 0, "updatedAt": T0},
    },
    "B": {
        "users": {"_id": 1, "firstName": "Ana", "lastName": "Sol", "email": "a@example.org",
                  "timezone": "Europe/Berlin", "isActive": True, "lastLogin": T0, "createdAt": T0,
                  "updatedAt": T0,
                  "preferences": {"notifications": {"email": True, "goals": False},
                                  "productivity": {"defaultTimerDuration": 50, "breakDuration": 10,
                                                   "workingHoursStart": "09:30"}}},
        "goals": {"_id": 2, "userId": 1, "title": "Read", "status": "in_progress", "progress": 30,
                  "targetValue": 10, "currentValue": 3, "deadlineDate": T0, "createdAt": T0, "updatedAt": T0},
        "timersessions": {"_id": 3, "userId": 1, "type": "custom", "status": "completed", "startTime": T0,
                          "endTime": T0 + 25 * MINUTE, "plannedDuration": 25, "actualDuration": 25,
                          "updatedAt": T0},
    },
    "J": {
        "users": {"_id": 1, "name": "Ana Sol", "email": "a@example.org", "timezone": "Europe/Berlin",
                  "isActive": True, "lastLoginAt": T0, "createdAt": T0, "updatedAt": T0,
                  "notificationPreferences": {"goalReminders": False, "weeklyReports": True}},
        "goals": {"_id": 2, "userId": 1, "title": "Read", "status": "active", "progress": 30,
                  "targetValue": 10, "currentValue": 3, "dueDate": T0, "createdAt": T0, "updatedAt": T0},
        "timersessions": {"_id": 3, "userId": 1, "timerType": "pomodoro", "status": "completed",
                          "startedAt": T0, "endedAt": T0 + 25 * MINUTE, "duration": 1500, "updatedAt": T0},
    },
    "PG": {
        "users": {"id": 1, "name": "Ana Sol", "email": "a@example.org", "timezone": "Europe/Berlin",
                  "locale": None, "is_active": True, "last_login_at": T0, "created_at": T0, "updated_at": T0,
                  "preferences": {"notifications": {"email": True, "goalReminders": False}}},
        "goals": {"id": 2, "user_id": 1, "title": "Read", "status": "active", "target_value": Decimal(10),
                  "current_value": Decimal(3), "due_at": T0, "due_date": None, "created_at": T0,
                  "updated_at": T0},
        "timer_sessions": {"id": 3, "user_id": 1, "kind": "focus", "status": "completed", "started_at": T0,
                           "ended_at": T0 + 25 * MINUTE, "planned_seconds": 1500, "focus_seconds": 1500,
                           "updated_at": T0},
    },
}  # fmt: skip


def reader(profile: Profile | str = "A", **options: Any) -> Reader:
    chosen = PROFILES[profile] if isinstance(profile, str) else profile
    return Reader(chosen, default_timezone="UTC", **options)


def one(
    collection: Collection, document: dict[str, Any], profile: Profile | str = "A", **options: Any
) -> Any:
    reading = reader(profile, **options).read(collection, [document])
    assert reading.records, reading.problems
    return reading.records[0]


def user(**values: Any) -> User:
    found: User = one(Collection.USERS, {**SAMPLES["A"]["users"], **values})
    return found


def goal(**values: Any) -> Goal:
    found: Goal = one(Collection.GOALS, {**SAMPLES["A"]["goals"], **values})
    return found


def session(*, included: bool = False, **values: Any) -> TimerSession:
    document = {**SAMPLES["A"]["timersessions"], **values}
    found: TimerSession = one(Collection.SESSIONS, document, tail_included=included)
    return found


@pytest.mark.parametrize("name", list(SAMPLES))
def test_each_shape_says_the_same(name: str) -> None:
    documents = SAMPLES[name]
    ana = one(Collection.USERS, documents["users"], name)
    read = one(Collection.GOALS, documents["goals"], name)
    focus = one(Collection.SESSIONS, documents[PROFILES[name].sessions.name], name)
    assert (ana.name, ana.timezone, ana.active, ana.last_login_at) == ("Ana Sol", "Europe/Berlin", True, T0)
    assert ana.preferences.kinds[DEADLINES.name] is False
    assert (read.user_id, read.open, read.progress, read.due_at) == ("1", True, 30, T0)
    assert (focus.focus, focus.status, focus.planned_seconds, focus.focus_seconds) == (
        True,
        "completed",
        1500,
        1500,
    )
    assert focus.started_at == T0


@pytest.mark.parametrize("name", list(SAMPLES))
def test_each_shape_is_recognised(name: str) -> None:
    samples = {table: [document] for table, document in SAMPLES[name].items()}
    match = detect(list(PROFILES.values()), samples)
    assert match.profile is PROFILES[name]
    assert (match.complete, match.score) == (True, 1.0)


@pytest.mark.parametrize("name", list(SAMPLES))
def test_a_shape_asked_for_by_name_must_fit_too(name: str) -> None:
    samples = {table: [document] for table, document in SAMPLES[name].items()}
    for other in set(PROFILES) - {name}:
        match = detect([PROFILES[other]], samples)
        assert match.profile is None
        assert "no schema profile fits" in match.problem


def test_documents_in_collections_of_other_names_are_an_alarm_and_emptiness_is_none() -> None:
    assert detect(list(PROFILES.values()), {"users": []}).problem == ""
    match = detect(list(PROFILES.values()), {"users": [], "people": [{"_id": 1}]})
    assert "there is people" in match.problem


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        (MIDNIGHT, (date(2026, 4, 1), None)),
        (T0, (None, T0)),
        (MIDNIGHT + timedelta(milliseconds=1), (None, MIDNIGHT + timedelta(milliseconds=1))),
        ("2026-04-01", (date(2026, 4, 1), None)),
        ("2026-04-01T00:00:00.000Z", (date(2026, 4, 1), None)),
        ("2026-04-01T00:00:00+02:00", (None, datetime(2026, 3, 31, 22, tzinfo=UTC))),
        (date(2026, 4, 1), (date(2026, 4, 1), None)),
        (1775001600000, (date(2026, 4, 1), None)),
    ],
)  # fmt: skip
def test_midnight_utc_is_a_floating_date_and_any_other_instant_an_instant(stored: Any, expected: Any) -> None:
    found = goal(deadline=stored)
    assert (found.due_date, found.due_at) == expected


def test_floating_dates_can_be_switched_off() -> None:
    midnight = datetime(2026, 4, 1, tzinfo=UTC)
    document = {**SAMPLES["A"]["goals"], "deadline": midnight}
    assert one(Collection.GOALS, document, date_only=False).due_at == midnight


def test_focus_time_is_elapsed_and_the_last_stretch_at_most_the_whole() -> None:
    resumed: dict[str, Any] = {"startTime": T0 + 30 * MINUTE, "endTime": T0 + 40 * MINUTE}
    assert session(**resumed, elapsedTime=900_000).focus_seconds == 25 * 60
    assert session(**resumed, elapsedTime=900_000, pausedAt=T0 + 15 * MINUTE).focus_seconds == 15 * 60
    assert session(**resumed, elapsedTime=900_000, included=True).focus_seconds == 15 * 60
    assert (
        session(elapsedTime=1_500_000).focus_seconds == 25 * 60
    )  # counted twice, but never beyond the whole


@pytest.mark.parametrize(
    ("minutes", "planned", "status", "credited"),
    [
        (86, 25, "abandoned", 25),  # > planned + 60 and > 2 × planned
        (85, 25, "completed", 85),
        (130, 70, "completed", 130),  # only one of the two
        (300, 200, "completed", 240),  # at most four hours
        (24 * 60, None, "completed", 240),
        (24 * 60 + 1, 25, "rejected", 0),
        (-1, 25, "rejected", 0),
    ],
)
def test_abandoned_and_impossible_sessions(
    minutes: int, planned: int | None, status: str, credited: int
) -> None:
    found = session(endTime=T0 + minutes * MINUTE, duration=planned and planned * 60_000)
    assert (found.status, found.focus_seconds) == (status, credited * 60)


def test_a_running_session_has_no_end() -> None:
    found = session(status="active", endTime=None, elapsedTime=60_000)
    assert (found.status, found.ended_at, found.focus_seconds) == ("running", None, 60)


def test_the_tail_is_decided_by_majority_and_doubt_is_reported() -> None:
    document = SAMPLES["A"]["timersessions"]
    bare, full = document, {**document, "elapsedTime": 1_500_000}
    paused = {**full, "pausedAt": T0}
    assert not judge_tail(PROFILES["A"], [bare] * 10 + [paused] * 50).included
    settled = judge_tail(PROFILES["A"], [full] * 19 + [bare])
    assert (settled.included, settled.votes, settled.ambiguous) == (True, 20, False)
    assert judge_tail(PROFILES["A"], [full] * 8 + [bare] * 2).ambiguous
    assert not judge_tail(PROFILES["A"], []).ambiguous


def test_any_block_blocks_and_silence_is_silence() -> None:
    j = {**SAMPLES["J"]["users"], "notificationPreferences": {"general": False, "dailyCheckins": True}}
    found = one(Collection.USERS, j, "J").preferences
    assert found.kinds == {INACTIVE.name: False, BREAKS.name: False, DAILY.name: True}
    assert (found.email, found.reminders) == (None, None)
    twice = parse_mapping('[users]\npref_email = ["mail.on", "mail.all"]')
    ana = {**SAMPLES["A"]["users"], "mail": {"on": True, "all": False}}
    assert one(Collection.USERS, ana, twice).preferences.email is False


def test_quiet_hours_count_only_when_enabled() -> None:
    def quiet(**values: Any) -> QuietHours | None:
        return user(preferences={"notifications": {"quietHours": values}}).preferences.quiet

    assert quiet(enabled=True, start="21:30", end="07:00") == QuietHours(time(21, 30), time(7))
    assert quiet(enabled=True) == QuietHours(time(22), time(8))
    assert quiet(enabled=False, start="21:30", end="07:00") is None
    assert quiet(enabled=True, start="late", end="07:00") is None


def test_an_invalid_zone_becomes_the_default_and_is_named() -> None:
    for zone in ("Mars/Olympus", "", None, 7, "../etc/passwd", "Europe/Berlin\0", "localtime"):
        reading = reader().read(Collection.USERS, [{**SAMPLES["A"]["users"], "timezone": zone}])
        assert (reading.records[0].timezone, reading.records[0].timezone_valid) == ("UTC", False)
        assert [problem.reason for problem in reading.problems] == ["timezone"]


def test_text_that_postgresql_refuses_is_cleaned() -> None:
    assert goal(title="a\0b \ud83d").title == "ab ?"
    assert user(name="  Ana\0 ").name == "Ana"


def test_numbers_come_in_many_kinds() -> None:
    assert goal(targetValue=Decimal128("4"), currentValue=Decimal(1)).progress == 25
    assert goal(targetValue=10, currentValue=30).progress == 100
    strange: list[Any] = [float("nan"), float("inf"), "ten", True, [], 10**400, Decimal128("NaN")]
    for rubbish in strange:
        assert goal(targetValue=rubbish).progress is None


RUBBISH: list[Any] = [
    None, "", "\0", "x" * 5000, -1, 0, 2**63, 10**400, float("nan"), float("-inf"), True, [], [None], {},
    {"a": 1}, b"\xff", ObjectId(), DatetimeMS(2**62), datetime(1, 1, 1), date.max,
    Decimal("sNaN"),
    Decimal128("Infinity"), "9999-99-99", "2026-02-30T00:00:00Z", "\ud800",
    {"enabled": True, "start": 3, "end": []},
]  # fmt: skip


def test_no_rubbish_in_any_field_is_ever_fatal() -> None:
    chance = random.Random(20260310)
    for name, documents in SAMPLES.items():
        subject = reader(name)
        for collection in Collection:
            good = documents[PROFILES[name].table(collection).name]
            for _ in range(1500):
                fields = chance.sample(list(good), chance.randint(1, 3))
                broken = {**good, **{field: chance.choice(RUBBISH) for field in fields}}
                reading = subject.read(collection, [broken, good])
                assert reading.records, "the good neighbour survives"
                assert len(reading.records) + sum(problem.fatal for problem in reading.problems) == 2


MAPPING = mapping.__doc__ or ""


def test_the_mapping_file_of_the_documentation_works() -> None:
    example = MAPPING.split("::\n", 1)[1]
    profile = parse_mapping("\n".join(line.removeprefix("    ") for line in example.splitlines()))
    ana = one(
        Collection.USERS,
        {"_id": 1, "givenName": "Ana", "familyName": "Sol", "profile": {"zone": "Pacific/Chatham"}},
        profile,
    )
    assert (profile.users.name, ana.name, ana.timezone) == ("members", "Ana Sol", "Pacific/Chatham")
    late = one(
        Collection.GOALS, {"_id": 2, "userId": 1, "title": "x", "status": "late", "finishBy": T0}, profile
    )
    assert (late.open, late.due_at) == (True, T0)
    sitting = {
        "_id": 3, "userId": 1, "type": "work", "status": "ticking", "createdAt": T0,
        "length": 25, "worked": 5,
    }  # fmt: skip
    found = one(Collection.SESSIONS, sitting, profile)
    assert (found.status, found.focus, found.planned_seconds, found.focus_seconds) == (
        "running",
        True,
        1500,
        300,
    )


def test_all_problems_of_a_mapping_file_are_named_at_once() -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_mapping(
            'extends = "Z"\n[goals]\ndeu = "x"\nopen_states = "y"\n[timer_sessions]\nfocus_unit = "h"\n[x]'
        )
    assert len(caught.value.problems) == 5
    with pytest.raises(ConfigurationError, match="not TOML"):
        parse_mapping("= 3")
