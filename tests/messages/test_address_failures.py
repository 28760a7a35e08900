"""What full mailboxes and later reports do: mailboxes rest, and what is said of too many is about us."""

from collections import Counter
from datetime import timedelta

import asyncpg
import pytest

from service.engine import gates
from service.messages.mail.smtp_reply import About
from service.messages.mail.transport import Envelope, SendResult, SmtpPhase
from service.messages.outbox import Outbox
from service.messages.suppression import Suppressions
from tests.given import GOALS, Scripted, World, accepted, goal, refused, user

FULL = "5.2.2 The mailbox is full"
UNKNOWN = "550 5.1.1 <{}@example.org>: no such user, see https://help.example/{}"


async def _planned(world: World, *people: str, day: int = 10) -> None:
    await world.at(f"2026-03-{day}T08:00:00Z")
    for name in people:
        await world.live(user(name), goal(f"g-{name}-{day}", name, due=f"2026-03-{day + 1}"))
    await (await world.runner()).run_manual(GOALS)


def _full(code: int) -> Scripted:
    return Scripted(lambda envelope: refused(envelope, SmtpPhase.RCPT, code, FULL))


async def _rests(pool: asyncpg.Pool) -> dict[str, int]:
    rows = await pool.fetch("SELECT address, until - since AS span FROM service.mailbox_rest")
    return {row["address"].partition("@")[0]: row["span"].days for row in rows}


async def _states(world: World) -> Counter[tuple[str, str | None]]:
    rows = await world.pool.fetch("SELECT state, reason FROM service.delivery_state")
    return Counter((row["state"], row["reason"]) for row in rows)


# ── Mailboxes ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("code", "end"), [(552, ("failed", "about_mailbox")), (452, ("expired", "stale"))])
async def test_a_mailbox_that_is_full_for_three_mails_rests(
    world: World, code: int, end: tuple[str, str]
) -> None:
    for day in (10, 12, 14):
        await _planned(world, "ann", day=day)
        for minute in (0, 2):  # a second reply to the same mail does not count again
            await world.at(f"2026-03-{day}T08:{minute:02}:00Z")
            await world.delivery(_full(code)).run_once()
        assert await _rests(world.pool) == ({"ann": 7} if day == 14 else {})

    await world.delivery(Scripted()).run_once()
    await _planned(world, "ann", day=16)

    assert await _states(world) == {end: 2, ("skipped", "suppressed_address"): 1}
    assert (await world.reasons())["ann"] == "suppressed_address"


async def test_a_mail_that_a_full_mailbox_takes_later_does_not_count(world: World) -> None:
    for day in (10, 12, 14):
        await _planned(world, "ann", day=day)
        await world.delivery(_full(452)).run_once()
        if day == 12:
            await world.at(f"2026-03-{day}T08:02:00Z")
            await world.delivery(Scripted()).run_once()

    assert await _rests(world.pool) == {}
    assert await world.pool.fetchval("SELECT count(*) FROM service.mailbox_bounce") == 2


@pytest.mark.parametrize("code", [452, 552])
async def test_a_relay_that_calls_every_mailbox_full_is_full_itself(world: World, code: int) -> None:
    people = [f"u{n}" for n in range(6)]
    for day in (10, 11, 12):
        await _planned(world, *people, day=day)
        delivery = world.delivery(_full(code))
        await delivery.run_once()
        assert [gate.cause for gate in await gates.current(world.pool)] == ["base_rate"]

    assert await _rests(world.pool) == {}
    assert await world.pool.fetchval("SELECT count(*) FROM service.mailbox_bounce") == 0


async def test_only_rests_for_these_words_lately_are_taken_back(world: World) -> None:
    failures = _outbox(world).address_failures
    for day, name, words in ((8, "old", "ours"), (10, "ann", "ours"), (10, "bob", "theirs")):
        await world.at(f"2026-03-{day:02}T08:00:00Z")
        await world.pool.execute(
            "INSERT INTO service.mailbox_rest (address, rests, until, fingerprint)"
            " VALUES ($1, 1, service.now() + interval '7 days', $2)",
            name,
            words,
        )
        await world.pool.execute(
            "INSERT INTO service.mailbox_bounce (address, delivery_id, fingerprint) VALUES ($1, 1, $2)",
            name,
            words,
        )

    await failures.take_back("ours")

    assert set(await _rests(world.pool)) == {"old", "bob"}
    left = await world.pool.fetch("SELECT address FROM service.mailbox_bounce")
    assert {row["address"] for row in left} == {"old", "bob"}


# ── Reports ─────────────────────────────────────────────────────────────────────────────────────────────────


def _outbox(world: World) -> Outbox:
    return Outbox(world.pool, "a", timedelta(seconds=60))


async def _sent(world: World, count: int, day: int = 10) -> dict[str, int]:
    """So many got a mail; the mail of each."""
    await _planned(world, *(f"u{n:03d}" for n in range(count)), day=day)
    transport = Scripted()
    await world.delivery(transport).run_once()
    return {envelope.recipient.partition("@")[0]: envelope.id for envelope in transport.received}


async def _reported(world: World, mails: dict[str, int], text: str = UNKNOWN) -> None:
    reports = Suppressions(world.pool, _outbox(world))
    for name, mail in mails.items():
        said = f"failed: 5.1.1 {text.format(name, mail)} (in reply to RCPT TO command)"
        assert await reports.record_failure(mail, said, About.ADDRESS, no_such_address=True)


def _some(mails: dict[str, int], count: int) -> dict[str, int]:
    return dict(list(mails.items())[:count])


async def _against_addresses(world: World) -> tuple[int, int]:
    row = await world.pool.fetchrow(
        "SELECT (SELECT count(*) FROM service.suppression), (SELECT count(*) FROM service.hard_bounce)"
    )
    assert row
    return row[0], row[1]


async def test_reports_in_the_same_words_about_everybody_are_about_us(world: World) -> None:
    mails = await _sent(world, 6)
    await _reported(world, _some(mails, 4))
    assert await _against_addresses(world) == (4, 4)

    await _reported(world, dict(list(mails.items())[4:]))

    (gate,) = await gates.current(world.pool)
    assert (gate.scope, gate.cause, gate.details["words"]) == (
        "relay",
        "base_rate",
        "550 5.1.1 no such user see",
    )
    assert await _against_addresses(world) == (0, 0)
    assert await _states(world) == {("bounced", "about_us"): 6}


@pytest.mark.parametrize(("people", "failing", "gates_"), [(34, 10, 0), (33, 10, 1), (12, 9, 0)])
async def test_the_share_is_that_of_those_who_were_written_to_at_that_time(
    world: World, people: int, failing: int, gates_: int
) -> None:
    """The last mails came back: of all before them it is known that they did not."""
    mails = await _sent(world, people)
    await world.pool.execute(  # they left one after the other
        "UPDATE service.delivery_state SET dot_at = dot_at + id * interval '1 ms'"
    )
    await _reported(world, dict(list(mails.items())[people - failing :]))

    assert len(await gates.current(world.pool)) == gates_


async def test_what_left_after_them_says_nothing_of_the_first(world: World) -> None:
    """Their reports may still come."""
    mails = await _sent(world, 40)
    await world.pool.execute("UPDATE service.delivery_state SET dot_at = dot_at + id * interval '1 ms'")
    await _reported(world, _some(mails, 5))

    assert len(await gates.current(world.pool)) == 1


async def test_reports_in_other_words_are_about_the_recipients(world: World) -> None:
    for place, (name, mail) in enumerate((await _sent(world, 6)).items()):
        await _reported(world, {name: mail}, "550 5.1.1 <{0}@example.org>: unknown, case " + "abcdef"[place])

    assert await gates.current(world.pool) == []
    assert await _against_addresses(world) == (6, 6)


async def test_reports_of_another_day_do_not_count(world: World) -> None:
    mails = await _sent(world, 5)
    await _reported(world, _some(mails, 4))
    await world.pool.execute(
        "UPDATE service.hard_bounce SET bounced_at = service.now() - interval '25 hours'"
    )
    await _reported(world, {"u004": mails["u004"]})

    assert await gates.current(world.pool) == []
    assert await _against_addresses(world) == (5, 5)


async def test_mail_goes_on_once_the_mail_of_a_probe_has_not_come_back(world: World) -> None:
    await _reported(world, await _sent(world, 6))
    await _planned(world, *(f"u{n:03d}" for n in range(6)), day=11)
    transport = Scripted()
    delivery = world.delivery(transport)

    for at, received in (("08:00", 1), ("08:09", 1), ("08:10", 6)):
        await world.at(f"2026-03-11T{at}:00Z")
        await delivery.run_once()
        await delivery.run_once()
        assert len(transport.received) == received, at
    assert await gates.current(world.pool) == []


async def test_a_probe_that_came_back_keeps_the_gate_shut_and_counts_against_nobody(world: World) -> None:
    await _reported(world, await _sent(world, 6))
    await _planned(world, *(f"u{n:03d}" for n in range(6)), day=11)
    transport = Scripted()
    delivery = world.delivery(transport)
    await delivery.run_once()
    (probe,) = transport.received
    await _reported(world, {probe.recipient.partition("@")[0]: probe.id})
    await world.at("2026-03-11T08:10:00Z")
    await delivery.run_once()

    assert len(transport.received) == 2, "the next probe"
    assert [gate.cause for gate in await gates.current(world.pool)] == ["base_rate"]
    assert await _against_addresses(world) == (0, 0)


async def test_a_person_who_opens_the_gate_says_that_it_is_about_the_recipients(world: World) -> None:
    mails = await _sent(world, 12)
    await _reported(world, _some(mails, 11))
    (gate,) = await gates.current(world.pool)
    async with world.pool.acquire() as connection:
        await gates.open_by_hand(connection, gate.id, "zoe")
    await _reported(world, await _sent(world, 6, day=11))

    assert await gates.current(world.pool) == []
    assert (await _against_addresses(world))[0] == 6


def _same_later(envelope: Envelope) -> SendResult:
    if envelope.recipient < "u003":
        return refused(envelope, SmtpPhase.RCPT, 550, f"5.1.1 <{envelope.recipient}>: no such user")
    return accepted(envelope)


async def test_the_wire_and_the_reports_count_together(world: World) -> None:
    await _planned(world, *(f"u{n:03d}" for n in range(6)))
    transport = Scripted(_same_later)
    await world.delivery(transport).run_once()
    assert await _against_addresses(world) == (3, 3)
    mails = {envelope.recipient.partition("@")[0]: envelope.id for envelope in transport.received}

    await _reported(world, mails, "550 5.1.1 <{}@example.org>: no such user")

    assert len(await gates.current(world.pool)) == 1
    assert await _against_addresses(world) == (0, 0)
    assert await _states(world) == {("bounced", "about_us"): 3, ("planned", "our_fault"): 3}
