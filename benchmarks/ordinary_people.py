"""People and series without any habit, and such with one planted, simulated for ``benchmarks.insight``.

Nobody's weekday, half of the day, goal or length of a session changes the chance to complete it; but weekends
are quiet, people are away, levels drift, days are good and bad, and sessions come in bursts.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from benchmarks.anomaly import poisson
from service.analytics import habits
from service.analytics.comparison import DoneDates
from service.analytics.habits import Cell, PersonActivity, SessionCounts
from service.analytics.insight import Counts, Subject

AS_OF = date(2026, 3, 31)
_DAYS = 180
_SESSIONS = 90
_WEEKS = 14
_LENGTHS = (15, 25, 45, 50, 90)


@dataclass(frozen=True, slots=True)
class Planted:
    """A true habit: what is added to the chance to complete a session (``before_noon``, at the ``weekend``,
    ``linked``, a ``length`` of 25 minutes), and to the chance that a ``tuesday`` is active; the factor of the
    last ``week``'s focus; days in a row at the end (``streak``)."""

    before_noon: float = 0.0
    weekend: float = 0.0
    linked: float = 0.0
    length: float = 0.0
    tuesday: float = 0.0
    week: float = 1.0
    streak: int = 0


NOTHING = Planted()


@dataclass(frozen=True, slots=True)
class Kind:
    """How a simulated person differs from one whose days are all alike. From and to: ``quiet``:
    the share of activity lost at weekends; ``sessions``: the mean a day. At most: ``away``: vacations in 180
    days; ``drift``: sd of the weekly steps of the levels (logit); ``swing``: sd of good and bad days (logit);
    ``bursts``: how much likelier an active day makes the next one."""

    name: str
    quiet: tuple[float, float] = (0.0, 0.0)
    away: int = 0
    drift: float = 0.0
    swing: float = 0.0
    bursts: float = 0.0
    sessions: tuple[float, float] = (1.0, 4.0)


KINDS = (
    Kind("alike"),
    Kind("quiet weekends", quiet=(0.7, 1.0)),
    Kind("vacations", quiet=(0.0, 1.0), away=3),
    Kind("levels drift", quiet=(0.0, 1.0), drift=0.35),
    Kind("good and bad days", quiet=(0.0, 1.0), swing=1.2),
    Kind("bursts", quiet=(0.0, 1.0), bursts=0.6),
    Kind("few sessions", quiet=(0.0, 1.0), away=2, drift=0.2, swing=0.8, bursts=0.3, sessions=(1.0, 1.3)),
    Kind("many sessions", quiet=(0.0, 1.0), away=2, drift=0.2, swing=0.8, bursts=0.3, sessions=(4.0, 10.0)),
)


def chance(logit: float) -> float:
    """The probability of log odds."""
    return 1 / (1 + math.exp(-logit))


def _logit(share: float) -> float:
    return math.log(share / (1 - share))


@dataclass(slots=True)
class _Levels:
    """What drifts from week to week, as log odds."""

    active: float
    done: float
    early: float
    linked: float

    def step(self, dice: random.Random, sd: float) -> None:
        self.active += dice.gauss(0, sd)
        self.done += dice.gauss(0, sd)
        self.early += dice.gauss(0, sd)
        self.linked += dice.gauss(0, sd)


def person(dice: random.Random, kind: Kind, planted: Planted = NOTHING) -> PersonActivity:
    """Somebody of this kind, as of ``AS_OF`` and up to six days later (so that weeks begin on any day)."""
    levels = _Levels(*(_logit(dice.uniform(*span)) for span in _spans(planted)))
    weekend = 1 - dice.uniform(*kind.quiet)
    drift, swing, bursts = kind.drift * dice.random(), kind.swing * dice.random(), kind.bursts * dice.random()
    extra = dice.uniform(*kind.sessions) - 1
    lengths = (25, 50) if planted.length else dice.sample(_LENGTHS, dice.randint(1, 4))
    last = AS_OF.toordinal() + dice.randrange(7)
    first = last - _DAYS + 1
    absent = _absences(dice, kind.away, first)
    cells: list[Cell] = []
    active: list[date] = []
    done: list[date] = []
    weeks = [0.0] * _WEEKS
    was_active = False
    for ordinal in range(first, last + 1):
        weekday = (ordinal - 1) % 7
        if weekday == 0:
            levels.step(dice, drift)
        share = chance(levels.active) * (weekend if weekday > 4 else 1.0)
        share += bursts * (1 - share if was_active else -share)
        if weekday == 1:
            share += planted.tuesday
        streak = last - ordinal < planted.streak
        was_active = (dice.random() < share and ordinal not in absent) or streak
        if not was_active:
            continue
        sessions = _day(dice, levels, (swing, extra), lengths, weekday > 4, planted)
        day = date.fromordinal(ordinal)
        active.append(day)
        if streak or any(one[3] for one in sessions):
            done.append(day)
        back = (last - ordinal) // 7
        if back < _WEEKS:
            weeks[-1 - back] += sum(one[2] for one in sessions if one[3]) * (1.0 if back else planted.week)
        if last - ordinal < _SESSIONS:
            cells += [[0, ordinal, *one, 1] for one in sessions]
    as_of = date.fromordinal(last)
    facts = SessionCounts(
        cells,
        DoneDates({day.toordinal(): 1 for day in done}, first, last),
        habits.weeks_at_work(weeks, active, as_of),
    )
    return PersonActivity(facts, done, active, (), (), [0.0] * 24, date.fromordinal(first))


def _spans(planted: Planted) -> tuple[tuple[float, float], ...]:
    """From where to where a person's shares lie: active dates, completed, before noon, linked. Where a habit
    is planted, there is room for it."""
    if planted == NOTHING:
        return (0.3, 0.95), (0.5, 0.95), (0.2, 0.8), (0.2, 0.8)
    return (0.3, 0.4) if planted.tuesday else (0.6, 0.9), (0.55, 0.65), (0.3, 0.7), (0.3, 0.7)


def _absences(dice: random.Random, away: int, first: int) -> set[int]:
    """Vacations, and a holiday a month."""
    absent = {first + dice.randrange(_DAYS) for _ in range(away and 6)}
    for _ in range(dice.randint(0, away)):
        start = first + dice.randrange(_DAYS)
        absent |= set(range(start, start + dice.randint(4, 16)))
    return absent


def _day(
    dice: random.Random,
    levels: _Levels,
    vary: tuple[float, float],
    lengths: Sequence[int],
    at_weekend: bool,
    planted: Planted,
) -> list[tuple[int, int, int, int]]:
    """The sessions of a day: before noon, linked, minutes, done."""
    swing, extra = vary
    base = chance(levels.done + dice.gauss(0, swing)) + planted.weekend * at_weekend
    early, linked = chance(levels.early), chance(levels.linked)
    usual = dice.choice(lengths)  # a day's sessions are of like lengths
    sessions = []
    for _ in range(1 + poisson(dice, extra)):
        is_early, is_linked = dice.random() < early, dice.random() < linked
        minutes = usual if dice.random() < 0.6 else dice.choice(lengths)
        done = dice.random() < (
            base
            + planted.before_noon * is_early
            + planted.linked * is_linked
            + planted.length * (minutes == 25)
        )
        sessions.append((int(is_early), int(is_linked), minutes, int(done)))
    return sessions


# ── Everybody ───────────────────────────────────────────────────────────────────────────────────────────────


def everybody(dice: random.Random, planted: Planted = NOTHING, people: int = 0) -> Counts:
    """A month of 20 to 60 people (or so many), each with levels and lengths of their own, and with days that
    are good, bad or holidays for all of them."""
    count = people or dice.randint(20, 60)
    last = AS_OF.toordinal() + dice.randrange(7)
    first = last - 7 * _WEEKS + 1
    spread, drift = dice.uniform(0, 1.2), dice.uniform(0, 0.1)
    shock, weekend = dice.uniform(0, 0.3), dice.uniform(0, 1)
    persons = [
        _Levels(*(dice.gauss(_logit(share), spread) for share in (0.4, 0.6, 0.5, 0.5))) for _ in range(count)
    ]
    lengths = [(25, 50) if planted.length else dice.sample(_LENGTHS, 2) for _ in persons]
    level = 0.0
    cells: list[Cell] = []
    done: dict[int, int] = {}
    minutes: dict[int, float] = {}
    for ordinal in range(first, last + 1):
        weekday = (ordinal - 1) % 7
        if weekday == 0:
            level += dice.gauss(0, drift)
        mood, today = dice.gauss(0, shock), level + dice.gauss(0, shock)
        share = (weekend if weekday > 4 else 1.0) * (0.3 if weekday < 5 and dice.random() < 0.03 else 1.0)
        share *= planted.week if last - ordinal < 7 else 1.0
        done[ordinal] = 0
        minutes[ordinal] = 0.0
        for at, levels in enumerate(persons):
            active = chance(levels.active + today) * share + (planted.tuesday if weekday == 1 else 0.0)
            if dice.random() >= active:
                continue
            if last - ordinal < 30:
                ways = _Levels(0.0, levels.done + mood, levels.early, levels.linked)
                sessions = _day(dice, ways, (0.5, 0.5), lengths[at], weekday > 4, planted)
                cells += [[at % 50, ordinal, *one, 1] for one in sessions]
                completed = sum(one[3] for one in sessions)
            else:
                completed = int(dice.random() < 0.8)
            done[ordinal] += completed > 0
            minutes[ordinal] += 30 * completed
    weeks = [[minutes[first + 7 * week + n] for n in range(7)] for week in range(_WEEKS)]
    middles = [
        sorted(minutes[day] for day in range(first + 7 * week, first + 7 * week + 7) if (day - 1) % 7 < 5)[2]
        for week in range(_WEEKS)
    ]
    facts = SessionCounts(cells, DoneDates(done, first, last, count), [sum(week) for week in weeks], middles)
    return habits.counts(facts, Subject.EVERYBODYS)


# ── Daily figures ───────────────────────────────────────────────────────────────────────────────────────────


def same_weekdays(dice: random.Random, mean: float, factor: float = 1.0) -> list[float]:
    """A daily figure on one weekday, oldest first, the day to be judged last: 9 to 17 weeks of a level that
    drifts and grows or shrinks, sometimes on a holiday (not the last), in counts that vary more than by
    chance alone. ``factor``: of the last."""
    count = dice.randint(9, 17)
    drift, growth, spread = dice.uniform(0, 0.05), dice.uniform(-0.03, 0.03), dice.uniform(0, 0.2)
    level = math.log(mean)
    values = []
    for at in range(count):
        level += growth + dice.gauss(0, drift)
        today = math.exp(level + dice.gauss(0, spread))
        if at == count - 1:
            today *= factor
        elif dice.random() < 0.02:
            today *= 0.3
        values.append(float(poisson(dice, today)))
    return values
