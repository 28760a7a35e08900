"""Known faults in synthetic series: found? And quiet without them? ``python -m benchmarks.anomaly [series]``.

Prints, for hourly and daily series of several volumes and noises, how many anomalies a year a clean series
opens (in brackets: how many of them page), and the share of faults that are found (in brackets: that page).
Then faults that no single hour shows, and how many are found in time, in series of ten weeks with patterns of
the day and the week. Then how many anomalies clock changes and holidays open (in brackets: that page), with
and without knowing where users are. Then the first table for a rolling median and MAD with one threshold, µs
for each update, and the size of a state.
``series``: so many for each figure (10 unless told). Seeds are fixed: the rates are the same on every
machine.
"""

import json
import math
import random
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

from service import zones
from service.analytics.anomaly.detector import update
from service.analytics.anomaly.judging import SeriesValue, judge
from service.analytics.anomaly.open_anomaly import Anomaly, AnomalyChange, follow
from service.analytics.anomaly.series_state import SeriesState, start
from service.analytics.anomaly.user_places import UserPlaces, main_zone
from service.analytics.anomaly.verdict import Cadence, JudgedPoint, Measure, Severity
from service.analytics.significance import NORMAL_MAD, median

FIRST = datetime(2026, 1, 5, tzinfo=UTC)
"""A Monday."""
_ROLLING = 4.0


@dataclass(frozen=True)
class Noise:
    """``spread``: the coefficient of variation on top of Poisson's. ``wander``: the standard deviation of a
    slow level, in logarithms. ``weekend``: what is left of a weekday at the weekend."""

    name: str
    spread: float = 0.0
    wander: float = 0.0
    weekend: float = 1.0


@dataclass(frozen=True)
class Fault:
    """From its first point on, for ``points`` points, the expected value is ``times`` as large."""

    name: str
    times: float
    points: int

    @property
    def direction(self) -> str:
        return "high" if self.times > 1 else "low"


NOISES = (
    Noise("poisson"),
    Noise("weekly", weekend=0.6),
    Noise("clustered", spread=0.2, weekend=0.8),
    Noise("wandering", spread=0.1, wander=0.2, weekend=0.8),
)
FAULTS = {
    Cadence.HOUR: (
        Fault("spike x3, 2 h", 3.0, 2),
        Fault("drop -60 %, 6 h", 0.4, 6),
        Fault("outage, 4 h", 0.0, 4),
        Fault("level x2", 2.0, 24),
        Fault("level x0.5", 0.5, 24),
    ),
    Cadence.DAY: (
        Fault("spike x2, 1 day", 2.0, 1),
        Fault("drop -60 %, 1 day", 0.4, 1),
        Fault("outage, 1 day", 0.0, 1),
        Fault("level x1.6", 1.6, 7),
        Fault("level x0.6", 0.6, 7),
    ),
}
VOLUMES = {Cadence.HOUR: (3, 30, 300, 3000), Cadence.DAY: (5, 50, 500, 5000)}
"""At the height of the day; on a weekday."""
LENGTH = {Cadence.HOUR: 24 * 7 * 8, Cadence.DAY: 7 * 26}


@dataclass(frozen=True)
class SlowFault:
    """``times``: the factor of the expected value, so many hours after the fault began (never if ``moved``:
    then the weekend comes two days earlier). ``within``: hours in which it should be found, by ``aim`` of 12
    series."""

    name: str
    times: Callable[[int], float]
    within: int
    aim: int
    moved: bool = False


SLOW_FAULTS = (
    SlowFault("outage, 4 h", lambda n: 0.0 if n < 4 else 1.0, 1, 12),
    SlowFault("half, 6 h", lambda n: 0.5 if n < 6 else 1.0, 4, 11),
    SlowFault("half, for good", lambda n: 0.5, 6, 11),
    SlowFault("-30 %, a day", lambda n: 0.7 if n < 24 else 1.0, 24, 8),
    SlowFault("to half in a week", lambda n: max(0.5, 1 - n / 336), 168, 9),
    SlowFault("weekend moved", lambda n: 1.0, 336, 10, moved=True),
)
USERS = {
    "Berlin": {"Europe/Berlin": 70, "Europe/Vienna": 20},
    "New York": {"America/New_York": 80},
    "mixed": {"Europe/Berlin": 50, "America/New_York": 40, "Asia/Kolkata": 20},
}
CALENDAR_DAYS = (
    ("Berlin's spring", date(2026, 3, 29), 5),
    ("Berlin's autumn", date(2026, 10, 25), 5),
    ("New York's spring", date(2026, 3, 8), 5),
    ("New York's autumn", date(2026, 11, 1), 5),
    ("Easter", date(2026, 4, 3), 4),
    ("Labour Day US", date(2026, 9, 7), 1),
)
"""Clock changes and holidays: from when on, for so many days."""
_USERS_SERIES = 6
_SLOW_SERIES = 12
_SLOW_HOURS = 24 * 7 * 10


def poisson(dice: random.Random, mean: float) -> int:
    """Knuth's method; from 50 on the normal approximation."""
    if mean > 50:
        return max(0, round(dice.gauss(mean, math.sqrt(mean))))
    limit, count, product = math.exp(-mean), 0, dice.random()
    while product > limit:
        count += 1
        product *= dice.random()
    return count


def moments(cadence: Cadence, count: int) -> Iterator[date]:
    """So many hours or dates from a Monday on."""
    for n in range(count):
        yield FIRST + timedelta(hours=n) if cadence is Cadence.HOUR else FIRST.date() + timedelta(days=n)


def series(
    dice: random.Random, cadence: Cadence, volume: float, noise: Noise, fault: tuple[Fault, int] | None = None
) -> list[tuple[date, int]]:
    """A series with at most one fault, beginning at a point."""
    points = []
    slow = 0.0
    keep = 0.98 if cadence is Cadence.HOUR else 0.8
    for n, at in enumerate(moments(cadence, LENGTH[cadence])):
        mean = volume * (noise.weekend if at.weekday() >= 5 else 1.0)
        if isinstance(at, datetime):
            mean *= 0.04 + 0.96 * math.exp(-(((at.hour - 14) / 4.5) ** 2))
        slow = keep * slow + math.sqrt(1 - keep**2) * dice.gauss(0, noise.wander)
        mean *= math.exp(slow)
        if noise.spread:
            mean *= dice.gammavariate(noise.spread**-2, noise.spread**2)
        if fault and fault[1] <= n < fault[1] + fault[0].points:
            mean *= fault[0].times
        points.append((at, poisson(dice, mean)))
    return points


def slow_series(
    dice: random.Random, night: float, fault: SlowFault | None, first: int
) -> Iterator[tuple[date, int]]:
    """30 an hour on weekdays, 18 at weekends; ``night``: what is left of it at the quietest hour."""
    for n, at in enumerate(moments(Cadence.HOUR, _SLOW_HOURS)):
        assert isinstance(at, datetime)
        moved = fault is not None and fault.moved and n >= first
        mean = 18.0 if (at.weekday() + (2 if moved else 0)) % 7 >= 5 else 30.0
        mean *= night + (1 - night) * math.exp(-(((at.hour - 14) / 4.5) ** 2))
        if fault and n >= first:
            mean *= fault.times(n - first)
        yield at, poisson(dice, mean)


def slow_found(fault: SlowFault, night: float) -> int:
    """Of 12 series: in how many an anomaly is opened in time. The fault begins in the eighth week, at 9 to 16
    o'clock if it lasts for hours, else at any."""
    hits = 0
    for n in range(_SLOW_SERIES):
        dice = random.Random(f"{fault.name} {night} {n}")
        first = 24 * 49 + (0 if fault.moved else 24 * dice.randrange(4) + dice.randrange(9, 17))
        anomalies = opened(verdicts(Cadence.HOUR, slow_series(dice, night, fault, first)))
        hits += any(first <= at < first + fault.within for at, _ in anomalies)
    return hits


def slow_quiet(night: float) -> float:
    """How many anomalies a clean series of ten weeks opens."""
    dice = random.Random(f"clean {night}")
    count = 3 * _SLOW_SERIES
    clean = (verdicts(Cadence.HOUR, slow_series(dice, night, None, 0)) for _ in range(count))
    return sum(len(opened(one)) for one in clean) / count


def users_series(seed: int, zone_users: Mapping[str, int], days: int, begin: datetime) -> list[SeriesValue]:
    """Sessions of people who work from nine to five by their clock, a fifth at weekends and on holidays."""
    places = UserPlaces({begin.date(): zone_users})
    dice, values = random.Random(f"users {seed}"), []
    for n in range(24 * days):
        at = begin + timedelta(hours=n)
        having = places.holiday(at)
        mean = 2.0
        for name, users in zone_users.items():
            local = at.astimezone(zones.zone_of(name))
            if 9 <= local.hour < 17:
                mean += users * (0.2 if local.weekday() >= 5 else 1 - 0.8 * (having.share if having else 0))
        values.append(SeriesValue(at, poisson(dice, mean)))
    return values


def of_users(zone_users: Mapping[str, int], first: date, days: int, *, told: bool) -> tuple[float, float]:
    """Anomalies within so many days from a date on, in each of 6 series; those that page. ``told``: where the
    users are."""
    totals = [0, 0]
    lead, length = 42, _USERS_SERIES
    begin = datetime.combine(first - timedelta(days=lead), datetime.min.time(), UTC)
    places = UserPlaces({begin.date(): zone_users} if told else {})
    zone = zones.zone_of(main_zone(zone_users, first.year) if told else "UTC")
    for seed in range(length):
        values = users_series(seed, zone_users, lead + days, begin)
        judged = judge(start(Cadence.HOUR, Measure.COUNT), None, values, zone, places)
        found = [one for n, one in opened(v for _, v, _ in judged.points) if n >= 24 * lead]
        totals[0] += len(found)
        totals[1] += sum(one.severity is not Severity.MINOR for one in found)
    return totals[0] / length, totals[1] / length


def verdicts(cadence: Cadence, points: Iterable[tuple[date, float]]) -> Iterator[JudgedPoint | None]:
    """What the detector says to each point."""
    state = start(cadence, Measure.COUNT)
    for at, value in points:
        state, verdict = update(state, at, value)
        yield verdict


def followed(found: Iterable[JudgedPoint | None]) -> list[tuple[AnomalyChange, Anomaly | None]]:
    """What each verdict changes, and the anomaly that is open with it or was closed by it."""
    known: Anomaly | None = None
    seen = []
    for verdict in found:
        change, known = follow(known, verdict)
        seen.append((change, known))
        known = None if change is AnomalyChange.CLOSED else known
    return seen


def opened(found: Iterable[JudgedPoint | None]) -> list[tuple[int, Anomaly]]:
    """Where each anomaly was opened, and how it ended or stands at the end."""
    anomalies: list[tuple[int, Anomaly]] = []
    for n, (change, known) in enumerate(followed(found)):
        if known and change is AnomalyChange.OPENED:
            anomalies.append((n, known))
        elif known:
            anomalies[-1] = (anomalies[-1][0], known)
    return anomalies


def quiet(cadence: Cadence, volume: float, noise: Noise, count: int, seed: int = 1) -> tuple[float, float]:
    """Anomalies a year of a clean series; those that page."""
    totals = [0, 0]
    for n in range(count):
        dice = random.Random(f"{seed} {cadence} {volume} {noise.name} {n}")
        anomalies = opened(verdicts(cadence, series(dice, cadence, volume, noise)))
        totals[0] += len(anomalies)
        totals[1] += sum(one.severity is not Severity.MINOR for _, one in anomalies)
    years = count * LENGTH[cadence] / (365.25 * (24 if cadence is Cadence.HOUR else 1))
    return totals[0] / years, totals[1] / years


def begin(dice: random.Random, cadence: Cadence) -> int:
    """Where a fault begins: late in the series, and by day."""
    if cadence is Cadence.HOUR:
        return 24 * dice.randrange(35, 49) + dice.randrange(9, 18)
    return dice.randrange(120, 160)


def found(
    cadence: Cadence, volume: float, noise: Noise, fault: Fault, count: int, seed: int = 1
) -> tuple[float, float]:
    """The share of faults with a verdict that counts, in the right direction, while they last; that page."""
    hits = paged = 0
    for n in range(count):
        dice = random.Random(f"{seed} {cadence} {volume} {noise.name} {fault.name} {n}")
        first = begin(dice, cadence)
        told = list(verdicts(cadence, series(dice, cadence, volume, noise, (fault, first))))
        right = [v for v in told[first : first + fault.points] if v and v.direction == fault.direction]
        hits += any(v.anomalous for v in right)
        paged += any(v.severity in {Severity.MAJOR, Severity.CRITICAL} for v in right)
    return hits / count, paged / count


def rolling(values: Sequence[float], window: int) -> list[bool]:
    """The method that was found useless: |x - median| over MAD of the last window, one threshold."""
    flags = [False] * len(values)
    for n in range(window, len(values)):
        before = values[n - window : n]
        middle = median(before)
        spread = NORMAL_MAD * median(abs(value - middle) for value in before)
        flags[n] = abs(values[n] - middle) > _ROLLING * max(spread, 0.5)
    return flags


def rolling_rates(
    cadence: Cadence, volume: float, noise: Noise, fault: Fault, count: int
) -> tuple[float, float]:
    """Alarms a year of a clean series (each run of flags is one), and the share of faults found."""
    window = 7 * 24 if cadence is Cadence.HOUR else 28
    alarms = hits = 0
    for n in range(count):
        dice = random.Random(f"rolling {volume} {noise.name} {n}")
        flags = rolling([value for _, value in series(dice, cadence, volume, noise)], window)
        alarms += sum(now and not before for before, now in pairwise(flags))
        first = begin(dice, cadence)
        flags = rolling([v for _, v in series(dice, cadence, volume, noise, (fault, first))], window)
        hits += any(flags[first : first + fault.points])
    years = count * LENGTH[cadence] / (365.25 * (24 if cadence is Cadence.HOUR else 1))
    return alarms / years, hits / count


def cost(cadence: Cadence) -> tuple[float, int]:
    """µs for one update once the window is full, and the bytes of the state as JSON."""
    points = series(random.Random(1), cadence, 300, NOISES[1])
    state: SeriesState = start(cadence, Measure.COUNT)
    half = len(points) // 2
    for at, value in points[:half]:
        state, _ = update(state, at, value)
    began = time.perf_counter()
    for at, value in points[half:]:
        state, _ = update(state, at, value)
    spent = (time.perf_counter() - began) / (len(points) - half)
    return spent * 1e6, len(json.dumps(state.to_json(), separators=(",", ":")))


def _row(head: str, cells: Iterable[str]) -> None:
    print(f"{head:<28}" + "".join(f"{cell:>20}" for cell in cells), flush=True)


def main() -> None:
    """Print the tables."""
    count = int(sys.argv[1]) if sys.argv[1:] else 10
    for cadence in Cadence:
        _row(f"each {cadence}: volume, noise", ["clean: a year", *(one.name for one in FAULTS[cadence])])
        for volume in VOLUMES[cadence]:
            for noise in NOISES:
                calm = quiet(cadence, volume, noise, count)
                rates = [found(cadence, volume, noise, fault, count) for fault in FAULTS[cadence]]
                cells = [f"{100 * hit:.0f} % ({100 * page:.0f} %)" for hit, page in rates]
                _row(f"  {volume} {noise.name}", [f"{calm[0]:.1f} ({calm[1]:.1f})", *cells])
    _row("found in time, of 12", ["clean: in 10 weeks", *(one.name for one in SLOW_FAULTS)])
    _row("  aim", ["0.3", *(f"{one.aim} in {one.within} h" for one in SLOW_FAULTS)])
    for night, name in ((1.0, "30 at any hour"), (0.15, "30 at 14:00, 5 at night")):
        cells = [str(slow_found(one, night)) for one in SLOW_FAULTS]
        _row(f"  {name}", [f"{slow_quiet(night):.2f}", *cells])
    _row("anomalies from then on", [f"{name}, {days} d" for name, _, days in CALENDAR_DAYS])
    for name, zone_users in USERS.items():
        for told in (False, True):
            rates = [of_users(zone_users, first, days, told=told) for _, first, days in CALENDAR_DAYS]
            cells = [f"{every:.1f} ({page:.1f})" for every, page in rates]
            _row(f"  {name}" + ("" if told else ", not told where"), cells)
    _row("rolling median and MAD", ["clean: a year", "drop found"])
    for cadence in Cadence:
        fault = FAULTS[cadence][1]
        alarms, hits = rolling_rates(cadence, VOLUMES[cadence][2], NOISES[1], fault, max(count // 4, 1))
        _row(f"  each {cadence}, {VOLUMES[cadence][2]} weekly", [f"{alarms:.1f}", f"{100 * hits:.0f} %"])
    for cadence in Cadence:
        spent, size = cost(cadence)
        print(f"each {cadence}: {spent:.0f} µs for each update, a state of {size} bytes")


if __name__ == "__main__":
    main()
