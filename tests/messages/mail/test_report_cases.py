"""The shared mails to the bounce address, taken in; and what nobody may do by a Message-ID."""

import json
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from service.messages.choices import UnsubscribeByMail
from service.messages.delivery_rows import message_id
from service.messages.kind import Channel
from service.messages.mail.bounce_intake import BounceIntake
from service.messages.mail.bounce_reports import parse
from service.messages.mail.verp import envelope_sender
from service.messages.outbox import Outbox
from service.messages.suppression import Suppressions
from tests.clock import stop_clock

CASES = Path(__file__).parents[2] / "cases" / "bounces"
EXPECTED = json.loads((CASES / "expected.json").read_text("utf-8"))
REPORTS: dict[str, dict[str, Any]] = EXPECTED["reports"]
BASE, SECRET = EXPECTED["verp"]["BOUNCE_ADDRESS"], EXPECTED["verp"]["BOUNCE_SECRET"].encode()
COMPLAINT = CASES / "12-arf-message-id-only.eml"

_DELIVERY = """
WITH mail AS (
    INSERT INTO service.delivery (id, dedupe_key, job, kind, channel, user_id, zone, local_date, template,
        locale, address, facts, message_id, message_date, token, state, not_before, expires_at)
    OVERRIDING SYSTEM VALUE
    VALUES ($1, $2, 'reminder.goalDeadlines', 'deadlines', 'email', 'u' || $1::bigint, 'UTC', '2026-03-08',
        'goal', 'en', $3, '{}', $4, service.now(), $2, 'in_delivery_state', service.now(), service.now())
    RETURNING id)
INSERT INTO service.delivery_state (id, state, claim, job, kind, domain, not_before, expires_at)
SELECT id, 'sent', 1, 'reminder.goalDeadlines', 'deadlines', 'x.example', service.now(), service.now()
FROM mail
"""


def intake(pool: asyncpg.Pool) -> BounceIntake:
    bounces = Suppressions(pool, Outbox(pool, "a", timedelta(seconds=60)))
    return BounceIntake(bounces, UnsubscribeByMail(pool), BASE, SECRET)


async def sent(pool: asyncpg.Pool, id_: int, recipient: str, message: str) -> None:
    """A mail that went out."""
    await pool.execute(_DELIVERY, id_, f"key-{id_}", recipient, message)


async def standing(pool: asyncpg.Pool, id_: int) -> tuple[str, str | None]:
    row = await pool.fetchrow("SELECT state, reason FROM service.delivery_state WHERE id = $1", id_)
    assert row
    return row["state"], row["reason"]


async def silenced(pool: asyncpg.Pool) -> set[str]:
    return {row["address"] for row in await pool.fetch("SELECT address FROM service.suppression")}


def state_after(report: Mapping[str, Any]) -> tuple[str, str | None]:
    match report["kind"], report["about"]:
        case "complaint", _:
            return "complained", "complaint"
        case "failed", "address":
            return "bounced", "hard_bounce"
        case "failed", about:
            return "bounced", f"about_{about}"
    return "sent", None


async def test_each_mail_does_what_the_shared_table_says(pool: asyncpg.Pool) -> None:
    for id_, delivery in EXPECTED["deliveries"].items():
        await sent(pool, int(id_), delivery["recipient"], delivery["message_id"])
    take = intake(pool).process
    for name, expected in REPORTS.items():
        raw = (CASES / name).read_bytes()
        for news in (True, False):
            taken = await take(raw)
            assert taken.kind == expected["kind"], name
            if expected["kind"] == "ignored":
                assert not taken.news, name
                continue
            assert (taken.about, taken.delivery, taken.matched_by) == (
                expected["about"],
                expected["delivery"],
                expected["matched_by"],
            ), name
            assert taken.news is news, name
        if expected["delivery"]:
            assert await standing(pool, expected["delivery"]) == state_after(expected), name
    assert await silenced(pool) == {e["recipient"] for e in REPORTS.values() if e["suppress_at_once"]}


async def test_a_failure_known_by_its_message_id_alone_is_noted_and_counts_against_nobody(
    pool: asyncpg.Pool,
) -> None:
    """Case 13 with nothing in it that is signed: anybody who has seen the mail could have written it."""
    delivery = EXPECTED["deliveries"]["4313"]
    await sent(pool, 4313, delivery["recipient"], delivery["message_id"])
    raw = (
        (CASES / "13-dsn-verp-in-copy-only.eml").read_bytes().replace(b"Return-Path: <bounce+", b"X-Other: <")
    )

    taken = await intake(pool).process(raw)

    assert (taken.kind, taken.delivery, taken.matched_by, taken.news) == ("failed", 4313, "message_id", True)
    assert await standing(pool, 4313) == ("sent", None)
    assert await silenced(pool) == set()
    detail = await pool.fetchval("SELECT detail FROM service.delivery_state")
    assert detail.startswith("failed: 5.1.1")


@pytest.mark.parametrize(("secret", "counts"), [(b"", False), (b"a secret of the operator", True)])
async def test_nobody_complains_for_others_by_a_message_id_that_can_be_computed(
    pool: asyncpg.Pool, secret: bytes, counts: bool
) -> None:
    name = message_id("key-7", Channel.EMAIL, "dash.example", secret)
    await sent(pool, 7, "frances@provider.example", name)
    raw = COMPLAINT.read_bytes().replace(b"fc10c35b9690db84f464b17d1f6fb2ed@dash.example", name.encode())

    taken = await intake(pool).process(raw)

    assert (taken.kind, taken.delivery, taken.news) == ("complaint", 7, True)
    assert await standing(pool, 7) == (("complained", "complaint") if counts else ("sent", None))
    assert await silenced(pool) == ({"frances@provider.example"} if counts else set())


def test_a_keyed_message_id_tells_nothing_and_stays_the_same() -> None:
    ids = {
        message_id(key, Channel.EMAIL, "d.example", secret) for key in "ab" for secret in (b"", b"x", b"y")
    }
    assert len(ids) == 6
    assert message_id("a", Channel.EMAIL, "d.example", b"x") in ids


async def test_a_full_mailbox_rests_longer_each_time(pool: asyncpg.Pool) -> None:
    """Three bounces within 14 days: seven days, then 30, then 90; older and repeated ones do not count."""
    raw = (CASES / "02-dsn-mailbox-full.eml").read_bytes()
    take = intake(pool).process
    rests, needed = [], []
    number = 0

    async def bounce() -> None:
        nonlocal number
        number += 1
        await sent(pool, number, "grace@example.net", f"m{number}@dash.example")
        name = envelope_sender(BASE, number, SECRET)
        for _ in range(2):
            await take(raw, name)

    async def rest() -> tuple[int, timedelta] | None:
        row = await pool.fetchrow("SELECT rests, until - service.now() AS span FROM service.mailbox_rest")
        return (row["rests"], row["span"]) if row else None

    await stop_clock(pool, "2026-03-01T08:00:00Z")
    await bounce()
    await bounce()
    await stop_clock(pool, "2026-03-16T08:00:00Z")
    await bounce()
    assert await rest() is None
    for day in ("2026-03-17", "2026-03-26", "2026-04-27", "2026-07-28"):
        await stop_clock(pool, f"{day}T08:00:00Z")
        earlier = number
        while (before := await rest()) is None or before[1] <= timedelta(0):
            await bounce()
        rests.append(await rest())
        needed.append(number - earlier)

    assert needed == [2, 3, 3, 3]
    assert rests == [(n, timedelta(days=days)) for n, days in ((1, 7), (2, 30), (3, 90), (4, 90))]
    assert await silenced(pool) == set()
    await stop_clock(pool, "2027-03-01T08:00:00Z")
    for _ in range(3):
        await bounce()
    assert await rest() == (1, timedelta(days=7))


@pytest.mark.parametrize("name", REPORTS)
def test_what_is_well_formed_and_what_is_not_is_read_alike(name: str) -> None:
    """Line ends and a missing end do not matter."""
    raw = (CASES / name).read_bytes()
    assert parse(raw.replace(b"\n", b"\r\n")) == parse(raw)
    assert parse(raw[: len(raw) * 99 // 100] if name.startswith("24") else raw + b"\n\n") == parse(raw)
