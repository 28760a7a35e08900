"""Why somebody did, did not, or will not get a message: recorded, ruled at the slot, and said in words."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import asyncpg
import pytest
from jsonschema import Draft202012Validator

from service.dashboard.model import Preferences
from service.engine.job import TimeMode
from service.engine.run import RunRequest, Trigger
from service.errors import BadRequest, SchemaUnknown, SourceUnavailable, UnknownJob, UnknownUser
from service.jobs import all_jobs
from service.messages.decision import Decision
from service.messages.explanation import SlotRecord
from service.messages.kind import Channel
from service.messages.reminder import reminders
from tests.acme import JOBS
from tests.given import GOALS, Scripted, World, goal, user
from tests.kinds import DAILY, DEADLINES
from tests.messages.asking import Asking, planned_before, set_for
from tests.web.contract import contract
from tests.web.given import VIEWER, admin

EARLY = "2026-03-10T05:00:00Z"
NINE = "2026-03-10T08:00:00Z"
INACTIVE_USERS = "reminder.inactiveUsers"
EVENING = "2026-03-10T20:30:00Z"
FORECAST = "It would go out on Tue 10 Mar at 09:00 (Europe/Berlin) on email and in_app."


async def explained(
    world: World, who: str = "ann", at: str | None = None, job: str = GOALS, **changes: Any
) -> dict[str, Any]:
    explainer = (await Asking.of(world, **changes)).explainer
    return await explainer.explain(job, who, datetime.fromisoformat(at) if at else None)


def stops(told: dict[str, Any], channel: str = "email") -> list[tuple[str, str]]:
    return [(rule["rule"], rule["reason"]) for rule in told["rules"][channel] if rule["verdict"] == "stopped"]


def rule(told: dict[str, Any], name: str, channel: str = "email") -> tuple[str, str]:
    (found,) = [rule for rule in told["rules"][channel] if rule["rule"] == name]
    return found["verdict"], found["detail"]


async def _leaving(world: World) -> dict[str, str]:
    """When the planned messages leave, by channel."""
    rows = await world.pool.fetch("SELECT channel, not_before FROM service.delivery_with_state")
    return {row["channel"]: row["not_before"].isoformat().replace("+00:00", "Z") for row in rows}


# ── What is recorded ────────────────────────────────────────────────────────────────────────────────────────


async def test_a_mail_that_was_sent_is_told_from_the_record(world: World) -> None:
    await world.at(EARLY)
    await world.live(user(), goal("g1", due="2026-03-11"))
    await world.ledger()
    await world.at(NINE)
    await (await Asking.of(world)).sweep()
    await world.delivery(Scripted()).run_once()

    told = await explained(world)

    assert told["conclusion"] == (
        "The mail was sent on Tue 10 Mar at 09:00 (Europe/Berlin)."
        " The notification was shown from Tue 10 Mar at 09:00 (Europe/Berlin)."
    )
    assert {row["channel"] for row in told["recorded"]["deliveries"]} == {"email", "in_app"}
    assert (told["localDate"], told["timezone"], told["when"]) == ("2026-03-10", "Europe/Berlin", "past")
    assert told["slot"] == {
        "local": "2026-03-10T09:00:00+01:00",
        "utc": "2026-03-10T08:00:00Z",
        "group": "Europe/Berlin",
    }


async def test_a_silence_is_told_with_its_reason(world: World) -> None:
    await world.at(NINE)
    await world.live(
        user("deaf", preferences=Preferences(email=False, in_app=False)), goal("g1", "deaf", due="2026-03-11")
    )
    await (await world.runner()).run_manual(GOALS)

    told = await explained(world, "deaf")

    assert told["conclusion"] == "Nothing was sent: pref_email_off."
    assert stops(told) == [("wishes", "pref_email_off")]
    assert stops(told, "in_app") == [("wishes", "pref_category_off")]


async def test_a_refused_mail_is_told_beside_the_notification_that_went_out(world: World) -> None:
    await world.at(NINE)
    await world.live(user(preferences=Preferences(email=False)), goal("g1", due="2026-03-11"))
    await (await world.runner()).run_manual(GOALS)

    told = await explained(world)

    assert told["conclusion"] == (
        "The notification was shown from Tue 10 Mar at 09:00 (Europe/Berlin)."
        " Not on the channel email: pref_email_off."
    )


async def test_another_users_manual_run_is_not_theirs(world: World) -> None:
    await world.at(NINE)
    await world.live(user(), user("bob"), goal("g1", due="2026-03-11"), goal("g2", "bob", due="2026-03-11"))
    await (await world.runner()).run_manual(GOALS, RunRequest(user_id="bob"))
    mine = (await (await world.runner()).run_manual(GOALS, RunRequest(user_id="ann", dry_run=False))).run_id

    told = await explained(world)

    assert [row["id"] for row in told["recorded"]["runs"]] == [mine]


async def test_a_slot_that_was_missed_is_named(world: World) -> None:
    await world.at(EARLY)
    await world.live(user(), goal("g1", due="2026-03-11"))
    await world.ledger()
    await world.at(EVENING)
    await (await Asking.of(world)).sweep()

    told = await explained(world)

    assert told["conclusion"] == (
        "The run of the slot on Tue 10 Mar at 09:00 (Europe/Berlin) was missed: too late."
    )
    assert stops(told) == [("lateness", "stale")]


async def test_a_run_that_did_not_choose_somebody_says_what_holds_now(world: World) -> None:
    await world.at(EARLY)
    await world.live(user())
    await world.ledger()
    await world.at(NINE)
    await (await Asking.of(world)).sweep()

    told = await explained(world)

    assert told["conclusion"] == (
        "The run of the slot on Tue 10 Mar at 09:00 (Europe/Berlin) did not choose this user."
        " As things stand now: not_due. goalDeadlines does not look at this user then."
    )


async def test_a_slot_before_the_job_was_known_has_no_record(world: World) -> None:
    await world.at(EVENING)
    await world.live(user(), goal("g1", due="2026-03-11"))

    told = await explained(world)

    assert told["when"] == "past"
    assert told["conclusion"] == (
        "Nothing is recorded for the slot on Tue 10 Mar at 09:00 (Europe/Berlin): no run of it was for this"
        " user."
    )


async def test_with_one_clock_for_all_the_run_is_found_and_the_date_is_the_clocks(world: World) -> None:
    clock: dict[str, Any] = {"mode": TimeMode.SERVICE, "zone": "Europe/Berlin"}
    await world.at(EARLY)
    await world.live(user("far", "Pacific/Honolulu"), goal("g1", "far", due="2026-03-11"))
    await set_for(world, "far", hours={"deadlines": 7})
    await world.ledger()
    ahead = await explained(world, "far", **clock)
    await world.at(NINE)  # still the day before in Honolulu
    await (await Asking.of(world, **clock)).sweep()

    told = await explained(world, "far", **clock)

    assert ahead["conclusion"].startswith("It would go out on Mon 9 Mar at 22:00 (Pacific/Honolulu)")
    assert ahead["slot"]["group"] == "Europe/Berlin"
    assert told["localDate"] == "2026-03-10"
    assert [row["trigger"] for row in told["recorded"]["runs"]] == ["cron"]
    assert {row["channel"] for row in told["recorded"]["deliveries"]} == {"email", "in_app"}


async def test_of_several_slots_a_day_only_the_one_that_is_asked_about_counts(world: World) -> None:
    breaks = "reminder.breakReminders"
    await world.at("2026-03-10T08:20:00Z")  # 09:20 in Berlin; the slots are 09:00, 09:25, 09:50, 10:00 …
    await world.live(user())
    await world.ledger()
    for slot in ("2026-03-10T08:25:00Z", "2026-03-10T08:50:00Z"):
        await world.at(slot)
        await (await Asking.of(world)).sweep()
    told = {
        at: await explained(world, at=f"2026-03-10T{at}:00Z", job=breaks)
        for at in ("08:25", "08:26", "20:00")
    }

    assert {at: found["slot"]["local"][11:16] for at, found in told.items()} == {
        "08:25": "09:25",
        "08:26": "09:50",
        "20:00": "17:50",
    }
    assert {at: len(found["recorded"]["runs"]) for at, found in told.items()} == {
        "08:25": 1,
        "08:26": 1,
        "20:00": 0,
    }


# ── What would be ───────────────────────────────────────────────────────────────────────────────────────────


async def test_every_rule_is_asked_not_only_the_first_that_stops(world: World) -> None:
    await world.at(EARLY)
    await world.live(
        user("ann", email="nowhere", active=False, preferences=Preferences(email=False)),
        goal("g1", due="2026-03-11"),
    )
    await set_for(world, "ann", paused_until=datetime.fromisoformat("2026-04-01T00:00:00Z"))

    told = await explained(world)

    assert stops(told) == [
        ("account", "inactive_account"),
        ("address", "no_email"),
        ("wishes", "pref_email_off"),
        ("pause", "paused_until"),
    ]
    assert rule(told, "pause") == ("stopped", "Until Wed 1 Apr at 02:00 (Europe/Berlin).")
    assert told["conclusion"] == "It would not be sent: inactive_account."


@pytest.mark.parametrize(
    ("at", "conclusion"),
    [
        (
            "2026-03-14T22:00:00Z",
            "It would go out on Sat 14 Mar at 09:00 (Europe/Berlin) on email and in_app.",
        ),
        ("2026-03-12T05:00:00Z", "It would not be sent: not_due. None of the goals"),
    ],
)
async def test_the_future_is_decided_at_the_slot_without_sending(
    world: World, at: str, conclusion: str
) -> None:
    await world.at(NINE)
    await world.live(user(), goal("g1", due="2026-03-15"))
    before = await world.pool.fetchval("SELECT count(*) FROM service.job_run")

    told = await explained(world, at=at)

    assert told["when"] == "future"
    assert told["conclusion"].startswith(conclusion)
    assert await world.mails() == {}
    assert await world.pool.fetchval("SELECT count(*) FROM service.job_run") == before


@pytest.mark.parametrize("at", ["2026-03-09T23:00:00Z", "2026-03-10T05:00:00Z", "2026-03-10T22:59:59Z"])
async def test_any_moment_of_the_day_asks_about_its_slot(world: World, at: str) -> None:
    await world.at("2026-03-09T12:00:00Z")
    await world.live(user(), goal("g1", due="2026-03-11"))

    told = await explained(world, at=at)

    assert told["conclusion"] == FORECAST
    assert stops(told) == []


async def test_the_hour_that_somebody_chose_is_the_slot(world: World) -> None:
    await world.at("2026-03-09T12:00:00Z")
    await world.live(user(), goal("g1", due="2026-03-11"))
    await set_for(world, "ann", hours={"deadlines": 7})

    told = await explained(world, at=NINE)

    assert told["slot"]["group"] == "Europe/Berlin@7"
    assert told["conclusion"].startswith("It would go out on Tue 10 Mar at 07:00 (Europe/Berlin)")


async def test_an_hour_behind_the_limit_of_its_job_is_the_usual_one(world: World) -> None:
    await world.at("2026-03-09T12:00:00Z")
    await world.live(user(), goal("g1", due="2026-03-11"))
    await set_for(world, "ann", hours={"deadlines": 21})

    told = await explained(world, at=NINE)
    await world.at(NINE)
    await (await Asking.of(world)).sweep()

    assert (told["slot"]["group"], told["conclusion"]) == ("Europe/Berlin@21", FORECAST)
    assert await _leaving(world) == {channel: one["notBefore"] for channel, one in told["outcome"].items()}


@pytest.mark.parametrize(
    ("job", "conclusion"),
    [
        (
            "weeklyReview",
            "weeklyReview has no slot on Tuesday 10 March; the next is Sun 15 Mar at 19:00 (Europe/Berlin).",
        ),
        (
            "monthlyReport",
            "monthlyReport has no slot on Tuesday 10 March; the next is Wed 1 Apr at 09:00 (Europe/Berlin).",
        ),
    ],
)
async def test_a_day_without_a_slot_names_the_next(world: World, job: str, conclusion: str) -> None:
    await world.at(EARLY)
    await world.live(user())

    told = await explained(world, job=job)

    assert (told["slot"], told["conclusion"]) == (None, conclusion)
    assert stops(told) == [("slot", "no_slot")]
    assert {rule(told, name)[0] for name in ("job", "budget", "quiet_hours", "once")} == {"not_reached"}


async def test_a_job_whose_run_is_still_due_is_asked_as_of_now(world: World) -> None:
    await world.at(EARLY)
    await world.live(user(), goal("g1", due="2026-03-11"))
    await world.ledger()
    await world.at("2026-03-10T10:15:00Z")

    due = await explained(world)
    await world.at(EVENING)
    late = await explained(world)

    assert (due["when"], late["when"]) == ("now", "now")
    assert due["conclusion"] == FORECAST.replace("09:00", "11:15")
    assert stops(late)[0] == ("lateness", "stale")


async def test_quiet_hours_put_it_off_and_are_told(world: World) -> None:
    await world.at(EARLY)
    await world.live(user(), goal("g1", due="2026-03-11"))
    await world.pool.execute(
        "INSERT INTO service.recipient_setting (user_id, quiet_start, quiet_end)"
        " VALUES ('ann', '08:00', '10:30')"
    )

    told = await explained(world)

    assert rule(told, "quiet_hours") == ("passed", "It may go out on Tue 10 Mar at 10:30 (Europe/Berlin).")
    assert told["outcome"]["email"] == {"notBefore": "2026-03-10T09:30:00Z", "reason": None}
    assert told["conclusion"] == (
        "It would go out on Tue 10 Mar at 10:30 (Europe/Berlin) on email and in_app (after quiet hours)."
    )


async def test_one_channel_may_stop_while_the_other_goes_out(world: World) -> None:
    await world.at(EARLY)
    await world.live(user(), goal("g1", due="2026-03-11"))
    await world.pool.execute(
        "INSERT INTO service.suppression (address, reason) VALUES ('ann@example.org', 'x')"
    )

    told = await explained(world)

    assert stops(told) == [("suppression", "suppressed_address")]
    assert told["conclusion"] == (
        "It would go out on Tue 10 Mar at 09:00 (Europe/Berlin) on in_app. Not on email: suppressed_address."
    )


async def test_a_paused_job_says_who_why_and_until_when(world: World) -> None:
    await world.at(EARLY)
    await world.live(user(), goal("g1", due="2026-03-11"))
    ledger = await world.ledger()
    await ledger.pause(GOALS, "eve", "moving house", datetime.fromisoformat("2026-03-10T11:00:00Z"))

    told = await explained(world)
    tomorrow = await explained(world, at="2026-03-11T05:00:00Z")

    sentence = "Paused by eve until Tue 10 Mar at 12:00 (Europe/Berlin): moving house."
    assert stops(told) == [("job_paused", "job_paused")]
    assert told["conclusion"] == f"It would not be sent: job_paused. {sentence}"
    assert rule(tomorrow, "job_paused")[0] == "passed"
    await world.at(NINE)
    await (await Asking.of(world)).sweep()
    told = await explained(world)
    assert told["conclusion"].endswith("was skipped: paused.")
    assert stops(told) == [("job_paused", "job_paused")]


@pytest.mark.parametrize(
    ("days", "reason"),
    [
        (("2026-03-10",), "cap_daily"),
        (("2026-03-05", "2026-03-07", "2026-03-09"), "cap_weekly"),
    ],
)
async def test_the_budget_is_told(world: World, days: tuple[str, ...], reason: str) -> None:
    await world.at("2026-03-10T05:00:00Z")
    await world.live(
        user(
            created_at=datetime.fromisoformat("2026-01-01T00:00:00Z"),
            last_login_at=datetime.fromisoformat("2026-03-07T12:00:00Z"),
        )
    )
    for day in days:
        await planned_before(world, "ann", DAILY, day)

    told = await explained(world, job="inactiveUsers")

    assert stops(told) == [("budget", reason)]
    assert f"Not on email: {reason}." in told["conclusion"]


async def test_the_budget_counts_what_the_planner_counts(world: World) -> None:
    """Also the nudges of jobs that this process does not have."""
    world.jobs = {INACTIVE_USERS: world.jobs[INACTIVE_USERS]}
    await world.at(EARLY)
    await world.live(user(last_login_at=datetime.fromisoformat("2026-03-07T12:00:00Z")))
    await planned_before(world, "ann", DAILY, "2026-03-10")
    asking = await Asking.of(world)

    told = await asking.explainer.explain(INACTIVE_USERS, "ann")
    await world.at("2026-03-10T09:00:00Z")
    await asking.sweep()

    assert stops(told) == [("budget", "cap_daily")]
    assert await world.reasons() == {"ann": "cap_daily"}


async def test_what_was_sent_before_is_told(world: World) -> None:
    await world.at(EARLY)
    await world.live(user(), goal("g1", due="2026-03-11"))
    for channel in Channel:
        await planned_before(world, "ann", DEADLINES, "2026-03-10", channel, "goalDeadlines:ann:2026-03-10")

    told = await explained(world)

    assert stops(told) == [("once", "already_sent")]
    assert told["conclusion"] == "It would not be sent: already_sent. goalDeadlines:ann:2026-03-10"


async def test_an_account_that_is_too_new_is_told(world: World) -> None:
    await world.at("2026-03-10T12:00:00Z")
    await world.live(
        user(
            created_at=datetime.fromisoformat("2026-03-10T09:00:00Z"),
            last_login_at=datetime.fromisoformat("2026-03-10T10:00:00Z"),
        )
    )

    told = await explained(world, job="dailyCheck")

    assert stops(told) == [("job", "too_new")]
    assert rule(told, "quiet_hours") == ("not_reached", "There is no message.")


async def test_a_job_that_fails_for_somebody_is_a_reason(world: World) -> None:
    def broken(*_: Any) -> Decision:
        raise ZeroDivisionError

    world.jobs[GOALS] = replace(world.reminder(), decide=broken)
    await world.at(EARLY)
    await world.live(user(), goal("g1", due="2026-03-11"))

    told = await explained(world)

    assert stops(told) == [("job", "user_error")]
    assert told["conclusion"] == "It would not be sent: user_error. ZeroDivisionError"


def _refresh(error: Exception) -> Callable[[], Awaitable[Any]]:
    async def refresh() -> None:
        raise error

    return refresh


async def test_while_the_dashboard_is_away_the_copy_answers_and_says_so(world: World) -> None:
    await world.at(EARLY)
    await world.live(user(), goal("g1", due="2026-03-11"))
    world.refresh = _refresh(SourceUnavailable("nobody answers"))

    told = await explained(world)

    assert rule(told, "dashboard") == ("passed", "Answered from our copy: nobody answers")
    assert told["conclusion"] == (
        f"{FORECAST} The dashboard does not answer now: this is told from our copy."
    )


async def test_an_unknown_schema_stops_and_the_other_rules_are_still_told(world: World) -> None:
    await world.at(EARLY)
    await world.live(user(preferences=Preferences(email=False)), goal("g1", due="2026-03-11"))
    world.refresh = _refresh(SchemaUnknown("no profile fits"))

    told = await explained(world)

    assert stops(told) == [("dashboard", "schema_unknown"), ("wishes", "pref_email_off")]
    assert told["conclusion"] == "It would not be sent: schema_unknown. no profile fits"


async def test_a_mail_that_is_spread_says_its_own_moment(world: World) -> None:
    await world.at(EARLY)
    await world.live(user(), goal("g1", due="2026-03-11"))
    await world.ledger()
    spread = timedelta(minutes=30)
    told = await explained(world, spread=spread)
    await world.at(NINE)
    await (await Asking.of(world, spread=spread)).sweep()

    assert await _leaving(world) == {channel: one["notBefore"] for channel, one in told["outcome"].items()}


# ── Over HTTP, and what cannot be answered ──────────────────────────────────────────────────────────────────


async def test_the_answer_over_http_and_its_errors(world: World) -> None:
    await world.at(EARLY)
    await world.live(user(), goal("g1", due="2026-03-11"))
    world.jobs["analytics.dailyAnalytics"] = all_jobs()["analytics.dailyAnalytics"]
    explainer = (await Asking.of(world)).explainer
    described = contract()["paths"]["/api/admin/users/{id}/explain"]["get"]["responses"]["200"]["content"]
    described = described["application/json"]
    schema = {**described["schema"], "components": contract()["components"]}
    async with admin(world.pool, explainer=explainer) as given:

        async def ask(path: str, **headers: Any) -> tuple[int, Any]:
            answer = await given.client.get(f"/api/admin/users/{path}", headers=headers or VIEWER)
            return answer.status, await answer.json()

        good = [await ask(f"ann/explain?job={name}") for name in ("goalDeadlines", GOALS, "weeklyReview")]
        errors = {
            path: await ask(path)
            for path in (
                "ann/explain",
                "ann/explain?job=x",
                "ann/explain?job=nonsense.goalDeadlines",
                "ann/explain?job=analytics.dailyAnalytics",
                "bob/explain?job=goalDeadlines",
                "%00/explain?job=goalDeadlines",
                "%ED%A0%80/explain?job=goalDeadlines",
                *(
                    f"ann/explain?job=goalDeadlines&at={at}"
                    for at in (
                        "tomorrow",
                        "2026-03-10T09:00:00",
                        "9999-12-31T23:59:59Z",
                        "9999-12-31T23:59:59-23:59",
                        "0001-01-01T00:00:00Z",
                        "0001-01-01T00:00:00%2B14:00",
                    )
                ),
            )
        }
        assert (await ask("ann/explain?job=goalDeadlines", Authorization="none"))[0] == 401
    assert good[0][1]["data"]["conclusion"] == FORECAST
    assert good[0] == good[1]
    for status, body in good:
        assert status == 200
        Draft202012Validator(schema).validate(body)
    Draft202012Validator(schema).validate(described["example"])
    assert [status for status, _ in errors.values()] == [400, 404, 404, 400, 404, 404, 404, *[400] * 6]
    assert errors["ann/explain?job=goalDeadlines&at=9999-12-31T23:59:59Z"][1]["error"] == (
        "9999-12-31T23:59:59+00:00 is out of reach: use a time from 1970 to 2099"
    )
    assert "writes to nobody" in errors["ann/explain?job=analytics.dailyAnalytics"][1]["error"]


@pytest.mark.parametrize(
    ("job", "who", "error"),
    [
        (GOALS, "bob", UnknownUser),
        ("nonsense", "ann", UnknownJob),
        ("analytics.dailyAnalytics", "ann", BadRequest),
    ],
)
async def test_what_is_unknown_is_named(world: World, job: str, who: str, error: type[Exception]) -> None:
    await world.at(EARLY)
    await world.live(user())

    with pytest.raises(error, match=who if error is UnknownUser else job):
        await explained(world, who, job=job)


@pytest.mark.parametrize("at", ["1970-01-01T00:00:00Z", "2099-12-31T23:59:59Z"])
@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Pacific/Midway"])
async def test_the_ends_of_the_calendar_are_answered_in_every_zone(world: World, at: str, zone: str) -> None:
    await world.at(EARLY)
    await world.live(user(zone=zone))
    world.jobs = dict(JOBS)

    for id_ in reminders(world.jobs):
        assert (await explained(world, at=at, job=id_))["conclusion"]


async def test_everything_is_read_in_one_snapshot(world: World) -> None:
    await world.at(EARLY)
    await world.live(user(), goal("g1", due="2026-03-11"))
    read = world.reminder().read

    async def slow(connection: asyncpg.Connection, tick: Any, after: str) -> AsyncIterator[Any]:
        await world.pool.execute(  # somebody unsubscribes and is written to while we read
            "INSERT INTO service.preference_override (user_id, kind, channel, enabled, source)"
            " VALUES ('ann', '*', '*', false, 'page')"
        )
        async for page in read(connection, tick, after):
            yield page

    world.jobs[GOALS] = replace(world.reminder(), read=slow)

    told = await explained(world)

    assert told["conclusion"] == FORECAST


def test_the_run_of_a_slot_is_not_a_manual_one() -> None:
    nine = datetime.fromisoformat(NINE)
    runs = [{"trigger": str(trigger), "nominal_at": nine} for trigger in (Trigger.MANUAL, Trigger.CRON)]
    assert SlotRecord(runs, [], []).run_of(nine) == runs[1]
    assert SlotRecord(runs[:1], [], []).run_of(nine) is None
