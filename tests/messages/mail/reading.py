"""How a reader, and a mail program, sees the bytes."""

import email
import email.policy
import re
from email.message import EmailMessage
from html.parser import HTMLParser

_VOID = {"meta", "br", "hr", "img", "link", "input"}
_HEADERS = [
    "To",
    "Subject",
    "Date",
    "Message-ID",
    "List-Unsubscribe",
    "List-Unsubscribe-Post",
    "From",
    "Reply-To",
    "List-Id",
    "Feedback-ID",
    "Auto-Submitted",
    "X-Auto-Response-Suppress",
    "MIME-Version",
    "Content-Type",
]


def parsed(raw: bytes) -> EmailMessage:
    """The message as Python's parser understands it."""
    return email.message_from_bytes(raw, policy=email.policy.default)


def part(raw: bytes, kind: str) -> str:
    """The decoded content of the ``plain`` or ``html`` part."""
    found = [p for p in parsed(raw).walk() if p.get_content_type() == f"text/{kind}"]
    assert len(found) == 1
    return str(found[0].get_content()).replace("\r\n", "\n")


class Page(HTMLParser):
    """What can be seen of an HTML mail; fails on tags that are not closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[tuple[str, bool]] = []
        self.seen: list[str] = []
        self.links: list[str] = []
        self.tags: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.append(tag)
        if tag == "a":
            self.links.append(str(given["href"]))
        hidden = given.get("aria-hidden") == "true" or "display: none" in str(given.get("style"))
        if tag not in _VOID:
            inherited = bool(self.open) and self.open[-1][1]
            self.open.append((tag, hidden or inherited or tag in {"head", "style"}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        if self.open and not self.open[-1][1]:
            self.seen.append(data)

    @property
    def words(self) -> list[str]:
        """Every visible word, in order."""
        return said(" ".join(self.seen))


def said(text: str) -> list[str]:
    """The words of a text without addresses, rules and separators."""
    without = re.sub(r"https?://\S+", "", text)
    words = (word.removesuffix(":") for word in without.split())
    return [word for word in words if word.strip("-·")]


def addresses(text: str) -> list[str]:
    """The links of a plain text, in order."""
    return re.findall(r"https?://\S+", text)


def check_wire(raw: bytes) -> None:
    """Every rule about bytes that holds for all mails (RFC 5322, 2045–2047, 8058)."""
    assert not re.search(rb"(?<!\r)\n|\r(?!\n)", raw)
    assert max(raw) < 128
    assert b"\0" not in raw
    assert len(raw) < 100_000
    head, _, body = raw.partition(b"\r\n\r\n")
    assert all(len(line) <= 998 for line in raw.split(b"\r\n"))
    assert all(len(line) <= 78 for line in body.split(b"\r\n"))
    assert all(len(line) <= 76 for line in head.split(b"\r\n") if b"=?" in line)
    assert all(len(word) <= 75 for word in re.findall(rb"=\?utf-8\?[^ \r]*\?=", head))
    assert all(line.strip() for line in head.split(b"\r\n"))
    message = parsed(raw)
    assert message.keys() == _HEADERS
    assert all(not value.defects for value in message.values())
    assert all(not piece.defects for piece in message.walk())
    assert [p.get_content_type() for p in message.walk()] == [
        "multipart/alternative",
        "text/plain",
        "text/html",
    ]
    assert 3 <= len(message["Subject"]) <= 78
    assert len(message["To"].addresses) == len(message["From"].addresses) == 1
