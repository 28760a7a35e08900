"""How often noise is told as an insight: ``python -m benchmarks.insight [people]``.

Prints, for people whose sessions and days are all alike (so that every insight is false): the share that is
told anything, for few and many sessions, and for people with good and bad days, with and without the design
factor. Then how often a true difference is found. Seeds are fixed: the rates are the same on every machine.
"""

import random
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from service.analytics.insight import Counts, Proportion, StreakFacts, insights
from service.analytics.significance import design_effect

_WEEKDAYS = ("Mondays", "Tuesdays", "Wednesdays", "Thursdays", "Fridays", "Saturdays", "Sundays")
_LENGTHS = ("of up to 25 minutes", "of 26 to 50 minutes", "of more than 50 minutes")
_NAMES = {
    "noon": ("before noon", "after noon"),
    "weekend": ("on weekdays", "at the weekend"),
    "goals": ("with a goal", "without a goal"),
}


def person(
    dice: random.Random, days: int, a_day: float, swing: float = 0.0, before_noon: float = 0.0
) -> Counts:
    """Somebody without any habit: each session is completed with the same chance, 70 %, give or take
    ``swing`` on good and bad days; each day is active with the same chance. ``before_noon``: added to the
    chance there."""
    tallies: dict[tuple[str, int], list[int]] = {}
    weeks = [0.0] * (days // 7)
    by_day: list[tuple[int, int]] = []
    active_days: list[bool] = []
    for day in range(days):
        chance = 0.7 + swing * dice.choice((-1, 1))
        sessions = sum(dice.random() < 0.5 for _ in range(round(2 * a_day)))
        finished = 0
        for _ in range(sessions):
            places = {
                "noon": dice.randrange(2),
                "weekend": int(day % 7 >= 5),
                "goals": dice.randrange(2),
                "length": dice.randrange(3),
            }
            done = dice.random() < chance + (before_noon if places["noon"] == 0 else 0.0)
            finished += done
            for place in places.items():
                tally = tallies.setdefault(place, [0, 0])
                tally[0] += done
                tally[1] += 1
            if day // 7 < len(weeks):
                weeks[day // 7] += 25 * done
        active_days.append(finished > 0)
        by_day.append((finished, sessions))
        tally = tallies.setdefault(("weekday", day % 7), [0, 0])
        tally[0] += finished > 0
        tally[1] += 1

    def split(rule: str, at: int, name: str) -> Proportion:
        return Proportion(name, *tallies.get((rule, at), [0, 0]))

    def pair(rule: str) -> tuple[Proportion, Proportion]:
        first, second = _NAMES[rule]
        return split(rule, 0, first), split(rule, 1, second)

    return Counts(
        noon=pair("noon"),
        weekdays=tuple(split("weekday", at, f"on {name}") for at, name in enumerate(_WEEKDAYS)),
        weekend=pair("weekend"),
        lengths=tuple(split("length", at, name) for at, name in enumerate(_LENGTHS)),
        goals=pair("goals"),
        streak=_streak(active_days),
        weeks=tuple(weeks),
        design=design_effect(by_day),
    )


def _streak(active_days: list[bool]) -> StreakFacts:
    runs = [0]
    for active in active_days:
        runs = [*runs[:-1], runs[-1] + 1] if active else [*runs, 0]
    return StreakFacts(runs[-1], max(runs[:-1], default=0), sum(active_days), len(active_days))


def told(count: int, make: Callable[[random.Random], Counts], rule: str | None = None) -> float:
    """The share of so many people who are told anything (by the rule)."""
    hits = 0
    for n in range(count):
        found = insights(make(random.Random(f"person {n}")))
        hits += any(rule in {None, one.rule} for one in found)
    return hits / count


def naive(dice: random.Random, days: int, a_day: float, swing: float) -> Counts:
    """The same person, taken as if all sessions were independent."""
    return replace(person(dice, days, a_day, swing), design=1.0)


def main() -> None:
    """Print both tables."""
    count = int(sys.argv[1]) if sys.argv[1:] else 1000
    heads = ("alike", "good and bad days", "design unknown")
    print(f"{'noise: told anything':<32}" + "".join(f"{head:>20}" for head in heads))
    for days, a_day in ((28, 2.0), (90, 2.0), (180, 4.0)):
        makers = [
            partial(person, days=days, a_day=a_day),
            partial(person, days=days, a_day=a_day, swing=0.25),
            partial(naive, days=days, a_day=a_day, swing=0.25),
        ]
        rates = "".join(f"{told(count, make):>20.2%}" for make in makers)
        print(f"{f'  {days} days, {a_day:.0f} sessions a day':<32}{rates}", flush=True)
    print("a true difference before noon, 90 days, 2 sessions a day: found")
    for points in (0.1, 0.2, 0.3):
        make = partial(person, days=90, a_day=2.0, before_noon=points)
        print(f"{f'  {100 * points:.0f} points':<32}{told(count, make, 'noon'):>20.0%}", flush=True)


if __name__ == "__main__":
    main()
