"""Which periods of a statistic a backfill derives, again or for the first time."""

from dataclasses import dataclass
from datetime import date, datetime
from zoneinfo import ZoneInfo

import asyncpg

from service.analytics import rollups
from service.analytics.statistic import CALENDARS, Statistic
from service.errors import BadRequest

_UTC = ZoneInfo("UTC")
_MOST_PERIODS = 4000
_EARLIEST = date(1970, 1, 1)


@dataclass(frozen=True, slots=True)
class Backfill:
    """The periods of a backfill: those without a row, and those that would be derived again."""

    missing: list[datetime]
    again: list[datetime]


async def periods_to_derive(
    executor: asyncpg.Connection | asyncpg.Pool,
    statistic: Statistic,
    since: date,
    until: date,
    now: datetime,
    zone: ZoneInfo,
) -> Backfill:
    """The periods of these dates (both included) that have ended by ``now``. ``zone``: of service days.

    Raises BadRequest: none, too many, or too long ago.
    """
    if since < _EARLIEST:
        raise BadRequest(f"from ({since}) is out of reach: use a date from {_EARLIEST} on")
    calendar, calendar_zone = CALENDARS[statistic], _UTC if statistic is Statistic.BEHAVIOUR else zone
    end = calendar.before(now.astimezone(calendar_zone).replace(tzinfo=None))
    periods = calendar.between(since, until, end, _MOST_PERIODS)
    if not periods:
        raise BadRequest(f"no {statistic} period from {since} to {until} is over yet")
    if len(periods) > _MOST_PERIODS:
        raise BadRequest(f"from and to hold more than {_MOST_PERIODS} periods; choose a shorter range")
    existing = await rollups.existing_periods(executor, statistic, periods[0], periods[-1])
    return Backfill([p for p in periods if p not in existing], [p for p in periods if p in existing])


def period_name(statistic: Statistic, period: datetime) -> str:
    """A period as the API names it: its date, of behaviour the instant at which it begins."""
    return f"{period.isoformat()}Z" if statistic is Statistic.BEHAVIOUR else period.date().isoformat()
