"""Mapping files: constants, value maps, derived times, and what is refused."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from service.dashboard.model import Goal, TimerSession, User
from service.dashboard.profiles.detect import detect
from service.dashboard.profiles.fields import share
from service.dashboard.profiles.mapping import parse_mapping
from service.dashboard.profiles.reader import Reader, Reading
from service.dashboard.profiles.shapes import Collection
from service.errors import ConfigurationError

T0 = datetime(2026, 3, 10, 9, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
_SESSIONS = """
[timer_sessions]
kind = {{ constant = "pomodoro" }}
status = {{ constant = "completed" }}
{}
"""


def read(mapping: str, collection: Collection, document: dict[str, Any]) -> Reading:
    reader = Reader(parse_mapping(mapping), default_timezone="UTC")
    return reader.read(collection, [{"_id": 1, "userId": 1, "title": "Read", **document}])


def user(mapping: str, **document: Any) -> User:
    record: User = read(f"[users]\n{mapping}", Collection.USERS, document).records[0]
    return record


def goal(mapping: str, **document: Any) -> Goal:
    record: Goal = read(f"[goals]\n{mapping}", Collection.GOALS, document).records[0]
    return record


def session(mapping: str, **document: Any) -> TimerSession:
    record: TimerSession = read(_SESSIONS.format(mapping), Collection.SESSIONS, document).records[0]
    return record


def problems(mapping: str) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        parse_mapping(mapping)
    return [problem.removeprefix("DASHBOARD_SCHEMA: ") for problem in caught.value.problems]


def test_a_constant_stands_for_a_field_that_no_document_has() -> None:
    mapping = (
        'title = { constant = "Daily focus" }\nstatus = { constant = "open" }\ntarget = { constant = 2 }'
    )
    found = goal(mapping, title="another")
    assert (found.title, found.open, found.target_value) == ("Daily focus", True, 2)
    profile = parse_mapping(f"[goals]\n{mapping}")
    assert share(profile.goals, "title", [{}]) == 1
    assert detect([profile], {"goals": [{"_id": 1, "userId": 1}]}).profile is profile


@pytest.mark.parametrize(
    ("stored", "is_open"),
    [({"state": 1}, True), ({"state": 1.0}, True), ({"state": Decimal(1)}, True), ({"state": "1"}, True),
     ({"state": 2}, False), ({}, True), ({"state": None}, True)],
)  # fmt: skip
def test_stored_numbers_become_our_states(stored: dict[str, Any], is_open: bool) -> None:
    mapping = 'status = { path = "state", values = { 1 = "open", 2 = "closed" }, missing = "open" }'
    assert goal(mapping, **stored).open is is_open


def test_stored_flags_and_words_become_our_states() -> None:
    done = 'status = { path = "done", values = { true = "closed", false = "open" } }'
    assert [goal(done, done=value).open for value in (True, False)] == [False, True]
    word = 'status = { path = "state", values = { ACTIVE = "open" }, other = "closed" }'
    assert [goal(word, state=value).open for value in ("ACTIVE", "PAUSED", "active")] == [True, False, False]


def test_a_stored_value_without_ours_counts_as_malformed() -> None:
    mapping = '[goals]\nstatus = { path = "state", values = { 1 = "open" } }'
    reading = read(mapping, Collection.GOALS, {"state": 3})
    assert (reading.records[0].open, [p.reason for p in reading.problems]) == (False, ["status"])
    mapping = '[timer_sessions]\nstatus = { path = "state", values = { 1 = "running" } }'
    reading = read(mapping, Collection.SESSIONS, {"state": 3, "type": "focus", "createdAt": T0})
    assert [(p.reason, p.fatal) for p in reading.problems] == [("status", True)]
    mapping = '[users]\npref_email = { path = "mail", values = { 1 = true } }'
    reading = read(mapping, Collection.USERS, {"mail": 2, "timezone": "UTC"})
    assert (reading.records[0].preferences.email, [p.reason for p in reading.problems]) == (
        None,
        ["pref_email"],
    )


def test_an_end_makes_a_session_completed_and_no_end_a_running_one() -> None:
    mapping = """
[timer_sessions]
kind = { constant = "focus" }
status = { path = "endTime", missing = "running", other = "completed" }
"""
    states = [
        read(mapping, Collection.SESSIONS, {"createdAt": T0, "endTime": end}).records[0].status
        for end in (None, T0 + MINUTE)
    ]
    assert states == ["running", "completed"]


def test_missing_alone_leaves_stored_states_as_they_are() -> None:
    mapping = '[timer_sessions]\nstatus = { path = "status", missing = "completed" }'
    states = [
        read(mapping, Collection.SESSIONS, {"createdAt": T0, "type": "focus", "status": stored})
        .records[0]
        .status
        for stored in (None, "active", "paused")
    ]
    assert states == ["completed", "running", "paused"]


def test_a_negative_preference_is_turned_round() -> None:
    mapping = 'pref_reminders = { path = "muted", negative = true }'
    allowed = [user(mapping, muted=value).preferences.reminders for value in (True, False, "true", None, 7)]
    assert allowed == [False, True, False, None, None]
    assert not user('active = { path = "deleted", negative = true }', deleted=True).active
    assert user('active = { path = "deletedAt", missing = true, other = false }').active
    assert not user('active = { path = "deletedAt", missing = true, other = false }', deletedAt=T0).active


def test_any_of_several_negative_preferences_blocks() -> None:
    mapping = 'pref_email = { path = ["muted", "paused"], negative = true }'
    assert user(mapping, muted=False, paused=True).preferences.email is False
    assert user(mapping, muted=False, paused=False).preferences.email is True


@pytest.mark.parametrize(
    ("unit", "stored", "seconds"),
    [("milliseconds", 90_000, 90), ("seconds", 90, 90), ("minutes", 1.5, 90), ("hours", 0.5, 1800),
     ("hours", timedelta(seconds=90), 90)],
)  # fmt: skip
def test_durations_have_units(unit: str, stored: Any, seconds: int) -> None:
    found = session(
        f'planned = "length"\nplanned_unit = "{unit}"\nfocus = "worked"\nfocus_unit = "{unit}"',
        createdAt=T0, length=stored, worked=stored,
    )  # fmt: skip
    assert (found.planned_seconds, found.focus_seconds) == (seconds, seconds)


def test_the_lengths_of_the_pomodoro_clock_have_units_too() -> None:
    mapping = 'work_minutes = "work"\nwork_minutes_unit = "seconds"\nshort_break = "rest"'
    preferences = user(mapping, work=3000, rest=7).preferences
    assert (preferences.work_minutes, preferences.short_break_minutes) == (50, 7)


def test_the_start_is_derived_from_the_end_and_the_end_from_the_start() -> None:
    start = 'focus = "minutes"\nfocus_unit = "minutes"\nended = "at"\nstarted = { derive = "ended - focus" }'
    found = session(start, at=T0, minutes=12.5)
    assert (found.started_at, found.ended_at) == (T0 - 12.5 * MINUTE, T0)
    end = 'planned = "s"\nplanned_unit = "seconds"\nended = { path = "end", derive = "started + planned" }'
    assert session(end, createdAt=T0, s=60).ended_at == T0 + MINUTE
    assert session(end, createdAt=T0, s=60, end=T0 + 5 * MINUTE).ended_at == T0 + 5 * MINUTE
    assert session(end, createdAt=T0).ended_at is None
    for broken in (1e299, None, "long", float("nan")):
        reading = read(_SESSIONS.format(start), Collection.SESSIONS, {"at": T0, "minutes": broken})
        assert [problem.reason for problem in reading.problems] == ["started"]


def test_focus_time_is_derived_from_start_and_end() -> None:
    mapping = (
        'ended = "end"\nfocus = { path = "minutes", derive = "ended - started" }\nfocus_unit = "minutes"'
    )
    found = [
        session(mapping, createdAt=T0, end=T0 + 50 * MINUTE, minutes=m).focus_seconds for m in (25, None)
    ]
    assert found == [1500, 3000]
    assert session(mapping, createdAt=T0).focus_seconds == 0


def test_a_derived_field_is_filled_where_its_operands_are() -> None:
    mapping = _SESSIONS.format('focus = "s"\nended = "e"\nstarted = { derive = "ended - focus" }')
    table = parse_mapping(mapping).sessions
    assert share(table, "started", [{"e": T0, "s": 1}, {"e": T0}, {"s": 1}, {}]) == 0.25


def test_a_file_may_start_from_nothing() -> None:
    mapping = """
extends = "none"
[tables]
users = "people"
goals = "tasks"
timer_sessions = ""
[users]
id = "_id"
email = "mail"
[goals]
id = "_id"
user = "owner"
title = "text"
status = { path = "done", values = { true = "closed", false = "open" } }
due = "day"
"""
    profile = parse_mapping(mapping)
    assert (set(profile.users.fields), profile.sessions.name) == ({"id", "email"}, "")
    found = read(mapping, Collection.GOALS, {"owner": 7, "text": "x", "done": False, "day": date(2026, 4, 1)})
    assert (found.records[0].user_id, found.records[0].due_date) == ("7", date(2026, 4, 1))
    assert problems('extends = "none"')[:2] == [
        '[tables] users: name where they are, or "" where there are none',
        '[tables] goals: name where they are, or "" where there are none',
    ]


@pytest.mark.parametrize(
    ("mapping", "problem"),
    [
        ('colour = "red"', "unknown section or key 'colour'"),
        ('name = "my dash"', "name must be up to 40 letters"),
        ('name = "A"', "name must be up to 40 letters"),
        ('[users]\nnmae = "x"', "[users] unknown field 'nmae'"),
        ('[users]\nname = { path = "x", vlaues = 1 }', "[users] name: unknown key 'vlaues'; it may"),
        ('[users]\nname = { constant = "x" }', "[users] name: unknown key 'constant'"),
        ("[users]\nname = 3", "[users] name must be a path, a list of paths or a table"),
        ("[users]\nname = []", "[users] name: an empty list is no path"),
        ('[users]\nname = "a..b"', "[users] name: 'a..b' is no path"),
        ('[users]\nid = ""', "[users] id must be mapped"),
        ('[users]\nid = ["a", "b"]', "[users] id must be one field of the record itself"),
        ('[users]\nname = ""\nemail = ""', "[users] name or email must be mapped"),
        ('[users]\nactive = { constant = "yes" }', "active: constant must be true or false, not 'yes'"),
        ('[users]\nactive = { path = "x", negative = "no" }', "negative must be true or false"),
        ('[users]\nactive = { path = "x", negative = true, other = true }', "either negative or values"),
        ('[users]\nactive = { constant = true, path = "x" }', "a constant stands alone"),
        ("[users]\nactive = { missing = true }", "[users] active: name its path, or a constant"),
        ("[users]\nactive = {}", "[users] active: name its path, or a constant"),
        ('[users]\nactive = { path = "x", values = {} }', "values must list stored values, each with ours"),
        ('[users]\ntimezone = { constant = "Mars" }', "constant must be a time zone like Europe/Oslo"),
        ("[users]\nweek_start = { constant = 7 }", "constant must be 0 (Sunday) to 6 (Saturday), not 7"),
        ('[users]\nwork_minutes_unit = "days"', "work_minutes_unit must be one of milliseconds"),
        ('[users]\nwork_minutes_unit = ["days"]', "work_minutes_unit must be one of milliseconds"),
        ('extends = ["A"]', "extends must be one of A, B, J, PG, none"),
        ("users = 3", "[users] must be a table"),
        ("tables = 3", "[tables] must be a table"),
        ('[users]\nplanned_unit = "seconds"', "[users] unknown field 'planned_unit'"),
        ('[tables]\nusers = ""', "[tables] users: there must be people"),
        ('[tables]\npeople = "x"', "[tables] people: name one of users, goals, timer_sessions"),
        ('[tables]\ngoals = "users"', "[tables] users and goals both name 'users'"),
        ('[tables]\ngoals = ""\n[goals]\ntitle = "x"', "goals says that there is no such table, but [goals]"),
        ('[goals]\ntitle = ""', "[goals] title must be mapped: without it nothing can be read"),
        ("[goals]\nopen_states = []", "[goals] open_states is empty: nothing would ever count"),
        ('[goals]\nstatus = { path = "s", values = { a = "active" } }', "values.a must be one of open"),
        ('[goals]\nstatus = { constant = "closed" }', "status is only ever closed: nothing would count"),
        (
            '[goals]\nopen_states = ["a"]\nstatus = { path = "s", values = { a = "open" } }',
            "[goals] open_states and values of status: give either",
        ),
        ('[goals]\nsource = "DELETE FROM goals"', "[goals] source: it must be a SELECT, or a pipeline in"),
        ('[goals]\nsource = "SELECT 1; SELECT 2"', "source: it must be a single statement"),
        ('[goals]\nsource = "SELECT * FROM g WHERE a = $1"', "source: it has no parameters like $1"),
        ('[goals]\nsource = "[{]"', "source: the pipeline is not JSON"),
        ("[goals]\nsource = []", "source: a pipeline is a list of stages"),
        ("[goals]\nsource = 3", "source: a pipeline is a list of stages"),
        ('[goals]\nsource = [{ match = 1 }]', 'stage 1 must be a table with one key like "$match"'),
        ("[goals]\nsource = '[{\"$out\": \"x\"}]'", "stage 1 would write ($out); a source only reads"),
        ('[tables]\ngoals = "g"\n[goals]\nsource = "SELECT 1"', "leave [tables] out for it"),
        (
            'extends = "none"\n[users]\nid = "_id"\nname = "n"\nsource = [{ "$match" = {} }]',
            "[tables] users: name where they are",
        ),
        ('[timer_sessions]\nkind = { constant = "work" }', "kind is only ever work: nothing would count"),
        ('[timer_sessions]\nstarted = { derive = "ended" }', "derive must be one of 'ended - focus'"),
        ('[timer_sessions]\nstarted = { constant = "x" }', "started: unknown key 'constant'; it may"),
        (
            '[timer_sessions]\nstarted = { derive = "ended - focus" }',
            "started: 'ended - focus' needs focus, which is not mapped",
        ),
        (
            '[timer_sessions]\nfocus = "f"\nstarted = { derive = "ended - focus" }\n'
            'ended = { derive = "started + focus" }',
            "ended: 'started + focus', but started is itself derived from it",
        ),
        ('[timer_sessions]\nstatus = { path = "s", other = "over" }', "other must be one of running, paused"),
        ("[timer_sessions]\nplanned = { constant = -1 }", "constant must be a number from 0, not -1"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_by_name(mapping: str, problem: str) -> None:
    assert problem in "; ".join(problems(mapping))


def test_problems_of_every_kind_are_named_at_once() -> None:
    named = problems(
        '[users]\nactive = { constant = 1 }\nnmae = "x"\n[goals]\ntitle = ""\n'
        '[timer_sessions]\nkind = { constant = "work" }'
    )
    assert [problem.split(" ")[0] for problem in named] == [
        "[users]",
        "[users]",
        "[goals]",
        "[timer_sessions]",
    ]
