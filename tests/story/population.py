"""The people of a simulated year: where they live and travel, what they do, and when it becomes known.

Everything is made beforehand from one seed: a list of events, each with the instant at which the dashboard's
copy learns of it. Nothing here asks the service what it thinks of it.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from service.dashboard.model import Goal, Preferences, QuietHours, TimerSession, User
from service.zones import zone_of
from tests.kinds import WEEKLY

DAY = timedelta(days=1)
BEFORE = 40
"""Days of activity that are there when the simulation begins."""

ZONES = (
    "Europe/Berlin", "America/New_York", "America/Los_Angeles", "Asia/Kolkata", "Asia/Kathmandu",
    "Pacific/Auckland", "Australia/Lord_Howe",
    "America/St_Johns", "Pacific/Kiritimati", "UTC", "Asia/Tokyo", "America/Santiago",
)  # fmt: skip
MORE_ZONES = (
    "Pacific/Chatham", "Africa/Cairo", "Pacific/Apia", "Europe/London", "Europe/Lisbon", "Europe/Athens",
    "Europe/Moscow", "Asia/Dubai", "Asia/Tehran", "Asia/Karachi", "Asia/Dhaka", "Asia/Bangkok",
    "Asia/Shanghai", "Asia/Seoul",
    "Australia/Sydney", "Australia/Adelaide", "Pacific/Honolulu", "America/Anchorage",
    "America/Denver", "America/Phoenix", "America/Chicago", "America/Mexico_City", "America/Halifax",
    "America/Sao_Paulo", "America/Havana", "Atlantic/Azores", "Africa/Algiers", "Africa/Lagos",
)  # fmt: skip
"""Nobody lives where this service's zone data and PostgreSQL's, which SQL uses, may differ in 2026: not in
Casablanca, which leaves summer time for good in September."""


@dataclass(frozen=True, slots=True)
class Own:
    """A row of service.recipient_setting, as a recipient left it."""

    user_id: str
    timezone: str | None = None
    quiet: tuple[time, time] | None = None
    hours: dict[str, int] = field(default_factory=dict)
    paused_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Override:
    """A row of service.preference_override."""

    user_id: str
    kind: str
    channel: str
    enabled: bool


@dataclass(frozen=True, slots=True)
class Gone:
    """The dashboard no longer has it. ``table``: users | goals | timer_sessions."""

    user_id: str
    table: str
    id: str


Record = User | Goal | TimerSession | Own | Override | Gone


@dataclass(frozen=True, slots=True)
class Event:
    """``record`` becomes known at ``at``. ``exact``: the clock must stand there, as the instant is stored."""

    at: datetime
    record: Record
    exact: bool = False


@dataclass
class Person:
    """Somebody's plan for the year. ``trips``: from an instant on in a zone, the first since ever."""

    id: str
    rhythm: str
    trips: list[tuple[datetime, str]]
    away: list[tuple[date, date]] = field(default_factory=list)
    user: User | None = None
    bounces_from: datetime | None = None
    events: list[Event] = field(default_factory=list)

    def zone(self, at: datetime) -> str:
        return next(zone for since, zone in reversed(self.trips) if since <= at)


def instant(day: date, at: time, zone: str) -> datetime:
    """A wall-clock time as an instant; of two the first, out of a gap forward."""
    return datetime.combine(day, at, zone_of(zone)).astimezone(UTC)


def populate(seed: int, people: int, zones: Sequence[str], start: datetime, end: datetime) -> list[Person]:
    """So many people with everything that they will do."""
    return [_person(random.Random(f"{seed}/{n}"), n, zones, start, end) for n in range(people)]


def _person(dice: random.Random, n: int, zones: Sequence[str], start: datetime, end: datetime) -> Person:
    rhythm = ("office", "owl", "office", "rare", "office", "relapse", "never", "office", "owl", "fading")[
        n % 10
    ]
    id_ = f"p{n:03d}"
    person = Person(id_, rhythm, [(datetime.min.replace(tzinfo=UTC), zones[(n * 7 + n // 12) % len(zones)])])
    span = (end - start).days
    if n % 5 == 2:
        _travel(dice, person, zones, start, span)
    if rhythm in {"office", "owl"} and n % 3 != 1:
        _holidays(dice, person, start, span)
    _account(dice, person, n, start, span)
    if rhythm != "never":
        _work(dice, person, start, end)
    _goals(dice, person, start, end)
    person.events.sort(key=lambda event: event.at)
    return person


def _within(dice: random.Random, start: datetime, span: int) -> datetime:
    """Some odd second of the simulation."""
    return start + timedelta(seconds=dice.randrange(DAY.seconds, span * 86_400) // 60 * 60 + 17)


def _travel(dice: random.Random, person: Person, zones: Sequence[str], start: datetime, span: int) -> None:
    moves = sorted(_within(dice, start, span) for _ in range(max(2, span // 12)))
    home, here = person.trips[0][1], person.trips[0][1]
    for at in moves:
        here = home if here != home and dice.random() < 0.4 else dice.choice([z for z in zones if z != here])
        person.trips.append((at, here))


def _holidays(dice: random.Random, person: Person, start: datetime, span: int) -> None:
    for first in range(0, span, 120):
        begin = start.date() + timedelta(days=first + dice.randrange(3, 18))
        person.away.append((begin, begin + timedelta(days=dice.randrange(14, 29))))


# ── The account and the wishes ──────────────────────────────────────────────────────────────────────────────


def _account(dice: random.Random, person: Person, n: int, start: datetime, span: int) -> None:
    created: datetime | None = start - timedelta(days=200)
    if person.rhythm == "never":
        created = start - timedelta(days=dice.randrange(-3, 12), hours=dice.randrange(24))
    elif n % 11 == 5:
        created = start + timedelta(days=dice.randrange(1, min(span, 25)), seconds=dice.randrange(86_400))
    elif n % 13 == 4:
        created = None
    email: str | None = f"{person.id}@example.org"
    wishes = Preferences(week_start=(1, 1, 0, 1, 6)[n % 5])
    later: list[tuple[datetime, dict[str, Any]]] = [(at, {"timezone": zone}) for at, zone in person.trips[1:]]
    own = Own(person.id)
    owned: list[tuple[datetime, dict[str, Any]]] = []
    active = True
    at = _within(dice, start, span)
    match n % 40:
        case 1:
            wishes = replace(wishes, quiet=QuietHours(time(8), time(11)))
        case 2:
            owned.append((start, {"quiet": (time(17, 30), time(19, 45))}))
        case 3:
            owned.append((start, {"hours": {"daily": 17, "weekly": 20, "deadlines": 7, "monthly": 6}}))
        case 4:
            owned += [
                (start, {"hours": {"daily": 20, "inactive": 8}}),
                (at, {"hours": {"daily": 19, "weekly": 2}}),
            ]
        case 5:
            wishes = replace(wishes, quiet=QuietHours(time(8), time(12)))
            owned.append((at, {"quiet": (time(), time())}))
        case 8 | 17:
            owned.append((at, {"paused_until": at + timedelta(days=dice.randrange(5, 20))}))
        case 9:
            wishes = replace(wishes, email=False)
        case 10:
            wishes = replace(wishes, reminders=False)
        case 11:
            wishes = replace(wishes, in_app=False, kinds={WEEKLY.name: False})
        case 12 | 20:
            _override(person, at, "*", "email", enabled=False)
        case 13:
            _override(person, at, "*", "*", enabled=False)
        case 14:
            _override(person, at, "daily", "*", enabled=False)
            _override(person, at + 3 * DAY, "monthly", "email", enabled=False)
        case 15:
            wishes = replace(wishes, email=False)
            _override(person, at, "*", "email", enabled=True)
        case 16:
            wishes = replace(wishes, quiet=QuietHours(time(18, 30), time(9, 30)))
        case 18:
            active = False
        case 19 | 24:
            later.append((at, {"active": False}))
        case 21:
            email = "no address"
        case 22 | 30:
            person.bounces_from = start
        case 23:
            person.bounces_from = at
        case 25:
            email = None
        case 28:
            person.events.append(Event(at, Gone(person.id, "users", person.id), exact=True))
        case 29:
            owned.append((at, {"timezone": "Asia/Tokyo"}))
            person.trips = [(s, z) for s, z in person.trips if s < at] + [(at, "Asia/Tokyo")]
            later = [change for change in later if change[0] < at]
        case 31:
            wishes = replace(wishes, quiet=QuietHours(time(9), time(21)))
        case 33:
            later += [(start + timedelta(days=d, hours=5), {"last_login_at": start + timedelta(days=d)})
                      for d in range(2, span, 9)]  # fmt: skip
        case 35:
            owned.append((start, {"quiet": (time(22), time(7)), "hours": {"deadlines": 6, "inactive": 5}}))
    user = User(
        id=person.id,
        name=person.id.title(),
        email=email,
        timezone=person.trips[0][1],
        locale="en",
        active=active,
        created_at=created,
        last_login_at=created,
        preferences=wishes,
    )
    person.user = user
    came = max(created or start, start)
    person.events.append(Event(came, user, exact=True))
    for moment, change in sorted(later, key=lambda pair: pair[0]):
        user = replace(user, **change)
        person.events.append(Event(max(moment, came), user, exact=True))
    for moment, change in owned:
        own = replace(own, **change)
        person.events.append(Event(max(moment, came), own, exact=True))


def _override(person: Person, at: datetime, kind: str, channel: str, *, enabled: bool) -> None:
    person.events.append(Event(at, Override(person.id, kind, channel, enabled), exact=True))


# ── Sessions ────────────────────────────────────────────────────────────────────────────────────────────────


def _days(person: Person, start: datetime, end: datetime) -> Iterator[tuple[int, date, str]]:
    """The dates of somebody's life, each in the zone of its noon."""
    first = start.date() - timedelta(days=BEFORE)
    for n in range((end.date() - first).days + 1):
        day = first + n * DAY
        yield n, day, person.zone(datetime.combine(day, time(12), UTC))


def _hours(dice: random.Random, person: Person, n: int, day: date) -> list[int]:
    """At which hours somebody begins something on a date; 24 and more are the night after."""
    if any(begin <= day < end for begin, end in person.away):
        return []
    match person.rhythm:
        case "office":
            rate = 0.85 if day.weekday() < 5 else 0.15
            return (
                [dice.randrange(8, 20) for _ in range(dice.choice((1, 1, 2)))] if dice.random() < rate else []
            )
        case "owl":
            return [dice.randrange(21, 27) for _ in range(dice.choice((1, 2)))] if dice.random() < 0.8 else []
        case "rare":
            return [dice.randrange(7, 23)] if dice.random() < 0.22 else []
        case "relapse":
            return [dice.randrange(9, 22)] if n % 26 in {0, 1} else []
        case _:  # fading: less and less, then a new beginning
            return (
                [dice.randrange(9, 20)] if dice.random() < (0.95, 0.6, 0.3, 0.1, 0.0, 0.0)[n // 7 % 6] else []
            )


def _work(dice: random.Random, person: Person, start: datetime, end: datetime) -> None:
    assert person.user is not None
    since = person.user.created_at
    for n, day, zone in _days(person, start, end):
        for number, hour in enumerate(_hours(dice, person, n, day)):
            at = instant(
                day + hour // 24 * DAY, time(hour % 24, dice.randrange(60), dice.randrange(60)), zone
            )
            if since is None or at > since:
                _session(dice, person, f"s-{person.id}-{n}-{number}", at, start)


def _session(dice: random.Random, person: Person, id_: str, at: datetime, start: datetime) -> None:
    minutes = dice.randrange(4, 75)
    ended = at + timedelta(minutes=minutes)
    kind = dice.choices(("pomodoro", "focus", "break"), (6, 3, 1))[0]
    status = dice.choices(("completed", "abandoned", "cancelled"), (17, 2, 1))[0]
    done = TimerSession(
        id=id_,
        user_id=person.id,
        goal_id=None,
        kind=kind,
        focus=kind != "break",
        status=status,
        started_at=at,
        ended_at=ended,
        paused_at=None,
        planned_seconds=1500,
        focus_seconds=dice.randrange(60, minutes * 60),
        category=dice.choice((None, "work", "study")),
        updated_at=ended,
    )
    fate = dice.random()
    if fate < 0.10:  # late: the phone was offline
        arrival = ended + timedelta(seconds=dice.randrange(3600, 2 * 86_400))
        done = replace(done, updated_at=dice.choice((ended, arrival)))
        person.events.append(Event(max(arrival, start), done))
        return
    if fate < 0.30:  # seen while it runs
        running = replace(done, status="running", ended_at=None, focus_seconds=0, updated_at=at)
        person.events.append(Event(max(at, start), running))
    elif fate < 0.32:  # paused and forgotten
        paused = replace(done, status="paused", ended_at=None, paused_at=ended)
        person.events.append(Event(max(ended, start), paused))
        return
    person.events.append(Event(max(ended, start), done))
    if fate > 0.98:  # deleted later
        gone = Gone(person.id, "timer_sessions", id_)
        person.events.append(Event(max(ended, start) + timedelta(hours=dice.randrange(1, 60)), gone))
    elif fate > 0.95:  # edited later
        edited = ended + timedelta(hours=dice.randrange(1, 40))
        seconds = dice.randrange(60, 5400)
        changed = replace(done, focus_seconds=seconds, status="completed", updated_at=edited)
        person.events.append(Event(max(edited, start), changed))


# ── Goals ───────────────────────────────────────────────────────────────────────────────────────────────────


def _goals(dice: random.Random, person: Person, start: datetime, end: datetime) -> None:
    present = [e.at for e in person.events if isinstance(e.record, TimerSession) and e.at > start]
    span = (end - start).days
    for number in range(2 + span // 12):
        id_ = f"g-{person.id}-{number}"
        due = start.date() + timedelta(days=dice.randrange(-20, span + 20))
        goal = Goal(
            id=id_,
            user_id=person.id,
            title=f"Goal {number} of {person.id}",
            category=None,
            open=True,
            priority=dice.choice(("low", "medium", "urgent")),
            target_value=10.0,
            current_value=3.0,
            unit="books",
            progress=30.0,
            due_date=due,
            due_at=None,
            created_at=None,
            completed_at=None,
        )
        if dice.random() < 0.4:
            at = datetime.combine(due, time(dice.randrange(24), 30), UTC)
            goal = replace(goal, due_date=None, due_at=at)
        elif dice.random() < 0.1:
            goal = replace(goal, due_date=None)
        came = start
        if present and dice.random() < 0.7:
            came = dice.choice(present)
            goal = replace(goal, created_at=came - timedelta(seconds=5), updated_at=came)
        person.events.append(Event(came, goal))
        _life(dice, person, goal, sorted(at for at in present if at > came))


def _life(dice: random.Random, person: Person, goal: Goal, moments: Sequence[datetime]) -> None:
    """What becomes of a goal, at moments when its owner is there anyway."""
    if not moments:
        return
    at = dice.choice(moments)
    changed: list[tuple[datetime, dict[str, Any]]] = []
    match dice.randrange(8):
        case 0 | 1 | 2:
            changed.append((at, {"open": False, "completed_at": at - timedelta(seconds=9)}))
        case 3:
            changed.append((at, {"current_value": 11.0, "progress": 100.0}))
        case 4:
            changed.append((at, {"open": False}))
        case 5 if goal.due_date:
            moved = goal.due_date + timedelta(days=dice.randrange(1, 12))
            changed.append((at, {"due_date": moved}))
            back = [one for one in moments if one > at + DAY]
            if back and dice.random() < 0.5:
                changed.append((back[0], {"due_date": goal.due_date}))
        case 6:
            person.events.append(Event(at, Gone(person.id, "goals", goal.id)))
    for moment, change in changed:
        goal = replace(goal, **change, updated_at=moment)
        person.events.append(Event(moment, goal))
