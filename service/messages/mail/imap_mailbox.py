"""A mailbox on an IMAP server, as a URL names it. Pure."""

import re
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import unquote

from service import url as urls

_PORTS = {"imaps": 993, "imap": 143}
_THIS_MACHINE = frozenset({"localhost", "127.0.0.1", "::1"})
_FOLDER = re.compile(r'[^\x00-\x1f"\\\x7f-\U0010ffff]{1,200}')
_EXAMPLE = "use imaps://user:password@imap.example.org/INBOX"


@dataclass(frozen=True, slots=True)
class ImapMailbox:
    """``folder``: where mail arrives. ``tls``: from the start of the connection."""

    host: str
    port: int
    tls: bool
    user: str
    password: str = field(repr=False)
    folder: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ValueError with a message that quotes nothing of the URL."""
        url = urls.parse(text)
        if url is None or url.scheme not in _PORTS or url.query is not None or url.fragment is not None:
            raise ValueError(f"is no IMAP address; {_EXAMPLE}, and {urls.ENCODE}")
        if not url.host or "," in url.hosts or not url.user or not url.password:
            raise ValueError(f"needs a host, a user and a password; {_EXAMPLE}, and {urls.ENCODE}")
        if url.scheme == "imap" and url.host not in _THIS_MACHINE:
            raise ValueError("must be imaps: without TLS the password may only go to this machine")
        folder = unquote(url.path.strip("/")) or "INBOX"
        cls.check_folder(folder)
        port = re.search(r":(\d+)$", url.hosts)
        return cls(
            url.host,
            int(port[1]) if port else _PORTS[url.scheme],
            url.scheme == "imaps",
            unquote(url.user),
            unquote(url.password),
            folder,
        )

    @staticmethod
    def check_folder(folder: str) -> None:
        """Raises ValueError for a name that cannot be sent as it stands."""
        if not _FOLDER.fullmatch(folder):
            raise ValueError("the folder must have a plain name, in ASCII and without quotes, like INBOX")
