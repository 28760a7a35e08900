"""What a server's answer means for a message (spec, SMTP answers)."""

import re
from enum import StrEnum

from service.domain.transport import Phase, Result

_ENHANCED = re.compile(r"\b([245]\.\d{1,3}\.\d{1,3})\b")
_NO_SUCH_ADDRESS = frozenset({"5.1.1", "5.1.2", "5.1.10"})
_THROTTLES = frozenset({421, 450, 451, 452})
_THEIR_PHASES = frozenset({Phase.RCPT, Phase.DATA, Phase.DOT})
_ONE_MAILBOX = ("4.1.", "4.2.")
_GREYLISTED = re.compile(r"gr[ae]y-?list", re.IGNORECASE)
_OUR_PHASES = frozenset({Phase.CONNECT, Phase.TLS, Phase.AUTH, Phase.MAIL})


class Fate(StrEnum):
    """What becomes of a message after the server's answer."""

    SENT = "sent"
    RETRY = "retry"
    HARD = "hard"
    """The address does not take mail: failed, and a hard bounce against it."""
    NO_SUCH_ADDRESS = "no_such_address"
    """As HARD, and the address is suppressed at once."""
    CONTENT = "content"
    """The content was refused: failed; three in a row are an alarm."""
    OURS = "ours"
    """We may not send at all: nothing counts against the user; sending stops and health turns red."""
    UNCONFIRMED = "unconfirmed"
    """The connection was lost after the dot: nobody knows."""


def enhanced_code(reply: str) -> str | None:
    """The RFC 3463 code in a reply, e.g. ``5.1.1``."""
    found = _ENHANCED.search(reply)
    return found.group(1) if found else None


def fate(result: Result) -> Fate:
    """Classify one result."""
    if result.accepted:
        return Fate.SENT
    if result.code is None and result.phase is Phase.DOT:
        return Fate.UNCONFIRMED
    if result.code is None or result.code < 500:
        return Fate.RETRY
    return Fate.OURS if result.phase in _OUR_PHASES else _refusal(result)


def _refusal(result: Result) -> Fate:
    detail = enhanced_code(result.reply) or ""
    if detail in _NO_SUCH_ADDRESS:
        return Fate.NO_SUCH_ADDRESS
    if result.phase is Phase.RCPT or detail.startswith("5.1."):
        return Fate.HARD
    return Fate.CONTENT


def throttles(result: Result) -> bool:
    """Whether the recipient's domain asks us to come more slowly.

    Not so when the answer is about one mailbox (X.1.n, X.2.n: full, busy), or about one sender and recipient
    who have not met (greylisting: trying again is the point), or was given before the recipient was named:
    that is the relay.
    """
    if result.accepted or result.code not in _THROTTLES or result.phase not in _THEIR_PHASES:
        return False
    detail = enhanced_code(result.reply) or ""
    return not detail.startswith(_ONE_MAILBOX) and not _GREYLISTED.search(result.reply)
