"""A day of goalDeadlines, end to end: from the canonical tables to the mail, and why somebody got none."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, time, timedelta
from email import message_from_bytes, policy
from pathlib import Path

import pytest

from service.dashboard.model import Preferences, QuietHours
from service.engine.context import LedgerContext
from service.engine.run import RunRequest, RunResult, Tick, Trigger
from service.errors import AlreadyRunning, BadRequest, SchemaUnknown, SourceUnavailable
from service.jobs import goal_deadlines
from service.messages import reminder
from service.messages.decision import Decision
from service.messages.mail.maildir import MaildirTransport
from service.messages.planner import Planner
from tests.given import GOALS, World, goal, inbox, user


async def _run(world: World, **options: object) -> RunResult:
    return await (await world.runner()).run_manual(GOALS, RunRequest(**options))  # type: ignore[arg-type]


async def test_a_goal_due_tomorrow_is_announced_in_the_inbox(world: World, tmp_path: Path) -> None:
    await world.at("2026-03-10T08:00:00Z")
    await world.live(user(), goal("g1", due="2026-03-11", title="Read <b>ten</b> books 📚"))

    result = await _run(world)
    sent = await world.delivery(MaildirTransport(tmp_path)).run_once()

    assert (result.state, result.counts, sent) == ("succeeded", {"planned": 1, "in_app": 1}, 1)
    (mail,) = (message_from_bytes(raw, policy=policy.default) for raw in inbox(tmp_path))
    assert mail["Subject"] == "Due tomorrow: Read <b>ten</b> books 📚"
    assert mail["To"] == "Ann <ann@example.org>"
    assert await world.mails() == {"ann": ("sent", None)}


async def test_a_second_run_of_the_same_day_sends_nothing(world: World, tmp_path: Path) -> None:
    await world.at("2026-03-10T08:00:00Z")
    await world.live(user(), goal("g1", due="2026-03-11"))
    delivery = world.delivery(MaildirTransport(tmp_path))
    await _run(world)
    await delivery.run_once()

    again = await _run(world)
    await delivery.run_once()

    assert again.counts == {"already_sent": 1}
    assert len(inbox(tmp_path)) == 1


async def test_mails_are_spread_and_only_kinds_that_may_be_are_resent(world: World) -> None:
    await world.at("2026-03-10T17:00:00Z")
    people = [user(f"u{n}", last_login_at=datetime.fromisoformat("2026-03-10T12:00Z")) for n in range(20)]
    await world.live(*people, *(goal(f"g{n}", f"u{n}", due="2026-03-11") for n in range(20)))
    runner = await world.runner(resent=frozenset({"deadlines"}), spread=timedelta(minutes=2))

    for name in (GOALS, "reminder.dailyCheck"):
        await runner.run_manual(name)

    rows = await world.pool.fetch(
        "SELECT channel, kind, unconfirmed_policy, not_before FROM service.delivery_with_state"
    )
    policies = {(row["kind"], row["unconfirmed_policy"]) for row in rows if row["channel"] == "email"}
    assert policies == {("deadlines", "resend"), ("daily", "hold")}
    starts = {row["not_before"] for row in rows if row["kind"] == "deadlines" and row["channel"] == "email"}
    slot = datetime.fromisoformat("2026-03-10T17:00:00Z")
    assert len(starts) == 20
    assert slot <= min(starts) < max(starts) < slot + timedelta(minutes=2)
    assert {row["not_before"] for row in rows if row["channel"] == "in_app"} == {slot}


async def test_whoever_gets_nothing_has_a_reason(world: World) -> None:
    await world.at("2026-03-10T08:00:00Z")
    people = [
        user("optout", preferences=Preferences(email=False, in_app=False)),
        user("silent", preferences=Preferences(reminders=False)),
        user("gone", active=False),
        user("noaddress", email=None),
        user("badaddress", email="a@b.c\r\nBcc: x@y.z"),
        user("notdue"),
    ]
    due = {"notdue": "2026-03-13"}
    await world.live(*people, *(goal(f"g-{p.id}", p.id, due.get(p.id, "2026-03-11")) for p in people))

    result = await _run(world)

    assert await world.reasons() == {
        "optout": "pref_email_off",
        "silent": "pref_category_off",
        "gone": "inactive_account",
        "noaddress": "no_email",
        "badaddress": "no_email",
        "notdue": "not_due",
    }
    assert result.counts == {
        "pref_email_off": 1,
        "pref_category_off": 1,
        "inactive_account": 1,
        "no_email": 2,
        "not_due": 1,
        "in_app": 2,
    }
    notices = await world.pool.fetch("SELECT user_id FROM service.notification ORDER BY user_id")
    assert [row["user_id"] for row in notices] == ["badaddress", "noaddress"]


async def test_our_own_override_wins_over_the_dashboard(world: World) -> None:
    await world.at("2026-03-10T08:00:00Z")
    await world.live(
        user("ann"), user("bob", preferences=Preferences(email=False)), goal("a", "ann", "2026-03-11"),
        goal("b", "bob", "2026-03-11"),
    )  # fmt: skip
    await world.pool.executemany(
        "INSERT INTO service.preference_override (user_id, kind, channel, enabled, source)"
        " VALUES ($1, 'deadlines', 'email', $2, 'test')",
        [("ann", False), ("bob", True)],
    )

    await _run(world)

    assert list(await world.mails()) == ["bob"]


async def test_moving_a_deadline_re_arms_it_and_moving_it_back_does_not_repeat(world: World) -> None:
    await world.at("2026-03-10T08:00:00Z")
    await world.live(user(), goal("g1", due="2026-03-11"))
    await _run(world)
    await world.pool.execute("UPDATE service.delivery_state SET claim = coalesce(claim, 0), state = 'sent'")
    moved = goal("g1", due="2026-03-12")

    await world.at("2026-03-11T08:00:00Z")
    await world.live(moved)
    second = await _run(world)
    await world.at("2026-03-11T10:00:00Z")
    await world.live(goal("g1", due="2026-03-11"))
    third = await _run(world, user_id="ann")

    assert second.counts == {"planned": 1, "in_app": 1}
    assert third.counts == {"already_sent": 1}


async def test_quiet_hours_put_a_message_off_until_they_end(world: World) -> None:
    await world.at("2026-03-10T08:00:00Z")
    quiet = Preferences(quiet=QuietHours(time(8), time(11)))
    await world.live(user(preferences=quiet), goal("g1", due="2026-03-11"))

    await _run(world)

    due = await world.pool.fetchval("SELECT min(not_before) FROM service.delivery_with_state")
    assert due.isoformat() == "2026-03-10T10:00:00+00:00"


async def test_a_dry_run_writes_nothing_and_may_look_ahead(world: World) -> None:
    await world.at("2026-03-10T08:00:00Z")
    await world.live(user(), goal("g1", due="2026-03-21"))
    later = datetime.fromisoformat("2026-03-20T08:00:00+00:00")

    rehearsed = await _run(world, dry_run=True, as_of=later)

    assert rehearsed.counts == {"planned": 1, "in_app": 1}
    assert [(one["userId"], one["title"]) for one in rehearsed.sample] == [("ann", "Due tomorrow")]
    assert await world.pool.fetchval("SELECT count(*) FROM service.job_run") == 0
    with pytest.raises(BadRequest, match="dryRun"):
        await _run(world, as_of=later)


async def test_force_sends_again_to_one_user_only(world: World) -> None:
    await world.at("2026-03-10T08:00:00Z")
    await world.live(user(), goal("g1", due="2026-03-11"))
    await _run(world)

    forced = await _run(world, user_id="ann", force=True)

    assert forced.counts["planned"] == 1
    with pytest.raises(BadRequest, match="userId"):
        await _run(world, force=True)


def _failing(*ids: str) -> Callable[[goal_deadlines.Facts, Tick], Decision]:
    def decide(facts: goal_deadlines.Facts, tick: Tick) -> Decision:
        if facts.user.id in ids:
            raise ZeroDivisionError(facts.user.id)
        return goal_deadlines.decide(facts, tick)

    return decide


@pytest.mark.parametrize(("failing", "state"), [(1, "partial"), (3, "failed")])
async def test_one_failure_never_stops_the_others(world: World, failing: int, state: str) -> None:
    names = [f"u{n}" for n in range(10)]
    await world.at("2026-03-10T08:00:00Z")
    await world.live(*map(user, names), *(goal(f"g{n}", n, "2026-03-11") for n in names))
    world.jobs = {GOALS: replace(world.reminder(), decide=_failing(*names[:failing]))}

    result = await _run(world)

    assert result.state == state
    assert result.counts["planned"] == 10 - failing
    assert "ZeroDivisionError" in (result.error or "")


async def test_while_the_dashboard_is_down_the_run_waits_and_costs_no_attempt(world: World) -> None:
    async def down() -> None:
        raise SourceUnavailable("the dashboard's database does not answer")

    await world.at("2026-03-10T08:00:00Z")
    await world.live(user(), goal("g1", due="2026-03-11"))
    world.refresh = down

    waiting = await _run(world)

    row = await world.pool.fetchrow("SELECT state, attempt, reason FROM service.job_run")
    assert row is not None
    assert waiting.state == "pending"
    assert tuple(row) == ("pending", 0, "waiting for the dashboard")


async def test_a_wrong_schema_is_a_failed_run_with_its_reason(world: World) -> None:
    async def wrong() -> None:
        raise SchemaUnknown("goals: no profile fits")

    await world.at("2026-03-10T08:00:00Z")
    world.refresh = wrong

    await _run(world)

    assert await world.pool.fetchval("SELECT reason FROM service.job_run") == "schema_unknown"


async def test_an_interrupted_run_goes_on_behind_its_last_page(world: World) -> None:
    await world.at("2026-03-10T08:00:00Z")
    names = [f"u{n:02d}" for n in range(30)]
    await world.live(*map(user, names), *(goal(f"g{n}", n, "2026-03-11") for n in names))
    reminder._PAGE, page = 10, reminder._PAGE
    try:
        first = await world.ledger("first")
        run = await first.request(GOALS, Trigger.MANUAL)
        await first.claim_requested(run)
        runner = await world.runner("first")
        claimed = await first.get(run.id)
        assert claimed is not None
        async with world.pool.acquire() as reading:
            pages = goal_deadlines.read(reading, runner._tick(claimed), "")  # type: ignore[arg-type]
            context = LedgerContext(world.pool, first, claimed, runner._tick(claimed), runner._resources, "")
            planner = runner._resources[Planner]
            await planner._page(world.reminder(), context, await anext(pages))
        await world.at("2026-03-10T08:05:00Z")  # the first runner is gone, its lease with it

        heir = await world.runner("heir")
        ended = await heir.run_one()
    finally:
        reminder._PAGE = page

    assert ended is not None
    assert (ended.done, ended.counts) == (30, {"planned": 30, "in_app": 30})
    assert await world.pool.fetchval("SELECT count(*) FROM service.delivery WHERE channel = 'email'") == 30


@pytest.mark.parametrize("replicas", [2, 4])
async def test_many_replicas_write_each_message_once(world: World, replicas: int) -> None:
    await world.at("2026-03-10T08:00:00Z")
    names = [f"u{n:02d}" for n in range(40)]
    await world.live(*map(user, names), *(goal(f"g{n}", n, "2026-03-11") for n in names))
    runners = [await world.runner(f"r{n}") for n in range(replicas)]
    await (await world.ledger()).request(GOALS, Trigger.ONCE)

    ran = await asyncio.gather(*(runner.run_one() for runner in runners))

    assert len([run for run in ran if run]) == 1
    assert await world.pool.fetchval("SELECT count(*) FROM service.delivery WHERE channel = 'email'") == 40


async def test_a_manual_run_of_a_running_job_is_refused(world: World) -> None:
    await world.at("2026-03-10T08:00:00Z")
    ledger = await world.ledger()
    await ledger.request(GOALS, Trigger.ONCE)
    await ledger.claim()

    with pytest.raises(AlreadyRunning):
        await _run(world)
