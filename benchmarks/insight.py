"""How often noise is told, and truth found: ``python -m benchmarks.insight [simulated]``.

Prints, for each kind of sentence, how many of so many person-months (20,000 unless told) of people without
any habit are told it, how many months of everybody, and how many judged days have a trend; each with the
upper end of its 95 % interval (Clopper and Pearson) beside the aim, at most 1 %. Then how often a true habit
is found, and µs for each person. Seeds are fixed: the rates are the same on every machine.
"""

import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import date
from functools import partial

from benchmarks.ordinary_people import (
    KINDS,
    NOTHING,
    Kind,
    Planted,
    everybody,
    person,
    same_weekdays,
)
from service.analytics.habits import PersonActivity, profile
from service.analytics.insight import insights
from service.analytics.significance import Trend, day_trends, incomplete_beta

AIM = 0.01
RULES = ("noon", "weekday", "length", "goals", "weekend", "streak", "week")
_POWER = 400
_USUAL = Kind("usual", quiet=(0.2, 0.8), away=1, swing=0.5, sessions=(2.0, 3.0))
_PEOPLE = 60
Told = Callable[[random.Random], Iterable[str]]
"""The rules of the sentences that a simulated person is told."""


def told_person(dice: random.Random, kind: Kind, planted: Planted = NOTHING) -> list[str]:
    """What a simulated person is told."""
    return [one["rule"] for one in _profile(person(dice, kind, planted))["insights"]]


def _profile(simulated: PersonActivity) -> dict[str, list[dict[str, str]]]:
    return profile(simulated, date.fromordinal(simulated.facts.dates.until), None)


def told_everybody(dice: random.Random, planted: Planted = NOTHING, people: int = 0) -> list[str]:
    """What is told about a simulated month of everybody."""
    return [one.rule for one in insights(everybody(dice, planted, people))]


def told_day(dice: random.Random, mean: float, factor: float = 1.0) -> list[str]:
    """The verdict on a simulated day, if it is a trend."""
    verdict = day_trends(same_weekdays(dice, mean, factor))[-1].verdict
    return [str(verdict)] if verdict in {Trend.TREND, Trend.SIGNIFICANT} else []


def tally(count: int, told: Told, seed: str) -> Counter[str]:
    """How many of so many are told each kind of sentence, and ``anything``."""
    found: Counter[str] = Counter()
    for n in range(count):
        rules = set(told(random.Random(f"{seed} {n}")))
        found.update(rules)
        found["anything"] += bool(rules)
    return found


def upper(hits: int, trials: int) -> float:
    """The upper end of the 95 % interval of a rate (Clopper and Pearson)."""
    low, high = hits / trials, 1.0
    while high - low > 1e-7:
        middle = (low + high) / 2
        low, high = (
            (middle, high) if incomplete_beta(hits + 1, trials - hits, middle) < 0.975 else (low, middle)
        )
    return high


def _report(title: str, count: int, found: Counter[str], kinds: Iterable[str]) -> None:
    print(f"{f'{title}: {count:,}':<40}{'told':>8}{'rate':>9}{'at most':>9}{'aim':>8}")
    for kind in (*kinds, "anything"):
        bound = upper(found[kind], count)
        state = "" if bound <= AIM else "  missed"
        print(f"  {kind:<38}{found[kind]:>8}{found[kind] / count:>9.3%}{bound:>9.3%}{AIM:>8.0%}{state}")
    print(flush=True)


def _noise(count: int) -> None:
    each = -(-count // len(KINDS))
    together: Counter[str] = Counter()
    by_kind: Counter[str] = Counter()
    for kind in KINDS:
        found = tally(each, partial(told_person, kind=kind), kind.name)
        together += found
        by_kind[kind.name] = found["anything"]
    _report("noise: person-months", each * len(KINDS), together, RULES)
    for name, hits in by_kind.items():
        print(f"  {name:<38}{hits:>8}{hits / each:>9.3%}  told anything")
    print(flush=True)
    _report("noise: months of everybody", count, tally(count, told_everybody, "months"), RULES)
    for mean in (25.0, 100.0, 1000.0):
        found = tally(count, partial(told_day, mean=mean), f"days of {mean}")
        _report(f"noise: days of {mean:,.0f}", count, found, ("trend", "significant"))


PLANTED = {
    "noon": Planted(before_noon=0.3),
    "weekday": Planted(tuesday=0.6),
    "length": Planted(length=0.3),
    "goals": Planted(linked=0.3),
    "weekend": Planted(weekend=-0.4),
    "streak": Planted(streak=45),
    "week": Planted(week=4.0),
}


def _truth(count: int) -> None:
    print(f"{f'truth: found of {count}':<40}{'a person':>12}{'everybody':>12}")
    for rule, planted in PLANTED.items():
        one = tally(count, partial(told_person, kind=_USUAL, planted=planted), "true")[rule]
        many = tally(count, partial(told_everybody, planted=planted, people=_PEOPLE), "true")[rule]
        print(
            f"  {f'{rule}: {planted_words(planted)}':<38}{one / count:>12.0%}{many / count:>12.0%}",
            flush=True,
        )
    for factor in (0.3, 0.5, 0.7, 1.5, 2.0):
        rates = "".join(
            f"{tally(count, partial(told_day, mean=mean, factor=factor), 'true')['anything'] / count:>8.0%}"
            for mean in (25.0, 100.0, 1000.0)
        )
        print(f"  {f'a day of {factor:.0%}, usual are 25, 100, 1,000':<38}{rates}", flush=True)


def planted_words(planted: Planted) -> str:
    """The habit that is planted."""
    return ", ".join(
        f"{name} {getattr(planted, name):+g}"
        for name in Planted.__dataclass_fields__
        if getattr(planted, name) != getattr(NOTHING, name)
    )


def _cost() -> None:
    simulated = [person(random.Random(f"cost {n}"), KINDS[n % len(KINDS)]) for n in range(500)]
    start = time.process_time()
    for one in simulated:
        _profile(one)
    print(f"\n{1e6 * (time.process_time() - start) / len(simulated):.0f} µs for the profile of a person")


def main() -> None:
    """Print everything."""
    _noise(int(sys.argv[1]) if sys.argv[1:] else 20_000)
    _truth(_POWER)
    _cost()


if __name__ == "__main__":
    main()
