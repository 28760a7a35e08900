"""Whoever writes to the unsubscribe address of a mail gets no more mails of its kind, as by one click."""

import re
from pathlib import Path

from service.engine import queries
from service.messages import choices
from service.messages.mail.bounce_intake import BounceMaildir, IntakeResult
from service.messages.mail.verp import unsubscribe_address
from service.settings import Settings
from service.setup.parts import composer_of
from tests.given import GOALS, Scripted, World, goal, user
from tests.kinds import KINDS
from tests.messages.mail.reading import check_wire, parsed
from tests.messages.mail.test_bounce_intake import BASE, SAMPLES, SECRET, intake, sender
from tests.web.given import ADMIN, admin, delivery

TOKEN = "abcdefghijklmnopqrstuvwxyz"
OLD = "Zx8QmN3vR5tY7uI9oP1aSdFgHjKlQwEr"
RFC822 = {"Content-Type": "message/rfc822"}


def wish(to: str, *headers: str, body: str = "") -> bytes:
    """What a mail program sends where somebody presses "Unsubscribe"."""
    lines = ["Return-Path: <ann@example.net>", "From: Ann <ann@example.net>", f"To: {to}", *headers]
    return "\r\n".join([*lines, "", body]).encode()


async def _choices(world: World) -> list[tuple[str, str, str, bool, str]]:
    rows = await world.pool.fetch(
        "SELECT user_id, kind, channel, enabled, source FROM service.preference_override ORDER BY 1, 2"
    )
    return [tuple(row) for row in rows]


async def _log(world: World) -> list[tuple[str, str, dict[str, object]]]:
    rows = await world.pool.fetch("SELECT who, act, what FROM service.audit ORDER BY id")
    return [(row["who"], row["act"], row["what"]) for row in rows]


OFF = [("u1", "deadlines", "email", False, "unsubscribe")]
LOGGED = [("recipient", "unsubscribe", {"user": "u1", "decided": {"deadlines email": False}})]


async def test_a_mail_stops_the_kind_as_one_click_does_and_may_come_again(world: World) -> None:
    id_ = await delivery(world.pool, TOKEN)
    take = intake(world).process
    to = unsubscribe_address(BASE, TOKEN)

    first, again = await take(wish(to)), await take(wish(to))

    assert first == IntakeResult("unsubscribe", id_, news=True, matched_by="token")
    assert again == IntakeResult("unsubscribe", id_, news=False, matched_by="token")
    by_mail = await _choices(world), await _log(world)
    assert by_mail == (OFF, LOGGED)
    await world.pool.execute("DELETE FROM service.preference_override")
    await world.pool.execute("DELETE FROM service.audit")
    async with admin(world.pool) as given:
        await given.client.post(f"/u/{TOKEN}", data={"List-Unsubscribe": "One-Click"})
    assert (await _choices(world), await _log(world)) == by_mail


async def test_case_does_not_matter(world: World) -> None:
    written = {TOKEN.upper(): TOKEN, OLD: OLD, OLD.lower(): OLD, OLD.upper(): OLD}
    ids = {token: await delivery(world.pool, token, user=token) for token in (TOKEN, OLD)}
    for token, stored in written.items():
        await world.pool.execute("DELETE FROM service.preference_override")

        taken = await intake(world).process(b"Subject: x\n\n", unsubscribe_address(BASE, token))

        assert taken == IntakeResult("unsubscribe", ids[stored], news=True, matched_by="token")
        assert [choice[0] for choice in await _choices(world)] == [stored]


async def test_an_old_token_that_is_not_unique_without_case_counts_only_as_it_is(world: World) -> None:
    await delivery(world.pool, OLD)
    await delivery(world.pool, OLD.swapcase(), user="u2")
    take = intake(world).process

    for other in (OLD.lower(), OLD.upper()):
        taken = await take(b"Subject: x\n\n", unsubscribe_address(BASE, other))
        assert taken == IntakeResult("ignored", None, news=False)
    assert await _choices(world) == []

    await take(b"Subject: x\n\n", unsubscribe_address(BASE, OLD))
    assert await _choices(world) == OFF


async def test_what_is_written_in_it_does_not_matter(world: World) -> None:
    await delivery(world.pool, TOKEN)
    for header in ("Subject: unsubscribe", "Auto-Submitted: no", "Precedence: bulk"):
        for body in ("", "please keep me subscribed", "550 5.1.1 no such user: ann@example.net"):
            await world.pool.execute("DELETE FROM service.preference_override")

            await intake(world).process(wish(unsubscribe_address(BASE, TOKEN), header, body=body))

            assert await _choices(world) == OFF


def machines() -> dict[str, bytes]:
    to = unsubscribe_address(BASE, TOKEN)
    names = ("none_out_of_office", "none_vacation_quoting_a_bounce", "postfix_user_unknown", "exim_plain")
    samples = {name: (SAMPLES / f"{name}.eml").read_bytes() for name in names}
    answers = {
        "away": wish(to, "Auto-Submitted: auto-replied", "Subject: Abwesenheitsnotiz"),
        "by Exchange": wish(to, "Auto-Submitted: auto-generated (rejected)"),
        "the old way": wish(to, "X-Autoreply: yes"),
        "from nobody": wish(to).replace(b"<ann@example.net>\r\nFrom", b"<>\r\nFrom"),
    }
    return answers | {name: b"Delivered-To: " + to.encode() + b"\n" + raw for name, raw in samples.items()}


async def test_bounces_and_auto_replies_unsubscribe_nobody(world: World) -> None:
    await delivery(world.pool, TOKEN)

    taken = {name: await intake(world).process(raw) for name, raw in machines().items()}

    assert taken == dict.fromkeys(machines(), IntakeResult("ignored", None, news=False))
    assert await _choices(world) == []


async def test_unknown_tokens_are_looked_up_in_indexes(world: World) -> None:
    """Anybody may write to such addresses, any number of times."""
    statements = queries.load(choices.__file__)
    arguments = {"mail_of_token": (OLD, OLD.lower()), "mails_of_old_token": (OLD.lower(),)}
    async with world.pool.acquire() as connection, connection.transaction():
        await connection.execute("SET LOCAL enable_seqscan = off")
        for name, values in arguments.items():
            plan = await connection.fetch(f"EXPLAIN {statements[name]}", *values)
            assert "Seq Scan" not in str(plan)


async def test_an_unknown_token_changes_nothing(world: World) -> None:
    await delivery(world.pool, TOKEN)
    take = intake(world).process

    for to in (unsubscribe_address(BASE, TOKEN[::-1]), f"bounce+u-{TOKEN}@example.net", BASE):
        assert await take(wish(to)) == IntakeResult("ignored", None, news=False)
    assert (await take(wish(unsubscribe_address(BASE, TOKEN)), recipient=BASE)).kind == "ignored"
    assert await _choices(world) == []


async def test_a_mail_server_hands_it_over_and_the_log_names_the_recipient(world: World) -> None:
    id_ = await delivery(world.pool, TOKEN)
    async with admin(world.pool, bounces=intake(world)) as given:
        answers = [
            await (
                await given.client.post("/api/admin/bounces", data=raw, params=to, headers=ADMIN | RFC822)
            ).json()
            for raw, to in (
                (b"Subject: off\n\n", {"recipient": unsubscribe_address(BASE, TOKEN).upper()}),
                (wish(unsubscribe_address(BASE, TOKEN)), {}),
            )
        ]
    taken = {"success": True, "kind": "unsubscribe", "about": None, "deliveryId": id_, "matchedBy": "token"}
    assert answers == [taken | {"news": True}, taken | {"news": False}]
    assert await _log(world) == LOGGED


async def test_the_address_in_a_mail_ends_the_next_one(world: World, tmp_path: Path) -> None:
    """From the header of a mail that was sent, through the mailbox, to the next evening's decision."""
    await world.at("2026-03-10T08:00:00Z")
    await world.live(user("ann"), goal("g", "ann", due="2026-03-11"))
    await (await world.runner()).run_manual(GOALS)
    settings = Settings(
        mail_from="Dashboard <hello@example.org>", bounce_address=BASE, bounce_secret=SECRET.decode()
    )
    transport, composer = Scripted(), composer_of(settings, KINDS.values())
    await world.delivery(transport, sender=sender, composer=composer).run_once()
    raw = transport.received[0].content
    check_wire(raw)
    ways = re.findall(r"<([^>]+)>", parsed(raw)["List-Unsubscribe"])
    assert [way.partition(":")[0] for way in ways] == ["http", "mailto"]
    assert re.fullmatch(r"mailto:bounce\+u-[a-z2-7]{26}@example\.org", ways[1])
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "1").write_bytes(wish(ways[1].removeprefix("mailto:")))

    assert await BounceMaildir(tmp_path, intake(world)).read() == 1

    assert await _choices(world) == [("ann", "deadlines", "email", False, "unsubscribe")]
