"""Late, edited and erased records change exactly the figures that they should; what these were is kept."""

from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Any

import pytest

from service.analytics.statistic import Statistic
from service.dashboard import replica
from service.dashboard.model import Goal, TimerSession, User
from service.engine.run import RunRequest
from tests.analytics.given import BEHAVIOUR, DAILY, JOBS, MONTHLY, WEEKLY, Lab, at, moved, people, session
from tests.given import goal, user

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
BERLIN, NEW_YORK = "Europe/Berlin", "America/New_York"


async def _history(lab: Lab) -> None:
    """Two people, three weeks; ann was last seen on 3 March. All jobs have run on the 25th."""
    await lab.clock(at("2026-03-25 13:00"))
    await lab.put(*people("ann", zone=BERLIN, created=at("2026-03-01 08:00")))
    await lab.put(*people("ben", zone=NEW_YORK, created=at("2026-02-20 08:00")))
    await lab.put(*(session(f"a{n}", "ann", at("2026-03-01 09:00") + n * DAY) for n in range(3)))
    await lab.put(*(session(f"b{n}", "ben", at("2026-03-01 15:00") + n * DAY) for n in range(20)))
    await lab.run()
    await lab.check()


async def _all_figures(lab: Lab) -> dict[tuple[str, datetime], dict[str, Any]]:
    return {(s, p): figures for s in Statistic for p, figures in (await lab.figures(s)).items()}


async def _revised(lab: Lab) -> dict[tuple[str, datetime], dict[str, Any]]:
    """What was replaced since the last call, with its old figures."""
    rows = await lab.pool.fetch("DELETE FROM service.rollup_revision RETURNING *")
    assert len({(row["statistic"], row["period"]) for row in rows}) == len(rows)
    return {(row["statistic"], row["period"]): row["figures"] for row in rows}


def _days(first: str, last: str) -> set[tuple[str, datetime]]:
    begin, end = date.fromisoformat(first), date.fromisoformat(last)
    return {("daily", datetime.fromordinal(n)) for n in range(begin.toordinal(), end.toordinal() + 1)}


async def test_a_late_session_changes_what_rests_on_it_and_its_erasure_changes_it_back(lab: Lab) -> None:
    await _history(lab)
    before = await _all_figures(lab)
    late = session("late", "ann", at("2026-03-15 09:00"))
    own = {
        ("daily", datetime(2026, 3, 15)),
        ("weekly", datetime(2026, 3, 15)),
        ("behaviour", datetime(2026, 3, 15, 6)),
    }

    await lab.put(late)
    await lab.run()
    await lab.check()
    # Active again: in the week's count of seven days, but within thirty days of the 3rd in MAU all along.
    revised = await _revised(lab)
    assert revised.keys() == _days("2026-03-15", "2026-03-21") | own
    assert revised == {key: before[key] for key in revised}

    await lab.put(replace(late, focus_seconds=600))
    await lab.run()
    assert (await _revised(lab)).keys() == own

    await lab.put(replace(late, focus_seconds=600, kind="break", focus=False))
    await lab.run()
    assert (await _revised(lab)).keys() == own

    await lab.remove("timer_sessions", "late")
    await lab.run()
    await lab.check()
    assert (await _revised(lab)).keys() == _days("2026-03-15", "2026-03-21") | own
    assert await _all_figures(lab) == before
    assert await lab.pool.fetchval(
        "SELECT max(revision) FROM service.rollup WHERE statistic = 'weekly' AND period = '2026-03-15'"
    ) == 5  # fmt: skip


async def test_a_session_that_moves_leaves_its_former_day(lab: Lab) -> None:
    await _history(lab)
    await lab.put(moved(lab.sessions["b10"], -4 * DAY))
    await lab.run()
    await lab.check()
    assert (await lab.daily("2026-03-11"))["totalSessions"] == 0
    assert (await lab.daily("2026-03-07"))["totalSessions"] == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"status": "cancelled", "focus_seconds": 0},
        {"kind": "break", "focus": False, "focus_seconds": 300},
    ],
)
async def test_a_session_that_moves_within_its_local_day_changes_service_day_and_window(
    lab: Lab, changes: dict[str, Any]
) -> None:
    """The day's own rollup stays what it was: a cancelled session and a break have no hours."""
    await _history(lab)
    one = session("one", "ben", at("2026-03-10 22:00"), **changes)
    await lab.put(one)
    await lab.run()
    await _revised(lab)
    await lab.put(moved(one, 3 * HOUR))  # still the 10th in New York
    await lab.run()
    await lab.check()
    windows = {("behaviour", datetime(2026, 3, 10, 18)), ("behaviour", datetime(2026, 3, 11))}
    assert windows <= (await _revised(lab)).keys() <= windows | _days("2026-03-10", "2026-03-11")


async def test_a_goal_reached_later_counts_for_the_day_of_its_creation(lab: Lab) -> None:
    await _history(lab)
    created = at("2026-03-04 10:00")
    await lab.put(goal("g", "ann", created_at=created))
    await lab.run()
    await _revised(lab)
    assert (await lab.daily("2026-03-04"))["goalCompletionRate"] == 0

    await lab.put(goal("g", "ann", created_at=created, completed_at=at("2026-03-20 10:00"), open=False))
    await lab.run()
    await lab.check()
    assert (await lab.daily("2026-03-04"))["goalCompletionRate"] == 1
    assert (await _revised(lab)).keys() == {
        ("daily", datetime(2026, 3, 4)),
        ("daily", datetime(2026, 3, 20)),
        ("weekly", datetime(2026, 3, 15)),
    }


async def test_a_goal_that_is_opened_again_moved_or_erased_leaves_both_its_days(lab: Lab) -> None:
    await _history(lab)
    created, reached = at("2026-03-04 10:00"), at("2026-03-20 10:00")
    done = goal("g", "ann", created_at=created, completed_at=reached, open=False)
    both = {("daily", datetime(2026, 3, 4)), ("daily", datetime(2026, 3, 20))}
    await lab.put(done)
    await lab.run()
    await _revised(lab)
    for version in (replace(done, open=True), done, replace(done, completed_at=reached - 14 * DAY), done):
        await lab.put(version)
        await lab.run()
        await lab.check()
        await _revised(lab)
    await lab.remove("goals", "g")
    await lab.run()
    await lab.check()
    assert both <= (await _revised(lab)).keys()


async def test_everybody_counts_once_in_seven_and_in_thirty_days(lab: Lab) -> None:
    """Gaps at the edges of both: a visit of 6 and 29 days ago still counts, one of 7 and 30 no more."""
    await lab.clock(at("2026-05-20 13:00"))
    gaps = (5, 6, 7, 8, 28, 29, 30, 31)
    await lab.put(*people(*(f"u{gap}" for gap in gaps), created=at("2026-03-01 08:00")))
    for gap in gaps:
        await lab.put(
            *(session(f"{gap}.{n}", f"u{gap}", at("2026-03-05 09:00") + n * gap * DAY) for n in (0, 1))
        )
    await lab.run()
    await lab.check()
    assert [(await lab.daily(f"2026-04-{day:02}"))["mau"] for day in (3, 4, 5)] == [8, 7, 8]
    assert [(await lab.daily(f"2026-03-{day:02}"))["wau"] for day in (11, 12)] == [8, 3]


async def test_progress_and_wording_of_a_goal_make_nothing_stale(lab: Lab) -> None:
    await _history(lab)
    await lab.put(goal("g", "ann", created_at=at("2026-03-04 10:00")))
    await lab.run()
    await lab.put(goal("g", "ann", created_at=at("2026-03-04 10:00"), title="Read more", current_value=4.0))
    assert await lab.pool.fetchval("SELECT count(*) FROM service.stale_day") == 0


async def test_an_account_that_comes_late_changes_totals_since_its_signup(lab: Lab) -> None:
    await _history(lab)
    await lab.clock(at("2026-05-02 13:00"))
    await lab.run()
    await _revised(lab)
    cara = user("cara", BERLIN, created_at=at("2026-03-10 10:00"))
    signup = {("daily", datetime(2026, 3, 10)), ("weekly", datetime(2026, 3, 8))}
    months = {("monthly", datetime(2026, 3, 1)), ("monthly", datetime(2026, 4, 1))}

    await lab.put(cara)
    await lab.run()
    await lab.check()
    assert (await _revised(lab)).keys() == signup | months

    await lab.put(replace(cara, created_at=at("2026-04-10 10:00")))
    await lab.run()
    await lab.check()
    later = {("daily", datetime(2026, 4, 10)), ("weekly", datetime(2026, 4, 5))}
    assert (await _revised(lab)).keys() == signup | later | months


async def test_an_account_that_goes_stays_in_what_is_final(lab: Lab) -> None:
    await _history(lab)
    cara = user("cara", BERLIN, created_at=at("2026-03-10 10:00"))
    theirs: list[Goal | TimerSession] = [
        session("c", "cara", at("2026-03-11 10:00"), category="diary", tags=("private",)),
        goal("h", "cara", title="Secret", created_at=at("2026-03-11 10:00")),
    ]
    await lab.put(cara, *theirs)
    await lab.clock(at("2026-05-02 13:00"))
    await lab.run()
    before = await lab.substance()
    await _revised(lab)

    await lab.remove("users", "cara")
    await lab.remove("timer_sessions", "c")
    await lab.remove("goals", "h")
    await lab.run()
    assert await lab.substance() == before
    kept = await lab.pool.fetchrow(
        "SELECT title, s.category, s.tags FROM service.goals JOIN service.timer_sessions AS s USING (user_id)"
        " WHERE user_id = 'cara'"
    )
    assert kept is not None
    assert tuple(kept) == ("", None, [""])
    await lab.clock(at("2026-06-02 13:00"))
    await lab.run()
    await lab.check()
    months = {p.month: f["totalUsers"] for p, f in (await lab.figures("monthly")).items()}
    assert months[3] == months[4] == months[5] + 1
    assert await _revised(lab) == {}

    await lab.put(cara, *theirs)
    await lab.run()
    await lab.check()
    assert (await _revised(lab)).keys() == {("monthly", datetime(2026, 5, 1))}
    assert await lab.pool.fetchval("SELECT count(*) FROM service.departed_user") == 0


async def test_an_account_of_unknown_age_is_in_every_month(lab: Lab) -> None:
    await _history(lab)
    await lab.clock(at("2026-05-02 13:00"))
    await lab.run()
    await lab.put(user("cara", BERLIN))
    await lab.run()
    await lab.check()
    await lab.put(user("cara", BERLIN, created_at=at("2026-04-02 10:00")))
    await lab.run()
    await lab.check()


@pytest.mark.parametrize(
    "old",
    [
        goal("old", "ann", created_at=at("2025-11-05 10:00")),
        session("old", "ann", at("2025-11-05 10:00")),
        user("old", created_at=at("2025-11-05 10:00")),
    ],
    ids=["goal", "session", "account"],
)
async def test_what_is_older_than_the_first_period_leaves_no_gap(
    lab: Lab, old: Goal | TimerSession | User
) -> None:
    await _history(lab)
    await lab.put(old)
    await lab.run(BEHAVIOUR)  # whichever job comes first
    await lab.run()
    await lab.check()


async def test_a_first_zone_that_becomes_known_brings_the_waiting_sessions(lab: Lab) -> None:
    await _history(lab)
    await lab.put(
        session("early", "dora", at("2026-03-12 23:30")), goal("g", "dora", created_at=at("2026-03-18 23:30"))
    )
    await lab.run()
    await lab.check()
    await lab.put(*people("dora", zone="Asia/Kathmandu"))
    await lab.run()
    await lab.check()
    assert ("dora", date(2026, 3, 13)) in lab.truth().days


async def test_the_furthest_zones_of_the_world_lie_on_three_service_days(lab: Lab) -> None:
    lab.service_zone = "Pacific/Pago_Pago"
    await lab.clock(at("2026-03-25 13:00"))
    await lab.put(*people("kim", zone="Pacific/Kiritimati", created=at("2026-03-01 10:30")))
    await lab.put(session("s", "kim", at("2026-03-01 10:30")))  # 2 March there, 28 February here
    await lab.run()
    await lab.check()
    await lab.put(session("s", "kim", at("2026-03-01 10:45"), status="cancelled", focus_seconds=0))
    await lab.run()
    await lab.check()
    assert (await lab.daily("2026-02-28"))["sessionsEnded"] == 1


async def test_a_local_date_may_end_two_service_days_later(lab: Lab) -> None:
    lab.service_zone = "Pacific/Kiritimati"
    await lab.clock(at("2026-03-25 13:00"))
    await lab.put(*people("liz", zone="Etc/GMT+12", created=at("2026-03-01 10:30")))
    late = session("s", "liz", at("2026-03-03 11:30"), status="cancelled", focus_seconds=0)
    await lab.put(late)  # 2 March there, 4 March here
    await lab.run()
    await lab.check()
    await lab.put(moved(late, -6 * HOUR))
    await lab.run()
    await lab.check()
    assert (await lab.daily("2026-03-03"))["sessionsEnded"] == 1


async def test_a_further_load_leaves_nothing_of_the_former_reading(lab: Lab) -> None:
    """Another profile reads other fields: sessions, goals and accounts lie on other days."""
    await _history(lab)
    await lab.put(goal("g", "ann", created_at=at("2026-03-04 10:00")))
    await lab.run()
    async with lab.pool.acquire() as connection:
        lab.users["ben"] = replace(lab.users["ben"], created_at=at("2026-03-02 08:00"))
        lab.sessions = {key: moved(one, -30 * DAY) for key, one in lab.sessions.items()}
        lab.goals["g"] = replace(lab.goals["g"], created_at=at("2026-02-04 10:00"))
        await replica.upsert_users(connection, list(lab.users.values()), mark=False)
        await replica.upsert_goals(connection, list(lab.goals.values()), mark=False)
        await replica.upsert_timer_sessions(connection, list(lab.sessions.values()), mark=False)
        for table in ("users", "goals", "timer_sessions"):
            await replica.mark_everything_stale(connection, table)
    await lab.run()
    await lab.check()


async def test_a_day_becomes_final_when_it_is_over_everywhere_without_a_revision(lab: Lab) -> None:
    await lab.put(
        *people("ann", "ben", created=at("2026-02-20 08:00")), session("s", "ann", at("2026-03-20 09:00"))
    )
    await lab.clock(at("2026-03-22 02:00"))  # a Sunday
    await lab.run()
    assert await _provisional(lab) == {
        ("daily", datetime(2026, 3, 21)),
        ("weekly", datetime(2026, 3, 15)),
        *(("behaviour", datetime(2026, 3, 21, hour)) for hour in (12, 18)),
    }

    await lab.clock(at("2026-03-22 11:59"))
    await lab.run(DAILY, WEEKLY, BEHAVIOUR)
    assert ("daily", datetime(2026, 3, 21)) in await _provisional(lab)

    await lab.clock(at("2026-03-22 12:00"))
    await lab.run(DAILY)
    assert {s for s, _ in await _provisional(lab)} == {"behaviour"}
    assert await lab.revisions() == []
    await lab.check()


async def _provisional(lab: Lab) -> set[tuple[str, datetime]]:
    rows = await lab.pool.fetch("SELECT statistic, period FROM service.rollup WHERE NOT final")
    return {(row["statistic"], row["period"]) for row in rows}


@pytest.mark.long
async def test_running_everything_again_for_ninety_days_changes_nothing(lab: Lab, long_form: bool) -> None:
    await _history(lab)
    await lab.clock(at("2026-05-25 13:00"))
    await lab.run()
    before = await lab.everything()
    await lab.clock(at("2026-05-25 15:00"))
    for days in range(0, 90, 1 if long_form else 15):
        moment = at("2026-05-25 01:00") - days * DAY
        await lab.run(*JOBS, as_of=moment)
        if long_form:
            for later in (moment + hours * HOUR for hours in (6, 12, 18)):
                if later <= lab.now:
                    await lab.run(BEHAVIOUR, as_of=later)
    assert await lab.everything() == before


async def test_a_rehearsal_writes_nothing(lab: Lab) -> None:
    await _history(lab)
    await lab.put(session("late", "ann", at("2026-03-15 09:00")))
    before = await lab.everything()
    result = await lab.runner(await lab.ledger()).run_manual(DAILY, RunRequest(dry_run=True))
    assert result.counts["changedDays"] == 1
    assert await lab.everything() == before
    assert await lab.pool.fetchval("SELECT count(*) FROM service.stale_day") == 1


async def test_read_notifications_count_in_the_month_in_which_they_were_read(lab: Lab) -> None:
    await _history(lab)
    await lab.clock(at("2026-04-02 13:00"))
    for n, read in enumerate(("2026-03-31 23:59", "2026-03-05 10:00", "2026-04-01 00:00")):
        await lab.pool.execute(_NOTIFICATION, str(n), at(read))
    await lab.run()
    features = (await lab.figures("monthly"))[datetime(2026, 3, 1)]["featureUsage"]
    assert features["notificationsRead"] == {"measured": True, "uses": 2, "users": 1, "adoption": 0.5}

    await lab.pool.execute(_NOTIFICATION, "late", None)
    assert not await lab.pool.fetch(_STALE_MONTHS)
    await lab.pool.execute(
        "UPDATE service.notification SET read_at = $1 WHERE read_at IS NULL", at("2026-03-09")
    )
    assert [row["period"] for row in await lab.pool.fetch(_STALE_MONTHS)] == [datetime(2026, 3, 1)]
    await lab.run(MONTHLY)
    features = (await lab.figures("monthly"))[datetime(2026, 3, 1)]["featureUsage"]
    assert features["notificationsRead"]["uses"] == 3


_NOTIFICATION = """
WITH d AS (
    INSERT INTO service.delivery (dedupe_key, channel, job, kind, user_id, zone, local_date, template, locale,
                                  facts, message_id, message_date, token, not_before, expires_at)
    VALUES ($1, 'in_app', 'x', 'daily', 'ann', 'UTC', '2026-03-01', 'x', 'en', '{}', $1, service.now(), $1,
            service.now(), service.now())
    RETURNING id)
INSERT INTO service.notification
    (delivery_id, user_id, type, title, message, visible_from, expires_at, read_at)
SELECT id, 'ann', 'x', 'x', 'x', service.now(), service.now(), $2 FROM d
"""
_STALE_MONTHS = "SELECT period FROM service.stale_period WHERE statistic = 'monthly'"


async def test_peaks_are_the_three_with_the_most_focus_ties_to_the_earliest(lab: Lab) -> None:
    await _history(lab)
    for n, (day, hour, minutes) in enumerate(
        [(9, 8, 30), (10, 20, 60), (12, 6, 30), (13, 7, 10), (14, 7, 5)]
    ):
        await lab.put(session(f"p{n}", "ann", at(f"2026-03-{day:02} {hour:02}:00"), minutes))
    await lab.remove("timer_sessions", *(key for key in lab.sessions if key.startswith("b")))
    await lab.run()
    await lab.check()
    patterns = (await lab.figures("weekly"))[datetime(2026, 3, 8)]["usagePatterns"]
    assert (patterns["peakHours"], patterns["peakDays"]) == ([21, 7, 9], [2, 1, 4])


async def test_retention_is_told_from_ten_people_on(lab: Lab) -> None:
    await lab.clock(at("2026-04-25 13:00"))
    names = [f"c{n:02}" for n in range(11)]
    await lab.put(*people(*names, zone=NEW_YORK, created=at("2026-03-01 08:00")))
    for n, name in enumerate(names):
        await lab.put(session(f"a{name}", name, at("2026-03-09 12:00")))
        await lab.put(
            *(session(f"{d}{name}", name, at("2026-03-09 12:00") + d * DAY) for d in (1, 7, 30)[: n % 4])
        )
    await lab.run()
    await lab.check()
    weeks = await lab.figures("weekly")
    assert weeks[datetime(2026, 3, 8)]["retentionData"]["d1"] == {"cohort": 11, "returned": 8, "rate": 0.7273}
    assert weeks[datetime(2026, 3, 15)]["retentionData"]["d7"]["returned"] == 5
    assert weeks[datetime(2026, 4, 5)]["retentionData"]["d30"]["returned"] == 2
    await lab.remove("timer_sessions", "ac00", "ac04")
    await lab.run()
    await lab.check()
    assert (await lab.figures("weekly"))[datetime(2026, 3, 8)]["retentionData"]["d1"]["rate"] is None


async def test_months_divide_everybody_into_disjoint_segments(lab: Lab) -> None:
    await lab.clock(at("2026-05-02 13:00"))
    await lab.put(*people("power", "active", "risk", "churned", "never", created=at("2026-02-01 08:00")))
    await lab.put(
        *people("new", created=at("2026-04-30 08:00")), *people("later", created=at("2026-05-01 08:00"))
    )
    await lab.put(*(session(f"p{n}", "power", at("2026-04-29 01:00") + n * HOUR / 2) for n in range(21)))
    await lab.put(*(session(f"a{n}", "active", at("2026-04-29 01:00") + n * HOUR / 2) for n in range(20)))
    await lab.put(session("x", "active", at("2026-03-29 01:00")))
    await lab.put(
        session("r", "risk", at("2026-04-15 23:59")), session("c", "churned", at("2026-03-30 23:59"))
    )
    await lab.run()
    await lab.check()
    month = (await lab.figures("monthly"))[datetime(2026, 4, 1)]
    assert month["userSegments"] == {
        "new": 1, "neverStarted": 1, "churned": 1, "atRisk": 1, "power": 1, "active": 1,
    }  # fmt: skip
    assert month["totalUsers"] == 6
    assert await lab.run(MONTHLY)
