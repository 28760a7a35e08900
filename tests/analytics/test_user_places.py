"""Where users are: the clock of a series across changes, and what a public holiday does to it."""

import random
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import asyncpg
import pytest

from benchmarks.anomaly import opened, poisson
from service import zones
from service.analytics.anomaly import series
from service.analytics.anomaly.judging import SeriesValue, judge
from service.analytics.anomaly.series_state import start
from service.analytics.anomaly.user_places import UserPlaces, main_zone
from service.analytics.anomaly.verdict import Cadence, Measure, Severity
from tests.analytics.given import Lab, at, people
from tests.analytics.judged import DAY, HOUR

_BERLIN = {"Europe/Berlin": 80, "Europe/Vienna": 20}


def office(
    first: datetime, days: int, users: Mapping[str, int], closed: Mapping[date, float] | None = None
) -> Iterator[SeriesValue]:
    """Sessions of people who work from nine to five by their own clock, less on Saturday and Sunday.

    ``closed``: what is left of it on some dates.
    """
    for n in range(days * 24):
        dice = random.Random(n)
        instant, mean = first + n * HOUR, 2.0
        for zone, number in users.items():
            local = instant.astimezone(zones.zone_of(zone))
            if 9 <= local.hour < 17:
                part = 0.2 if local.weekday() >= 5 else 1.0
                mean += number * min(part, (closed or {}).get(local.date(), 1.0))
        yield SeriesValue(instant, poisson(dice, mean))


def told(
    values: Iterator[SeriesValue], zone: str, places: UserPlaces = UserPlaces({})
) -> list[tuple[int, str]]:
    """Where anomalies begin, and how severe they are."""
    judged = judge(start(Cadence.HOUR, Measure.COUNT), None, values, zones.zone_of(zone), places)
    return [(n, str(one.severity)) for n, one in opened(verdict for _, verdict, _ in judged.points)]


# ── Clocks ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("zone", "change"),
    [
        ("Europe/Berlin", "2026-03-29"),
        ("Europe/Berlin", "2026-10-25"),
        ("America/New_York", "2026-03-08"),
        ("America/New_York", "2026-11-01"),
    ],
)
def test_a_change_of_the_clock_opens_nothing(zone: str, change: str) -> None:
    first = at(f"{change} 00:00") - 28 * DAY
    users = {zone: 70, "Asia/Kolkata": 30}
    by_its_clock = told(office(first, 36, users), main_zone(users, 2026), UserPlaces({first.date(): users}))
    by_utc = told(office(first, 36, users), "UTC")
    assert [n for n, _ in by_its_clock if n >= 28 * 24] == []
    assert [n for n, _ in by_utc if n >= 28 * 24] != []


def test_the_zone_is_that_of_most_users_clocks() -> None:
    mixed = {"Europe/Berlin": 30, "Europe/London": 25, "America/New_York": 40, "Asia/Kolkata": 20}
    assert main_zone(mixed, 2026) == "Europe/Berlin", "London's clocks change with Berlin's"
    assert main_zone({"Asia/Kolkata": 5, "UTC": 2, "Europe/Paris": 6}, 2026) == "Asia/Kolkata"
    assert main_zone({}, 2026) == "UTC"


def test_the_zone_stays_until_others_are_clearly_more() -> None:
    assert main_zone({"Europe/Berlin": 40, "America/New_York": 49}, 2026, "Europe/Paris") == "Europe/Paris"
    assert (
        main_zone({"Europe/Berlin": 40, "America/New_York": 51}, 2026, "Europe/Paris") == "America/New_York"
    )
    assert main_zone({}, 2026, "Europe/Paris") == "Europe/Paris"


# ── Holidays ────────────────────────────────────────────────────────────────────────────────────────────────


def test_whose_holiday_it_is() -> None:
    places = UserPlaces({date(2026, 1, 1): _BERLIN | {"America/New_York": 100, "Asia/Tokyo": 3}})
    ascension = places.holiday(at("2026-05-14 12:00"))
    assert ascension
    assert (ascension.countries, round(ascension.share, 2)) == ("DE, AT", 0.49)
    assert places.holiday(at("2026-05-13 21:59")) is None
    assert places.holiday(at("2026-05-13 22:00")) == ascension, "midnight in Berlin"
    assert places.holiday(date(2026, 5, 14)) == ascension
    assert places.holiday(date(2026, 4, 29)) is None, "only Tokyo's"
    assert places.holiday(date(2026, 6, 10)) is None
    assert UserPlaces({}).holiday(date(2026, 5, 14)) is None


def test_places_are_those_of_the_month() -> None:
    places = UserPlaces({date(2026, 2, 1): {"Europe/Berlin": 1}, date(2026, 5, 1): {"America/New_York": 1}})
    found = [
        places.holiday(day)
        for day in (date(2026, 1, 1), date(2026, 4, 3), date(2026, 5, 14), date(2026, 5, 25))
    ]
    assert [one and one.countries for one in found] == ["DE", "DE", None, "US"], (
        "Germany's May holidays are none"
    )


def test_a_holiday_alerts_nobody_and_is_not_learned() -> None:
    first = at("2026-03-02 00:00")
    closed = {date(2026, 5, 1): 0.05, date(2026, 4, 3): 0.05, date(2026, 4, 6): 0.05}
    holidays = UserPlaces({date(2026, 1, 1): _BERLIN})
    days = 61
    with_them = told(office(first, days, _BERLIN, closed), "Europe/Berlin", holidays)
    without = told(office(first, days, _BERLIN, closed), "Europe/Berlin")
    assert {severity for n, severity in with_them if n >= 28 * 24} <= {"minor"}
    assert {severity for n, severity in without if n >= 28 * 24} >= {"critical"}

    zone = zones.zone_of("Europe/Berlin")
    values = (office(first, 33, _BERLIN, {date(2026, 4, 3): left}) for left in (0.05, 0.5))
    fresh = start(Cadence.HOUR, Measure.COUNT)
    states = [judge(fresh, None, one, zone, holidays).state for one in values]
    one, other = (replace(state, holidays=states[0].holidays) for state in states)
    assert one == other


def test_what_is_expected_of_a_holiday_is_learned() -> None:
    users = {"Europe/Berlin": 100}
    first, closed = (
        at("2026-03-02 00:00"),
        {date(2026, 4, 3): 0.6, date(2026, 4, 6): 0.6, date(2026, 5, 1): 0.6},
    )
    holidays = UserPlaces({date(2026, 1, 1): users})
    zone = zones.zone_of("Europe/Berlin")
    judged = judge(start(Cadence.HOUR, Measure.COUNT), None, office(first, 61, users, closed), zone, holidays)
    expected = {
        value.at: verdict.expected for value, verdict, holiday in judged.points if verdict and holiday
    }
    first_one, third = expected[at("2026-04-03 10:00")], expected[at("2026-05-01 10:00")]
    assert 15 < first_one < 40, "a Sunday's"
    assert third == pytest.approx(62, abs=16), "what the two before it were"


def test_a_holiday_of_some_does_not_hide_that_nobody_comes() -> None:
    """A third have it; what is alerted by day, at a daily series' fortieth day."""
    first = date(2026, 2, 22)
    places = UserPlaces({date(2026, 1, 1): {"Europe/Berlin": 1, "America/New_York": 2}})
    days = [first + timedelta(days=n) for n in range(40)]  # to the day before Good Friday
    usual = [SeriesValue(datetime(d.year, d.month, d.day, tzinfo=UTC), 90.0 + d.day % 7) for d in days]

    def alerted(value: float) -> Severity | None:
        values = [*usual, SeriesValue(at("2026-04-03 00:00"), value)]
        judged = judge(start(Cadence.DAY, Measure.COUNT), None, values, zones.zone_of("UTC"), places)
        (_, verdict, holiday) = judged.points[-1]
        assert holiday
        assert holiday.countries == "DE"
        assert verdict
        return verdict.severity

    assert alerted(62) in {None, Severity.MINOR}
    assert alerted(0) is Severity.CRITICAL


def test_a_holiday_in_words() -> None:
    first = at("2026-03-02 00:00")
    holidays = UserPlaces({date(2026, 1, 1): _BERLIN})
    values = [*office(first, 32, _BERLIN), SeriesValue(first + 32 * DAY, 400)]
    judged = judge(start(Cadence.HOUR, Measure.COUNT), None, values, zones.zone_of("Europe/Berlin"), holidays)
    (_, verdict, _) = judged.points[-1]
    assert verdict
    assert verdict.severity is Severity.MINOR
    assert verdict.in_words("sessions").endswith(
        "higher than every one of the last 27 days; a public holiday in DE"
    )


# ── Stored ──────────────────────────────────────────────────────────────────────────────────────────────────


async def test_points_are_stored_with_their_holiday_and_series_with_their_zone(lab: Lab) -> None:
    await lab.put(*people("ann", "bob", zone="Europe/Vienna"), *people("cem", zone="Europe/Berlin"))

    async def judged_until(until: datetime) -> None:
        async with lab.pool.acquire() as connection, connection.transaction():
            await series.detect(connection, series.ACTIVITY, until)

    await judged_until(at("2026-04-08 00:00"))
    rows = await lab.pool.fetch(
        "SELECT at, holiday FROM service.series_point"
        " WHERE series = 'hour.sessions' AND holiday IS NOT NULL ORDER BY at"
    )
    assert [rows[0]["at"], len(rows), rows[-1]["at"]] == [at("2026-04-02 22:00"), 48, at("2026-04-06 21:00")]
    assert {row["holiday"] for row in rows} == {"AT, DE", "DE"}
    assert await zone_of_hours(lab.pool) == "Europe/Vienna"

    await lab.put(*people(*(f"u{n}" for n in range(9)), zone="America/New_York"))
    await judged_until(at("2026-04-09 00:00"))
    assert await zone_of_hours(lab.pool) == "Europe/Vienna", "places are told once a month"
    await judged_until(at("2026-05-01 01:00"))
    assert await zone_of_hours(lab.pool) == "America/New_York"


async def zone_of_hours(pool: asyncpg.Pool) -> str:
    zone: str = await pool.fetchval("SELECT zone FROM service.series WHERE name = 'hour.sessions'")
    return zone
