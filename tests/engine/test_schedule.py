"""Schedules: the user's nine o'clock in every zone, on every day, once."""

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo, available_timezones

import pytest

from service.engine.schedule import Schedule, to_instant
from service.errors import ScheduleError

_ODD = {
    "Africa/Cairo", "America/Santiago", "Australia/Lord_Howe", "America/Havana", "Atlantic/Azores",
    "Asia/Kathmandu", "Pacific/Chatham", "Pacific/Apia", "Africa/Casablanca", "America/St_Johns", "UTC",
    "Europe/Berlin", "America/New_York", "Antarctica/Troll", "Asia/Gaza", "Pacific/Kiritimati",
}  # fmt: skip
_SINCE = datetime(2025, 1, 1, tzinfo=UTC)
_DAYS = 730


def _zones(long_form: bool) -> list[str]:
    every = sorted(available_timezones() - {"Factory", "localtime"})
    return every if long_form else sorted(set(every[::12]) | _ODD)


def _first_instant_showing(local: datetime, zone: ZoneInfo) -> datetime:
    """The oracle: walk UTC round a guess; the first instant whose wall clock shows ``local``."""
    guess = local.replace(tzinfo=UTC)
    guess -= guess.astimezone(zone).utcoffset() or timedelta(0)
    at = guess - timedelta(hours=3)  # no change of the clocks since 2025 is larger
    while at < guess + timedelta(hours=3):
        if at.astimezone(zone).replace(tzinfo=None) == local:
            return at
        at += timedelta(minutes=15)
    raise AssertionError(f"{zone} never shows {local}")


@pytest.mark.long
def test_nine_oclock_comes_once_a_day_in_every_zone(long_form: bool) -> None:
    schedule = Schedule.parse("0 9 * * *")
    for name in _zones(long_form):
        zone = ZoneInfo(name)
        until = _SINCE + timedelta(days=_DAYS)

        slots = list(schedule.slots(zone, _SINCE, until))

        first = _SINCE.astimezone(zone).date()
        days = [first + timedelta(days=n) for n in range(-1, _DAYS + 2)]
        oracle = [_first_instant_showing(datetime(d.year, d.month, d.day, 9), zone) for d in days]
        assert [slot.at for slot in slots] == [at for at in oracle if _SINCE < at <= until], name
        assert len({slot.local.date() for slot in slots}) == len(slots), name


@pytest.mark.long
def test_slots_do_not_depend_on_how_the_time_is_cut(long_form: bool) -> None:
    schedule = Schedule.parse("30 2 * * *")
    for name in _zones(long_form) if long_form else sorted(_ODD):
        zone = ZoneInfo(name)
        cuts = [_SINCE + timedelta(hours=31 * n) for n in range(300)]

        in_pieces = [slot for a, b in pairwise(cuts) for slot in schedule.slots(zone, a, b)]

        assert in_pieces == list(schedule.slots(zone, cuts[0], cuts[-1])), name


@pytest.mark.parametrize(
    ("zone", "local", "at"),
    [
        (
            "Europe/Berlin",
            datetime(2026, 3, 29, 2, 30),
            datetime(2026, 3, 29, 1, 30, tzinfo=UTC),
        ),  # gap: 03:30
        (
            "Europe/Berlin",
            datetime(2026, 10, 25, 2, 30),
            datetime(2026, 10, 25, 0, 30, tzinfo=UTC),
        ),  # the first
        (
            "Africa/Cairo",
            datetime(2026, 4, 24, 0, 0),
            datetime(2026, 4, 23, 22, 0, tzinfo=UTC),
        ),  # no midnight
        (
            "America/Santiago",
            datetime(2026, 9, 6, 0, 0),
            datetime(2026, 9, 6, 4, 0, tzinfo=UTC),
        ),  # no midnight
        ("Asia/Kathmandu", datetime(2026, 1, 1, 9, 0), datetime(2026, 1, 1, 3, 15, tzinfo=UTC)),
    ],
)
def test_a_wall_clock_time_is_one_instant(zone: str, local: datetime, at: datetime) -> None:
    assert to_instant(local, ZoneInfo(zone)) == at


def test_a_slot_in_a_gap_is_not_lost_and_not_doubled() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    around = (datetime(2026, 3, 28, tzinfo=UTC), datetime(2026, 3, 31, tzinfo=UTC))

    slots = Schedule.parse("30 2 * * *").slots(berlin, *around)

    assert [slot.local.date() for slot in slots] == [date(2026, 3, day) for day in (28, 29, 30)]


@pytest.mark.parametrize(
    "expression", ["", "0 9 * *", "0 0 9 * * *", "@daily", "61 9 * * *", "0 9 30 2 *", "0 9 * * MON-XXX"]
)
def test_an_expression_that_cannot_come_due_is_refused_by_name(expression: str) -> None:
    with pytest.raises(ScheduleError) as caught:
        Schedule.parse(expression)

    assert repr(expression) in str(caught.value)


def test_next_finds_the_29th_of_february() -> None:
    slot = Schedule.parse("0 9 29 2 *").next(ZoneInfo("UTC"), datetime(2026, 11, 23, tzinfo=UTC))

    assert slot.at == datetime(2028, 2, 29, 9, tzinfo=UTC)


@pytest.mark.parametrize(
    ("expression", "gap"),
    [
        ("* * * * *", timedelta(minutes=1)),
        ("*/25 * * * *", timedelta(minutes=25)),
        ("0 9 * * *", timedelta(days=1)),
        ("0 9,21 * * *", timedelta(hours=12)),
        ("*/25 9-17 * * 1-5", timedelta(days=2, hours=15, minutes=10)),
        ("0 19 * * 0", timedelta(days=7)),
        ("0 9 1 * *", timedelta(days=31)),
        ("0 9 1,20 * *", timedelta(days=19)),
        ("0 9 31 * *", timedelta(days=61)),
        ("0 9 1 7 *", timedelta(days=365)),
        ("0 9 29 2 *", timedelta(days=4 * 365 + 1)),
    ],
)
def test_the_longest_gap_between_two_slots(expression: str, gap: timedelta) -> None:
    assert Schedule.parse(expression).longest_gap() == gap
