"""Postmark's webhooks for bounces, spam complaints, deliveries and changes of its suppressions.

Source: "Bounce webhook", "Spam complaint webhook", "Delivery webhook", "Subscription change webhook" and
"Bounce types" of Postmark's developer documentation. Postmark signs nothing: a secret in basic authentication
or in a header, both of which its webhooks can send, says that it is they.
"""

import base64
import hmac
from collections.abc import Mapping, Sequence
from datetime import datetime

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_pascal

from service.messages.mail.providers.provider_event import EventKind, ProviderEvent, WebhookRefusal

NAME = "postmark"
SECRET_HEADER = "X-Webhook-Secret"  # noqa: S105 — its name
_PERMANENT = frozenset({"HardBounce", "BadEmailAddress"})
_NO_FAILURES = frozenset(
    {"AutoResponder", "Subscribe", "Unsubscribe", "AddressChange", "ChallengeVerification"}
)
"""Somebody or something answered: the mail arrived."""
_COMPLAINT = "SpamComplaint"


class _Webhook(BaseModel):
    model_config = ConfigDict(alias_generator=to_pascal, extra="ignore")

    record_type: str
    type: str = ""
    email: str = ""
    recipient: str = ""
    description: str | None = None
    details: str | None = None
    bounced_at: datetime | None = None
    delivered_at: datetime | None = None
    changed_at: datetime | None = None
    suppress_sending: bool = False
    suppression_reason: str | None = None
    origin: str | None = None


class PostmarkProvider:
    """``secret``: what its webhooks are configured to send."""

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode()

    async def events(self, headers: Mapping[str, str], body: bytes) -> Sequence[ProviderEvent]:
        """What a webhook reports."""
        self._check_secret(headers)
        try:
            webhook = _Webhook.model_validate_json(body)
        except ValidationError as error:
            where = ".".join(map(str, error.errors()[0]["loc"])) or "body"
            raise WebhookRefusal(400, f"This is no webhook of Postmark: {where}") from None
        event = _event(webhook)
        return [event] if event else []

    def _check_secret(self, headers: Mapping[str, str]) -> None:
        lower = {name.lower(): value for name, value in headers.items()}
        given = (lower.get(SECRET_HEADER.lower(), "").encode("utf-8", "surrogateescape"), _password(lower))
        fits = [hmac.compare_digest(one, self._secret) for one in given]
        if not any(fits):
            raise WebhookRefusal(401, "The secret is missing or wrong (POSTMARK_WEBHOOK_SECRET)")


def _password(headers: Mapping[str, str]) -> bytes:
    """That of basic authentication, whoever the user is."""
    scheme, _, encoded = headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return b""
    try:
        return base64.b64decode(encoded.strip(), validate=True).partition(b":")[2]
    except ValueError:
        return b""


def _event(webhook: _Webhook) -> ProviderEvent | None:
    at = webhook.bounced_at or webhook.delivered_at or webhook.changed_at
    kind = _kind(webhook)
    recipient = webhook.email or webhook.recipient
    if kind is None or not recipient:
        return None
    return ProviderEvent(
        NAME,
        kind,
        recipient,
        at if at and at.tzinfo else None,
        permanent=webhook.type in _PERMANENT or webhook.suppression_reason == _COMPLAINT,
        diagnostic=webhook.details or webhook.description or _change(webhook),
    )


def _change(webhook: _Webhook) -> str:
    """Why it suppresses an address, and who wanted it."""
    reason, origin = webhook.suppression_reason, webhook.origin
    return ", ".join(filter(None, (reason, f"by the {origin.lower()}" if origin else None)))


def _kind(webhook: _Webhook) -> EventKind | None:
    if webhook.record_type == "Delivery":
        return EventKind.DELIVERED
    if _COMPLAINT in {webhook.record_type, webhook.type}:
        return EventKind.COMPLAINT
    if webhook.record_type == "SubscriptionChange":
        return EventKind.SUPPRESSED if webhook.suppress_sending else EventKind.REACTIVATED
    if webhook.record_type != "Bounce":
        return None
    if webhook.type == "Transient":
        return EventKind.DELAYED
    return EventKind.DELIVERED if webhook.type in _NO_FAILURES else EventKind.FAILED
