"""Where users are: the zone by whose clock a series repeats, and the share of users that has a holiday."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta

from service import zones
from service.analytics.anomaly.holiday import Holiday
from service.analytics.anomaly.public_holidays import is_public_holiday

_LEAST_SHARE = 0.1
"""A holiday of fewer users is none."""
_SMALL_ZONE = 0.005
_MAJORITY = 1.25
"""Another zone takes over when the users of its clock are so many times as many."""
_MOST_COUNTRIES = 4
_LEAST_CLOCKS = 0.02
_CHANGED_LATELY = 28
"""So many days after clocks have changed, the hours of those users are learned anew."""
_DAY = timedelta(days=1)
_Places = list[tuple[str, str | None, float]]


def main_zone(users: Mapping[str, int], year: int, current: str | None = None) -> str:
    """The zone whose clock changes are those of most users (zone → number), in that year; UTC without users.

    ``current``: the one so far; it stays unless others are clearly more.
    """
    clocks: defaultdict[tuple[tuple[date, timedelta], ...], Counter[str]] = defaultdict(Counter)
    for name, number in sorted(users.items()):
        clocks[_clock_changes(name, year)][name] += number
    if not clocks:
        return current or zones.UTC_NAME
    most = max(clocks.values(), key=Counter.total)
    if current and _MAJORITY * clocks[_clock_changes(current, year)].total() >= most.total():
        return current
    return most.most_common(1)[0][0]


def _clock_changes(name: str, year: int) -> tuple[tuple[date, timedelta], ...]:
    zone, found = zones.zone_of(name), []
    noon = datetime.combine(date(year, 1, 1), time(12), UTC).astimezone(zone)
    before = noon.utcoffset() or timedelta()
    for _ in range(366):
        noon = (noon.astimezone(UTC) + _DAY).astimezone(zone)
        after = noon.utcoffset() or timedelta()
        if after != before:
            found.append((noon.date(), after - before))
        before = after
    return tuple(found)


@dataclass(frozen=True, slots=True)
class UserPlaces:
    """``months``: the first of a month → zone → users. A date before them has the places of the first."""

    months: Mapping[date, Mapping[str, int]]
    _known: dict[date, _Places] = field(default_factory=dict)
    _any: dict[tuple[date, date], bool] = field(default_factory=dict)
    _changed: dict[tuple[date, date], bool] = field(default_factory=dict)

    def users(self, day: date) -> Mapping[str, int]:
        """Zone → users, as of the month of a date."""
        month = self._month(day)
        return self.months[month] if month else {}

    def holiday(self, at: date) -> Holiday | None:
        """The holiday of an hour (aware) or a date, by all users' local dates; None: of few users."""
        day = at.astimezone(UTC).date() if isinstance(at, datetime) else at
        month = self._month(day)
        if month is None or not self._possible(month, day):
            return None
        having: defaultdict[str, float] = defaultdict(float)
        for zone, country, share in self._places(month):
            local = at.astimezone(zones.zone_of(zone)).date() if isinstance(at, datetime) else at
            if country and is_public_holiday(country, local):
                having[country] += share
        share = sum(having.values())
        if share < _LEAST_SHARE:
            return None
        largest = sorted(having, key=lambda country: (-having[country], country))[:_MOST_COUNTRIES]
        return Holiday(round(share, 3), ", ".join(largest))

    def clocks_changed(self, at: date) -> bool:
        """Whether the clocks of at least 2 % of the users changed within the last 28 days."""
        day = at.astimezone(UTC).date() if isinstance(at, datetime) else at
        month = self._month(day)
        if month is None:
            return False
        if (month, day) not in self._changed:
            begin, end = (datetime.combine(day + n * _DAY, time(), UTC) for n in (-_CHANGED_LATELY, 1))
            share = sum(
                share
                for zone, _, share in self._places(month)
                if begin.astimezone(zones.zone_of(zone)).utcoffset()
                != end.astimezone(zones.zone_of(zone)).utcoffset()
            )
            self._changed[month, day] = share >= _LEAST_CLOCKS
        return self._changed[month, day]

    def _month(self, day: date) -> date | None:
        return max((month for month in self.months if month <= day), default=min(self.months, default=None))

    def _possible(self, month: date, day: date) -> bool:
        """Whether any of their countries has a holiday around a date in UTC."""
        if (month, day) not in self._any:
            countries = {country for _, country, _ in self._places(month) if country}
            around = (day - _DAY, day, day + _DAY)
            self._any[month, day] = any(is_public_holiday(one, near) for one in countries for near in around)
        return self._any[month, day]

    def _places(self, month: date) -> _Places:
        """Zones with their countries and shares of all users, without the smallest."""
        if month not in self._known:
            users = self.months[month]
            total = max(sum(users.values()), 1)
            self._known[month] = [
                (zone, zones.country_of(zone), number / total)
                for zone, number in sorted(users.items())
                if number >= _SMALL_ZONE * total
            ]
        return self._known[month]
