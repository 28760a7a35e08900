"""What explain forecasts for a slot is what the runner then does at it, in any small world."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from service.dashboard import replica
from service.dashboard.model import Preferences, QuietHours, TimerSession, User
from service.engine.job import Job, TimeMode
from service.engine.schedule import Schedule, to_instant
from service.engine.useful_hours import useful_at
from service.messages.explain import Explainer
from service.messages.kind import Channel, MessageKind
from tests.conftest import LONG
from tests.given import World, goal, user
from tests.kinds import DAILY, DEADLINES, INACTIVE, WEEKLY
from tests.messages.asking import Asking, planned_before, set_for

START = datetime(2026, 3, 27, 9, tzinfo=UTC)
END = START + timedelta(hours=60)
"""Over the night in which Berlin's clocks go forward; a Sunday is in it."""
TODAY = date(2026, 3, 28)
SERVICE_ZONE = "Europe/Berlin"
SPREAD = timedelta(minutes=10)
ZONES = ("Europe/Berlin", "America/New_York", "Asia/Kolkata", "Pacific/Kiritimati", "Africa/Cairo")
JOBS = {
    "reminder.goalDeadlines": DEADLINES,
    "reminder.dailyCheck": DAILY,
    "reminder.inactiveUsers": INACTIVE,
    "reminder.weeklyReview": WEEKLY,
}
TABLES = (
    "users", "goals", "timer_sessions", "user_zone", "recipient_setting", "preference_override",
    "suppression", "delivery", "job_run", "job_def", "refusal",
)  # fmt: skip


@dataclass(frozen=True)
class Person:
    """Somebody, what they chose and what they got before; days are counted from TODAY."""

    zone: str
    active: bool
    email: str | None
    preferences: Preferences
    pause_hours: int | None
    quiet: QuietHours | None
    hour: int | None
    suppressed: bool
    overrides: dict[tuple[str, str], bool]
    past: set[tuple[MessageKind, Channel, int]]
    known_key: Channel | None
    due: list[int]
    focused: set[int]
    age_hours: int | None
    cursed: bool
    asked_at: int


def rarely(strategy: st.SearchStrategy[Any], otherwise: Any = None) -> st.SearchStrategy[Any]:
    """One in eight: most people should get as far as the rules at the end."""
    return st.integers(0, 7).flatmap(lambda dice: strategy if dice == 7 else st.just(otherwise))


half_hours = st.integers(0, 47).map(lambda n: time(n // 2, 30 * (n % 2)))
quiet_hours = st.builds(QuietHours, half_hours, half_hours)
tri = st.sampled_from([None, None, None, None, True, False])
people = st.builds(
    Person,
    zone=st.sampled_from(ZONES),
    active=rarely(st.just(False), True),
    email=rarely(st.sampled_from([None, "nowhere"]), "fine"),
    preferences=st.builds(
        Preferences,
        email=tri,
        reminders=rarely(st.booleans()),
        in_app=rarely(st.booleans()),
        kinds=rarely(
            st.dictionaries(st.sampled_from(sorted(kind.name for kind in JOBS.values())), st.booleans()), {}
        ),
        quiet=rarely(quiet_hours),
    ),
    pause_hours=rarely(st.integers(0, 72)),
    quiet=st.one_of(st.none(), quiet_hours),
    hour=rarely(st.integers(0, 23)),
    suppressed=rarely(st.just(True), False),
    overrides=rarely(
        st.dictionaries(
            st.tuples(st.sampled_from(["*", *map(str, JOBS.values())]), st.sampled_from(["*", *Channel])),
            st.booleans(),
            max_size=2,
        ),
        {},
    ),
    past=st.one_of(
        st.just(set()),
        st.sets(
            st.tuples(
                st.sampled_from([DAILY, INACTIVE, WEEKLY]),
                st.sampled_from(Channel),
                st.integers(-7, 1),
            ),
            max_size=6,
        ),
    ),
    known_key=rarely(st.sampled_from(Channel)),
    due=st.lists(st.sampled_from([-1, 0, 1, 2, 3, 7, 8]), max_size=3),
    focused=st.sampled_from(
        [{-1, -2, -3, -4}, {-2, -3, -4, -5}, {-3}, {-4}, {-6}, {-7}, {-2, -8}, set(), {-1}]
    ),
    age_hours=rarely(st.integers(1, 48), 24 * 90),
    cursed=rarely(st.just(True), False),
    asked_at=st.integers(0, 23),
)


@settings(
    max_examples=300 if LONG else 8,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # each step takes a while: not made smaller
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    job=st.sampled_from(sorted(JOBS)),
    mode=st.sampled_from([TimeMode.USER, TimeMode.USER, TimeMode.SERVICE]),
    cast=st.lists(people, min_size=8, max_size=12),
    paused_hours=st.one_of(st.none(), st.integers(1, 72)),
)
async def test_the_forecast_is_what_the_runner_does(
    world: World, job: str, mode: TimeMode, cast: list[Person], paused_hours: int | None
) -> None:
    world = World(world.pool, {job: _cursing(world, job, cast)})
    people = {f"p{n}": person for n, person in enumerate(cast)}
    await _settle(world, job, people)
    asking = await Asking.of(world, mode, SERVICE_ZONE, spread=SPREAD)
    if paused_hours:
        await (await world.ledger()).pause(job, "eve", "", START + timedelta(hours=paused_hours))

    for slot, ids in _slots(world.reminder(job), mode, people):
        await world.at((slot - timedelta(minutes=1)).isoformat())
        foretold = {who: await _foretold(asking.explainer, job, who, people[who], slot, mode) for who in ids}
        await world.at(slot.isoformat())
        await asking.sweep()
        for who, told in foretold.items():
            await _compare(world, who, slot, told)


def _cursing(world: World, job: str, cast: Sequence[Person]) -> Any:
    """The job, which fails for some."""
    known = world.reminder(job)
    cursed = {f"p{n}" for n, person in enumerate(cast) if person.cursed}

    def decide(facts: Any, tick: Any) -> Any:
        if facts.user.id in cursed:
            raise ZeroDivisionError
        return known.decide(facts, tick)

    return replace(known, decide=decide)


async def _settle(world: World, job: str, people: dict[str, Person]) -> None:
    await world.pool.execute(f"TRUNCATE {', '.join(f'service.{table}' for table in TABLES)} CASCADE")
    await world.at(START.isoformat())
    await world.live(*(_user(who, one) for who, one in people.items()))
    goals = [(who, n, due) for who, one in people.items() for n, due in enumerate(one.due)]
    await world.live(*(goal(f"{who}-{n}", who, due=str(_day(due))) for who, n, due in goals))
    sessions = [_session(who, day) for who, one in people.items() for day in one.focused]
    async with world.pool.acquire() as connection:
        await replica.upsert_timer_sessions(connection, sessions, mark=False)
    for who, one in people.items():
        await _choose(world, job, who, one)
        for kind, channel, day in one.past:
            await planned_before(world, who, kind, str(_day(day)), channel)
        if one.known_key:
            key = f"{job.partition('.')[2]}:{who}:{TODAY}"
            await planned_before(world, who, JOBS[job], str(TODAY), one.known_key, key)


def _day(number: int) -> date:
    return TODAY + timedelta(days=number)


def _user(who: str, one: Person) -> User:
    created = START - timedelta(hours=one.age_hours) if one.age_hours else None
    email = f"{who}@example.org" if one.email == "fine" else one.email
    return user(
        who, one.zone, email=email, active=one.active, preferences=one.preferences, created_at=created
    )


def _session(owner: str, day: int) -> TimerSession:
    began = datetime.combine(_day(day), time(6), UTC)
    return TimerSession(
        id=f"{owner}-{day}",
        user_id=owner,
        goal_id=None,
        kind="focus",
        focus=True,
        status="completed",
        started_at=began,
        ended_at=began + timedelta(minutes=25),
        paused_at=None,
        planned_seconds=1500,
        focus_seconds=1500,
        updated_at=began + timedelta(minutes=25),
    )


async def _choose(world: World, job: str, who: str, one: Person) -> None:
    pause = None if one.pause_hours is None else START + timedelta(hours=one.pause_hours)
    quiet = (one.quiet.start, one.quiet.end) if one.quiet else (None, None)
    hours = {} if one.hour is None else {str(JOBS[job]): one.hour}
    await set_for(world, who, paused_until=pause, quiet_start=quiet[0], quiet_end=quiet[1], hours=hours)
    for (kind, channel), on in one.overrides.items():
        await world.pool.execute(
            "INSERT INTO service.preference_override (user_id, kind, channel, enabled, source)"
            " VALUES ($1, $2, $3, $4, 'page')",
            who,
            str(kind),
            str(channel),
            on,
        )
    if one.suppressed:
        await world.pool.execute(
            "INSERT INTO service.suppression (address, reason) VALUES ($1, 'x')", f"{who}@example.org"
        )


def _slots(job: Job, mode: TimeMode, people: dict[str, Person]) -> list[tuple[datetime, list[str]]]:
    """Every slot of everybody, and whose it is. Who chose an hour that is too late has the usual one."""
    schedule = Schedule.parse(job.schedule)
    found: dict[datetime, list[str]] = {}
    for who, one in people.items():
        hour = one.hour if mode is TimeMode.USER else None
        chosen = hour is not None and useful_at(job, datetime.combine(TODAY, time(hour)))
        own = schedule.at_hour(hour) if chosen and hour is not None else schedule
        zone = ZoneInfo(one.zone if mode is TimeMode.USER else SERVICE_ZONE)
        for slot in own.slots(zone, START + timedelta(minutes=2), END):
            found.setdefault(slot.at, []).append(who)
    return sorted(found.items())


async def _foretold(
    explainer: Explainer, job: str, who: str, one: Person, slot: datetime, mode: TimeMode
) -> dict[str, Any]:
    """Asked at some hour of the slot's local date."""
    zone = ZoneInfo(one.zone if mode is TimeMode.USER else SERVICE_ZONE)
    day = slot.astimezone(zone).date()
    told = await explainer.explain(job, who, to_instant(datetime.combine(day, time(one.asked_at)), zone))
    assert datetime.fromisoformat(told["slot"]["utc"]) == slot
    assert told["when"] == "future"
    return told


async def _compare(world: World, who: str, slot: datetime, told: dict[str, Any]) -> None:
    planned = await world.pool.fetch(
        "SELECT d.channel, d.not_before FROM service.delivery_with_state AS d"
        " JOIN service.job_run AS r ON r.id = d.run_id WHERE d.user_id = $1 AND r.nominal_at = $2"
        " AND (d.channel = 'in_app' OR d.not_before < d.expires_at)",
        who,
        slot,
    )
    reason = await world.pool.fetchval(
        "SELECT d.reason FROM service.refusal_in_words AS d JOIN service.job_run AS r ON r.id = d.run_id"
        " WHERE d.user_id = $1 AND r.nominal_at = $2",
        who,
        slot,
    )
    outcome = told["outcome"].items()
    assert {row["channel"]: row["not_before"] for row in planned} == {
        channel: datetime.fromisoformat(one["notBefore"]) for channel, one in outcome if one["notBefore"]
    }, told
    assert reason in _reasons(told), (reason, told)


def _reasons(told: dict[str, Any]) -> set[str | None]:
    """Which reason the runner may record: that of the first channel that it refuses. A mail that expires at
    its slot, and one that exists, are not refused by it; whom a job does not look at has no record."""
    for rules in told["rules"].values():
        stop = next((rule for rule in rules if rule["verdict"] == "stopped"), None)
        if stop is None or stop["rule"] in {"once", "lateness"}:
            continue
        if stop["rule"] in {"slot", "job_paused"}:
            return {None}
        return {stop["reason"], None} if stop["rule"] == "job" else {stop["reason"]}
    return {None}
