"""The sessions of operators in a browser; pure.

A session is a cookie signed with the token that was used to sign in. Every replica can verify it; changing
the token ends it, and so does signing out: a hash of it is stored until it would have expired.
"""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from service.web.deps import Role

LIFETIME = timedelta(hours=12)
OPERATORS = frozenset({Role.ADMIN, Role.VIEWER})


@dataclass(frozen=True, slots=True)
class OperatorSession:
    """The role of a signed-in operator. Every form carries ``form_token``, against cross-site requests."""

    role: Role
    form_token: str
    key: str = ""
    """A hash under which its end is stored; empty: it has no cookie and cannot be ended."""
    expires: datetime | None = None


def begin(token: str, now: datetime, nonce: str) -> str:
    """The cookie of a new session; ``nonce`` is random and has no dot."""
    stem = f"{int((now + LIFETIME).timestamp())}.{nonce}"
    return f"{stem}.{_signed(token, 'session', stem)}"


def resume(tokens: Mapping[str, str], cookie: str, now: datetime) -> OperatorSession | None:
    """The session of a cookie; None: expired, forged, or opened by a token that no longer holds."""
    stem, _, signature = cookie.rpartition(".")
    expires = stem.partition(".")[0]
    if not (cookie.isascii() and expires.isdigit() and len(expires) < 13 and int(expires) > now.timestamp()):
        return None
    for token, role in tokens.items():
        if Role(role) in OPERATORS and hmac.compare_digest(_signed(token, "session", stem), signature):
            key = hashlib.sha256(stem.encode()).hexdigest()
            return OperatorSession(
                Role(role), _signed(token, "form", stem), key, datetime.fromtimestamp(int(expires), UTC)
            )
    return None


def _signed(token: str, purpose: str, stem: str) -> str:
    return hmac.new(token.encode(), f"console {purpose} {stem}".encode(), hashlib.sha256).hexdigest()
