"""Amazon SNS, as tests know it: a key and a certificate of its own, and messages that it signs."""

import base64
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from service.messages.mail.providers.https_get import FetchFailed

TOPIC = "arn:aws:sns:eu-west-1:123456789012:bounces"
HOST = "https://sns.eu-west-1.amazonaws.com"
CERTIFICATE = f"{HOST}/SimpleNotificationService-9c6465fa7f48f5cacd23014631ec1136.pem"
CONFIRM = f"{HOST}/?Action=ConfirmSubscription&TopicArn={TOPIC}&Token=2336412f37"
_HASHES = {"1": hashes.SHA1(), "2": hashes.SHA256()}
_SIGNED = {
    "Notification": ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"),
    "SubscriptionConfirmation": (
        *("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
    ),
}


@cache
def _key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@cache
def certificate() -> bytes:
    """Of the key that signs here."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "sns.amazonaws.com")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, _key().public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(_key(), hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM)


def signed(message: Any, version: str = "2", type_: str = "Notification", **changes: Any) -> dict[str, Any]:
    """A message of SNS. ``changes``: of its fields, before it is signed; None: without the field."""
    fields = {
        "Type": type_,
        "MessageId": "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324",
        "TopicArn": TOPIC,
        "Message": message if isinstance(message, str) else json.dumps(message),
        "Timestamp": "2026-03-10T08:05:00.000Z",
        "SignatureVersion": version,
        "SigningCertURL": CERTIFICATE,
        **({"Token": "2336412f37", "SubscribeURL": CONFIRM} if type_ == "SubscriptionConfirmation" else {}),
        **changes,
    }
    text = "".join(f"{name}\n{fields[name]}\n" for name in _SIGNED[type_] if fields.get(name) is not None)
    signature = _key().sign(text.encode(), padding.PKCS1v15(), _HASHES.get(version, hashes.SHA256()))
    return {name: value for name, value in fields.items() if value is not None} | {
        "Signature": base64.b64encode(signature).decode()
    }


@dataclass
class Outside:
    """What can be fetched. ``fetched``: what was."""

    answers: dict[str, bytes] = field(default_factory=lambda: {CERTIFICATE: certificate(), CONFIRM: b"ok"})
    fetched: list[str] = field(default_factory=list)

    async def __call__(self, url: str) -> bytes:
        self.fetched.append(url)
        if url not in self.answers:
            raise FetchFailed("it answered 404")
        return self.answers[url]
