"""Validates e-mail addresses before anything is sent to them."""

import re

_LOCAL = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_ADDRESS = re.compile(rf"{_LOCAL}@(?:localhost|(?:{_LABEL}\.)+(?=[A-Za-z0-9-]*[A-Za-z]){_LABEL})")


def valid_address(address: str | None) -> bool:
    """Whether mail can be sent to this address as it stands: plain ASCII, no quoting, a domain with a dot.

    ``localhost`` is the one domain without a dot, for tests and the local inbox.
    """
    if not address or len(address) > 254 or len(address.partition("@")[0]) > 64:
        return False
    return _ADDRESS.fullmatch(address) is not None
