"""What somebody's last 90 days say of them, and everybody's: facts in, figures and insights out. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from typing import Any

from service.analytics import working_hours
from service.analytics.churn import ChurnFeatures, ChurnModel
from service.analytics.insight import Counts, Proportion, StreakFacts, Subject, insights
from service.analytics.significance import design_effect
from service.analytics.streak import current_streak, longest_streak

WINDOW = 90
"""Days of sessions that habits are read from."""
_HOUR = 60
_WEEKDAY_NAMES = (
    "on Sundays", "on Mondays", "on Tuesdays", "on Wednesdays", "on Thursdays", "on Fridays", "on Saturdays",
)  # fmt: skip
Tally = Sequence[int]
"""[completed, started]."""


@dataclass(frozen=True, slots=True)
class SessionCounts:
    """Counts of focus sessions that ended, by local clock, up to and including a local date.

    ``splits``: ``before noon``, ``after noon``, ``weekday``, ``weekend``, ``linked``, ``free`` to a tally.
    ``lengths``: planned minutes, rounded to 5, to a tally. ``by_day``: local date to a tally.
    ``weekdays``: dates with a completed session of dates, from Sunday on (of everybody: of people-days).
    ``weeks``: focus minutes of the last complete weeks, oldest first.
    """

    splits: Mapping[str, Tally]
    lengths: Mapping[int, Tally]
    by_day: Mapping[date, Tally]
    weekdays: Sequence[Tally]
    weeks: Sequence[float]


@dataclass(frozen=True, slots=True)
class PersonActivity:
    """Beside the facts: ``active`` and ``done`` dates (a session started, one completed) of 180 days,
    ``minutes`` of completed sessions, local minutes of their ``starts``, focus seconds ``by_hour`` (0–23),
    the ``first`` active date."""

    facts: SessionCounts
    active: Sequence[date]
    done: Sequence[date]
    minutes: Sequence[float]
    starts: Sequence[float]
    by_hour: Sequence[float]
    first: date


def counts(facts: SessionCounts, whose: Subject, streak: StreakFacts | None = None) -> Counts:
    """The questions that insights ask, from the facts."""
    return Counts(
        whose=whose,
        noon=_pair(facts.splits, "before noon", "after noon"),
        weekend=(
            _split("on weekdays", facts.splits.get("weekday")),
            _split("at the weekend", facts.splits.get("weekend")),
        ),
        goals=(
            _split("that belong to a goal", facts.splits.get("linked")),
            _split("without a goal", facts.splits.get("free")),
        ),
        weekdays=tuple(
            _split(name, tally) for name, tally in zip(_WEEKDAY_NAMES, facts.weekdays, strict=True)
        ),
        lengths=tuple(_split(f"of {n} minutes", tally) for n, tally in sorted(facts.lengths.items())),
        streak=streak,
        weeks=tuple(facts.weeks),
        design=design_effect((done, started) for done, started in facts.by_day.values()),
    )


def told(asked: Counts) -> list[dict[str, Any]]:
    """The insights as they are stored: rule, text, evidence, p, strength."""
    return [
        asdict(one) | {"p": float(f"{one.p:.3g}"), "strength": round(one.strength, 2)}
        for one in insights(asked)
    ]


def profile(person: PersonActivity, as_of: date, model: ChurnModel | None) -> dict[str, Any]:
    """Peak hours, chronotype, preferred length, consistency, churn risk and insights, as of a local date.

    Whatever lacks its minimum support is null; ``support`` says how much there was.
    """
    recent = [day for day in person.active if day > as_of - timedelta(days=WINDOW)]
    focus = [(_HOUR * hour + _HOUR / 2, seconds) for hour, seconds in enumerate(person.by_hour)]
    mean = working_hours.clock_mean(focus)
    kind = working_hours.chronotype(focus, len(recent))
    length = working_hours.preferred_length(person.minutes)
    steady = working_hours.consistency(person.active, person.starts, as_of, person.first)
    habits = _habits(person, as_of)
    risk = model.risk(habits) if model else None
    return {
        "peakHours": working_hours.peak_hours(list(person.by_hour), len(recent)),
        "chronotype": str(kind) if kind else None,
        "focusClock": {"minute": round(mean.minute), "r": round(mean.r, 3)} if mean else None,
        "preferredLength": {"minutes": length.minutes, "share": round(length.share, 3)} if length else None,
        "consistency": {
            "activeShare": round(steady.active_share, 4),
            "startR": None if steady.start_r is None else round(steady.start_r, 3),
        }
        if steady
        else None,
        "churnRisk": {
            "probability": None if risk is None else round(risk, 4),
            "reason": None if risk is not None else "insufficient",
        },
        "insights": told(counts(person.facts, Subject.YOURS, _streak(person, as_of))),
        "support": {"activeDays": len(recent), "sessions": len(person.minutes)},
    }


def _habits(person: PersonActivity, as_of: date) -> ChurnFeatures:
    def since(days: int) -> int:
        return sum(day > as_of - timedelta(days=days) for day in person.active)

    last = max(person.active, default=person.first)
    return ChurnFeatures((as_of - last).days, since(28), since(180), (as_of - person.first).days)


def _streak(person: PersonActivity, as_of: date) -> StreakFacts:
    """The current streak beside the longest that ended before it began."""
    done = set(person.done)
    current = current_streak(done, as_of)
    start = as_of - timedelta(days=current)
    before = longest_streak({day for day in done if day < start})
    days = min(180, (as_of - person.first).days + 1)
    return StreakFacts(current, before, len(done), max(days, len(done)))


def _pair(splits: Mapping[str, Tally], first: str, second: str) -> tuple[Proportion, Proportion]:
    return _split(first, splits.get(first)), _split(second, splits.get(second))


def _split(name: str, tally: Tally | None) -> Proportion:
    done, started = tally or (0, 0)
    return Proportion(name, done, started)
