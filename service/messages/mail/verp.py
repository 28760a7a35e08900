"""Addresses below the bounce address: signed envelope senders (VERP), and where a mail unsubscribes.

``bounce+<id>-<signature>@…`` tells which delivery a bounce is about; ``bounce+u-<token>@…`` is known only to
whoever got the mail with that token.
"""

import hashlib
import hmac
import re
from base64 import b32encode

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_TAG = re.compile(r"([0-9a-z]{1,13})-[2-7a-z]{8}")
_MAX_LOCAL = 64


def envelope_sender(base: str, delivery_id: int, secret: bytes) -> str:
    """``bounce@example.org`` becomes ``bounce+<id>-<signature>@example.org``.

    ``ValueError`` for a base that is not a plain address or is too long, for a negative or enormous id, and
    for an empty secret.
    """
    local, _, domain = base.rpartition("@")
    if not local or not domain or not base.isascii():
        raise ValueError(f"{base!r} is no address for bounces")
    if not secret:
        raise ValueError("bounce addresses cannot be signed without a secret")
    if not 0 <= delivery_id < 36**13:
        raise ValueError(f"{delivery_id} is no id of a delivery")
    address = _address(base, delivery_id, secret)
    require_room(address, base)
    return address


def require_room(address: str, base: str) -> None:
    """``ValueError`` where an address below ``base`` has more before the @ than mail servers take."""
    if len(address.rpartition("@")[0]) > _MAX_LOCAL:
        raise ValueError(f"{base!r} is too long: {address!r} has more than {_MAX_LOCAL} octets before the @")


def delivery_of(address: str, base: str, secret: bytes) -> int | None:
    """The delivery of an envelope sender; None: it is not ours, or forged. Case does not matter."""
    if not address.isascii() or not base.isascii() or not secret:
        return None
    prefix = base.rpartition("@")[0].lower() + "+"
    local = address.rpartition("@")[0].lower()
    tag = _TAG.fullmatch(local.removeprefix(prefix))
    if tag is None:
        return None
    delivery_id = int(tag.group(1), 36)
    genuine = _address(base, delivery_id, secret).lower()
    return delivery_id if hmac.compare_digest(genuine.encode(), address.lower().encode()) else None


def unsubscribe_address(base: str, token: str) -> str:
    """``bounce@example.org`` becomes ``bounce+u-<token>@example.org``."""
    local, _, domain = base.rpartition("@")
    return f"{local}+u-{token}@{domain}"


def unsubscribe_token_in(text: str, base: str) -> str | None:
    """The token of the first unsubscribe address in a text, as it is written there; None: there is none."""
    local, _, domain = base.rpartition("@")
    address = rf"(?<![\w.+-]){re.escape(local)}\+u-([0-9A-Za-z_-]{{22,40}})@{re.escape(domain)}(?![\w-]|\.\w)"
    found = re.search(address, text, re.ASCII | re.IGNORECASE)
    return found.group(1) if found else None


def _address(base: str, delivery_id: int, secret: bytes) -> str:
    local, _, domain = base.rpartition("@")
    return f"{local}+{_base36(delivery_id)}-{_signature(base, delivery_id, secret)}@{domain}"


def _signature(base: str, delivery_id: int, secret: bytes) -> str:
    mac = hmac.new(secret, f"verp:{base.lower()}:{delivery_id}".encode(), hashlib.sha256)
    return b32encode(mac.digest()[:5]).decode("ascii").lower()


def _base36(number: int) -> str:
    digits = ""
    while number >= 36:
        number, remainder = divmod(number, 36)
        digits = _DIGITS[remainder] + digits
    return _DIGITS[number] + digits
