"""Counts wrong tokens by address, so that who guesses is refused and the log holds a line a minute; pure."""

import hashlib
from dataclasses import dataclass, field

WINDOW = 60.0
"""Seconds after which an address begins anew."""
MOST = 10
"""Different wrong tokens of an address within the window; who repeats one is mistaken, and does not guess."""
_ADDRESSES = 10_000


@dataclass(slots=True)
class _Address:
    since: float
    tokens: set[bytes] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class WrongToken:
    """``notable``: the first of its address within the window, or the one that is too many.

    ``wait``: seconds until more are taken; 0: now.
    """

    notable: bool
    wait: float


class WrongTokens:
    """The wrong tokens of the last minute, for up to 10,000 addresses; of each process its own."""

    def __init__(self) -> None:
        self._addresses: dict[str, _Address] = {}

    def note(self, address: str, token: str, now: float) -> WrongToken:
        """Note a wrong token (``now`` in seconds of a monotonic clock). Of a token only a hash is kept."""
        known = self._addresses.get(address)
        if known is None or now - known.since >= WINDOW:
            self._addresses.pop(address, None)
            known = self._addresses[address] = _Address(now)
            self._forget()
        before = len(known.tokens)
        if before <= MOST:
            known.tokens.add(hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest())
        too_many = len(known.tokens) > MOST
        notable = len(known.tokens) > before and (too_many or not before)
        return WrongToken(notable, known.since + WINDOW - now if too_many else 0.0)

    def _forget(self) -> None:
        while len(self._addresses) > _ADDRESSES:
            del self._addresses[next(iter(self._addresses))]
