"""Computes habits and insights from the last 90 days, of one user or of everybody. Pure."""

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
"""Days of sessions from which habits are computed."""
_HOUR = 60
_WEEKDAY_NAMES = (
    "on Sundays", "on Mondays", "on Tuesdays", "on Wednesdays", "on Thursdays", "on Fridays", "on Saturdays",
)  # fmt: skip
Tally = Sequence[int]
"""[completed, started]."""


@dataclass(frozen=True, slots=True)
class SessionCounts:
    """Counts of ended focus sessions, by local time, up to and including a local date.

    ``splits``: ``before noon``, ``after noon``, ``weekday``, ``weekend``, ``linked``, ``free`` to a tally.
    ``lengths``: planned minutes, rounded to 5, to a tally. ``by_day``: local date to a tally.
    ``weekdays``: dates with a completed session, of all dates, from Sunday on (for everybody: of user days).
    ``weeks``: focus minutes of the last complete weeks, oldest first.
    """

    splits: Mapping[str, Tally]
    lengths: Mapping[int, Tally]
    by_day: Mapping[date, Tally]
    weekdays: Sequence[Tally]
    weeks: Sequence[float]


@dataclass(frozen=True, slots=True)
class PersonActivity:
    """The counts, and dates of 180 days: ``active`` (a minute of focus or more), ``opened`` and ``done`` (a
    session was started, completed);
    ``minutes`` of completed sessions, local minutes of their ``starts``, focus seconds ``by_hour`` (0–23),
    the ``first`` active date."""

    facts: SessionCounts
    active: Sequence[date]
    opened: Sequence[date]
    done: Sequence[date]
    minutes: Sequence[float]
    starts: Sequence[float]
    by_hour: Sequence[float]
    first: date


def counts(facts: SessionCounts, subject: Subject, streak: StreakFacts | None = None) -> Counts:
    """The counts that the rules of insights need."""
    return Counts(
        subject=subject,
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


def insights_to_json(evidence: Counts) -> list[dict[str, Any]]:
    """The insights as they are stored: rule, text, evidence, p, strength."""
    return [
        asdict(insight) | {"p": float(f"{insight.p:.3g}"), "strength": round(insight.strength, 2)}
        for insight in insights(evidence)
    ]


def profile(person: PersonActivity, as_of: date, model: ChurnModel | None) -> dict[str, Any]:
    """Peak hours, chronotype, preferred length, consistency, churn risk and insights, as of a local date.

    Figures without their minimum of data are null; ``support`` says how much data there was.
    """
    recent_days = [day for day in person.active if day > as_of - timedelta(days=WINDOW)]
    focus = [(_HOUR * hour + _HOUR / 2, seconds) for hour, seconds in enumerate(person.by_hour)]
    mean = working_hours.clock_mean(focus)
    type_ = working_hours.chronotype(focus, len(recent_days))
    preferred = working_hours.preferred_length(person.minutes)
    regularity = working_hours.consistency(person.active, person.starts, as_of, person.first)
    habits = _habits(person, as_of)
    risk = model.risk(habits) if model else None
    return {
        "peakHours": working_hours.peak_hours(list(person.by_hour), len(recent_days)),
        "chronotype": str(type_) if type_ else None,
        "focusClock": {"minute": round(mean.minute), "r": round(mean.r, 3)} if mean else None,
        "preferredLength": {"minutes": preferred.minutes, "share": round(preferred.share, 3)}
        if preferred
        else None,
        "consistency": {
            "activeShare": round(regularity.active_share, 4),
            "startR": None if regularity.start_r is None else round(regularity.start_r, 3),
        }
        if regularity
        else None,
        "churnRisk": {
            "probability": None if risk is None else round(risk, 4),
            "reason": None if risk is not None else "insufficient",
        },
        "insights": insights_to_json(counts(person.facts, Subject.YOURS, _streak(person, as_of))),
        "support": {"activeDays": len(recent_days), "sessions": len(person.minutes)},
    }


def _habits(person: PersonActivity, as_of: date) -> ChurnFeatures:
    def since(days: int) -> int:
        return sum(day > as_of - timedelta(days=days) for day in person.opened)

    last = max(person.opened, default=person.first)
    return ChurnFeatures((as_of - last).days, since(28), since(180), (as_of - person.first).days)


def _streak(person: PersonActivity, as_of: date) -> StreakFacts:
    """The current streak, and the longest one that ended before it began."""
    active = set(person.active)
    current = current_streak(active, as_of)
    start = as_of - timedelta(days=current)
    previous = longest_streak({day for day in active if day < start})
    days = min(180, (as_of - person.first).days + 1)
    return StreakFacts(current, previous, len(active), max(days, len(active)))


def _pair(splits: Mapping[str, Tally], first: str, second: str) -> tuple[Proportion, Proportion]:
    return _split(first, splits.get(first)), _split(second, splits.get(second))


def _split(name: str, tally: Tally | None) -> Proportion:
    done, started = tally or (0, 0)
    return Proportion(name, done, started)
