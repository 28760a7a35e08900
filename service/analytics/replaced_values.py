"""Final figures that were revised: what they were, and until when."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

import asyncpg

from service.analytics.statistic import CALENDARS, Statistic, over_everywhere
from service.engine import queries

_SQL = queries.load(__file__)


@dataclass(frozen=True, slots=True)
class ReplacedValue:
    """What a final figure of a period was, until the revision (an instant, aware) that replaced it."""

    period: date
    figure: str
    was: float
    until: datetime


async def replaced_values(
    pool: asyncpg.Pool, statistic: Statistic, figures: Sequence[str], since: date, until: date
) -> list[ReplacedValue]:
    """The replaced values of these figures, of periods that begin on the dates ``since`` to ``until``, both
    included; oldest period first, its latest replaced value first.

    A value that was replaced while its period was provisional is not among them.
    """
    rows = await pool.fetch(_SQL["replaced_values"], statistic, since, until, list(figures))
    following = CALENDARS[statistic].following
    return [
        ReplacedValue(row["period"].date(), row["figure"], row["was"], row["replaced_at"])
        for row in rows
        if following(row["period"]) <= over_everywhere(row["computed_at"])
    ]
