"""E-mail addresses as mail servers take them; validated before anything is sent to them."""

import re
import unicodedata

import idna

_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\u0080-\U0010ffff-]+"
_LOCAL = re.compile(rf"{_ATOM}(?:\.{_ATOM})*")
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_DOMAIN = re.compile(rf"localhost|(?:{_LABEL}\.)+(?=[A-Za-z0-9-]*[A-Za-z]){_LABEL}")
_LONGEST = 254
_LONGEST_LOCAL = 64


def mail_address(address: str | None) -> str | None:
    """The address with an international domain as mail servers know it (IDNA); None: none can be sent to it.

    No quoting, and a domain with a dot; ``localhost`` is the one without, for tests and the local inbox. What
    stands before the @ may be international as well: see ``needs_smtputf8``.
    """
    if not address or len(address) > _LONGEST or not address.isprintable():
        return None
    local, _, domain = unicodedata.normalize("NFC", address).partition("@")
    domain = domain if domain.isascii() else _in_ascii(domain)
    result = f"{local}@{domain}"
    too_long = len(local.encode()) > _LONGEST_LOCAL or len(result.encode()) > _LONGEST
    valid = _LOCAL.fullmatch(local) and _DOMAIN.fullmatch(domain) and not too_long
    return result if valid else None


def comparable_address(address: str) -> str:
    """The form in which addresses are compared and looked up: that of mail servers, in lower case.

    What is no address, or the beginning of one, is only put in lower case.
    """
    address = address.strip()
    return (mail_address(address) or address).lower()


def valid_address(address: str | None) -> bool:
    """Whether mail can be sent to this address, by a server that takes international ones if it is one."""
    return mail_address(address) is not None


def needs_smtputf8(address: str) -> bool:
    """Whether only a mail server that offers SMTPUTF8 (RFC 6531) takes this ``mail_address``."""
    return not address.isascii()


def _in_ascii(domain: str) -> str:
    """Empty where the domain cannot exist."""
    try:
        return idna.encode(domain, uts46=True).decode("ascii")
    except idna.IDNAError:
        return ""
