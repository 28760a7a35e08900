"""Public holidays by country, from the ``holidays`` library; regional ones are left out."""

from datetime import date
from functools import cache

import holidays


def is_public_holiday(country: str, day: date) -> bool:
    """``country``: its ISO code. False for a country that the library does not know."""
    return day in _days(country, day.year)


@cache
def _days(country: str, year: int) -> frozenset[date]:
    try:
        return frozenset(holidays.country_holidays(country, years=year))
    except NotImplementedError:
        return frozenset()
