"""Sentences, models and profiles are revised by what arrives late; what no longer holds says so."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

from service.analytics import figures
from service.analytics.figures import DateRange
from service.analytics.statistic import CALENDARS, Statistic
from service.analytics.withdrawn import withdrawn
from tests.analytics.given import BEHAVIOUR, DAILY, MONTHLY, Lab, at, people, session

DAY = timedelta(days=1)
MARCH = datetime(2026, 3, 1)


async def _row(lab: Lab, statistic: str, day: str) -> dict[str, Any]:
    span = DateRange(date.fromisoformat(day), date.fromisoformat(day))
    (row,) = (await figures.rollups(lab.pool, statistic, span, None, 10)).rows
    return row


async def _early_birds(lab: Lab) -> None:
    """Ten people finish all they begin in the morning in March, and nothing in the afternoon."""
    names = [f"u{n}" for n in range(10)]
    await lab.clock(at("2026-04-02 13:00"))
    await lab.put(*people(*names, created=at("2026-03-01 00:00")))
    for day in range(31):
        morning = at("2026-03-01 09:00") + day * DAY
        await lab.put(
            *(session(f"m{n}.{day}", n, morning) for n in names),
            *(
                session(f"a{n}.{day}", n, morning + timedelta(hours=6), status="cancelled", focus_seconds=0)
                for n in names
            ),
        )
    await lab.run(DAILY, MONTHLY)


async def test_an_edit_that_leaves_every_day_as_it_was_withdraws_the_sentence_it_refutes(lab: Lab) -> None:
    await _early_birds(lab)
    told = await _row(lab, "insights", "2026-03-01")
    assert (told["withdrawn"], told["final"]) == ([], True)
    (noon,) = [one for one in told["insights"] if one["rule"] == "noon"]
    days = await lab.pool.fetch("SELECT * FROM service.user_day ORDER BY user_id, local_date")

    afternoons = [one for name, one in lab.sessions.items() if name.startswith("a")]
    back = timedelta(hours=5)
    await lab.put(
        *(replace(one, started_at=one.started_at - back, ended_at=one.started_at) for one in afternoons)
    )
    await lab.run(DAILY)

    assert await lab.pool.fetch("SELECT * FROM service.user_day ORDER BY user_id, local_date") == days
    now = await _row(lab, "insights", "2026-03-01")
    assert now["revision"] == told["revision"] + 1
    assert "noon" not in {one["rule"] for one in now["insights"]}
    (gone,) = [one for one in now["withdrawn"] if one["rule"] == "noon"]
    assert gone["text"] == noon["text"]
    assert gone["withdrawnAt"] == lab.now
    assert gone["why"].startswith("by late, edited or deleted data it is no longer significant: 620 sessions")
    await lab.put(*afternoons)
    await lab.run(DAILY)
    again = await _row(lab, "insights", "2026-03-01")
    assert (again["insights"], again["withdrawn"]) == (told["insights"], [])


async def test_trends_are_those_of_the_days_as_they_are_now(lab: Lab) -> None:
    await _early_birds(lab)
    before = await _row(lab, "daily", "2026-03-29")
    for day in ("2026-03-22", "2026-03-15", "2026-03-08"):
        await lab.put(*(session(f"late{day}{n}", f"u{n % 10}", at(f"{day} 10:00")) for n in range(200)))
    await lab.run(DAILY)
    after = await _row(lab, "daily", "2026-03-29")
    assert after["trends"]["totalSessions"] != before["trends"]["totalSessions"]
    assert {**after, "trends": 0} == {**before, "trends": 0}


async def test_a_late_session_changes_the_churn_model_and_everybodys_risk(lab: Lab) -> None:
    await lab.clock(at("2026-04-02 13:00"))
    stay, leave = [f"s{n:02}" for n in range(25)], [f"l{n:02}" for n in range(25)]
    await lab.put(*people(*stay, *leave, created=at("2026-02-01 00:00")))
    visits = [(n, visit, n % 5 + visit * 2) for n in range(25) for visit in range(4 + n % 3)]
    begin = at("2026-02-01 09:00")
    await lab.put(
        *(session(f"s{n}.{visit}", stay[n], begin + (day + 12) * DAY) for n, visit, day in visits),
        *(session(f"l{n}.{visit}", leave[n], begin + day * DAY) for n, visit, day in visits),
        *(session(f"s{n}.last", stay[n], at("2026-03-12 09:00")) for n in range(25)),
    )
    await lab.run(DAILY, MONTHLY, BEHAVIOUR)
    before = (await lab.figures("churnModel"))[MARCH]
    assert (before["rows"], before["left"]) == (50, 25)
    assert not await lab.pool.fetchval("SELECT count(*) FROM service.user_profile WHERE stale")
    risk = "SELECT figures -> 'churnRisk' ->> 'probability' FROM service.user_profile WHERE user_id = 's00'"
    risk_before = await lab.pool.fetchval(risk)

    await lab.put(session("late", "l00", at("2026-03-20 09:00")))
    await lab.run(DAILY)
    after = (await lab.figures("churnModel"))[MARCH]
    assert (after["rows"], after["left"]) == (50, 24)
    assert ("churnModel", MARCH, 1) in await lab.revisions()
    assert await lab.pool.fetchval("SELECT count(*) > 25 AND bool_and(stale) FROM service.user_profile")

    await lab.run(BEHAVIOUR)
    assert risk_before != await lab.pool.fetchval(risk)
    assert not await lab.pool.fetchval("SELECT count(*) FROM service.user_profile WHERE stale")
    await lab._check_profiles(lab.truth())


async def test_a_profile_is_revised_though_its_owner_was_not_active(lab: Lab) -> None:
    """An old session goes on the quiet; and with the last one the profile goes."""
    await lab.clock(at("2026-04-02 13:00"))
    await lab.put(*people("ann", created=at("2026-02-01 00:00")))
    starts = [at("2026-02-01 09:00") + n * DAY for n in range(8)]
    await lab.put(*(session(f"s{n}", "ann", start) for n, start in enumerate(starts)))
    await lab.run(DAILY, BEHAVIOUR)
    before = await lab.pool.fetchval("SELECT figures FROM service.user_profile")

    await lab.remove("timer_sessions", "s3", "s4")
    await lab.run(BEHAVIOUR)
    after = await lab.pool.fetchval("SELECT figures FROM service.user_profile")
    assert (before["support"]["sessions"], after["support"]["sessions"]) == (8, 6)
    await lab._check_profiles(lab.truth())

    await lab.remove("timer_sessions", *(f"s{n}" for n in range(8)))
    await lab.run(BEHAVIOUR)
    assert await lab.pool.fetchval("SELECT count(*) FROM service.user_profile") == 0


def test_a_day_reaches_the_months_that_rest_on_it() -> None:
    def reach(statistic: Statistic, day: str) -> list[str]:
        return [f"{period:%Y-%m}" for period in CALENDARS[statistic].reach(date.fromisoformat(day))]

    # The last date of March less 97 days is the 24th of December; less 207 days, the 5th of September.
    assert reach(Statistic.INSIGHTS, "2025-12-24") == ["2025-12", "2026-03"]
    assert reach(Statistic.INSIGHTS, "2025-12-23") == ["2025-12", "2026-02"]
    assert reach(Statistic.CHURN_MODEL, "2025-09-05") == ["2025-09", "2026-03"]
    assert reach(Statistic.CHURN_MODEL, "2025-09-04") == ["2025-09", "2026-02"]


def test_a_withdrawn_sentence_says_why() -> None:
    instant = datetime(2026, 4, 5, 1, tzinfo=UTC)

    def told(sessions: int, *texts: str, rules: int = 2) -> dict[str, Any]:
        insights = [{"rule": text.partition(" ")[0], "text": text, "evidence": "e"} for text in texts]
        return {"insights": insights, "sessions": sessions, "rules": rules}

    def found(current: dict[str, Any], *earlier: dict[str, Any]) -> list[tuple[str, str]]:
        revisions = [
            {"figures": one, "replaced_at": instant - n * timedelta(days=1)} for n, one in enumerate(earlier)
        ]
        return [(one["text"], one["why"]) for one in withdrawn(current, revisions)]

    assert found(told(9, "noon early: 5 of 9"), told(8, "noon early: 4 of 8")) == []
    assert found(told(9, "noon late: 1"), told(8, "noon early: 4")) == [
        ("noon early: 4", "late, edited or deleted data now say: noon late: 1")
    ]
    ((_, why),) = found(told(9), told(9, "noon early: 4", rules=1))
    assert why.startswith("the rules have changed")
    assert [text for text, _ in found(told(9), told(8), told(7, "a b: 1"), told(6, "a b: 0", "c: 1"))] == [
        "a b: 1", "c: 1",
    ]  # fmt: skip
    assert found({"insights": []}, {"insights": [{"rule": "r", "text": "t", "evidence": ""}]})
