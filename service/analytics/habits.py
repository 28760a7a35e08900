"""Computes habits and insights from the last 90 days, of one user or of everybody. Pure."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from typing import Any

from service.analytics import working_hours
from service.analytics.churn import ChurnFeatures, ChurnModel
from service.analytics.comparison import WORKDAYS, DoneDates, Key, weekday_of
from service.analytics.insight import Counts, StreakFacts, Subject, insights
from service.analytics.significance import median
from service.analytics.streak import chance_to_last, current_streak, longest_streak

WINDOW = 90
"""Days of sessions from which habits are computed."""
_HOUR = 60
_STREAK_WINDOW = 180
_WHOLE_WEEK = 0.75
Cell = Sequence[int]
"""[group of people, local date as its ordinal, before noon (0, 1), linked (0, 1), planned minutes (0: none),
completed, started]: sessions that have all this in common."""


@dataclass(frozen=True, slots=True)
class SessionCounts:
    """Counts of ended focus sessions, by local time, up to and including a local date.

    ``dates``: those with a completed session. ``weeks``: focus minutes of the last complete weeks, oldest
    first. ``middles``: see ``insight.Counts``.
    """

    cells: Iterable[Cell]
    dates: DoneDates
    weeks: Sequence[float]
    middles: Sequence[float] | None = None


@dataclass(frozen=True, slots=True)
class PersonActivity:
    """The counts, and dates of 180 days: ``active`` (a minute of focus or more) and ``opened`` (a session was
    started); ``minutes`` of completed sessions, local minutes of their ``starts``, focus seconds ``by_hour``
    (0–23), and the ``first`` date on which a session was opened."""

    facts: SessionCounts
    active: Sequence[date]
    opened: Sequence[date]
    minutes: Sequence[float]
    starts: Sequence[float]
    by_hour: Sequence[float]
    first: date


def counts(facts: SessionCounts, subject: Subject, streak: StreakFacts | None = None) -> Counts:
    """The counts that the rules of insights need."""
    everything: dict[Key, list[int]] = {}
    before_noon: dict[Key, list[int]] = {}
    linked: dict[Key, list[int]] = {}
    timed: dict[Key, list[int]] = {}
    lengths: dict[int, dict[Key, list[int]]] = {}
    for group, day, early, has_goal, minutes, done, started in facts.cells:
        key = (group, day)
        parts = [everything]
        if early:
            parts.append(before_noon)
        if has_goal:
            parts.append(linked)
        if minutes:
            parts += timed, lengths.setdefault(minutes, {})
        for part in parts:
            tally = part.get(key)
            if tally is None:
                part[key] = [done, started]
            else:
                tally[0] += done
                tally[1] += started
    return Counts(
        subject=subject,
        sessions=everything,
        before_noon=before_noon,
        weekend={key: tally for key, tally in everything.items() if weekday_of(key[1]) not in WORKDAYS},
        linked=linked,
        timed=timed,
        lengths=lengths,
        dates=facts.dates,
        streak=streak,
        weeks=tuple(facts.weeks),
        middles=None if facts.middles is None else tuple(facts.middles),
    )


def weeks_at_work(minutes: Sequence[float], active: Iterable[date], as_of: date) -> list[float]:
    """The weeks (of seven days up to ``as_of``, oldest first) that were not weeks away: those with at least
    three quarters of the active days that such weeks usually have (the median). Empty: the last one or the
    one before it was, so that there is nothing to compare."""
    days = Counter((as_of - day).days // 7 for day in active)
    by_week = [days[back] for back in reversed(range(len(minutes)))]
    usual = median(by_week) if by_week else 0
    at_work = [count >= max(1, _WHOLE_WEEK * usual) for count in by_week]
    if not all(at_work[-2:]):
        return []
    return [value for value, present in zip(minutes, at_work, strict=True) if present]


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
    end = as_of if as_of in active else as_of - timedelta(days=1)
    start = end - timedelta(days=current - 1)
    previous = longest_streak({day for day in active if day < start})
    days = min(_STREAK_WINDOW, (as_of - person.first).days + 1)
    since = as_of - timedelta(days=days - 1)
    chance = chance_to_last(active, since, start, current) if current > previous else 1.0
    return StreakFacts(current, previous, len(active), max(days, len(active)), chance)
