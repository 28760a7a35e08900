"""Insights in words, from somebody's counts or everybody's: only what noise does not explain.

Each rule asks one question of the counts, with a minimum support and a test behind it; a rule that picks the
best of several (weekday, length) pays for each that it looked at (Bonferroni). Of all rules asked, those are
told that pass Benjamini and Hochberg's procedure (1995) at 1 %: among the counts of people whose days are all
alike, at most one in a hundred is told anything. Strongest first: by -log₁₀ p.

The tests take sessions as independent. Where somebody has good and bad days they are not: ``design``
(``significance.design_effect`` of the days) is the factor by which they vary more, and each test asks for
more.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from service.analytics.significance import compare, normal_tail, week_change

_FALSE_SHARE = 0.01
_SUPPORT = 20
_NOTEWORTHY = 0.1
_STREAK = 5
_PERCENT = 10


class Subject(StrEnum):
    """Whose counts they are, as the subject of a sentence."""

    YOURS = "you"
    EVERYBODYS = "people"


@dataclass(frozen=True, slots=True)
class Proportion:
    """``successes`` of ``trials`` in one part of somebody's sessions or days. ``name``: as a sentence needs
    it, "before noon", "on Tuesdays", "of up to 25 minutes"."""

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
    """``current`` and ``before`` (the longest earlier one), in days; ``active`` of the ``days`` looked at,
    the current streak among them."""

    current: int
    before: int
    active: int
    days: int


@dataclass(frozen=True, slots=True)
class Counts:
    """What the rules ask. A rule whose counts are empty is not asked.

    ``noon``: sessions completed of started, before and after noon. ``weekdays``: for each weekday, dates with
    a completed session of the dates in the range (for everybody: people-days). ``weekend``: sessions
    completed of started, weekdays and weekend. ``lengths``: sessions completed of started by planned length.
    ``goals``: linked to a goal, and not. ``weeks``: focus minutes of past weeks, oldest first, the latest
    complete one last. ``design``: see above, at least 1. A streak is one person's: everybody has none.
    """

    whose: Subject = Subject.YOURS
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
    """One sentence and what it rests on. ``evidence``: the counts alone. ``strength``: -log₁₀ p."""

    rule: str
    text: str
    evidence: str
    p: float
    strength: float


def insights(counts: Counts) -> list[Insight]:
    """What may be told, strongest first; rules without enough support are not asked."""
    answers = [answer for rule in RULES if (answer := rule(counts)) is not None]
    told = passed([answer.p for answer in answers], _FALSE_SHARE)
    worth = [answer for answer, tell in zip(answers, told, strict=True) if tell and answer.noteworthy]
    return [
        Insight(a.rule, a.text, a.evidence, a.p, -math.log10(max(a.p, 1e-300)))
        for a in sorted(worth, key=lambda a: (a.p, a.rule))
    ]


def passed(ps: Sequence[float], share: float) -> list[bool]:
    """Benjamini and Hochberg: of m tests, those up to the largest p₍ᵢ₎ ≤ i/m · share."""
    ordered = sorted(ps)
    limits = [p for place, p in enumerate(ordered, 1) if p <= place / len(ordered) * share]
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
    reached = 0.0
    for _ in range(days):
        reached += running[-1] * rate
        running = [math.fsum(running) * (1 - rate), *(share * rate for share in running[:-1])]
    return min(reached, 1.0)


# ── The rules ───────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class _Answer:
    """What a rule found: p whatever the effect; ``noteworthy``: large enough to be worth a sentence."""

    rule: str
    p: float
    noteworthy: bool
    text: str
    evidence: str


def noon(counts: Counts) -> _Answer | None:
    """Are sessions before noon completed more often, or less?"""
    return _versus("noon", counts, counts.noon, "finish")


def weekend(counts: Counts) -> _Answer | None:
    """Are sessions at the weekend completed more often, or less?"""
    return _versus("weekend", counts, counts.weekend, "finish")


def goal_linked(counts: Counts) -> _Answer | None:
    """Are sessions with a goal completed more often, or less?"""
    return _versus("goals", counts, counts.goals, "finish")


def best_weekday(counts: Counts) -> _Answer | None:
    """Is one weekday better than the others?"""
    return _best("weekday", counts, counts.weekdays, "focus", "on other days")


def best_length(counts: Counts) -> _Answer | None:
    """Are sessions of one length completed more often than the others?"""
    return _best("length", counts, counts.lengths, "finish sessions", "of other lengths")


def streak_record(counts: Counts) -> _Answer | None:
    """Is the current streak the longest, and longer than this share of active days makes by itself?"""
    facts = counts.streak
    if facts is None or counts.whose is not Subject.YOURS or facts.days < _SUPPORT:
        return None
    p = run_tail(facts.current, facts.days, facts.active / facts.days)
    evidence = (
        f"{facts.current} days in a row, {facts.before} before; active on {facts.active} of {facts.days} days"
    )
    record = facts.current > facts.before and facts.current >= _STREAK
    return _Answer("streak", p, record, f"Your longest streak so far: {evidence}", evidence)


def week_trend(counts: Counts) -> _Answer | None:
    """Did the last week change more than weeks do?"""
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
    return _Answer("week", change.p, abs(percent) >= _PERCENT, text, evidence)


RULES: tuple[Callable[[Counts], _Answer | None], ...] = (
    noon,
    best_weekday,
    best_length,
    goal_linked,
    weekend,
    streak_record,
    week_trend,
)


def _versus(
    rule: str, counts: Counts, parts: tuple[Proportion, Proportion] | None, verb: str
) -> _Answer | None:
    if parts is None:
        return None
    p = _tested(parts[0], parts[1], counts.design)
    if p is None:
        return None
    more, less = sorted(parts, key=lambda part: -part.rate)
    evidence = f"{more.words} against {less.words}"
    text = (
        f"{_subject(counts)} {verb} sessions {more.name} more often than {less.name}: "
        f"{_percent(more)} against {_percent(less)} ({evidence})"
    )
    return _Answer(rule, p, more.rate - less.rate >= _NOTEWORTHY, text, evidence)


def _best(rule: str, counts: Counts, parts: Sequence[Proportion], verb: str, others: str) -> _Answer | None:
    """The part that stands out above the rest taken together; p times the number of parts that could have."""
    found: list[tuple[float, float, Proportion, Proportion]] = []
    for part in parts:
        rest = Proportion(
            others,
            sum(one.successes for one in parts) - part.successes,
            sum(one.trials for one in parts) - part.trials,
        )
        p = _tested(part, rest, counts.design)
        if p is not None:
            found.append((p if part.rate > rest.rate else 1.0, rest.rate - part.rate, part, rest))
    if not found:
        return None
    p, behind, part, rest = min(found, key=lambda one: one[:2])
    evidence = f"{part.words} against {rest.words}"
    text = (
        f"{_subject(counts)} {verb} {part.name} more often than {rest.name}: "
        f"{_percent(part)} against {_percent(rest)} ({evidence})"
    )
    return _Answer(rule, min(1.0, p * len(found)), -behind >= _NOTEWORTHY, text, evidence)


def _tested(first: Proportion, second: Proportion, design: float) -> float | None:
    """p of the difference, its variance ``design`` times as large; None below the support."""
    found = compare((first.successes, first.trials), (second.successes, second.trials), support=_SUPPORT)
    return normal_tail(found.z / math.sqrt(max(design, 1.0))) if found else None


def _subject(counts: Counts) -> str:
    return counts.whose.value.capitalize()


def _percent(part: Proportion) -> str:
    return f"{100 * part.rate:.0f} %"
