"""Messages of Amazon SNS and their signatures. Pure.

Source: "Verifying the signatures of Amazon SNS messages", Amazon SNS Developer Guide. The certificate is
taken only from SNS in the topic's own region, which the name of the topic tells.
"""

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from service.messages.mail.providers.provider_event import WebhookRefusal

NOTIFICATION = "Notification"
SUBSCRIPTION = "SubscriptionConfirmation"
_SIGNED = {
    NOTIFICATION: ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"),
    SUBSCRIPTION: ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
    "UnsubscribeConfirmation": (
        "Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type",
    ),
}  # fmt: skip
_HASHES: Mapping[str, hashes.HashAlgorithm] = {"1": hashes.SHA1(), "2": hashes.SHA256()}  # noqa: S303 — theirs
_ARN = re.compile(
    r"arn:(aws|aws-cn|aws-us-gov):sns:([a-z]{2}(?:-[a-z]+)+-\d{1,2}):\d{12}:[\w-]{1,256}(?:\.fifo)?"
)
_CERTIFICATE = re.compile(r"/SimpleNotificationService-[0-9a-zA-Z-]{1,64}\.pem")


@dataclass(frozen=True, slots=True)
class SnsMessage:
    """A message that claims to come from a topic. ``subscribe_url``: confirms a subscription."""

    type: str
    topic: str
    message: str
    signed_text: bytes
    signature: bytes
    version: str
    certificate_url: str
    subscribe_url: str


def valid_topic(arn: str) -> bool:
    """Whether this is the ARN of a topic."""
    return _ARN.fullmatch(arn) is not None


def read(body: bytes) -> SnsMessage:
    """The message in a request. Raises WebhookRefusal (400)."""
    try:
        fields = json.loads(body)
    except ValueError:
        fields = None
    if not isinstance(fields, dict) or "TopicArn" not in fields:
        raise WebhookRefusal(400, "This is no message of Amazon SNS; turn raw message delivery off")
    text = {name: value for name, value in fields.items() if isinstance(value, str)}
    type_ = text.get("Type", "")
    if type_ not in _SIGNED:
        raise WebhookRefusal(400, "The type of this SNS message is not known")
    try:
        signature = base64.b64decode(text.get("Signature", ""), validate=True)
    except ValueError:
        signature = b""
    pairs = [(name, text[name]) for name in _SIGNED[type_] if name in text]
    return SnsMessage(
        type=type_,
        topic=text.get("TopicArn", ""),
        message=text.get("Message", ""),
        signed_text="".join(f"{name}\n{value}\n" for name, value in pairs).encode("utf-8", "surrogatepass"),
        signature=signature,
        version=text.get("SignatureVersion", ""),
        certificate_url=text.get("SigningCertURL", ""),
        subscribe_url=text.get("SubscribeURL", ""),
    )


def is_certificate_url(url: str, topic: str) -> bool:
    """Whether an address is that of a certificate of SNS, in the region of the topic."""
    return _is_of_sns(url, topic) and bool(_CERTIFICATE.fullmatch(urlsplit(url).path)) and "?" not in url


def is_subscribe_url(url: str, topic: str) -> bool:
    """Whether an address confirms the subscription to a topic."""
    if not _is_of_sns(url, topic):
        return False
    query = parse_qs(urlsplit(url).query)
    return (query.get("Action"), query.get("TopicArn")) == (["ConfirmSubscription"], [topic])


def _is_of_sns(url: str, topic: str) -> bool:
    arn = _ARN.fullmatch(topic)
    if arn is None or not url.isascii() or not url.isprintable():
        return False
    host = f"sns.{arn[2]}.amazonaws.com{'.cn' if arn[1] == 'aws-cn' else ''}"
    return url.startswith(f"https://{host}/") and "#" not in url


def check_signature(message: SnsMessage, certificate: bytes) -> None:
    """Raises WebhookRefusal (403) unless the owner of the certificate (PEM) signed the message."""
    refusal = WebhookRefusal(403, "The signature of this SNS message does not fit")
    algorithm = _HASHES.get(message.version)
    if algorithm is None:
        raise WebhookRefusal(403, "The version of the signature of this SNS message is not known")
    try:
        key = x509.load_pem_x509_certificate(certificate).public_key()
    except ValueError:
        raise refusal from None
    if not isinstance(key, rsa.RSAPublicKey):
        raise refusal
    try:
        key.verify(message.signature, message.signed_text, padding.PKCS1v15(), algorithm)
    except InvalidSignature:
        raise refusal from None
