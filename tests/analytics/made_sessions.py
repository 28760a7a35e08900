"""Sessions as the tallies of ``service.analytics.comparison``."""

from collections.abc import Iterable
from typing import NamedTuple

from service.analytics.comparison import Key

MONDAY = 739_257
"""2025-01-06, as an ordinal."""
Made = dict[Key, list[int]]


class Session(NamedTuple):
    """A session of a group of people on a date: whether it is in the part that is compared, and completed."""

    key: Key
    inside: bool
    done: bool


def tallies(sessions: Iterable[Session]) -> tuple[Made, Made]:
    """Those in the part, and all."""
    part: Made = {}
    everything: Made = {}
    for key, inside, done in sessions:
        for made in (part, everything) if inside else (everything,):
            tally = made.setdefault(key, [0, 0])
            tally[0] += done
            tally[1] += 1
    return part, everything


def alternating(rate: tuple[int, int], other: tuple[int, int], days: int = 28) -> tuple[Made, Made]:
    """One session in the part and one not on each of so many dates; so many of so many in a row are
    completed."""
    return tallies(
        Session((0, MONDAY + day), inside, day % of < done)
        for day in range(days)
        for inside, (done, of) in ((True, rate), (False, other))
    )
