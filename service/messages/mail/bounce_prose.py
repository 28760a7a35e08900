"""Bounces in prose: the notice for people, the addresses in it, and what is said about each."""

import html
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from email.message import Message

import flufl.bounce

from service.messages.mail.bounce_report import (
    ADDRESS,
    MAX_ADDRESSES,
    RecipientReport,
    addresses_in,
    delayed,
    failed,
    first_address,
)
from service.messages.mail.bounce_sender import (
    has_bounce_subject,
    has_machine_name,
    is_auto_reply,
    is_from_machine,
)
from service.messages.mail.mime import MimePart, first_field
from service.messages.mail.report_verdict import is_permanent, phase_in, quoted_status
from service.text import clean

MAX_TEXT = 20_000
_MAX_LINES = 400
_BEGINNING = 400
"""Characters at the beginning of a notice in which it says what it is."""
_MAX_PARAGRAPH = 13
"""Lines that belong to an address."""
_MAX_DIAGNOSTIC = 4000
_MAX_LIBRARY_TEXT = 4000
"""Characters that the library for old formats reads: it tries each of its formats on each line."""


@dataclass(frozen=True, slots=True)
class BounceNotice:
    """The words for people, without the returned mail; ``copy``: that, if it follows in the same text."""

    text: str
    copy: str


# ── The notice ──────────────────────────────────────────────────────────────────────────────────────────────

_COPY_FOLLOWS = re.compile(
    r"^[ \t>]{0,40}(?:-{2,99}|={2,99}|\*{2,99}|_{3,99}|~{3,99})?[ \t]{0,9}(?:"
    r"(?:below this line|this is a copy|the (?:body|headers?) of|(?:your )?original message"
    r"|message heads?\b|returned (?:message|mail)"
    r"|unsent message|the message that was|(?:transcript of |the )?(?:original )?message (?:text "
    r"|header )?follows"
    r"|message contents?\b|start of returned|forwarded message|included is a copy|received[- ]header"
    r"|original mail"
    r"|non-?delivered information is|full (?:headers|message)|enclosed is a copy|copy of (?:the "
    r"|your )?(?:original|message)"
    r"|below is a copy|message headers? follow|undelivered message)"
    r"|(?:Return-Path: <|Received: (?:from|by|\(qmail)))",
    re.IGNORECASE | re.MULTILINE,
)
_QUOTED_LINE = re.compile(r"^[ \t]*>(?! ?>>|>> ?[A-Za-z]{4}|>>[ \t]).*$", re.MULTILINE)
_TAGS = re.compile(r"<(?:/?[a-z][a-z0-9]{0,14}|!--)(?:\s[^<>]{0,2000})?/?>", re.IGNORECASE)
_BREAKS = re.compile(r"<(?:br|/p|/div|/tr|/li|/h\d|/td)\b[^<>]{0,200}>", re.IGNORECASE)
_HEAD = re.compile(r"<(style|script|head)\b", re.IGNORECASE)


def notice_of(parts: Sequence[MimePart]) -> BounceNotice:
    """The words for people in a mail: its plain texts, or else its HTML as a text."""
    texts = [part.body[:MAX_TEXT] for part in parts if part.type == "text/plain"]
    if not any(map(str.strip, texts)):
        texts = [_text_of_html(part.body[:MAX_TEXT]) for part in parts if part.type == "text/html"]
    text = "\n".join(texts[:5])[:MAX_TEXT]
    copy = _COPY_FOLLOWS.search(text, min(len(text), 20))
    if copy is None:
        return BounceNotice(text, "")
    return BounceNotice(text[: copy.start()], text[copy.start() :])


def _without_head(body: str) -> str:
    lower, kept, end = body.lower(), [], 0
    for match in _HEAD.finditer(body):
        if match.start() < end:
            continue
        closing = lower.find(f"</{match.group(1).lower()}", match.end())
        if closing < 0:
            break
        kept.append(body[end : match.start()])
        end = closing
    return " ".join([*kept, body[end:]])


def _text_of_html(body: str) -> str:
    text = _BREAKS.sub("\n", _without_head(body))
    return html.unescape(_TAGS.sub(" ", text))


# ── Whether it is a bounce ──────────────────────────────────────────────────────────────────────────────────

_FAILURE = re.compile(
    r"(?:could|can|was|were|is|are|has|have|did|been)(?: ?not|n't)\s+(?:yet\s+)?(?:be\s+"
    r"|been\s+)?(?:deliver|sent|send|reach|receive)"
    r"|undeliver|unable\s+to\s+(?:deliver|send)|(?:wasn't|not)\s+able\s+to\s+(?:be\s+)?deliver|cannot\s+be\s+(?:sent|delivered|reached)"
    r"|(?:deliver|transmission|sending)\w*\b[^.\n]{0,60}\b(?:fail|abort|unsuccessful|problem|error"
    r"|not possible|impossible|delay)"
    r"|fail(?:ed|ure)\b[^.\n]{0,40}\b(?:deliver|send|recipient|address|reason|mail|message)|(?:not"
    r"|non)[- ]deliver"
    r"|(?:has|have)\s+been\s+(?:delayed|postponed)|did\s+not\s+reach|not\s+reach|returned\s+(?:mail|to)|(?:mail|message)\s[^\n]{0,80}(?:returned"
    r"|rejected|bounced)|permanent (?:fatal )?error"
    r"|(?:trouble|problems?|error)\s[^.\n]{0,40}(?:deliver|send)|transcript of session|could not be found"
    r"|not\s+be\s+found"
    r"|the following (?:address|recipient|user)|unknown user:|mailbox (?:is )?full|may not exist"
    r"|server message follows|exceeds allowed size"
    r"|you are not (?:a )?member|nicht\s+zugestellt|unzustellbar|n'a\s+(?:pas\s+)?pu\s+[eê]tre|non\s+remis"
    r"|no\s+(?:se\s+)?(?:ha|pudo|puede)\b[^.\n]{0,30}entreg|non\s+[^.\n]{0,40}(?:consegna|recapit)|n[aã]o\s[^.\n]{0,40}entreg"
    r"|配信|届け|送信でき|не\s+(?:может|удалось|было)|доставлен|退信|无法",
    re.IGNORECASE,
)
_INTRODUCES_QUOTE = re.compile(
    r"^[^\n]{0,200}\b(?:you wrote|wrote|schrieb\w*|a écrit|escribió|ha scritto)\b[^\n]{0,80}:\s*$",
    re.IGNORECASE | re.MULTILINE,
)
_STILL_TRYING = re.compile(
    r"WARNING MESSAGE ONLY|NOT NEED TO RESEND|no action is required|has not yet been|has been (?:delayed"
    r"|postponed)|transient non-fatal"
    r"|(?<!no further delivery )(?<!no further )\b(?:attempts|it"
    r"|delivery)\b[^.\n]{0,30} (?:will (?:continue|be retried|keep|be made))|(?:will"
    r"|shall) (?:keep|continue) (?:on )?(?:re)?try"
    r"|will be tried again|still being retried|not yet been delivered|continue to (?:try|attempt)",
    re.IGNORECASE,
)
_GAVE_UP = re.compile(
    r"giv(?:en|ing) up|permanent (?:fatal )?error|has failed|message (?:has )?expired", re.IGNORECASE
)


def is_still_trying(text: str) -> bool:
    """Whether a notice says that the other server keeps trying."""
    return bool(_STILL_TRYING.search(text[:MAX_TEXT])) and not _GAVE_UP.search(text[:MAX_TEXT])


def prose_reports(mail: MimePart, notice: BounceNotice) -> list[RecipientReport]:
    """What a bounce in prose says; nothing where no mail system wrote it, or it tells of no failure."""
    text = _QUOTED_LINE.sub("", notice.text)
    if is_auto_reply(mail) or _INTRODUCES_QUOTE.search(text) or not _is_bounce(mail, text):
        return []
    named = _recipients(mail, text)
    if not named:
        address = _other_address(mail, text)
        if not address and not has_bounce_subject(mail.fields) and not is_permanent(text):
            return []
        named = {address: ""}
    if is_still_trying(text):
        return [delayed(quoted_status(said), clean(said), address) for address, said in named.items()]
    return [_failed(text, address, said, alone=len(named) == 1) for address, said in named.items()]


def _is_bounce(mail: MimePart, text: str) -> bool:
    """A mail system wrote it, or its subject and beginning are a bounce's; and it tells of a failure."""
    failure = _FAILURE.search(text[: MAX_TEXT // 2])
    if has_machine_name(mail.fields) and has_bounce_subject(mail.fields):
        return bool(failure) or any(True for _ in _paragraphs(text))
    if failure is None:
        return False
    return is_from_machine(mail.fields) or (has_bounce_subject(mail.fields) and failure.start() < _BEGINNING)


def _recipients(mail: MimePart, text: str) -> dict[str | None, str]:
    """The recipients that begin a line, and what is said of each; only those with a 5xx, if any."""
    ours = {address.casefold() for address in addresses_in(mail.fields.get("to", [])[:1])}
    said_of: dict[str | None, str] = {}
    for address, said in _paragraphs(text):
        if address.casefold() not in ours:
            said_of[address] = f"{said_of.get(address, '')}\n{said}".strip()
    refused = {address: said for address, said in said_of.items() if is_permanent(said)}
    return refused or said_of


def _failed(text: str, address: str | None, said: str, *, alone: bool) -> RecipientReport:
    about_it = [said] if not alone else [said, *notice_about(text, [address] if address else [], alone=True)]
    first = next((part for part in about_it if part.strip()), "")
    status = quoted_status(first)
    return failed(status, clean(first[:_MAX_DIAGNOSTIC]), address, first, *about_it[1:])


# ── What is said about whom ─────────────────────────────────────────────────────────────────────────────────

_MARKS_BEFORE = " \t<'\"*-=•·:|["
_LABEL = re.compile(
    r"^[ \t]*(?:invalid final delivery userid|error-for|(?:failed |intended |undeliverable |final "
    r"|original )?(?:recipient|address|user|to|rcpt"
    r"|mailbox|for)(?: address)?s?"
    r"(?:\(s\))?|unknown user|undeliverable to|user mailbox|delivery failed \d+ attempts)\s?:\s*",
    re.IGNORECASE,
)
_NOT_AN_ERROR = re.compile(
    r"^[ \t]*(?:from|subject|date|sent|message-id|cc|sender|reply-to|contact|x-[\w-]+)\s?:", re.IGNORECASE
)


def _paragraphs(text: str) -> Iterator[tuple[str, str]]:
    """Each address that begins a line, and what is said of it up to an empty line or another address."""
    lines = text.split("\n")[:_MAX_LINES]
    starts = [(number, match) for number, line in enumerate(lines) if (match := _address_at_start(line))]
    for index, (number, match) in enumerate(starts[:MAX_ADDRESSES]):
        end = starts[index + 1][0] if index + 1 < len(starts) else len(lines)
        rest = _until_empty(lines[number + 1 : min(end, number + _MAX_PARAGRAPH)])
        after = lines[number].partition(match.group())[2].lstrip(">'\":,]) \t")
        yield match.group().rstrip("."), "\n".join([after, *rest]).strip()


def _address_at_start(line: str) -> re.Match[str] | None:
    if _NOT_AN_ERROR.match(line):
        return None
    return ADDRESS.match(_LABEL.sub("", line[:500]).lstrip(_MARKS_BEFORE))


def _until_empty(lines: list[str]) -> Iterator[str]:
    """Up to the next empty line; one right below the address does not count."""
    begun = False
    for line in lines:
        if not line.strip():
            if begun:
                return
            continue
        begun = True
        yield line


def notice_about(notice: str, addresses: Sequence[str], *, alone: bool) -> list[str]:
    """The places of a notice that tell what is about these addresses, most telling first.

    ``alone``: the report has one recipient, so the rest of the notice is about it too.
    """
    text = _QUOTED_LINE.sub("", notice)
    wanted = {address.casefold() for address in addresses}
    places = [said for address, said in _paragraphs(text) if address.casefold() in wanted and said]
    if alone:
        places += _lines_with_reply(text)
        places.append(_without_boilerplate(text))
    return places


_REPLY_LINE = re.compile(r"^.{0,300}?(?<![\w.:/@+=-])#?[45][0-5]\d[ \t:,-].*$", re.MULTILINE)


def _lines_with_reply(text: str) -> list[str]:
    """The passage of a notice that quotes a server, with the lines before that tell the command."""
    match = _REPLY_LINE.search(text)
    if match is None or not is_permanent(match.group()):
        return []
    end = re.compile(r"\n[ \t]*\n|\Z").search(text, match.end())
    passage = text[match.start() : end.start() if end else len(text)]
    phase_lines = text[: match.start()][-300:]
    return [f"{phase_lines}\n{passage}" if phase_in(phase_lines + passage) else passage]


_BOILERPLATE = re.compile(
    r"returne?d?(?:ing)?(?:\s\w+){0,3}\s+to\s+(?:the\s+)?sender|this is a permanent error[^.\n]*"
    r"|please (?!try (?:again )?later)[^.]{0,300}|if (?:you|the problem|this)\b[^.]{0,300}|for (?:further"
    r"|more|additional)\b[^.]{0,200}"
    r"|contact (?:your|the|us|postmaster|support|an?|him|them)\b[^.]{0,200}|(?:sent|created"
    r"|generated) (?:automatically )?by[^.\n]{0,100}|(?:to|by"
    r"|from) (?:the )?(?:original )?senders?\b"
    r"|(?:rejected|refused) by the recipient(?:'s)? (?:domain|server|system)|(?:the )?message (?:body"
    r"|header|contents?|size|id)[^.\n]{0,100}"
    r"|^[ \t]*(?:subject|date|from|to|cc|message-id|sent|received|content-type|x-[\w-]+"
    r"|arrival-date)\s?:[^\n]*",
    re.IGNORECASE | re.MULTILINE,
)


def _without_boilerplate(text: str) -> str:
    return _BOILERPLATE.sub(" ", text)[:_MAX_DIAGNOSTIC]


# ── Addresses that do not begin a line ──────────────────────────────────────────────────────────────────────

_RCPT = re.compile(r"RCPT TO:\s?<?([^\s<>]{3,320})>?", re.IGNORECASE)


_SYSTEM = re.compile(r"mailer-daemon|postmaster|abuse@", re.IGNORECASE)


def _other_address(mail: MimePart, text: str) -> str | None:
    """Of the header, the command, by the library, or the first that is neither ours nor a system's."""
    header = first_address(first_field(mail.fields, "x-failed-recipients"))
    command = _RCPT.search(text)
    address = (
        header or (first_address(command.group(1)) if command else None) or _known_to_library(mail, text)
    )
    if address:
        return address
    ours = {address.casefold() for address in addresses_in(mail.fields.get("to", [])[:1])}
    others = (a for a in addresses_in([text]) if a.casefold() not in ours and not _SYSTEM.match(a))
    return next(others, None)


def _known_to_library(mail: MimePart, text: str) -> str | None:
    """The address that flufl.bounce finds. It gets a small mail without parts, whatever came."""
    small = Message()
    for name in ("from", "subject", "x-failed-recipients"):
        value = first_field(mail.fields, name)[:500]
        if value.isascii() and value.isprintable():
            small[name] = value
    small.set_payload(text[:_MAX_LIBRARY_TEXT].encode("ascii", "replace").decode())
    try:
        addresses = flufl.bounce.all_failures(small)
    except Exception:  # noqa: BLE001 — its formats are many; a mail that it cannot read is none of them
        return None
    names = sorted(address.decode("ascii", "replace") for group in reversed(addresses) for address in group)
    return next(filter(None, map(first_address, names)), None)
