"""What each report of a provider means, by the classifier; and which addresses are those of Amazon SNS."""

import asyncio
import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.messages.mail.providers import sns_message
from service.messages.mail.providers.postmark import PostmarkProvider
from service.messages.mail.providers.provider_event import EventKind, ProviderEvent, WebhookRefusal
from service.messages.mail.providers.provider_verdict import verdict_of
from service.messages.mail.providers.ses_events import ses_events
from service.messages.mail.smtp_reply import About
from tests.messages.mail.providers.reports import postmark_bounce, ses_bounce, ses_complaint
from tests.messages.mail.providers.sns import CERTIFICATE, CONFIRM, HOST, TOPIC

_SECRET = "a secret of the operator's own"
_DELIVERY = {"recipients": ["ann@example.org"], "smtpResponse": "250 ok"}
_DELAY = {"delayedRecipients": [{"emailAddress": "ann@example.org", "status": "4.4.7"}]}


def _word(event: ProviderEvent) -> str:
    verdict = verdict_of(event, ours=event.recipient == "ann@example.org")
    return "at once" if verdict.at_once else str(verdict.about or event.kind)


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (ses_bounce(""), ["at once"]),
        (ses_bounce("", to="bob@example.org"), ["mailbox"]),
        (ses_bounce("", type_="Transient"), ["way"]),
        (ses_bounce("", type_="Undetermined"), ["way"]),
        (ses_bounce("", status="5.7.1", diagnosticCode="smtp; 550 5.7.1 blocked"), ["us"]),
        (ses_bounce("", status="5.1.1", diagnosticCode="smtp; 550 5.1.1 over quota"), ["mailbox"]),
        (ses_complaint(""), ["complaint"]),
        (ses_complaint("", None), ["complaint"]),
        (ses_complaint("", "not-spam"), []),
        (ses_complaint("", "auth-failure"), []),
        ({"eventType": "Delivery", "delivery": _DELIVERY}, ["delivered"]),
        ({"eventType": "DeliveryDelay", "deliveryDelay": _DELAY}, ["delayed"]),
        ({"eventType": "Open", "open": {}}, []),
    ],
)
def test_each_report_of_ses_is_judged(message: dict[str, Any], words: list[str]) -> None:
    assert [_word(event) for event in ses_events(json.dumps(message))] == words


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (postmark_bounce(), ["at once"]),
        (postmark_bounce(Details=None), ["address"]),
        (postmark_bounce(Details="smtp;552 5.2.2 mailbox full"), ["mailbox"]),
        (postmark_bounce("SpamComplaint"), ["complaint"]),
        (postmark_bounce("SoftBounce"), ["way"]),
        (postmark_bounce("Transient"), ["delayed"]),
        (postmark_bounce("AutoResponder"), ["delivered"]),
        (postmark_bounce("Blocked", Details="smtp;550 5.7.1 client host blocked"), ["us"]),
        ({"RecordType": "Delivery", "Recipient": "ann@example.org"}, ["delivered"]),
        ({"RecordType": "Open", "Recipient": "ann@example.org"}, []),
    ],
)
async def test_each_webhook_of_postmark_is_judged(body: dict[str, Any], words: list[str]) -> None:
    provider = PostmarkProvider(_SECRET)

    events = await provider.events({"x-webhook-secret": _SECRET}, json.dumps(body).encode())

    assert [_word(event) for event in events] == words


_TEXT = st.text(alphabet="smtp;: 5.1-0<@>(#)\n\0é\ud800", max_size=60)


@settings(max_examples=60, deadline=None)
@given(_TEXT, _TEXT, st.booleans())
def test_no_text_makes_the_judgement_raise(diagnostic: str, status: str, permanent: bool) -> None:
    event = ProviderEvent("x", EventKind.FAILED, "a@b", None, permanent, status, diagnostic)
    assert verdict_of(event, ours=True).about in set(About)


_NAMES = ["bounce", "mail", "TopicArn", "Type", "RecordType", "bouncedRecipients", "Email"]
_JSON = st.recursive(
    st.sampled_from([None, True, 7, "", "Bounce", "Notification"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_NAMES), inner),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(_JSON)
def test_what_is_no_report_is_refused_and_nothing_else(value: Any) -> None:
    body = json.dumps(value)
    headers = {"x-webhook-secret": _SECRET}
    for read in (
        lambda: ses_events(body),
        lambda: sns_message.read(body.encode()),
        lambda: asyncio.run(PostmarkProvider(_SECRET).events(headers, body.encode())),
    ):
        with suppress(WebhookRefusal):
            read()


@pytest.mark.parametrize(
    "url",
    [
        "http://sns.eu-west-1.amazonaws.com/SimpleNotificationService-1.pem",
        "https://sns.eu-west-1.amazonaws.com.evil.example/SimpleNotificationService-1.pem",
        "https://sns.eu-west-1.amazonaws.com@evil.example/SimpleNotificationService-1.pem",
        "https://sns.eu-west-1.amazonaws.com:8443/SimpleNotificationService-1.pem",
        "https://sns.us-east-1.amazonaws.com/SimpleNotificationService-1.pem",
        "https://evil.example/SimpleNotificationService-1.pem",
        f"{HOST}/evil.pem",
        f"{HOST}/SimpleNotificationService-1.pem?x=1",
        f"{HOST}/x/../SimpleNotificationService-1.pem",
        f"{HOST}/SimpleNotificationService-1.pem\r\n",
        "",
    ],
)
def test_a_certificate_lies_nowhere_else(url: str) -> None:
    assert not sns_message.is_certificate_url(url, TOPIC)


def test_addresses_of_sns_are_those_of_the_region_of_the_topic() -> None:
    chinese = "arn:aws-cn:sns:cn-north-1:123456789012:b"
    assert sns_message.is_certificate_url(CERTIFICATE, TOPIC)
    assert not sns_message.is_certificate_url(CERTIFICATE, "arn:aws:sns:evil.example/x:1:b")
    host = "https://sns.cn-north-1.amazonaws.com.cn"
    assert sns_message.is_certificate_url(f"{host}/SimpleNotificationService-1.pem", chinese)
    assert sns_message.is_subscribe_url(CONFIRM, TOPIC)
    assert not sns_message.is_subscribe_url(CONFIRM.replace("ConfirmSubscription", "Unsubscribe"), TOPIC)
    assert not sns_message.is_subscribe_url(CONFIRM.replace("bounces", "others"), TOPIC)
