"""Slots that fall into a gap or an overlap are named, and no others."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from service.engine.clock_change import clock_change_slots
from service.engine.schedule import Schedule

_FROM, _TO = datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("cron", "zone", "found"),
    [
        ("30 2 * * *", "Europe/Berlin", ["gap 2026-03-29T01:30", "overlap 2026-10-25T00:30"]),
        ("0 9 * * *", "Europe/Berlin", []),
        ("30 2 * * *", "UTC", []),
        ("30 2 * * *", "Asia/Tokyo", []),
        ("30 1 * * *", "America/New_York", ["overlap 2026-11-01T05:30"]),
        ("15 2 * * *", "America/New_York", ["gap 2026-03-08T07:15"]),
        ("15 2 * * 1", "America/New_York", []),
        # Half an hour only, and in the south.
        ("45 1 * * *", "Australia/Lord_Howe", ["overlap 2026-04-04T14:45"]),
        ("15 2 * * *", "Australia/Lord_Howe", ["gap 2026-10-03T15:45"]),
        # Midnight itself is skipped, so the slot comes at one.
        ("0 0 * * *", "Africa/Cairo", ["gap 2026-04-23T22:00"]),
    ],
)
def test_what_a_year_of_clock_changes_does(cron: str, zone: str, found: list[str]) -> None:
    odd = clock_change_slots(Schedule.parse(cron), ZoneInfo(zone), _FROM, _TO)
    assert [f"{one.change} {one.slot.at:%Y-%m-%dT%H:%M}" for one in odd] == found


def test_a_narrow_look_finds_the_same() -> None:
    schedule, zone = Schedule.parse("30 2 * * *"), ZoneInfo("Europe/Berlin")
    at = datetime(2026, 3, 29, 1, 30, tzinfo=UTC)
    assert len(list(clock_change_slots(schedule, zone, at.replace(minute=29), at))) == 1
    assert list(clock_change_slots(schedule, zone, at, at.replace(hour=3))) == []
