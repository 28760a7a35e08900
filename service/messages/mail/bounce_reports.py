"""Parses mail to the envelope sender: bounces (RFC 3464, 6533), complaints (RFC 5965), old plain texts.

What cannot be parsed is not a bounce.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from email.errors import HeaderParseError
from email.header import decode_header
from enum import StrEnum
from itertools import takewhile

from service.messages.mail.mime import (
    Fields,
    MimePart,
    decode_text,
    first_field,
    leaves,
    parameter,
    parse_fields,
    parse_part,
)
from service.messages.mail.smtp_reply import About, judge
from service.messages.mail.transport import SmtpPhase
from service.text import clean, shorten

_MAX_BYTES = 512 * 1024
_MAX_TEXT = 20_000
_MAX_BLOCKS = 200
_MAX_ADDRESSES = 50
_MAX_DIAGNOSTIC_INPUT = 4000
_MAX_DIAGNOSTIC = 300

_STATUS_PARTS = frozenset({"message/delivery-status", "message/global-delivery-status"})
_ORIGINAL_PARTS = frozenset(
    {
        "message/rfc822",
        "message/global",
        "message/global-headers",
        "message/rfc822-headers",
        "text/rfc822-headers",
    }
)
_NO_SUCH_ADDRESS = frozenset({"5.1.1", "5.1.2", "5.1.10"})
_COMPLAINTS = frozenset({"abuse", "fraud", "virus"})
_ENVELOPE = ("to", "delivered-to", "x-original-to", "envelope-to")
_VACATION = ("x-autoreply", "x-autorespond", "x-autoresponder", "x-vacation")

_OUTSIDE = r"\s<>()\[\],;:\"@\\\x00-\x1f\x7f-\x9f\ufffd"
_ADDRESS = re.compile(rf"(?<![^{_OUTSIDE}'])(?!')[^{_OUTSIDE}]{{1,64}}@[^{_OUTSIDE}']{{1,255}}")
_ESCAPED = re.compile(r"\\x\{([0-9A-Fa-f]{1,6})\}")
_TYPE_PREFIX = re.compile(r"\s*[\w.-]{1,40}\s*;")

_STATUS = re.compile(r"(?<![\d.])[245]\.\d{1,3}\.\d{1,3}(?!\.?\d)")
_DIAGNOSTIC_STATUS = re.compile(
    r"(?:^|[;(<#:]|(?<![\d.])[45]\d\d[ -])\s{0,5}#?([45]\.[0-7]\.\d{1,3})(?!\.?\d)", re.MULTILINE
)
_PERMANENT_CODE = re.compile(r"(?<![\d.-])5[0-5]\d[ -]")
_SERVER_ANSWER = re.compile(r"(?<![\d.-])(5[0-5]\d)[ -](.*)")
_DEFAULT_CODE = 550
_MACHINE_SENDER = re.compile(r"mailer[-_]daemon|postmaster", re.IGNORECASE)
_AWAY_SUBJECT = re.compile(
    r"out[- ]of[- ](?:the[- ])?office|auto(?:matic|mated)?[- ]?(?:reply|response)|vacation|abwesen|absence"
    r"|automatique|on leave|away from",
    re.IGNORECASE,
)
_BOUNCE_OPENING = re.compile(
    r"\s*(?:Hi\. This is the qmail-send program at"
    r"|This message was created automatically by mail delivery software"
    r"|Your message\s[^>]{0,500}?did not reach some or all of the\s{1,5}intended recipients"
    r"|(?:The original message was received at\s[^>]{0,500}?)?-{3,} The following addresses had"
    r" (?:permanent fatal|transient non-fatal|delivery) (?:errors|problems)"
    r"|This is the (?:mail system|Postfix program) at host)"
)
_ANSWER = re.compile(r"^<<< ?(.{1,500})$", re.MULTILINE)
_STILL_TRYING = re.compile(
    r"WARNING MESSAGE ONLY|YOU DO NOT NEED TO RESEND|has not (?:yet )?been delivered|transient non-fatal"
    r"|(?:attempts|it) will (?:continue|be retried|keep)|will keep trying",
    re.IGNORECASE,
)
_GAVE_UP = re.compile(
    r"permanent (?:fatal )?error|could not be\s{1,5}(?:delivered|reached)|able to\s{1,5}deliver"
    r"|did not reach|given up|undeliverable",
    re.IGNORECASE,
)
_COPY_FOLLOWS = re.compile(
    r"^[ \t]*-{2,}[ \t]*(?:below this line|this is a copy|the (?:body|header)|original message|message head"
    r"|returned|unsent)",
    re.IGNORECASE | re.MULTILINE,
)


class ReportKind(StrEnum):
    """What a report says about the recipient."""

    HARD = "hard"
    """The address does not take mail and will not."""
    SOFT = "soft"
    """Not delivered, but not because the address is wrong: mailbox full, refused, unreachable."""
    COMPLAINT = "complaint"
    """The recipient reported it as spam."""
    DELIVERED = "delivered"
    DELAYED = "delayed"
    """Not delivered yet; the other server keeps trying."""


@dataclass(frozen=True, slots=True)
class BounceReport:
    """A report. The mail proves nothing: trust it only if an address in ``envelope_to`` is signed."""

    kind: ReportKind
    status: str | None
    diagnostic: str
    recipient: str | None
    envelope_to: tuple[str, ...]
    no_such_address: bool


@dataclass(frozen=True, slots=True)
class _Verdict:
    kind: ReportKind
    status: str | None
    diagnostic: str
    recipient: str | None

    @property
    def no_such_address(self) -> bool:
        return self.kind is ReportKind.HARD and self.status in _NO_SUCH_ADDRESS


_SEVERITIES = (ReportKind.DELIVERED, ReportKind.DELAYED, ReportKind.SOFT, ReportKind.HARD)


def parse(raw: bytes) -> BounceReport | None:
    """The report in a mail to the envelope sender; None: it is not a report. Never raises."""
    mail = parse_part(decode_text(raw[:_MAX_BYTES]).lstrip("\n"))
    if _is_vacation(mail.fields):
        return None
    parts = list(leaves(mail))
    verdict = _verdict(mail, parts)
    if verdict is None:
        return None
    return BounceReport(
        kind=verdict.kind,
        status=verdict.status,
        diagnostic=shorten(verdict.diagnostic, _MAX_DIAGNOSTIC),
        recipient=verdict.recipient,
        envelope_to=_envelope_to(mail.fields),
        no_such_address=verdict.no_such_address,
    )


def _verdict(mail: MimePart, parts: Sequence[MimePart]) -> _Verdict | None:
    report = parameter(mail.parameters, "report-type").lower()
    if report == "disposition-notification":
        return None
    if report == "feedback-report" or any(part.type == "message/feedback-report" for part in parts):
        return _complaint_verdict(mail, parts)
    return _delivery_report_verdict(mail, parts) or _plain_text_verdict(mail, parts)


# --- complaints


def _complaint_verdict(mail: MimePart, parts: Sequence[MimePart]) -> _Verdict | None:
    if mail.type != "multipart/report":
        return None
    for part in parts:
        if part.type == "message/feedback-report":
            fields = parse_fields(part.body)
            kind = first_field(fields, "feedback-type").strip().lower()
            if kind not in _COMPLAINTS:
                return None
            diagnostic = clean(f"{kind} {first_field(fields, 'user-agent')[:_MAX_DIAGNOSTIC_INPUT]}")
            recipient = _address(first_field(fields, "original-rcpt-to")) or _address(
                first_field(_original(parts), "x-hmxmroriginalrecipient")
            )
            return _Verdict(ReportKind.COMPLAINT, None, diagnostic, recipient)
    return None


# --- delivery status notifications


def _delivery_report_verdict(mail: MimePart, parts: Sequence[MimePart]) -> _Verdict | None:
    """The worst of what a DSN says. Outside of multipart/report it must at least come from a mail system."""
    if mail.type != "multipart/report" and not _is_from_machine(mail.fields):
        return None
    verdicts = [
        verdict for part in parts if part.type in _STATUS_PARTS for verdict in _recipient_verdicts(part.body)
    ]
    if not verdicts and mail.type == "multipart/report":  # a gateway may have made the part a text
        verdicts = [
            verdict
            for part in parts
            if part.type == "text/plain" and "final-recipient:" in part.body[:_MAX_TEXT].lower()
            for verdict in _recipient_verdicts(part.body[:_MAX_TEXT])
        ]
    return max(verdicts, key=lambda v: (_SEVERITIES.index(v.kind), v.no_such_address), default=None)


def _recipient_verdicts(body: str) -> Iterator[_Verdict]:
    for block in re.split(r"\n(?:[ \t]*\n)+", body.strip("\n"), maxsplit=_MAX_BLOCKS):
        fields = parse_fields(block)
        if not fields.keys() & {"action", "status"}:
            continue
        if not fields.keys() & {"action", "final-recipient", "original-recipient"}:
            continue
        diagnostic = _cleaned_diagnostic(first_field(fields, "diagnostic-code"))
        status = _status(first_field(fields, "status"), diagnostic)
        action = first_field(fields, "action").strip().lower()
        recipient = _recipient(first_field(fields, "original-recipient")) or _recipient(
            first_field(fields, "final-recipient")
        )
        yield _Verdict(_kind(action, status, diagnostic), status, diagnostic, recipient)


def _kind(action: str, status: str | None, diagnostic: str) -> ReportKind:
    if action in {"delivered", "relayed", "expanded"}:
        return ReportKind.DELIVERED
    if action == "delayed":
        return ReportKind.DELAYED
    if status is not None and status.startswith("2."):
        return ReportKind.SOFT if action == "failed" else ReportKind.DELIVERED
    return _failure(status, diagnostic)


def _failure(status: str | None, diagnostic: str) -> ReportKind:
    """HARD only if the other server says that the address is wrong, permanently."""
    permanent = status.startswith("5.") if status else bool(_PERMANENT_CODE.search(diagnostic))
    if not permanent:
        return ReportKind.SOFT
    answer = _SERVER_ANSWER.search(diagnostic)
    code, words = (int(answer.group(1)), answer.group(2)) if answer else (_DEFAULT_CODE, diagnostic)
    about = judge(SmtpPhase.RCPT, code, f"{status or ''}\n{words}").about
    return ReportKind.HARD if about is About.ADDRESS else ReportKind.SOFT


def _status(field: str, diagnostic: str) -> str | None:
    """The declared status; if that is unspecific (Exim: always 5.0.0), the one in the server's reply."""
    match = _STATUS.search(field)
    declared = match.group() if match else None
    if declared is not None and not declared.endswith(".0.0"):
        return declared
    implied = _DIAGNOSTIC_STATUS.search(diagnostic)
    if implied is None or (declared is not None and declared < "5" and implied.group(1) > "5"):
        return declared
    return implied.group(1)


def _cleaned_diagnostic(text: str) -> str:
    """``smtp; 550 5.1.1 …`` without its type, on one printable line."""
    text = text[:_MAX_DIAGNOSTIC_INPUT]
    prefix = _TYPE_PREFIX.match(text)
    return clean(text[prefix.end() :] if prefix else text)


def _recipient(field: str) -> str | None:
    """The address in ``rfc822; a@b`` or ``utf-8; a@b``, where \\x{e9} may stand for é (RFC 6533)."""
    kind, semicolon, address = field.partition(";")
    if not semicolon:
        return _address(field)
    if kind.strip().lower() == "utf-8":
        return _address(_ESCAPED.sub(lambda m: _character(int(m.group(1), 16)), address))
    return _address(address) if kind.strip().lower() == "rfc822" else None


def _character(number: int) -> str:
    return "\ufffd" if number > 0x10FFFF or 0xD800 <= number <= 0xDFFF else chr(number)


# --- plain texts


def _plain_text_verdict(mail: MimePart, parts: Sequence[MimePart]) -> _Verdict | None:
    """A bounce in prose: a mail system wrote it, it opens with a known sentence, and it names an address."""
    if not _is_from_machine(mail.fields) or _is_auto_reply(mail):
        return None
    text = next((part.body[:_MAX_TEXT] for part in parts if part.type == "text/plain"), "")
    notice = _BOUNCE_OPENING.match(text)
    if notice is None:
        return None
    copy = _COPY_FOLLOWS.search(text)
    text = text[: copy.start()] if copy else text
    address, diagnostic = _first_address_line(text[notice.end() :])
    if not diagnostic and (answer := _ANSWER.search(text)):  # Sendmail's transcript
        diagnostic = clean(answer.group(1))
    address = address or _address(first_field(mail.fields, "x-failed-recipients"))
    if address is None:
        return None
    status = _status("", diagnostic)
    if _STILL_TRYING.search(text):
        return _Verdict(ReportKind.DELAYED, status, diagnostic, address)
    if not _GAVE_UP.search(text) and not _PERMANENT_CODE.search(diagnostic):
        return None
    return _Verdict(_failure(status, diagnostic), status, diagnostic, address)


def _first_address_line(text: str) -> tuple[str | None, str]:
    """The first line that begins with an address, and what is said about it up to the next empty line."""
    lines = text.split("\n")[:200]
    for number, line in enumerate(lines):
        match = _ADDRESS.match(line.lstrip(" \t<'\""))
        if match:
            after = line.partition(match.group())[2].lstrip(">'\":, ")
            rest = takewhile(str.strip, lines[number + 1 : number + 13])
            return match.group().rstrip("."), clean(" ".join([after, *rest])[:_MAX_DIAGNOSTIC_INPUT])
    return None, ""


# --- who wrote it, to whom, about what


def _is_vacation(fields: Fields) -> bool:
    return (
        any(name in fields for name in _VACATION) or "auto_reply" in first_field(fields, "precedence").lower()
    )


def _is_auto_reply(mail: MimePart) -> bool:
    """``auto-replied`` alone proves nothing: Postfix, Exim and Gmail say it of their bounces, too."""
    if any(
        _AWAY_SUBJECT.search(_decoded_subject(subject[:500])) for subject in mail.fields.get("subject", ())
    ):
        return True
    replied = first_field(mail.fields, "auto-submitted").strip().lower().startswith("auto-replied")
    return replied and mail.type != "multipart/report" and "x-failed-recipients" not in mail.fields


def _is_from_machine(fields: Fields) -> bool:
    nobody = "".join(first_field(fields, "return-path").split()) == "<>"
    return nobody or bool(_MACHINE_SENDER.search(first_field(fields, "from")[:_MAX_DIAGNOSTIC_INPUT]))


def _decoded_subject(subject: str) -> str:
    try:
        pieces = decode_header(subject)
    except (HeaderParseError, ValueError):
        return subject
    return " ".join(p.decode("utf-8", "replace") if isinstance(p, bytes) else p for p, _ in pieces)


def _envelope_to(fields: Fields) -> tuple[str, ...]:
    header_values = (value for name in _ENVELOPE for value in fields.get(name, ()))
    addresses = dict.fromkeys(
        address.rstrip(".") for value in header_values for address in _ADDRESS.findall(value)
    )
    return tuple(addresses)[:_MAX_ADDRESSES]


def _address(text: str) -> str | None:
    match = _ADDRESS.search(text)
    return match.group().rstrip(".") if match else None


def _original(parts: Sequence[MimePart]) -> Fields:
    return next(
        (parse_part(part.body.lstrip("\n")).fields for part in parts if part.type in _ORIGINAL_PARTS), {}
    )
