"""Delivery on a real database: what is asked before sending, and what each answer of a server means."""

import asyncio
from datetime import datetime

import pytest

from service.dashboard.dashboard_state import DashboardState, StateQuery
from service.dashboard.model import Preferences
from service.errors import SourceUnavailable
from service.messages.delivery_decisions import settlement_of
from service.messages.mail.smtp_reply import fate_of
from service.messages.mail.transport import Envelope, SendResult, SmtpPhase
from tests.given import GOALS, Scripted, World, accepted, goal, refused, user


async def _planned(world: World, *names: str) -> None:
    await world.at("2026-03-10T08:00:00Z")
    await world.live(*map(user, names), *(goal(f"g-{n}", n, "2026-03-11") for n in names))
    await (await world.runner()).run_manual(GOALS)


async def test_a_goal_completed_meanwhile_is_not_announced(world: World) -> None:
    await _planned(world, "ann")
    await world.live(goal("g-ann", "ann", "2026-03-11", open=False))
    transport = Scripted()

    await world.delivery(transport).run_once()

    assert transport.received == []
    assert await world.mails() == {"ann": ("skipped", "revalidated_away")}


async def test_of_two_goals_the_one_still_open_is_announced_alone(world: World) -> None:
    await world.at("2026-03-10T08:00:00Z")
    await world.live(user(), goal("a", due="2026-03-11"), goal("b", due="2026-03-11"))
    await (await world.runner()).run_manual(GOALS)
    await world.live(goal("b", due="2026-03-11", open=False))
    transport = Scripted()

    await world.delivery(transport).run_once()

    (envelope,) = transport.received
    assert b"Subject: Due tomorrow: Goal a\r\n" in envelope.content


async def test_whoever_opts_out_or_is_deleted_meanwhile_gets_nothing(world: World) -> None:
    await _planned(world, "ann", "bob", "cat", "dan")
    await world.live(user("ann", preferences=Preferences(email=False)))
    await world.pool.execute("DELETE FROM service.users WHERE id = 'bob'")
    await world.pool.execute(
        "INSERT INTO service.preference_override (user_id, kind, enabled, source)"
        " VALUES ('cat', 'deadlines', false, 'unsubscribe')"
    )
    await world.pool.execute("INSERT INTO service.suppression VALUES ('dan@example.org', 'complaint')")
    transport = Scripted()

    await world.delivery(transport).run_once()

    assert transport.received == []
    assert await world.mails() == {
        "ann": ("skipped", "pref_email_off"),
        "bob": ("skipped", "revalidated_away"),
        "cat": ("skipped", "pref_category_off"),
        "dan": ("skipped", "suppressed_address"),
    }


async def test_while_the_dashboard_is_down_nothing_is_sent_and_nothing_is_lost(world: World) -> None:
    async def down(_query: StateQuery) -> DashboardState:
        raise SourceUnavailable("down")

    await _planned(world, "ann")
    transport = Scripted()

    await world.delivery(transport, current_state=down).run_once()
    await world.at("2026-03-10T08:01:00Z")
    await world.delivery(transport).run_once()

    assert len(transport.received) == 1
    assert (
        await world.pool.fetchval("SELECT attempt FROM service.delivery_with_state WHERE channel = 'email'")
        == 1
    )


@pytest.mark.parametrize(
    ("phase", "code", "reply", "state", "reason"),
    [
        (SmtpPhase.RCPT, 450, "4.2.1 busy", "planned", "about_mailbox"),
        (SmtpPhase.CONNECT, None, "no route", "planned", None),
        (SmtpPhase.CONTENT, None, "reset", "planned", "content_lost"),
        (SmtpPhase.RCPT, 550, "nobody", "failed", "hard_bounce"),
        (SmtpPhase.RCPT, 550, "5.7.1 no", "planned", "our_fault"),
        (SmtpPhase.RCPT, 552, "5.2.2 full", "planned", "about_mailbox"),
        (SmtpPhase.DOT, 550, "5.1.1 nobody", "failed", "hard_bounce"),
        (SmtpPhase.DOT, 554, "5.7.0 spam", "planned", "our_fault"),
        (SmtpPhase.DOT, 552, "5.3.4 too large", "failed", "content_refused"),
        (SmtpPhase.MAIL, 550, "5.7.1 relay", "planned", "relay_refused"),
        (SmtpPhase.AUTH, 535, "5.7.8 no", "planned", None),
        (SmtpPhase.DOT, None, "reset", "unconfirmed", "no answer after the dot"),
    ],
)
async def test_each_answer_has_its_consequence(
    world: World, phase: SmtpPhase, code: int | None, reply: str, state: str, reason: str | None
) -> None:
    await _planned(world, "ann")
    delivery = world.delivery(Scripted(lambda envelope: refused(envelope, phase, code, reply)))

    await delivery.run_once()

    assert await world.mails() == {"ann": (state, reason)}
    assert (delivery.problem is not None) == (phase in {SmtpPhase.MAIL, SmtpPhase.AUTH, SmtpPhase.CONNECT})


async def test_retries_come_after_1_5_15_and_60_minutes_until_the_message_is_useless(world: World) -> None:
    await _planned(world, "ann")
    delivery = world.delivery(
        Scripted(lambda envelope: refused(envelope, SmtpPhase.RCPT, 451, "4.0.0 later"))
    )
    await world.pool.execute("UPDATE service.delivery_state SET expires_at = '2026-03-10T19:00:00Z'")
    pauses = []

    for _ in range(5):
        now = await world.pool.fetchval("SELECT service.now()")
        await delivery.run_once()
        due = await world.pool.fetchval(
            "SELECT not_before FROM service.delivery_with_state WHERE channel = 'email'"
        )
        pauses.append((due - now).total_seconds() / 60)
        await world.at(due.isoformat())
    await world.at("2026-03-10T19:00:00Z")
    await delivery.run_once()

    for pause, least in zip(pauses, (1, 5, 15, 60, 60), strict=True):
        assert least <= pause <= least * 1.2
    assert await world.mails() == {"ann": ("expired", "stale")}


async def test_no_such_address_is_suppressed_at_once_and_others_after_three(world: World) -> None:
    await _planned(world, "ann", "bob")
    await world.pool.execute(
        "INSERT INTO service.hard_bounce VALUES ('bob@example.org', -1, '2026-03-01'),"
        " ('bob@example.org', -2, '2026-03-02')"
    )

    def answer(envelope: Envelope) -> SendResult:
        reply = "5.1.1 no such user" if envelope.recipient.startswith("ann") else "no such user"
        return refused(envelope, SmtpPhase.RCPT, 550, reply)

    await world.delivery(Scripted(answer)).run_once()

    suppressed = await world.pool.fetch("SELECT address, detail FROM service.suppression ORDER BY 1")
    assert [tuple(row) for row in suppressed] == [
        ("ann@example.org", "the server says that there is no such address"),
        ("bob@example.org", "three hard bounces within 30 days"),
    ]


async def test_three_refused_contents_in_a_row_are_an_alarm(world: World) -> None:
    await _planned(world, "ann", "bob", "cat")
    delivery = world.delivery(Scripted(lambda e: refused(e, SmtpPhase.DOT, 554, "5.6.0 no")), connections=1)

    await delivery.run_once()

    assert "content" in (delivery.problem or "")


async def test_two_deliveries_share_the_outbox(world: World) -> None:
    names = [f"u{n:03d}" for n in range(120)]
    await _planned(world, *names)
    transports = [Scripted(), Scripted()]
    deliveries = [
        world.delivery(t, owner, connections=3, batch=5) for t, owner in zip(transports, "ab", strict=True)
    ]

    while sum(await asyncio.gather(*(d.run_once() for d in deliveries))):
        continue

    got = sorted(e.recipient for t in transports for e in t.received)
    assert got == [f"{name}@example.org" for name in names]


# ── What was marked and not written ─────────────────────────────────────────────────────────────────────────


async def _marks(world: World) -> list[tuple[str, int, datetime | None]]:
    rows = await world.pool.fetch(
        "SELECT state, attempt, dot_at FROM service.delivery_with_state WHERE channel = 'email'"
    )
    return [tuple(row) for row in rows]


async def test_a_connection_lost_between_mark_and_dot_takes_the_mark_back(world: World) -> None:
    await _planned(world, "ann")
    delivery = world.delivery(Scripted(lambda envelope: refused(envelope, SmtpPhase.CONTENT, None, "reset")))

    await delivery.run_once()

    assert await _marks(world) == [("planned", 1, None)]


async def test_the_mark_of_an_earlier_attempt_stays_when_a_later_one_is_taken_back(world: World) -> None:
    await world.live(goal("other", "ann", "2026-03-11"))
    await _planned(world, "ann")
    seen: list[bytes] = []

    def lose(envelope: Envelope) -> SendResult:
        seen.append(envelope.content)
        return refused(envelope, SmtpPhase.DOT if len(seen) == 1 else SmtpPhase.CONTENT, None, "lost")

    delivery = world.delivery(Scripted(lose))
    await delivery.run_once()
    ((_, _, mark),) = await _marks(world)
    id_ = await world.pool.fetchval("SELECT id FROM service.delivery_with_state WHERE channel = 'email'")
    await world.at("2026-03-10T08:30:00Z")
    assert await delivery._outbox.resend(id_)
    await world.live(goal("g-ann", "ann", "2026-03-11", open=False))

    await delivery.run_once()

    assert await _marks(world) == [("planned", 1, mark)]
    assert mark is not None
    assert seen[0] == seen[1]


async def test_what_was_taken_for_unconfirmed_is_free_when_its_dot_was_not_written(world: World) -> None:
    await _planned(world, "ann")
    delivery = world.delivery(Scripted(), "slow")
    (claimed,) = await delivery._outbox.claim(5)
    await delivery._outbox.mark_dots([(claimed.id, claimed.claim)])
    await world.at("2026-03-10T08:02:00Z")
    await world.delivery(Scripted(), "heir").run_once()
    assert (await world.mails())["ann"][0] == "unconfirmed"

    result = SendResult(
        id=claimed.id, accepted=False, phase=SmtpPhase.CONTENT, code=None, reply="connection lost"
    )
    await delivery._outbox.settle([settlement_of(claimed, result, fate_of(result), 0.0)])

    assert await world.mails() == {"ann": ("planned", "content_lost")}


# ── Death and take-over ─────────────────────────────────────────────────────────────────────────────────────


async def _abandoned(world: World, *, dot: bool, policy: str = "hold") -> None:
    await _planned(world, "ann")
    await world.pool.execute("UPDATE service.delivery SET unconfirmed_policy = $1", policy)
    outbox = world.delivery(Scripted(), "dead")._outbox
    (claimed,) = await outbox.claim(5)
    if dot:
        assert await outbox.mark_dots([(claimed.id, claimed.claim)]) == {claimed.id}
    await world.at("2026-03-10T08:02:00Z")


async def test_a_death_before_the_dot_is_certain_non_delivery(world: World) -> None:
    await _abandoned(world, dot=False)
    transport = Scripted()

    await world.delivery(transport, "heir").run_once()

    assert len(transport.received) == 1


async def test_a_death_after_the_dot_is_unconfirmed_and_held(world: World) -> None:
    await _abandoned(world, dot=True)
    transport = Scripted()

    for minute in ("02", "20", "59"):
        await world.at(f"2026-03-10T08:{minute}:00Z")
        await world.delivery(transport, "heir").run_once()

    assert transport.received == []
    assert (await world.mails())["ann"][0] == "unconfirmed"


async def test_under_resend_it_is_sent_once_more_a_quarter_of_an_hour_later_byte_for_byte(
    world: World,
) -> None:
    await _planned(world, "ann")
    await world.pool.execute("UPDATE service.delivery SET unconfirmed_policy = 'resend'")
    seen: list[bytes] = []

    def lose(envelope: Envelope) -> SendResult:
        seen.append(envelope.content)
        return refused(envelope, SmtpPhase.DOT, None, "lost")

    await world.delivery(Scripted(lose)).run_once()
    again = Scripted()

    await world.at("2026-03-10T08:14:00Z")
    assert await world.delivery(again).run_once() == 0
    await world.at("2026-03-10T08:15:01Z")
    await world.delivery(again).run_once()

    assert [e.content for e in again.received] == seen
    assert await world.mails() == {"ann": ("sent", None)}


async def test_a_zombie_gets_no_dot(world: World) -> None:
    await _planned(world, "ann")
    zombie = world.delivery(Scripted(), "zombie")._outbox
    (old,) = await zombie.claim(5)
    await world.at("2026-03-10T08:02:00Z")
    transport = Scripted()
    await world.delivery(transport, "heir").run_once()

    assert await zombie.mark_dots([(old.id, old.claim)]) == frozenset()
    assert len(transport.received) == 1


async def test_a_late_answer_still_proves_that_an_unconfirmed_message_arrived(world: World) -> None:
    await _planned(world, "ann")
    slept = asyncio.Event()

    def sleepy(envelope: Envelope) -> SendResult:
        slept.set()
        return accepted(envelope)

    delivery = world.delivery(Scripted(sleepy), "slow")
    (claimed,) = await delivery._outbox.claim(5)
    await delivery._outbox.mark_dots([(claimed.id, claimed.claim)])
    await world.at("2026-03-10T08:02:00Z")
    await world.delivery(Scripted(), "heir").run_once()
    assert (await world.mails())["ann"][0] == "unconfirmed"

    result = SendResult(id=claimed.id, accepted=True, phase=SmtpPhase.DOT, code=250, reply="ok")
    await delivery._outbox.settle([settlement_of(claimed, result, fate_of(result), 0.0)])

    assert await world.mails() == {"ann": ("sent", None)}
