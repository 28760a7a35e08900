"""The days of users, day by day: every zone and clock change, rebuilt one key at a time."""

import random
from datetime import UTC, datetime, timedelta

import pytest

from service.analytics import rollups
from service.dashboard.model import TimerSession
from service.zones import zone_of
from tests.analytics.given import BEHAVIOUR, Lab, at, people, session
from tests.given import goal, user

DAY = timedelta(days=1)
# Nights on which clocks change, by the date in UTC; Kathmandu and UTC never do, Apia left out a date in 2011.
CHANGES = {
    "Australia/Lord_Howe": ("2026-04-04", "2026-10-03"),
    "Asia/Kathmandu": ("2026-03-10",),
    "Pacific/Chatham": ("2026-04-04", "2026-09-26"),
    "Pacific/Apia": ("2011-12-30",),
    "America/Havana": ("2026-03-08", "2025-11-02"),
    "Atlantic/Azores": ("2026-03-29", "2026-10-25"),
    "Africa/Cairo": ("2026-04-23", "2026-10-29"),
    "America/Santiago": ("2026-04-05", "2026-09-06"),
    "UTC": ("2026-03-10",),
    "Pacific/Kiritimati": ("2026-03-10",),
    "Etc/GMT+12": ("2026-03-10",),
    "America/Caracas": ("2016-05-01",),  # from 2:30 to 3:00
}


def _nights(zone: str, dice: random.Random) -> list[TimerSession]:
    found = []
    for change in CHANGES[zone]:
        begin = datetime.fromisoformat(change).replace(tzinfo=UTC) - 14 * timedelta(hours=1)
        for n in range(60):
            start = begin + timedelta(
                seconds=dice.randrange(0, 40 * 3600), microseconds=dice.randrange(10**6)
            )
            if n % 2:  # on the minute, often on the quarter
                start = start.replace(minute=start.minute // 15 * 15, second=0, microsecond=0)
            seconds = dice.choice([0, 1, 59, 900, 1500, 3600, 7201, 14400, 86400])
            status = dice.choice(["completed", "completed", "abandoned", "cancelled"])
            credited = dice.randint(0, min(seconds, 14400))
            found.append(
                session(
                    f"{change}.{n}",
                    "ann",
                    start,
                    seconds / 60,
                    status=status,
                    focus_seconds=credited,
                    kind=dice.choice(["focus", "pomodoro"]),
                )
            )
    return found


@pytest.mark.parametrize("zone", CHANGES)
async def test_every_second_of_focus_lies_in_its_local_hour(lab: Lab, zone: str) -> None:
    last = at(CHANGES[zone][-1])
    await lab.clock(min(lab.now, last + 30 * DAY))  # else all periods from there to now are derived
    await lab.put(*people("ann", zone=zone), *_nights(zone, random.Random(zone)))
    async with lab.pool.acquire() as connection:
        days = 1
        while days:
            async with connection.transaction():
                days = (await rollups.rebuild_stale_days(connection, limit=1)).days
    await lab.run(BEHAVIOUR)
    await lab.check()
    for row in await lab.pool.fetch("SELECT focus_seconds, hours FROM service.user_day"):
        assert row["focus_seconds"] == sum(row["hours"].values())


# Half and quarter hours, summer time of half an hour and of two, a date left out, midnights that do not exist
# or happen twice, Ramadan, zones that moved for good, and several changes in a year.
AWKWARD = (
    "Australia/Lord_Howe", "Pacific/Chatham", "Pacific/Apia", "Pacific/Fakaofo", "Pacific/Norfolk",
    "Pacific/Bougainville", "America/Havana", "America/Santiago", "America/Asuncion", "America/Caracas",
    "America/Port-au-Prince", "Atlantic/Azores", "Africa/Cairo", "Africa/Casablanca", "Africa/Juba",
    "Africa/Sao_Tome", "Asia/Gaza", "Asia/Tehran", "Asia/Pyongyang", "Antarctica/Casey", "Antarctica/Troll",
    "Europe/Istanbul",
)  # fmt: skip


def _changes(zone: str) -> list[datetime]:
    """The instants since 2011 at which the clocks of a zone change, to the minute."""
    clock, found = zone_of(zone), []
    day, end = datetime(2011, 1, 1, tzinfo=UTC), datetime(2026, 11, 20, tzinfo=UTC)
    while day < end:
        before, after = day, day + DAY
        if before.astimezone(clock).utcoffset() != after.astimezone(clock).utcoffset():
            while after - before > timedelta(minutes=1):
                middle = before + (after - before) / 2
                same = middle.astimezone(clock).utcoffset() == day.astimezone(clock).utcoffset()
                before, after = (middle, after) if same else (before, middle)
            found.append(after.replace(second=0, microsecond=0))
        day += DAY
    return found


async def test_every_change_of_clocks_since_2011_splits_what_runs_over_it(lab: Lab) -> None:
    dice, sessions = random.Random(2011), []
    for zone in AWKWARD:
        for n, change in enumerate(_changes(zone)):
            before, minutes = dice.randrange(1, 70), dice.randrange(70, 140)
            start, seconds = change - timedelta(minutes=before), dice.randint(1, 60 * minutes)
            sessions.append(session(f"{zone}{n}", zone, start, minutes, focus_seconds=seconds))
    assert len(sessions) > 400
    await lab.put(*(user(zone, zone) for zone in AWKWARD), *sessions)
    async with lab.pool.acquire() as connection, connection.transaction():
        await rollups.rebuild_stale_days(connection)
    await lab.check_days()
    assert await lab.pool.fetchval("SELECT count(*) FROM service.user_day") > 400


async def test_an_hour_that_happens_twice_holds_two_hours(lab: Lab) -> None:
    """Havana, 2 November 2025: 0:00 to 1:00 twice; and the date has 25 hours."""
    await lab.put(*people("ann", zone="America/Havana"))
    await lab.put(session("s", "ann", at("2025-11-02 04:00"), 180))
    await lab.put(session("t", "ann", at("2025-11-03 04:59"), 2))
    await lab.run(BEHAVIOUR)
    rows = await lab.pool.fetch("SELECT local_date, hours FROM service.user_day")
    # The second session began at 23:59; its last minute is of the hour 0, on the date of its start.
    assert [(str(r["local_date"]), r["hours"]) for r in rows] == [
        ("2025-11-02", {"0": 7260, "1": 3600, "23": 60})
    ]
    await lab.check()


async def test_an_hour_in_which_the_clocks_change_is_split_there(lab: Lab) -> None:
    """Caracas, 1 May 2016: from 2:30 to 3:00; Lord Howe, 3 April: from 2:00 back to 1:30."""
    await lab.clock(at("2016-05-10"))
    await lab.put(*people("ann", zone="America/Caracas"), *people("ben", zone="Australia/Lord_Howe"))
    await lab.put(session("s", "ann", at("2016-05-01 06:50"), 20))
    await lab.put(session("t", "ben", at("2016-04-02 14:50"), 20))
    await lab.put(session("u", "ben", at("2016-04-02 15:20"), 20))
    await lab.run(BEHAVIOUR)
    rows = await lab.pool.fetch("SELECT local_date, hours FROM service.user_day ORDER BY 1")
    assert [(str(r["local_date"]), r["hours"]) for r in rows] == [
        ("2016-04-03", {"1": 1800, "2": 600}), ("2016-05-01", {"2": 600, "3": 600}),
    ]  # fmt: skip
    await lab.check()


async def test_a_session_from_before_a_move_stays_on_its_day(lab: Lab) -> None:
    """Zones are those that were valid: at the dashboard, and as chosen on the preference page."""
    await lab.clock(at("2026-03-10 06:00"))
    await lab.put(user("ann", "Asia/Kathmandu"), session("a", "ann", at("2026-03-09 20:00")))
    await lab.clock(at("2026-03-11 06:00"))
    await lab.choose_zone("ann", "America/Havana")
    await lab.put(session("b", "ann", at("2026-03-09 21:00")), session("c", "ann", at("2026-03-12 02:00")))
    await lab.clock(at("2026-03-13 06:00"))
    await lab.choose_zone("ann", None)
    await lab.run()
    await lab.check()
    assert {str(day) for _, day in lab.truth().days} == {"2026-03-10", "2026-03-11"}


async def test_a_zone_that_becomes_known_moves_what_a_fast_clock_dated_ahead(lab: Lab) -> None:
    await lab.clock(at("2026-03-10 06:00"))
    await lab.put(user("ann", "UTC"), session("a", "ann", at("2026-03-10 23:30")))
    await lab.put(goal("g", "ann", created_at=at("2026-03-11 23:30")))
    await lab.run()
    await lab.clock(at("2026-03-10 07:00"))
    await lab.choose_zone("ann", "Pacific/Kiritimati")
    await lab.clock(at("2026-03-15 07:00"))
    await lab.run()
    await lab.check()
    assert {str(day) for _, day in lab.truth().days} == {"2026-03-11", "2026-03-12"}


async def test_a_zone_that_is_corrected_at_once_counts_as_it_ended(lab: Lab) -> None:
    await lab.clock(at("2026-03-10 06:00"))
    await lab.put(user("ann", "UTC"))
    await lab.clock(at("2026-03-10 07:00"))
    await lab.choose_zone("ann", "Pacific/Kiritimati")
    await lab.put(session("a", "ann", at("2026-03-10 23:30")))
    await lab.run()
    await lab.choose_zone("ann", "America/Havana")  # in the same moment
    await lab.run()
    await lab.check()
