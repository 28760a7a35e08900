"""What providers report by webhook: verified, tied to its delivery, judged like every other report, once."""

import base64
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from aiohttp import ClientResponse

from service.messages.mail.providers import postmark
from tests.given import GOALS, Scripted, World, goal, user
from tests.messages.mail.providers.listening import POSTMARK_SECRET, listening
from tests.messages.mail.providers.reports import (
    postmark_bounce,
    postmark_change,
    ses_bounce,
    ses_complaint,
)
from tests.messages.mail.providers.sns import CERTIFICATE, CONFIRM, HOST, TOPIC, Outside, signed
from tests.messages.mail.test_bounce_intake import sender
from tests.web.contract import promised
from tests.web.given import Admin, admin

_BASIC = {"Authorization": "Basic " + base64.b64encode(f"hooks:{POSTMARK_SECRET}".encode()).decode()}


@dataclass
class Hooks:
    """A service that listens to both providers, and Ann's mail of the tenth of March."""

    admin: Admin
    world: World
    outside: Outside
    mail: int

    async def post(self, provider: str, body: Any, **headers: str) -> ClientResponse:
        return await self.admin.client.post(f"/webhooks/{provider}", json=body, headers=headers)

    async def told(self, provider: str, body: Any, **headers: str) -> list[tuple[str, int | None, bool]]:
        """Take it in; what it was understood as."""
        answer = await self.post(provider, body, **headers)
        assert answer.status == 200, await answer.text()
        events = (await promised(answer, "POST", "/webhooks/{provider}"))["events"]
        return [(event["kind"], event["deliveryId"], event["news"]) for event in events]

    async def fate(self) -> tuple[str, list[str]]:
        """How Ann's mail stands, and why her address is suppressed."""
        state = await self.world.pool.fetchval(
            "SELECT state FROM service.delivery_state WHERE id = $1", self.mail
        )
        rows = await self.world.pool.fetch("SELECT reason FROM service.suppression")
        return state, [row["reason"] for row in rows]


async def _send(world: World, day: int) -> int:
    await world.at(f"2026-03-{day}T08:00:00Z")
    await world.live(user("ann", email="Ann@example.org"), goal(f"g{day}", due=f"2026-03-{day + 1}"))
    await (await world.runner()).run_manual(GOALS)
    await world.delivery(Scripted(), sender=sender).run_once()
    return int(await world.pool.fetchval("SELECT max(id) FROM service.delivery WHERE channel = 'email'"))


@pytest.fixture
async def hooks(world: World) -> AsyncIterator[Hooks]:
    world.jobs = {GOALS: world.jobs[GOALS]}
    mail, outside = await _send(world, 10), Outside()
    async with admin(world.pool, webhooks=listening(world.pool, outside)) as given:
        yield Hooks(given, world, outside, mail)


# ── Amazon SES over SNS ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("version", ["1", "2"])
async def test_a_signed_bounce_counts_once(hooks: Hooks, version: str) -> None:
    body = signed(ses_bounce(sender(hooks.mail)), version, Subject="Amazon SES Email Event Notification")

    assert await hooks.told("ses", body) == [("failed", hooks.mail, True)]
    assert await hooks.told("ses", body) == [("failed", hooks.mail, False)]

    assert await hooks.fate() == ("bounced", ["hard_bounce"])
    assert hooks.outside.fetched == [CERTIFICATE], "it is kept"
    acts = await hooks.world.pool.fetch("SELECT who, act, what FROM service.audit")
    assert [tuple(act) for act in acts] == [
        ("ses", "bounce", {"kind": "failed", "about": "address", "delivery": hooks.mail})
    ]


async def test_without_a_signed_sender_the_message_id_or_the_recipient_names_the_mail(hooks: Hooks) -> None:
    later = await _send(hooks.world, 12)
    name = await hooks.world.pool.fetchval(
        "SELECT message_id FROM service.delivery WHERE id = $1", hooks.mail
    )
    message = ses_complaint("bounces@mail.example.org")
    assert await hooks.told("ses", signed(message)) == [("complaint", hooks.mail, True)], "it had no other"
    message["complaint"]["timestamp"] = "2026-03-12T09:00:00Z"
    assert await hooks.told("ses", signed(message)) == [("complaint", later, True)]
    message["mail"]["headers"] = [{"name": "Message-ID", "value": f"<{name}>"}]
    assert await hooks.told("ses", signed(message)) == [("complaint", hooks.mail, False)]
    message["complaint"]["complainedRecipients"] = [{"emailAddress": "bob@example.org"}]
    assert await hooks.told("ses", signed(message)) == [("ignored", None, False)]


async def test_a_certificate_from_elsewhere_is_not_even_fetched(hooks: Hooks) -> None:
    url = "https://sns.eu-west-1.amazonaws.com.evil.example/SimpleNotificationService-1.pem"
    answer = await hooks.post("ses", signed(ses_bounce(sender(hooks.mail)), SigningCertURL=url))

    assert (answer.status, hooks.outside.fetched) == (403, [])


async def test_what_sns_did_not_sign_for_our_topic_changes_nothing(hooks: Hooks) -> None:
    good = signed(ses_bounce(sender(hooks.mail)))
    other = "arn:aws:sns:eu-west-1:999999999999:bounces"
    tampered = {
        "message": good | {"Message": good["Message"].replace("Permanent", "Permanent ")},
        "subject added": good | {"Subject": "x"},
        "time": good | {"Timestamp": "2026-03-11T08:05:00.000Z"},
        "no signature": good | {"Signature": ""},
        "no base64": good | {"Signature": "é"},
        "another signature": good | {"Signature": signed("x")["Signature"]},
        "another version": good | {"SignatureVersion": "1"},
        "unknown version": signed(ses_bounce(sender(hooks.mail)), "3"),
        "another topic": signed(ses_bounce(sender(hooks.mail)), TopicArn=other),
    }
    for name, body in tampered.items():
        assert (await hooks.post("ses", body)).status == 403, name
    odd: list[Any] = [{}, [], "x", {"TopicArn": TOPIC}, {"TopicArn": 1}, good | {"Type": "x"}]
    for one in odd:
        assert (await hooks.post("ses", one)).status in {400, 403}, one
    assert await hooks.fate() == ("sent", [])
    assert await hooks.world.pool.fetchval("SELECT count(*) FROM service.audit") == 0
    assert await hooks.told("ses", good) == [("failed", hooks.mail, True)]


async def test_certificates_are_asked_for_ten_times_a_minute_at_most(hooks: Hooks) -> None:
    for n in range(12):
        missing = f"{HOST}/SimpleNotificationService-{n}.pem"
        answer = await hooks.post("ses", signed("{}", SigningCertURL=missing))
        assert answer.status == 503
    assert len(hooks.outside.fetched) == 10


async def test_a_subscription_to_our_topic_is_confirmed_and_no_other(hooks: Hooks) -> None:
    type_ = "SubscriptionConfirmation"
    assert await hooks.told("ses", signed("You have chosen …", type_=type_)) == []
    assert hooks.outside.fetched == [CERTIFICATE, CONFIRM]

    del hooks.outside.answers[CONFIRM]
    refused = {
        503: signed("…", type_=type_),
        403: signed("…", type_=type_, SubscribeURL="https://evil.example/?Action=ConfirmSubscription"),
    }
    for status, body in refused.items():
        assert (await hooks.post("ses", body)).status == status
    other = TOPIC.replace("bounces", "others")
    assert (await hooks.post("ses", signed("…", type_=type_, TopicArn=other))).status == 403
    foreign = CONFIRM.replace("bounces", "others")
    assert (await hooks.post("ses", signed("…", type_=type_, SubscribeURL=foreign))).status == 403
    assert hooks.outside.fetched == [CERTIFICATE, CONFIRM, CONFIRM]


# ── Postmark ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "headers", [_BASIC, {postmark.SECRET_HEADER: POSTMARK_SECRET}], ids=["basic", "header"]
)
async def test_postmark_is_known_by_its_secret(hooks: Hooks, headers: dict[str, str]) -> None:
    assert await hooks.told("postmark", postmark_bounce(), **headers) == [("failed", hooks.mail, True)]
    assert await hooks.told("postmark", postmark_bounce(), **headers) == [("failed", hooks.mail, False)]
    assert await hooks.fate() == ("bounced", ["hard_bounce"])


async def test_nobody_else_is_postmark(hooks: Hooks) -> None:
    wrong: list[dict[str, str]] = [
        {},
        {"Authorization": "Basic " + base64.b64encode(b"hooks:" + POSTMARK_SECRET.encode()[:-1]).decode()},
        {"Authorization": "Basic é"},
        {"Authorization": f"Bearer {POSTMARK_SECRET}"},
        {postmark.SECRET_HEADER: POSTMARK_SECRET + "x"},
        {postmark.SECRET_HEADER: ""},
    ]
    for headers in wrong:
        assert (await hooks.post("postmark", postmark_bounce(), **headers)).status == 401, headers
    assert await hooks.fate() == ("sent", [])


async def test_a_repeated_webhook_is_about_the_same_mail_after_another_was_sent(hooks: Hooks) -> None:
    assert await hooks.told("postmark", postmark_bounce(), **_BASIC) == [("failed", hooks.mail, True)]
    await hooks.world.pool.execute("DELETE FROM service.suppression")
    await _send(hooks.world, 12)

    assert await hooks.told("postmark", postmark_bounce(), **_BASIC) == [("failed", hooks.mail, False)]


async def test_other_webhooks_of_postmark_are_passed_over(hooks: Hooks) -> None:
    assert await hooks.told("postmark", {"RecordType": "Open", "Recipient": "x"}, **_BASIC) == []
    assert await hooks.told("postmark", postmark_bounce(Email="new@example.org"), **_BASIC) == [
        ("ignored", None, False)
    ]
    odd: list[Any] = [[], {"RecordType": 1}, postmark_bounce(BouncedAt="soon")]
    for body in odd:
        assert (await hooks.post("postmark", body, **_BASIC)).status == 400


async def test_a_provider_that_is_not_configured_has_no_webhook(hooks: Hooks) -> None:
    assert (await hooks.post("sendgrid", {})).status == 404
    large = await hooks.post("ses", {"Message": "x" * 600_000})
    assert large.status == 413
    async with admin(hooks.world.pool) as without:
        assert (await without.client.post("/webhooks/ses", json={})).status == 404


async def test_what_postmark_suppresses_is_suppressed_until_it_is_reactivated_there(hooks: Hooks) -> None:
    off, on = postmark_change(suppressed=True), postmark_change(suppressed=False)

    assert await hooks.told("postmark", off, **_BASIC) == [("suppressed", None, True)]
    assert await hooks.told("postmark", off, **_BASIC) == [("suppressed", None, False)]
    assert await hooks.fate() == ("sent", ["suppressed_by_provider"])
    detail = await hooks.world.pool.fetchval("SELECT detail FROM service.suppression")
    assert detail == "postmark sends nothing to it: ManualSuppression, by the recipient"

    assert await hooks.told("postmark", on, **_BASIC) == [("reactivated", None, True)]
    assert await hooks.told("postmark", on, **_BASIC) == [("reactivated", None, False)]
    assert await hooks.fate() == ("sent", [])
    act = await hooks.world.pool.fetchrow(
        "SELECT who, what ->> 'reason' AS why FROM service.audit WHERE act = 'lift-suppression'"
    )
    assert act is not None
    assert tuple(act) == ("postmark", "postmark sends to it again: by the customer")


async def test_a_complaint_stays_whatever_postmark_reactivates(hooks: Hooks) -> None:
    complaint = postmark_change(suppressed=True, reason="SpamComplaint")
    assert await hooks.told("postmark", complaint, **_BASIC) == [("suppressed", None, True)]
    again = postmark_change(suppressed=False)
    assert await hooks.told("postmark", again, **_BASIC) == [("reactivated", None, False)]
    assert await hooks.fate() == ("sent", ["complaint"])


async def test_whom_we_never_wrote_to_is_not_listed(hooks: Hooks) -> None:
    stranger = postmark_change(suppressed=True) | {"Recipient": "eve@example.org"}
    assert await hooks.told("postmark", stranger, **_BASIC) == [("suppressed", None, False)]
    assert await hooks.fate() == ("sent", [])
