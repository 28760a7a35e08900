"""Composes a mail: headers and MIME; every attempt has the same bytes."""

import binascii
import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime, parseaddr
from functools import lru_cache
from typing import Any
from urllib.parse import quote

from service.errors import ConfigurationError
from service.mail_address import valid_address
from service.messages.kind import MessageKind
from service.messages.mail.dkim import DkimSigner
from service.messages.mail.render import MailLinks, Notice, RenderedMail, Renderer
from service.messages.mail.verp import unsubscribe_address
from service.messages.mail.words import words_for
from service.text import clean, shorten
from service.url import link_problem, needs_https

_FREEMAIL = {
    "gmail.com",
    "googlemail.com",
    "yahoo.com",
    "outlook.com",
    "hotmail.com",
    "icloud.com",
    "aol.com",
}
_NO_REPLY = re.compile(r"(?:no|donot|do-not)[-_.]?reply", re.IGNORECASE)
_MESSAGE_ID = re.compile(r"[A-Za-z0-9._+=-]+@[A-Za-z0-9.-]+")
_TOKEN = re.compile(r"[A-Za-z0-9_-]{22,}")
_LINE = 78
_FOLD = "\r\n "
_ENCODED_LINE = 76
_WRAPPER = len("=?utf-8?q??=")
_Q_SAFE = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!*+-/")
_ATOMS = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~ -]+")


@dataclass(frozen=True, slots=True)
class Email:
    """Everything that one mail depends on; equal emails give equal bytes.

    ``message_id`` comes without angle brackets, ``message_date`` is an aware instant.
    ``job`` is the ledger's name (``reminder.goalDeadlines``); ``token`` is the random part of the links.
    ``reason`` says why the recipient gets this; empty: the sentence of the kind.
    """

    template: str
    facts: Mapping[str, Any]
    recipient_name: str
    address: str
    message_id: str
    message_date: datetime
    token: str
    job: str
    locale: str = "en"
    reason: str = ""


def email_of(column: Callable[[str], Any], **overrides: Any) -> Email:
    """The email of a stored delivery. ``column`` reads a column; ``overrides`` replace some values."""
    names = (
        "template",
        "facts",
        "recipient_name",
        "address",
        "message_id",
        "message_date",
        "token",
        "job",
        "locale",
    )
    return Email(**{name: column(name) for name in names if name not in overrides}, **overrides)


class Composer:
    """Composes mails, signed if there is a ``signer``.

    ``kinds``: those whose mails it can compose. ``mail_from`` and ``reply_to`` are mailboxes such as
    ``Dashboard <hello@example.org>``. ``bounce_address``: where mails that unsubscribe are read, if any is.

    Raises ConfigurationError if these values do not allow valid mails. ``warnings``: what large providers may
    object to, a sentence each.
    """

    def __init__(
        self,
        frontend_url: str,
        public_url: str,
        mail_from: str,
        kinds: Iterable[MessageKind],
        *,
        reply_to: str = "",
        bounce_address: str = "",
        list_domain: str = "",
        sender_id: str = "dashboard",
        signer: DkimSigner | None = None,
    ) -> None:
        name, sender = parseaddr(mail_from)
        reply_name, reply_address = parseaddr(reply_to or mail_from)
        _require_usable(public_url, sender, reply_address)
        self._frontend = frontend_url.rstrip("/")
        self._public = public_url.rstrip("/")
        self._bounce_address = bounce_address
        self._list_domain = _token(list_domain or sender.rpartition("@")[2])
        self._sender_id = _token(sender_id)
        self._constant = "".join(
            (mailbox("From", name, sender), mailbox("Reply-To", reply_name, reply_address))
        )
        self._renderer = Renderer(name or sender.rpartition("@")[2], kinds)
        self.sender = sender
        """The address of From; the envelope sender belongs to the same domain."""
        self._signer = signer
        self.warnings = (*_warnings(sender), *_unaligned(signer, sender))

    def links(self, token: str) -> MailLinks:
        """The addresses that a mail with this token leads to."""
        return MailLinks(
            frontend=self._frontend,
            unsubscribe=f"{self._public}/u/{token}",
            unsubscribe_all=f"{self._public}/u/{token}?all=1",
            preferences=f"{self._public}/preferences/{token}",
        )

    def render(
        self,
        template: str,
        facts: Mapping[str, Any],
        *,
        locale: str,
        name: str,
        links: MailLinks,
        reason: str = "",
    ) -> RenderedMail:
        """Subject, text and HTML. ``KeyError``: no such template; ``UndefinedError``: a fact is missing."""
        return self._renderer.render(template, facts, locale=locale, name=name, links=links, reason=reason)

    def notice(self, template: str, facts: Mapping[str, Any], locale: str) -> Notice:
        """The words of an in-app notification."""
        return self._renderer.notice(template, facts, locale)

    def compose(self, email: Email) -> bytes:
        """The whole message, CRLF only, not dot-stuffed. ``ValueError`` for an unusable one.

        It is 7-bit, except for ``To`` where that address is international (RFC 6532).
        """
        _require_sendable(email)
        links = self.links(email.token)
        rendered = self.render(
            email.template,
            email.facts,
            locale=email.locale,
            name=email.recipient_name,
            links=links,
            reason=email.reason,
        )
        head = self._own_headers(email, rendered.subject, links) + self._shared_headers(email)
        boundary = "=_" + hashlib.sha256(email.message_id.encode()).hexdigest()[:32]
        message = _multipart(head, rendered, boundary)
        return self._signer.sign(message, email.message_date) if self._signer else message

    def _own_headers(self, email: Email, subject: str, links: MailLinks) -> str:
        ways = [f"<{links.unsubscribe}>"]
        if self._bounce_address:
            address = unsubscribe_address(self._bounce_address, email.token)
            ways.append(f"<mailto:{quote(address, safe='@+')}>")
        return (
            mailbox("To", email.recipient_name, email.address)
            + unstructured("Subject", subject)
            + f"Date: {format_datetime(email.message_date.astimezone(UTC))}\r\n"
            + f"Message-ID: <{email.message_id}>\r\n"
            + f"List-Unsubscribe: {f',{_FOLD}'.join(ways)}\r\n"
            + "List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n"
        )

    def _shared_headers(self, email: Email) -> str:
        job_type, _, job = email.job.partition(".")
        kind = self._renderer.kind(email.template)
        label = words_for(email.locale).list_name(kind)
        return (
            self._constant
            + _list_id(label, f"{kind}.{self._list_domain}")
            + f"Feedback-ID: {_token(job)}:{kind}:{_token(job_type)}:{self._sender_id}\r\n"
            + "Auto-Submitted: auto-generated\r\nX-Auto-Response-Suppress: All\r\nMIME-Version: 1.0\r\n"
        )


def unstructured(name: str, text: str) -> str:
    """A header line of free text, folded, encoded only where needed (RFC 2047, RFC 5322)."""
    if text.isascii() and "=?" not in text:
        folded = _fold(f"{name}: {text}")
        if folded is not None:
            return folded
    return f"{name}: {_encoded_words(text, _ENCODED_LINE - len(name) - 2)}\r\n"


@lru_cache(maxsize=512)
def mailbox(name: str, display: str, address: str) -> str:
    """A header line with one mailbox. The display name is cleaned and cannot end the header."""
    phrase = _phrase(shorten(clean(display), 60), _ENCODED_LINE - len(name) - 2)
    if not phrase:
        return f"{name}: {address}\r\n"
    last = phrase.rpartition("\r\n")[2]
    column = len(last) if "\r\n" in phrase else len(name) + 2 + len(last)
    fold = "\r\n " if column + len(address) + 3 > _ENCODED_LINE else " "
    return f"{name}: {phrase}{fold}<{address}>\r\n"


def _phrase(text: str, room: int) -> str:
    if not text.isascii() or "=?" in text:
        return _encoded_words(text, room)
    if not text or _ATOMS.fullmatch(text):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _list_id(label: str, identity: str) -> str:
    return mailbox("List-Id", label, identity)


def _fold(line: str) -> str | None:
    """The line broken at spaces, none over 78 characters; None where a word is too long for that."""
    lines = []
    while len(line) > _LINE:
        space = line.rfind(" ", line.index(" ") + 1, _LINE + 1)
        if space < 1:
            return None
        lines.append(line[:space])
        line = line[space:]
    return "\r\n".join([*lines, line]) + "\r\n"


def _encoded_words(text: str, room: int) -> str:
    """Encoded words of whole characters, at most 75 long, one a line; ``room``: of the first line."""
    plain = sum(c.isascii() for c in text) * 2 > len(text)
    words, start, room = [], 0, min(room, _ENCODED_LINE - 1) - _WRAPPER
    while start < len(text):
        end = start + 1
        while end < len(text) and _cost(text[start : end + 1], plain=plain) <= room:
            end += 1
        words.append(_encoded_word(text[start:end], plain=plain))
        start, room = end, _ENCODED_LINE - 1 - _WRAPPER
    return "\r\n ".join(words)


def _cost(text: str, *, plain: bool) -> int:
    data = text.encode()
    return len(_quoted(data)) if plain else (len(data) + 2) // 3 * 4


def _encoded_word(text: str, *, plain: bool) -> str:
    data = text.encode()
    if plain:
        return f"=?utf-8?q?{_quoted(data)}?="
    return f"=?utf-8?b?{binascii.b2a_base64(data, newline=False).decode()}?="


def _quoted(data: bytes) -> str:
    return "".join(chr(b) if b in _Q_SAFE else "_" if b == 0x20 else f"={b:02X}" for b in data)


def _multipart(head: str, rendered: RenderedMail, boundary: str) -> bytes:
    """Text first, HTML second. Neither encoding can produce the boundary: ``=_`` occurs in none."""
    top = (
        f'{head}Content-Type: multipart/alternative; boundary="{boundary}"\r\n\r\n'
        f"--{boundary}\r\n"
        "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
    )
    middle = (
        f"\r\n--{boundary}\r\n"
        "Content-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    )
    parts = (
        top.encode(),  # ASCII, unless the address is international
        _quoted_printable(rendered.text),
        middle.encode("ascii"),
        _base64(rendered.html),
        f"\r\n--{boundary}--\r\n".encode("ascii"),
    )
    return b"".join(parts)


def _quoted_printable(text: str) -> bytes:
    # b2a_qp takes the kind of its soft line breaks from the first line end it meets: there must be one.
    data = text.strip("\n").replace("\n", "\r\n") + "\r\n"
    return binascii.b2a_qp(data.encode(), istext=True)


def _base64(text: str) -> bytes:
    data = binascii.b2a_base64(text.replace("\n", "\r\n").encode(), newline=False)
    return b"\r\n".join(data[i : i + 76] for i in range(0, len(data), 76))


def _token(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "-", text)[:60] or "-"


def _require_sendable(email: Email) -> None:
    if not valid_address(email.address):
        raise ValueError("the address of the recipient is malformed")
    if not _MESSAGE_ID.fullmatch(email.message_id):
        raise ValueError("the Message-ID is malformed")
    if not _TOKEN.fullmatch(email.token):
        raise ValueError("the token of the links is too short or not URL-safe")
    if email.message_date.tzinfo is None:
        raise ValueError("the date of the message has no time zone")


def _require_usable(public_url: str, sender: str, reply_address: str) -> None:
    problems = []
    if not (sender.isascii() and valid_address(sender)):
        problems.append(f"MAIL_FROM: {sender!r} is not an address that mail can come from")
    if not (reply_address.isascii() and valid_address(reply_address)):
        problems.append(f"MAIL_REPLY_TO: {reply_address!r} is not an address that can be answered to")
    if problem := _link_problem(public_url):
        problems.append(f"PUBLIC_URL: {problem}")
    if problems:
        raise ConfigurationError(problems)


def _link_problem(public_url: str) -> str | None:
    try:
        unprotected = needs_https(public_url)
        problem = link_problem(public_url)
    except ValueError as error:
        return str(error)
    return problem or ("one-click unsubscribe needs https, except on this machine" if unprotected else None)


def _unaligned(signer: DkimSigner | None, sender: str) -> tuple[str, ...]:
    problem = signer.alignment_problem(sender.rpartition("@")[2]) if signer else None
    return (f"DKIM_DOMAIN: {problem}",) if problem else ()


def _warnings(sender: str) -> tuple[str, ...]:
    local, _, domain = sender.rpartition("@")
    warnings = []
    if domain.lower() in _FREEMAIL:
        warnings.append(f"MAIL_FROM: mails from {domain} sent by others are refused by most providers")
    if _NO_REPLY.search(local):
        warnings.append("MAIL_FROM: people answer to reminders; an address that nobody reads costs trust")
    return tuple(warnings)
