"""Delivery status notifications (RFC 3464, RFC 6533): what they say about each recipient."""

import re
from collections.abc import Iterator, Sequence

from service.messages.mail.bounce_prose import MAX_TEXT, is_still_trying, notice_about
from service.messages.mail.bounce_report import (
    NOT_AT_ONCE,
    RecipientReport,
    ReportKind,
    delayed,
    failed,
    first_address,
)
from service.messages.mail.mime import Fields, MimePart, first_field, parse_fields
from service.messages.mail.report_verdict import quoted_status
from service.text import clean

STATUS_PARTS = frozenset({"message/delivery-status", "message/global-delivery-status"})
_MAX_BLOCKS = 200
_MAX_DIAGNOSTIC = 4000
_STATUS = re.compile(r"(?<![\d.])[245]\.\d{1,3}\.\d{1,3}(?!\.?\d)")
_TYPE_PREFIX = re.compile(r"\s*[\w.-]{1,40}\s*;")
_ESCAPED = re.compile(r"\\x\{([0-9A-Fa-f]{1,6})\}")


def status_reports(parts: Sequence[MimePart], notice: str, *, is_report: bool) -> list[RecipientReport]:
    """What the status parts say. ``notice``: the words for people; ``is_report``: the mail is a
    multipart/report, in which a gateway may have made the part a text.
    """
    bodies = [part.body for part in parts if part.type in STATUS_PARTS]
    reports = [report for body in bodies for report in _reports(body, notice)]
    if reports or not is_report:
        return reports
    texts = [part.body[:MAX_TEXT] for part in parts if part.type == "text/plain"]
    return [r for text in texts if "final-recipient:" in text.lower() for r in _reports(text, notice)]


def _reports(body: str, notice: str) -> Iterator[RecipientReport]:
    blocks = re.split(r"\n(?:[ \t]*\n)+", body.strip("\n"), maxsplit=_MAX_BLOCKS)
    fields = [f for block in blocks if (f := parse_fields(block)) and _is_about_recipient(f)]
    for block in fields:
        yield _report(block, notice, alone=len(fields) == 1)


def _is_about_recipient(fields: Fields) -> bool:
    names = fields.keys()
    return bool(names & {"action", "status"} and names & {"action", "final-recipient", "original-recipient"})


def _report(fields: Fields, notice: str, *, alone: bool) -> RecipientReport:
    diagnostic = _without_type(first_field(fields, "diagnostic-code"))
    status = _status_of(first_field(fields, "status"), diagnostic)
    action = first_field(fields, "action").strip().lower()
    addresses = [_recipient(first_field(fields, name)) for name in ("original-recipient", "final-recipient")]
    recipient = addresses[0] or addresses[1]
    if action in {"delivered", "relayed", "expanded"} or (
        action != "failed" and (status or "").startswith("2.")
    ):
        return RecipientReport(ReportKind.DELIVERED, None, NOT_AT_ONCE, status, diagnostic, recipient)
    if action == "delayed" or (action != "failed" and is_still_trying(notice)):
        return delayed(status, diagnostic, recipient)
    about_it = notice_about(notice, [address for address in addresses if address], alone=alone)
    return failed(status, diagnostic, recipient, *about_it)


def _status_of(field: str, diagnostic: str) -> str | None:
    """The declared status; if that is unspecific (Exim: always 5.0.0), the one in the server's reply."""
    match = _STATUS.search(field)
    declared = match.group() if match else None
    if declared is not None and not declared.endswith(".0.0"):
        return declared
    implied = quoted_status(diagnostic)
    if implied is None or (declared is not None and declared < "5" and implied > "5"):
        return declared
    return implied


def _without_type(text: str) -> str:
    """``smtp; 550 5.1.1 …`` without its type, on one printable line."""
    text = text[:_MAX_DIAGNOSTIC]
    prefix = _TYPE_PREFIX.match(text)
    return clean(text[prefix.end() :] if prefix else text)


def _recipient(field: str) -> str | None:
    """The address in ``rfc822; a@b`` or ``utf-8; a@b``, where \\x{e9} may stand for é (RFC 6533)."""
    kind, semicolon, address = field.partition(";")
    if not semicolon:
        return first_address(field)
    if kind.strip().lower() == "utf-8":
        return first_address(_ESCAPED.sub(lambda m: _character(int(m.group(1), 16)), address))
    return first_address(address) if kind.strip().lower() == "rfc822" else None


def _character(number: int) -> str:
    return "\ufffd" if number > 0x10FFFF or 0xD800 <= number <= 0xDFFF else chr(number)
