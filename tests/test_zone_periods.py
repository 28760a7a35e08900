"""The periods of zones. ``tests/engine/test_zone_table.py`` compares all of them with ``ZoneInfo``."""

from datetime import UTC, datetime

from service.zone_periods import LAST, ZonePeriods, differences, periods

HOUR = 3600


def test_a_zone_without_changes_is_one_period() -> None:
    assert periods("Asia/Kolkata") == periods("Asia/Calcutta") == ZonePeriods([], [5 * HOUR + 1800])


def test_a_change_inside_an_hour_and_one_that_leaves_out_a_date_are_found() -> None:
    caracas, apia = periods("America/Caracas"), periods("Pacific/Apia")

    assert datetime(2016, 5, 1, 7, tzinfo=UTC) in caracas.changes
    assert datetime(2011, 12, 30, 10, tzinfo=UTC) in apia.changes


def test_differences_are_the_spans_with_other_offsets() -> None:
    a, b, c = (datetime(year, 1, 1, tzinfo=UTC) for year in (2000, 2010, 2020))
    one = ZonePeriods([a, b], [0, HOUR, 0])

    assert differences(one, one) == []
    assert differences(one, ZonePeriods([a, c], [0, HOUR, 0])) == [(b, c)]
    assert differences(one, ZonePeriods([a, b], [0, HOUR, HOUR])) == [(b, LAST)]
    assert differences(one, ZonePeriods([b, c], [0, HOUR, 0])) == [(a, b), (b, c)]
