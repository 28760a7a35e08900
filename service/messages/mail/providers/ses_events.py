"""Notifications and published events of Amazon SES: the message of an SNS notification. Pure.

Sources: "Amazon SNS notification contents for Amazon SES", and "Contents of event data that Amazon SES
publishes to Amazon SNS", both of the Amazon SES Developer Guide.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from service.messages.mail.providers.provider_event import EventKind, ProviderEvent, WebhookRefusal

NAME = "ses"
_COMPLAINTS = frozenset({None, "", "abuse", "fraud", "virus"})
"""Types of feedback that are complaints; others say that it was no spam, or are about authentication."""
_MAX_RECIPIENTS = 50


class _Part(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, extra="ignore", populate_by_name=True)


class _Recipient(_Part):
    email_address: str
    status: str | None = None
    diagnostic_code: str | None = None


class _Bounce(_Part):
    bounce_type: str = ""
    bounced_recipients: list[_Recipient] = Field(max_length=_MAX_RECIPIENTS)
    timestamp: datetime | None = None


class _Complaint(_Part):
    complained_recipients: list[_Recipient] = Field(max_length=_MAX_RECIPIENTS)
    complaint_feedback_type: str | None = None
    user_agent: str | None = None
    timestamp: datetime | None = None


class _Delivery(_Part):
    recipients: list[str] = Field(max_length=_MAX_RECIPIENTS)
    smtp_response: str | None = None
    timestamp: datetime | None = None


class _Delay(_Part):
    delayed_recipients: list[_Recipient] = Field(max_length=_MAX_RECIPIENTS)
    timestamp: datetime | None = None


class _Header(_Part):
    name: str
    value: str = ""


class _Mail(_Part):
    source: str = ""
    headers: list[_Header] = []

    @property
    def message_ids(self) -> tuple[str, ...]:
        """Those that we wrote; SES gives the mail another one as it leaves."""
        values = [one.value for one in self.headers if one.name.lower() == "message-id"]
        return tuple(value.strip().strip("<>") for value in values[:2])


class _Message(_Part):
    notification_type: str = ""
    event_type: str = ""
    mail: _Mail = _Mail()
    bounce: _Bounce | None = None
    complaint: _Complaint | None = None
    delivery: _Delivery | None = None
    delivery_delay: _Delay | None = None


def ses_events(message: str) -> Sequence[ProviderEvent]:
    """The events in a message; none in one that is about no mail, as SES sends to try a new topic.

    Raises WebhookRefusal (400).
    """
    if not message.lstrip().startswith("{"):
        return ()
    try:
        read = _Message.model_validate_json(message)
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"])) or "message"
        raise WebhookRefusal(400, f"This is no message of Amazon SES: {where}") from None
    return list(_events(read))


def _events(message: _Message) -> Iterator[ProviderEvent]:
    if message.bounce:
        permanent = message.bounce.bounce_type == "Permanent"
        for one in message.bounce.bounced_recipients:
            yield _event(EventKind.FAILED, message.mail, one, message.bounce.timestamp, permanent=permanent)
    elif message.complaint and message.complaint.complaint_feedback_type in _COMPLAINTS:
        said = (
            f"{message.complaint.complaint_feedback_type or ''} {message.complaint.user_agent or ''}".strip()
        )
        for one in message.complaint.complained_recipients:
            about = one.model_copy(update={"diagnostic_code": said})
            yield _event(EventKind.COMPLAINT, message.mail, about, message.complaint.timestamp)
    elif message.delivery_delay:
        for one in message.delivery_delay.delayed_recipients:
            yield _event(EventKind.DELAYED, message.mail, one, message.delivery_delay.timestamp)
    elif message.delivery:
        for address in message.delivery.recipients:
            one = _Recipient(email_address=address, diagnostic_code=message.delivery.smtp_response)
            yield _event(EventKind.DELIVERED, message.mail, one, message.delivery.timestamp)


def _event(
    kind: EventKind, mail: _Mail, one: _Recipient, at: datetime | None, *, permanent: bool = False
) -> ProviderEvent:
    return ProviderEvent(
        NAME,
        kind,
        one.email_address,
        at if at and at.tzinfo else None,
        permanent,
        one.status,
        one.diagnostic_code or "",
        mail.source,
        mail.message_ids,
    )
