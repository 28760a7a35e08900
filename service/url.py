"""URLs of the configuration: parsed strictly, and shown without their secrets.

Libraries disagree about a password that contains ``/``, ``#``, ``?`` or ``@``: some take a part of it for the
host or the path, and quote it. Here such a URL cannot be parsed, and what cannot be parsed is never shown.
"""

import ipaddress
import re
import unicodedata
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from urllib.parse import unquote, unquote_plus, urlsplit

HIDDEN = "***"
UNREADABLE = "(set)"
"""Shown for a URL that cannot be parsed."""
MONGODB = ("mongodb", "mongodb+srv")
POSTGRESQL = ("postgresql", "postgres")
WEB = ("https", "http")
ENCODE = (
    "percent-encode special characters in the user name and the password"
    " (/ as %2F, ? as %3F, # as %23, @ as %40, : as %3A, % as %25);"
    " the value is not shown, it may hold a password"
)

_URL = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://"
    r"(?:(?P<user>[^/?#@\[\]:]*)(?::(?P<password>[^/?#@\[\]]*))?@)?"
    r"(?P<hosts>[^/?#@]*)(?P<path>/[^?#@]*)?(?:\?(?P<query>[^#]*))?(?:#(?P<fragment>[^@]*))?",
    re.IGNORECASE,
)
_HOST = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]+(?:%25[\w.-]+)?\]|[^:\[\]]*)(?::(?P<port>[0-9]{1,5}))?")
_BAD_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_OLD_NUMBER = re.compile(r"(?:0x[0-9a-f]+|[0-9]+)(?:\.(?:0x[0-9a-f]+|[0-9]+))*", re.IGNORECASE)
_PLAIN_VALUE = re.compile(r"[\w.,:/+-]*")
_MAY_HOLD_AT = {"appname", "application_name", "authmechanismproperties"}
"""Parameters (lower case) that may contain an unencoded ``@``, as in ``appName=@account@``."""
_MAY_BE_SHOWN = frozenset((
    "appname", "authmechanism", "authsource", "compressors", "connecttimeoutms", "directconnection",
    "heartbeatfrequencyms", "journal", "loadbalanced", "localthresholdms", "maxconnecting",
    "maxidletimems", "maxpoolsize", "maxstalenessseconds", "minpoolsize", "readconcernlevel",
    "readpreference", "readpreferencetags", "replicaset", "retryreads", "retrywrites",
    "servermonitoringmode", "serverselectiontimeoutms", "sockettimeoutms", "srvmaxhosts",
    "srvservicename", "ssl", "timeoutms", "tls", "tlsallowinvalidcertificates",
    "tlsallowinvalidhostnames", "tlscafile", "tlsinsecure", "uuidrepresentation", "w",
    "waitqueuetimeoutms", "wtimeoutms", "application_name", "connect_timeout", "database", "dbname",
    "host", "port", "search_path", "sslmode", "sslrootcert", "ssl_min_protocol_version",
    "target_session_attrs", "timezone", "user",
))  # fmt: skip
"""Parameters (lower case) that hold no secret; the value of every other one is hidden."""


@dataclass(frozen=True, slots=True)
class Url:
    """The parts of a URL, still percent-encoded; None: absent."""

    scheme: str
    user: str | None = field(repr=False)
    password: str | None = field(repr=False)
    hosts: str = ""
    """``host:port``, several with commas between them."""
    path: str = ""
    query: str | None = field(default=None, repr=False)
    fragment: str | None = field(default=None, repr=False)

    @property
    def host(self) -> str:
        """The first host, in lower case, without brackets and port."""
        match = _HOST.match(self.hosts)
        name = match["name"] if match else ""
        return unicodedata.normalize("NFKC", name).strip("[]").rstrip(".").lower()

    @property
    def parameters(self) -> list[tuple[str, str | None]]:
        """The query's parameters: name and value; None: it has none."""
        parts = (part.partition("=") for part in re.split("[&;]", self.query or "") if part)
        return [(name, value if equals else None) for name, equals, value in parts]


# ── Reading ─────────────────────────────────────────────────────────────────────────────────────────────────


def parse(text: str) -> Url | None:
    """The parts of a URL; None if they are ambiguous."""
    match = _URL.fullmatch(text)
    if match is None or not text.isprintable() or " " in text or _BAD_PERCENT.search(text):
        return None
    parts = match.groupdict()
    url = Url(**{**parts, "scheme": parts["scheme"].lower(), "path": parts["path"] or ""})
    certain = all(map(_is_host, url.hosts.split(","))) and _is_query(url) and _is_known_to_python(text)
    return url if certain else None


def parameters(text: str) -> list[tuple[str, str | None]]:
    """The parameters of a URL; empty if it cannot be parsed."""
    url = parse(text)
    return url.parameters if url else []


def database(text: str, schemes: Collection[str], otherwise: str) -> Url:
    """A database's URL. ``otherwise``: the error for another scheme.

    Raises ValueError with a message that quotes nothing of the URL.
    """
    if not text.lower().startswith(tuple(f"{scheme}://" for scheme in schemes)):
        raise ValueError(otherwise)
    url = parse(text)
    if url is None or url.fragment is not None or any(value is None for _, value in url.parameters):
        raise ValueError(f"cannot be read as user:password@host/database; {ENCODE}")
    if url.scheme in MONGODB and (not url.hosts or ":" in (url.password or "")):
        raise ValueError(f"cannot be read as user:password@host/database; {ENCODE}")
    return url


def web(text: str) -> Url:
    """A web address. Raises ValueError with a message that quotes nothing of it."""
    url = parse(text)
    if url is None or url.scheme not in WEB or not _is_web_host(url):
        raise ValueError(f"is not a web address; use one like https://dashboard.example, and {ENCODE}")
    return url


def _is_host(host: str) -> bool:
    match = _HOST.fullmatch(host)
    if match is None or int(match["port"] or 0) > 65535:
        return False
    return not host.startswith("[") or _ip(match["name"].strip("[]").partition("%")[0]) is not None


def _is_web_host(url: Url) -> bool:
    """One name or IP address; not a number such as ``0`` or ``127.1``, which browsers read as an address."""
    host = url.host
    if not host or "," in url.hosts or "%" in host:
        return False
    return _ip(host) is not None or _OLD_NUMBER.fullmatch(host) is None


def _is_query(url: Url) -> bool:
    """An unencoded ``@`` may be the end of a password that was cut at its question mark."""
    with_at = [name.lower() for name, value in url.parameters if "@" in f"{name}{value}"]
    return not with_at or (url.user is not None and _MAY_HOLD_AT.issuperset(with_at))


def _is_known_to_python(text: str) -> bool:
    """Drivers use Python's parser, whose errors quote the URL."""
    try:
        urlsplit(text)
    except ValueError:
        return False
    return True


def _ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


# ── Links in mails ──────────────────────────────────────────────────────────────────────────────────────────


def link_problem(text: str) -> str | None:
    """Why links in mails cannot begin with this web address; None: they can."""
    url = web(text)
    if url.user is not None:
        return "must hold neither a user nor a password: whoever gets a mail would read them"
    address = _ip(url.host)
    if address is not None and address.is_unspecified:
        return "0.0.0.0 and [::] are where a service listens, not where a link leads; use a name, with https"
    return None


def needs_https(text: str) -> bool:
    """Whether a link travels unprotected: http to any host but this machine's own."""
    url = web(text)
    address = _ip(url.host)
    local = url.host == "localhost" or (address is not None and address.is_loopback)
    return url.scheme != "https" and not local


# ── Showing ─────────────────────────────────────────────────────────────────────────────────────────────────


def without_password(text: str) -> str:
    """A URL without its password and the parameters that may be secret.

    One that cannot be parsed is not shown at all.
    """
    url = parse(text)
    if url is None:
        return UNREADABLE if text else ""
    user = f"{_shown_user(url)}@" if url.user is not None else ""
    query = "" if url.query is None else f"?{'&'.join(_shown_parameters(url))}"
    fragment = "" if url.fragment is None else f"#{url.fragment}"
    return f"{url.scheme}://{user}{url.hosts}{url.path}{query}{fragment}"


def _shown_user(url: Url) -> str:
    if url.password is not None:
        return f"{url.user}:{HIDDEN}"
    return HIDDEN if url.scheme in WEB and url.user else url.user or ""


def _shown_parameters(url: Url) -> Iterator[str]:
    for name, value in url.parameters:
        if value is None:
            yield HIDDEN
        else:
            public = name.lower() in _MAY_BE_SHOWN and _PLAIN_VALUE.fullmatch(value)
            yield f"{name}={value if public else HIDDEN}"


def describe_error(error: Exception, text: str) -> str:
    """A driver's error about a URL: its message, or only its type if the message might quote a secret."""
    words = str(error)
    safe = words and not any(_quotes(words, secret) for secret in _secrets(text))
    return f"{type(error).__name__}: {words}" if safe else type(error).__name__


def _secrets(text: str) -> Iterator[str]:
    url = parse(text)
    if url is None:
        yield text
        return
    hidden = [value or name for name, value in url.parameters if name.lower() not in _MAY_BE_SHOWN]
    for secret in filter(None, [url.password, *hidden]):
        yield from (secret, unquote(secret), unquote_plus(secret))


def _quotes(words: str, secret: str) -> bool:
    """Whether the message contains four consecutive characters of the secret."""
    size = min(4, len(secret))
    return any(secret[n : n + size] in words for n in range(len(secret) - size + 1))
