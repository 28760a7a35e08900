"""Insights as sentences, from the counts of one user or of everybody: only what is statistically significant.

Each rule tests one question, and needs a minimum of data; a rule that picks the best of several (weekday,
length) corrects for their number (Bonferroni). Of all rules, the insights are those that pass Benjamini and
Hochberg's procedure (1995) at 1 %: of users whose days are all alike, at most one in a hundred gets an
insight. Strongest first, by -log₁₀ p.

The tests assume independent sessions. For a user with good and bad days they are not: ``design``
(``significance.design_effect`` of the days) is the factor by which they vary more, and each test takes it
into account.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from service.analytics.significance import compare, normal_tail, week_change

_FALSE_DISCOVERY_RATE = 0.01
_MIN_TRIALS = 20
_MIN_DIFFERENCE = 0.1
_MIN_STREAK = 5
_MIN_PERCENT = 10


class Subject(StrEnum):
    """Whose counts these are, as the subject of a sentence."""

    YOURS = "you"
    EVERYBODYS = "people"


@dataclass(frozen=True, slots=True)
class Proportion:
    """``successes`` of ``trials`` in one part of the sessions or days. ``name``: for use in a sentence:
    "before noon", "on Tuesdays", "of up to 25 minutes"."""

    name: str
    successes: int
    trials: int

    @property
    def rate(self) -> float:
        return self.successes / self.trials if self.trials else 0.0

    @property
    def words(self) -> str:
        """The evidence: ``61 of 80``."""
        return f"{self.successes:,} of {self.trials:,}"


@dataclass(frozen=True, slots=True)
class StreakFacts:
    """``current`` and ``before`` (the longest earlier one), in days; ``active`` of all ``days``, which
    include the current streak."""

    current: int
    before: int
    active: int
    days: int


@dataclass(frozen=True, slots=True)
class Counts:
    """What the rules test. A rule without counts is skipped.

    ``noon``: sessions completed of started, before and after noon. ``weekdays``: for each weekday, dates with
    a completed session of the dates in the range (for everybody: people-days). ``weekend``: sessions
    completed of started, weekdays and weekend. ``lengths``: sessions completed of started by planned length.
    ``goals``: linked to a goal, and not. ``weeks``: focus minutes of past weeks, oldest first, the latest
    complete one last. ``design``: see above, at least 1. Only a single user has a streak.
    """

    subject: Subject = Subject.YOURS
    noon: tuple[Proportion, Proportion] | None = None
    weekdays: tuple[Proportion, ...] = ()
    weekend: tuple[Proportion, Proportion] | None = None
    lengths: tuple[Proportion, ...] = ()
    goals: tuple[Proportion, Proportion] | None = None
    streak: StreakFacts | None = None
    weeks: tuple[float, ...] = ()
    design: float = 1.0


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


def run_tail(length: int, days: int, rate: float) -> float:
    """P(a run of at least ``length`` successes in ``days`` independent days of that rate), exactly.

    By the length of the run that ends today: a run of ``length`` is absorbing (Feller, 1968, XIII.7).
    """
    if length <= 0:
        return 1.0
    if length > days:
        return 0.0
    running = [1.0, *[0.0] * (length - 1)]
    probability = 0.0
    for _ in range(days):
        probability += running[-1] * rate
        running = [math.fsum(running) * (1 - rate), *(p * rate for p in running[:-1])]
    return min(probability, 1.0)


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
    return _compare_parts("noon", counts, counts.noon, "finish")


def weekend(counts: Counts) -> _RuleResult | None:
    """Are sessions at the weekend completed more often, or less?"""
    return _compare_parts("weekend", counts, counts.weekend, "finish")


def goal_linked(counts: Counts) -> _RuleResult | None:
    """Are sessions with a goal completed more often, or less?"""
    return _compare_parts("goals", counts, counts.goals, "finish")


def best_weekday(counts: Counts) -> _RuleResult | None:
    """Is one weekday better than the others?"""
    return _best_part("weekday", counts, counts.weekdays, "focus", "on other days")


def best_length(counts: Counts) -> _RuleResult | None:
    """Are sessions of one length completed more often than the others?"""
    return _best_part("length", counts, counts.lengths, "finish sessions", "of other lengths")


def streak_record(counts: Counts) -> _RuleResult | None:
    """Is the current streak the longest, and longer than this share of active days makes by itself?"""
    facts = counts.streak
    if facts is None or counts.subject is not Subject.YOURS or facts.days < _MIN_TRIALS:
        return None
    p = run_tail(facts.current, facts.days, facts.active / facts.days)
    evidence = (
        f"{facts.current} days in a row, {facts.before} before; active on {facts.active} of {facts.days} days"
    )
    record = facts.current > facts.before and facts.current >= _MIN_STREAK
    return _RuleResult("streak", p, record, f"Your longest streak so far: {evidence}", evidence)


def week_trend(counts: Counts) -> _RuleResult | None:
    """Did the last week change more than weeks usually do?"""
    if not counts.weeks:
        return None
    *history, current = counts.weeks
    change = week_change(history, current)
    if change is None or history[-1] <= 0:
        return None
    percent = 100 * (current - history[-1]) / history[-1]
    evidence = f"{current:,.0f} minutes against {history[-1]:,.0f} in the week before"
    way = "more" if percent > 0 else "less"
    text = f"{_subject(counts)} focused {abs(percent):.0f} % {way} last week: {evidence}"
    return _RuleResult("week", change.p, abs(percent) >= _MIN_PERCENT, text, evidence)


RULES: tuple[Callable[[Counts], _RuleResult | None], ...] = (
    noon,
    best_weekday,
    best_length,
    goal_linked,
    weekend,
    streak_record,
    week_trend,
)


def _compare_parts(
    rule: str, counts: Counts, parts: tuple[Proportion, Proportion] | None, verb: str
) -> _RuleResult | None:
    if parts is None:
        return None
    p = _p_value(parts[0], parts[1], counts.design)
    if p is None:
        return None
    more, less = sorted(parts, key=lambda part: -part.rate)
    evidence = f"{more.words} against {less.words}"
    text = (
        f"{_subject(counts)} {verb} sessions {more.name} more often than {less.name}: "
        f"{_percent(more)} against {_percent(less)} ({evidence})"
    )
    return _RuleResult(rule, p, more.rate - less.rate >= _MIN_DIFFERENCE, text, evidence)


def _best_part(
    rule: str, counts: Counts, parts: Sequence[Proportion], verb: str, others: str
) -> _RuleResult | None:
    """The part that stands out most from all others; its p is multiplied by the number of tests."""
    candidates: list[tuple[float, float, Proportion, Proportion]] = []
    for part in parts:
        rest = Proportion(
            others,
            sum(other.successes for other in parts) - part.successes,
            sum(other.trials for other in parts) - part.trials,
        )
        p = _p_value(part, rest, counts.design)
        if p is not None:
            candidates.append((p if part.rate > rest.rate else 1.0, rest.rate - part.rate, part, rest))
    if not candidates:
        return None
    p, behind, part, rest = min(candidates, key=lambda candidate: candidate[:2])
    evidence = f"{part.words} against {rest.words}"
    text = (
        f"{_subject(counts)} {verb} {part.name} more often than {rest.name}: "
        f"{_percent(part)} against {_percent(rest)} ({evidence})"
    )
    return _RuleResult(rule, min(1.0, p * len(candidates)), -behind >= _MIN_DIFFERENCE, text, evidence)


def _p_value(first: Proportion, second: Proportion, design: float) -> float | None:
    """p of the difference, with ``design`` times the variance; None without enough data."""
    comparison = compare(
        (first.successes, first.trials), (second.successes, second.trials), support=_MIN_TRIALS
    )
    return normal_tail(comparison.z / math.sqrt(max(design, 1.0))) if comparison else None


def _subject(counts: Counts) -> str:
    return counts.subject.value.capitalize()


def _percent(part: Proportion) -> str:
    return f"{100 * part.rate:.0f} %"
