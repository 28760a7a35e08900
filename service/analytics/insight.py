"""Insights as sentences, from the counts of one user or of everybody: only what is statistically significant.

Each rule tests one question, and needs a minimum of data; a rule that picks the best of several (weekday,
length) corrects for their number (Bonferroni). Of all rules, the insights are those that pass Benjamini and
Hochberg's procedure (1995) at 1 %. ``benchmarks.insight`` prints how often people and months without any
habit are told one: at most one in a hundred. Strongest first, by -log₁₀ p.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from service.analytics.comparison import (
    MIN_SESSIONS,
    Difference,
    DoneDates,
    Tallies,
    best_workday,
    difference,
)
from service.analytics.significance import week_change

_FALSE_DISCOVERY_RATE = 0.01
_MIN_DIFFERENCE = 0.1
_MIN_STREAK = 5
_MIN_PERCENT = 10
_WEEKDAYS = ("Mondays", "Tuesdays", "Wednesdays", "Thursdays", "Fridays")


class Subject(StrEnum):
    """Whose counts these are, as the subject of a sentence."""

    YOURS = "you"
    EVERYBODYS = "people"


@dataclass(frozen=True, slots=True)
class StreakFacts:
    """``current`` and ``before`` (the longest earlier one), in days; ``active`` of all ``days``, which
    include the current streak. ``chance``: that a streak which begins lasts so long
    (``streak.chance_to_last``)."""

    current: int
    before: int
    active: int
    days: int
    chance: float


@dataclass(frozen=True, slots=True)
class Counts:
    """What the rules test. A rule without enough data is skipped.

    ``sessions``, and those of them ``before_noon``, at the ``weekend``, ``linked`` to a goal; those with a
    planned length are ``timed``, and again by their length in ``lengths`` (minutes). ``dates``: those with a
    completed session. ``weeks``: focus minutes of past weeks, oldest first, the latest complete one last;
    ``middles``: the middle one (by focus minutes) of the workdays of these weeks, where it must have changed,
    too: one holiday does not. Only a single user has a streak.
    """

    subject: Subject = Subject.YOURS
    sessions: Tallies = field(default_factory=dict)
    before_noon: Tallies = field(default_factory=dict)
    weekend: Tallies = field(default_factory=dict)
    linked: Tallies = field(default_factory=dict)
    timed: Tallies = field(default_factory=dict)
    lengths: Mapping[int, Tallies] = field(default_factory=dict)
    dates: DoneDates | None = None
    streak: StreakFacts | None = None
    weeks: tuple[float, ...] = ()
    middles: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True)
class Insight:
    """One sentence and its basis. ``evidence``: the counts alone. ``strength``: -log₁₀ p."""

    rule: str
    text: str
    evidence: str
    p: float
    strength: float


def insights(counts: Counts) -> list[Insight]:
    """The significant insights, strongest first; rules without enough data are skipped."""
    results = [result for rule in RULES if (result := rule(counts)) is not None]
    significant = benjamini_hochberg([result.p for result in results], _FALSE_DISCOVERY_RATE)
    noteworthy = [
        result
        for result, is_significant in zip(results, significant, strict=True)
        if is_significant and result.noteworthy
    ]
    return [
        Insight(insight.rule, insight.text, insight.evidence, insight.p, -math.log10(max(insight.p, 1e-300)))
        for insight in sorted(noteworthy, key=lambda result: (result.p, result.rule))
    ]


def benjamini_hochberg(ps: Sequence[float], rate: float) -> list[bool]:
    """Benjamini and Hochberg: of m tests, those up to the largest p₍ᵢ₎ ≤ i/m · rate pass."""
    ordered = sorted(ps)
    limits = [p for rank, p in enumerate(ordered, 1) if p <= rank / len(ordered) * rate]
    limit = max(limits, default=-1.0)
    return [p <= limit for p in ps]


RULES_VERSION = 2
"""Raise it when a rule changes: a withdrawn sentence says whether the rules or the data changed."""

# ── The rules ───────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class _RuleResult:
    """The result of a rule. ``noteworthy``: whether the effect is large enough for a sentence."""

    rule: str
    p: float
    noteworthy: bool
    text: str
    evidence: str


def noon(counts: Counts) -> _RuleResult | None:
    """Are sessions before noon completed more often, or less?"""
    return _compare("noon", counts, counts.before_noon, "before noon", "after noon")


def weekend(counts: Counts) -> _RuleResult | None:
    """Are sessions at the weekend completed more often, or less?"""
    return _compare("weekend", counts, counts.weekend, "at the weekend", "on workdays")


def goal_linked(counts: Counts) -> _RuleResult | None:
    """Are sessions with a goal completed more often, or less?"""
    return _compare("goals", counts, counts.linked, "that belong to a goal", "without a goal")


def best_weekday(counts: Counts) -> _RuleResult | None:
    """Does one workday have completed sessions more often than the others?"""
    found = best_workday(counts.dates, _MIN_DIFFERENCE) if counts.dates else None
    if found is None:
        return None
    weekday, compared = found
    return _result("weekday", counts, "focus", f"on {_WEEKDAYS[weekday]}", "on other workdays", compared)


def best_length(counts: Counts) -> _RuleResult | None:
    """Are sessions of one length completed more often than the others?"""
    candidates = []
    for minutes, sessions in sorted(counts.lengths.items()):
        compared = _difference(counts, sessions, counts.timed)
        if compared is not None:
            candidates.append(
                (compared.p if compared.points > 0 else 1.0, -compared.points, minutes, compared)
            )
    if not candidates:
        return None
    p, _, minutes, compared = min(candidates, key=lambda candidate: candidate[:3])
    compared = Difference(
        compared.first, compared.second, compared.low, compared.high, min(1.0, p * len(candidates))
    )
    return _result("length", counts, "finish sessions", f"of {minutes} minutes", "of other lengths", compared)


def streak_record(counts: Counts) -> _RuleResult | None:
    """Is the current streak the longest, and longer than streaks of this person last by themselves?"""
    facts = counts.streak
    if facts is None or counts.subject is not Subject.YOURS or facts.days < MIN_SESSIONS:
        return None
    evidence = (
        f"{facts.current} days in a row, {facts.before} before; active on {facts.active} of {facts.days} days"
    )
    record = facts.current > facts.before and facts.current >= _MIN_STREAK
    return _RuleResult("streak", facts.chance, record, f"Your longest streak so far: {evidence}", evidence)


def week_trend(counts: Counts) -> _RuleResult | None:
    """Did the last week change more than weeks usually do?"""
    if not counts.weeks or counts.weeks[-1] <= 0:
        return None
    *history, current = counts.weeks
    changes = [week_change(history, current)]
    if counts.middles is not None:
        changes.append(week_change(counts.middles[:-1], counts.middles[-1]))
    ps = [change.p for change in changes if change is not None]
    if len(ps) < len(changes) or history[-1] <= 0:
        return None
    percent = 100 * (current - history[-1]) / history[-1]
    evidence = f"{current:,.0f} minutes against {history[-1]:,.0f} in the week before"
    way = "more" if percent > 0 else "less"
    text = f"{_subject(counts)} focused {abs(percent):.0f} % {way} last week: {evidence}"
    return _RuleResult("week", max(ps), abs(percent) >= _MIN_PERCENT, text, evidence)


RULES: tuple[Callable[[Counts], _RuleResult | None], ...] = (
    noon,
    best_weekday,
    best_length,
    goal_linked,
    weekend,
    streak_record,
    week_trend,
)


def _difference(counts: Counts, part: Tallies, everything: Tallies) -> Difference | None:
    return difference(part, everything, _MIN_DIFFERENCE, people=counts.subject is Subject.EVERYBODYS)


def _compare(rule: str, counts: Counts, part: Tallies, name: str, other: str) -> _RuleResult | None:
    compared = _difference(counts, part, counts.sessions)
    if compared is None:
        return None
    if compared.points < 0:
        name, other, compared = other, name, compared.reversed
    return _result(rule, counts, "finish sessions", name, other, compared)


def _result(rule: str, counts: Counts, verb: str, name: str, other: str, compared: Difference) -> _RuleResult:
    """A difference as a sentence. Not noteworthy: under 10 points, or rates that differ otherwise than within
    the weeks."""
    first, second = compared.first, compared.second
    evidence = f"{first.words} against {second.words}"
    rates = f"{100 * first.rate:.0f} % against {100 * second.rate:.0f} %"
    interval = f"between {100 * compared.low:.0f} and {100 * compared.high:.0f} points more"
    text = f"{_subject(counts)} {verb} {name} more often than {other}: {rates}, {interval} ({evidence})"
    holds = compared.points >= _MIN_DIFFERENCE and 0 < compared.low <= compared.points <= compared.high
    return _RuleResult(rule, compared.p, holds, text, evidence)


def _subject(counts: Counts) -> str:
    return counts.subject.value.capitalize()
