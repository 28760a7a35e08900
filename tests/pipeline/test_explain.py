"""Why somebody did, did not, or will not get a message: recorded, ruled, and said in one sentence."""

from datetime import datetime
from typing import Any

import pytest

from service.domain.dashboard import Preferences
from service.errors import UnknownUser
from service.pipeline.explain import Explainer
from tests.admin.given import VIEWER, admin
from tests.given import GOALS, Scripted, World, goal, user

NINE = "2026-03-10T08:00:00Z"


async def explained(world: World, who: str, at: str | None = None) -> dict[str, Any]:
    explainer = Explainer(world.pool, await world.runner(), world.jobs)
    return await explainer.explain(GOALS, who, datetime.fromisoformat(at) if at else None)


def stops(told: dict[str, Any], channel: str = "email") -> list[tuple[str, str]]:
    return [(rule["rule"], rule["reason"]) for rule in told["rules"][channel] if rule["verdict"] == "stopped"]


async def test_a_mail_that_was_sent_is_told_from_the_record(world: World) -> None:
    await world.at(NINE)
    await world.live(user(), goal("g1", due="2026-03-11"))
    await (await world.runner()).run_manual(GOALS)
    await world.delivery(Scripted()).run_once()

    told = await explained(world, "ann")

    assert told["conclusion"] == "The mail is sent at 2026-03-10T08:00:00Z."
    assert {row["channel"] for row in told["recorded"]["deliveries"]} == {"email", "in_app"}
    assert (told["localDate"], told["timezone"], told["slotGroup"]) == (
        "2026-03-10",
        "Europe/Berlin",
        "Europe/Berlin",
    )


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


async def test_every_rule_is_asked_not_only_the_first_that_stops(world: World) -> None:
    await world.at(NINE)
    await world.live(
        user("ann", email="nowhere", active=False, preferences=Preferences(email=False)),
        goal("g1", due="2026-03-11"),
    )
    await world.pool.execute(
        "INSERT INTO service.recipient_setting (user_id, paused_until) VALUES ('ann', '2026-04-01T00:00:00Z')"
    )

    told = await explained(world, "ann")

    assert stops(told) == [
        ("account", "inactive_account"),
        ("address", "no_email"),
        ("wishes", "pref_email_off"),
        ("pause", "paused_until"),
    ]
    assert told["conclusion"] == "It would not be sent: inactive_account."


@pytest.mark.parametrize(
    ("at", "conclusion"),
    [
        ("2026-03-14T08:00:00Z", "It would go out now on: email, in_app."),
        ("2026-03-12T08:00:00Z", "It would not be sent: not_due."),
    ],
)
async def test_the_future_is_decided_without_sending(world: World, at: str, conclusion: str) -> None:
    await world.at(NINE)
    await world.live(user(), goal("g1", due="2026-03-15"))
    before = await world.pool.fetchval("SELECT count(*) FROM service.job_run")

    told = await explained(world, "ann", at)

    assert told["conclusion"].startswith(conclusion)
    assert await world.mails() == {}
    assert await world.pool.fetchval("SELECT count(*) FROM service.job_run") == before


async def test_quiet_hours_say_when_it_may_go_out(world: World) -> None:
    await world.at(NINE)
    await world.live(user(), goal("g1", due="2026-03-11"))
    await world.pool.execute(
        "INSERT INTO service.recipient_setting (user_id, quiet_start, quiet_end)"
        " VALUES ('ann', '08:00', '10:30')"
    )

    told = await explained(world, "ann")

    (quiet,) = [rule for rule in told["rules"]["email"] if rule["rule"] == "quiet_hours"]
    assert (quiet["verdict"], quiet["detail"]) == ("passed", "It may go out at 2026-03-10T09:30:00Z.")


async def test_a_slot_that_was_missed_is_named(world: World) -> None:
    await world.at("2026-03-10T20:00:00Z")
    await world.live(user(), goal("g1", due="2026-03-11"))
    await world.ledger()
    await world.pool.execute(
        "INSERT INTO service.job_run"
        " (job, trigger, nominal_at, not_before, zones, state, reason, finished_at)"
        " VALUES ($1, 'catchup', $2, $2, ARRAY['Europe/Berlin'], 'missed', 'too late', service.now())",
        GOALS,
        datetime.fromisoformat(NINE),
    )

    told = await explained(world, "ann")

    assert told["conclusion"] == "The run of this slot is missed: too late."
    assert ("lateness", "stale") in stops(told)


async def test_the_answer_over_http_and_its_errors(world: World) -> None:
    await world.at(NINE)
    await world.live(user(), goal("g1", due="2026-03-11"))
    explainer = Explainer(world.pool, await world.runner(), world.jobs)
    base = "/api/admin/users"
    async with admin(world.pool, explainer=explainer) as given:
        ask = given.client.get
        found = await (await ask(f"{base}/ann/explain?job=goalDeadlines", headers=VIEWER)).json()
        asked = ("ann/explain", "ann/explain?job=x", "bob/explain?job=goalDeadlines")
        statuses = [(await ask(f"{base}/{path}", headers=VIEWER)).status for path in asked]
        for wrong in ("tomorrow", "2026-03-10T09:00:00"):
            url = f"{base}/ann/explain?job=goalDeadlines&at={wrong}"
            statuses.append((await ask(url, headers=VIEWER)).status)
        statuses.append((await ask(f"{base}/ann/explain?job=goalDeadlines")).status)
    assert found["data"]["conclusion"] == "It would go out now on: email, in_app."
    assert statuses == [400, 404, 404, 400, 400, 401]
    with pytest.raises(UnknownUser):
        await explainer.explain(GOALS, "bob")
