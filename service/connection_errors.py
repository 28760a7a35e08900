"""Why a connection to a server could not be opened: the network's and TLS's part, the same for every driver.

A driver's message is only matched, never quoted: it might hold a part of the URL.
"""

import re
import ssl

_PHRASES = (
    (
        r"hostname mismatch|ip address mismatch|certificate is not valid for",
        "shows a certificate for another name; use the host name that the certificate holds",
    ),
    (r"certificate has expired", "shows a certificate that has expired; renew it there"),
    (r"certificate is not yet valid", "shows a certificate that is not valid yet; check both clocks"),
    (
        r"certificate verify failed",
        "shows a certificate that is not trusted here; name the file of its authority (CA) in {ca_file}",
    ),
    (
        r"rejected ssl upgrade|unexpected_eof|wrong_version_number|record layer failure",
        "does not offer TLS, which the URL demands; switch it on there, or take it out of the URL",
    ),
    (r"\[ssl|ssl handshake|tlsv1 alert|sslv3 alert", "could not agree on TLS with us; check its TLS"),
    (
        r"name or service not known|temporary failure in name resolution|nodename nor servname"
        r"|no address associated|dns query name does not exist|getaddrinfo failed|name resolution",
        "cannot be found: no such host name; check the host in the URL, and DNS",
    ),
    (
        r"connection refused|connect call failed|errno 111|multiple exceptions",
        "refuses connections: nothing listens there; check host and port, and that the server runs and"
        " listens on this address",
    ),
    (
        r"network is unreachable|no route to host|host is unreachable",
        "cannot be reached from here: there is no route; check the host, and the network of this process",
    ),
    (
        r"timed? ?out",
        "does not answer in time; check host and port, and whether a firewall drops the packets",
    ),
)  # fmt: skip
"""A pattern for the message (lower case), and what follows the server's name in the sentence."""


def reason(error: BaseException | str, ca_file: str) -> str | None:
    """What the server does wrong and the remedy, to put after its name; None: it is about something else.

    ``ca_file``: the setting that names the file of a private authority.
    """
    text = _text(error)
    phrase = next((phrase for pattern, phrase in _PHRASES if re.search(pattern, text)), None)
    return phrase.format(ca_file=ca_file) if phrase else None


def _text(error: BaseException | str) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate verify failed: {error.verify_message}".lower()
    if isinstance(error, TimeoutError):
        return f"timed out {error}".lower()
    return str(error).lower()
