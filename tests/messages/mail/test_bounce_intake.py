"""What comes back is tied to its delivery by the signed envelope sender, and silences whom it should."""

import re
from datetime import timedelta
from pathlib import Path

import pytest

from service.messages.choices import UnsubscribeByMail
from service.messages.mail.bounce_intake import BounceIntake, BounceMaildir, IntakeResult
from service.messages.mail.verp import envelope_sender
from service.messages.outbox import Outbox
from service.messages.suppression import Suppressions
from tests.given import GOALS, Scripted, World, goal, user
from tests.web.given import ADMIN, VIEWER, admin

BASE, SECRET = "bounce@example.org", b"a secret of the operator"
SAMPLES = Path(__file__).parent / "bounces"


def sender(delivery: int) -> str:
    return envelope_sender(BASE, delivery, SECRET)


def intake(world: World) -> BounceIntake:
    bounces = Suppressions(world.pool, Outbox(world.pool, "a", timedelta(seconds=60)))
    return BounceIntake(bounces, UnsubscribeByMail(world.pool), BASE, SECRET)


def report(name: str, ids: dict[str, int], person: str) -> bytes:
    """A sample about a person, as it comes back to the envelope sender of their delivery."""
    raw = (SAMPLES / f"{name}.eml").read_bytes()
    raw = re.sub(rb"(?:no|some)body@example\.net", f"{person}@example.org".encode(), raw)
    return b"Delivered-To: " + sender(ids[person]).encode() + b"\n" + raw


async def _sent(world: World, *people: str, day: int = 10) -> dict[str, int]:
    """Everybody got a mail; its id."""
    await world.at(f"2026-03-{day}T08:00:00Z")
    for name in people:
        await world.live(user(name), goal(f"g-{name}-{day}", name, due=f"2026-03-{day + 1}"))
    await (await world.runner()).run_manual(GOALS)
    transport = Scripted()
    await world.delivery(transport, sender=sender).run_once()
    rows = await world.pool.fetch(
        "SELECT user_id, max(id) AS id FROM service.delivery WHERE channel = 'email' GROUP BY user_id"
    )
    ids = {row["user_id"]: row["id"] for row in rows}
    assert {e.sender for e in transport.received} <= {sender(id_) for id_ in ids.values()}
    return ids


async def _silenced(world: World) -> dict[str, str]:
    rows = await world.pool.fetch("SELECT address, reason FROM service.suppression")
    return {row["address"].partition("@")[0]: row["reason"] for row in rows}


async def test_an_address_that_does_not_exist_is_written_to_no_more(world: World) -> None:
    ids = await _sent(world, "ann", "bob")
    take = intake(world).process

    first = await take(report("postfix_user_unknown", ids, "ann"))
    again = await take(report("postfix_user_unknown", ids, "ann"))

    assert first == IntakeResult(
        "failed", ids["ann"], news=True, about="address", at_once=True, matched_by="verp"
    )
    assert again == IntakeResult(
        "failed", ids["ann"], news=False, about="address", at_once=True, matched_by="verp"
    )
    assert (await world.mails())["ann"] == ("bounced", "hard_bounce")
    assert (await world.mails())["bob"] == ("sent", None)
    assert await _silenced(world) == {"ann": "hard_bounce"}


async def test_other_hard_bounces_silence_at_the_third(world: World) -> None:
    take = intake(world).process
    for day in (10, 12, 14):
        assert await _silenced(world) == {}
        ids = await _sent(world, "ann", day=day)
        await take(report("yahoo_no_account", ids, "ann"))
        await take(report("yahoo_no_account", ids, "ann"))

    assert await _silenced(world) == {"ann": "hard_bounce"}


async def test_a_mailbox_that_is_full_for_the_third_time_gets_no_mail_for_a_while(world: World) -> None:
    take = intake(world).process
    for day in (10, 12, 14):
        ids = await _sent(world, "ann", day=day)
        await take(report("yahoo_mailbox_full", ids, "ann"))
    ids_at_rest = await _sent(world, "ann", "bob", day=16)
    assert ids_at_rest["ann"] == ids["ann"]
    assert (await world.reasons())["ann"] == "suppressed_address"

    ids_after = await _sent(world, "ann", day=22)
    assert ids_after["ann"] > ids["ann"]
    assert await _silenced(world) == {}


async def test_a_mailbox_that_begins_to_rest_gets_nothing_that_waits(world: World) -> None:
    await world.at("2026-03-10T08:00:00Z")
    await world.live(
        *(
            person
            for name in ("ann", "bob")
            for person in (user(name), goal(f"g-{name}", name, due="2026-03-11"))
        )
    )
    await (await world.runner()).run_manual(GOALS)
    await world.pool.execute(
        "INSERT INTO service.mailbox_rest VALUES ('ann@example.org', 1, '2026-03-11'), ('bob@example.org',"
        " 1, '2026-03-09')"
    )

    await world.delivery(Scripted(), sender=sender).run_once()

    assert await world.mails() == {"ann": ("skipped", "suppressed_address"), "bob": ("sent", None)}


async def test_counts_by_kind_domain_and_reason(world: World) -> None:
    ids = await _sent(world, "ann", "bob", "cleo")
    take = intake(world).process
    for name, person in (("yahoo_mailbox_full", "ann"), ("gmail_quota", "bob"), ("arf_yahoo", "cleo")):
        await take(report(name, ids, person))
    async with admin(world.pool, bounces=intake(world)) as given:
        answer = await given.client.get("/api/admin/bounces", headers=ADMIN)
        data = (await answer.json())["data"]
    rows = [(row["kind"], row["domain"], row["state"], row["reason"], row["messages"]) for row in data]
    assert rows == [
        ("deadlines", "example.org", "bounced", "about_mailbox", 2),
        ("deadlines", "example.org", "complained", "complaint", 1),
    ]


async def test_a_complaint_ends_it_at_once(world: World) -> None:
    ids = await _sent(world, "ann")

    taken = await intake(world).process(report("arf_yahoo", ids, "ann"))

    assert taken == IntakeResult("complaint", ids["ann"], news=True, matched_by="verp")
    assert (await world.mails())["ann"] == ("complained", "complaint")
    assert await _silenced(world) == {"ann": "complaint"}


async def test_soft_bounces_never_silence(world: World) -> None:
    names = {
        "yahoo_mailbox_full": ("bounced", "about_mailbox"),
        "postfix_expired": ("bounced", "about_way"),
        "webde_policy": ("bounced", "about_us"),
        "postfix_delayed": ("sent", None),
    }
    ids = await _sent(world, *(name.partition("_")[2] for name in names))
    take = intake(world).process

    for name, becomes in names.items():
        person = name.partition("_")[2]
        assert (await take(report(name, ids, person))).news
        assert not (await take(report(name, ids, person))).news
        assert (await world.mails())[person] == becomes
    assert await _silenced(world) == {}


@pytest.mark.parametrize(
    ("sample", "becomes"),
    [
        ("postfix_delivered", ("sent", "confirmed_by_report")),
        ("postfix_delayed", ("sent", "confirmed_by_report")),
        ("gmail_quota", ("bounced", "about_mailbox")),
        ("gmail_user_unknown", ("bounced", "hard_bounce")),
    ],
)
async def test_a_report_tells_what_became_of_an_unconfirmed_message(
    world: World, sample: str, becomes: tuple[str, str]
) -> None:
    ids = await _sent(world, "ann")
    await world.pool.execute(
        "UPDATE service.delivery_state SET claim = coalesce(claim, 0), state = 'unconfirmed'"
    )

    await intake(world).process(report(sample, ids, "ann"))

    assert (await world.mails())["ann"] == becomes


async def test_nobody_can_silence_others_by_inventing_a_bounce(world: World) -> None:
    ids = await _sent(world, "ann")
    forged = sender(ids["ann"]).replace("@", "x@")
    raw = (SAMPLES / "postfix_user_unknown.eml").read_bytes()
    take = intake(world).process

    for recipient in (forged, BASE, "", None):
        assert (await take(raw, recipient)).kind == "ignored"
    for name in ("none_ordinary", "none_out_of_office", "none_vacation_quoting_a_bounce"):
        assert (await take(report(name, ids, "ann"))).kind == "ignored"
    assert (await world.mails())["ann"] == ("sent", None)
    assert await _silenced(world) == {}


async def test_a_mailbox_is_read_once_and_again_after_a_crash(world: World, tmp_path: Path) -> None:
    ids = await _sent(world, "ann", "bob")
    (tmp_path / "new").mkdir()
    for name, sample in (("ann", "postfix_user_unknown"), ("bob", "arf_outlook")):
        (tmp_path / "new" / name).write_bytes(report(sample, ids, name))
    taken_before_the_crash = intake(world)
    await taken_before_the_crash.process(report("postfix_user_unknown", ids, "ann"))
    box = BounceMaildir(tmp_path, intake(world))

    assert await box.read() == 2
    assert await box.read() == 0

    assert sorted(path.name for path in (tmp_path / "cur").iterdir()) == ["ann:2,S", "bob:2,S"]
    assert await _silenced(world) == {"ann": "hard_bounce", "bob": "complaint"}


async def test_a_mail_server_hands_reports_over(world: World) -> None:
    ids = await _sent(world, "ann")
    raw = (
        (SAMPLES / "postfix_user_unknown.eml").read_bytes().replace(b"nobody@example.net", b"ann@example.org")
    )
    mail = {"Content-Type": "message/rfc822"}
    url = "/api/admin/bounces"
    async with admin(world.pool, bounces=intake(world)) as given:
        taken = await given.client.post(
            url, params={"recipient": sender(ids["ann"])}, data=raw, headers=ADMIN | mail
        )
        assert (taken.status, await taken.json()) == (
            200,
            {
                "success": True,
                "kind": "failed",
                "about": "address",
                "deliveryId": ids["ann"],
                "matchedBy": "verp",
                "news": True,
            },
        )
        answers = [
            (await given.client.post(url, data=raw, headers=VIEWER | mail)).status,
            (await given.client.post(url, data=raw, headers=ADMIN)).status,
            (await given.client.post(url, data=b"", headers=ADMIN | mail)).status,
            (await given.client.post(url, data=b"x" * (1 << 21), headers=ADMIN | mail)).status,
        ]
    assert answers == [403, 415, 400, 413]
    async with admin(world.pool) as given:
        assert (await given.client.post(url, data=raw, headers=ADMIN | mail)).status == 503
