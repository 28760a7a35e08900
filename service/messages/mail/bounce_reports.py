"""Parses mail to the envelope sender: bounces (RFC 3464, 6533, and prose), and complaints (RFC 5965).

What cannot be parsed is not a report.
"""

import re
from collections.abc import Sequence
from dataclasses import replace

from service.messages.mail.bounce_prose import BounceNotice, notice_of, prose_reports
from service.messages.mail.bounce_report import (
    BounceReport,
    RecipientReport,
    ReportKind,
    addresses_in,
)
from service.messages.mail.bounce_sender import is_from_machine, is_vacation, subject_of
from service.messages.mail.complaint_reports import FEEDBACK_PART, complaint_report, feedback_fields
from service.messages.mail.delivery_status import STATUS_PARTS, status_reports
from service.messages.mail.mime import (
    Fields,
    MimePart,
    decode_text,
    leaves,
    parameter,
    parse_fields,
    parse_part,
)
from service.messages.mail.smtp_reply import About
from service.text import shorten

_MAX_BYTES = 512 * 1024
_MAX_DIAGNOSTIC = 300
_MAX_COPY = 20_000
_ORIGINAL_PARTS = frozenset(
    {
        "message/rfc822",
        "message/global",
        "message/global-headers",
        "message/rfc822-headers",
        "text/rfc822-headers",
    }
)
_ENVELOPE = ("to", "delivered-to", "x-original-to", "envelope-to")
_COPY_SENDERS = ("return-path", "x-envelope-from", "envelope-from", "x-original-from", "errors-to")
_MESSAGE_ID = re.compile(r"<([^<>\s@]{1,200}@[^<>\s@]{1,255})>")
_MAX_MESSAGE_IDS = 5
_REJECTED = re.compile(r"^automatically rejected mail", re.IGNORECASE)
"""Dovecot says with a receipt that it refused a mail."""
_SEVERITY = (ReportKind.DELIVERED, ReportKind.DELAYED, ReportKind.FAILED, ReportKind.COMPLAINT)


def parse(raw: bytes) -> BounceReport | None:
    """The report in a mail to the envelope sender; None: it is not a report. Never raises."""
    mail = parse_part(decode_text(raw[:_MAX_BYTES]).lstrip("\n"))
    if is_vacation(mail.fields):
        return None
    parts = list(leaves(mail))
    if not any(part.type in STATUS_PARTS for part in parts) and is_from_machine(mail.fields):
        parts += _wrapped_report(parts)
    notice = notice_of(parts)
    copy = _original(parts) or parse_fields(notice.copy[:_MAX_COPY])
    reports = _reports(mail, parts, notice, copy)
    if not reports:
        return None
    return BounceReport(
        recipients=tuple(_shortened(report) for report in sorted(reports, key=_severity, reverse=True)),
        envelope_to=addresses_in([value for name in _ENVELOPE for value in mail.fields.get(name, ())]),
        copy_from=addresses_in(
            [value for name in _COPY_SENDERS for value in copy.get(name, ())]
            + feedback_fields(parts).get("original-mail-from", [])
        ),
        message_ids=_message_ids(copy, mail.fields),
    )


def _reports(
    mail: MimePart, parts: Sequence[MimePart], notice: BounceNotice, copy: Fields
) -> list[RecipientReport]:
    kind = parameter(mail.parameters, "report-type").lower()
    if kind == "disposition-notification" and not _REJECTED.search(subject_of(mail.fields)):
        return []
    if kind == "feedback-report" or any(part.type == FEEDBACK_PART for part in parts):
        complaint = complaint_report(parts, copy)
        return [complaint] if complaint else []
    is_report = mail.type == "multipart/report"
    if is_report or is_from_machine(mail.fields):
        reports = status_reports(parts, notice.text, is_report=is_report)
        if reports:
            return reports
    return prose_reports(mail, notice)


def _severity(report: RecipientReport) -> tuple[int, bool, bool]:
    return _SEVERITY.index(report.kind), report.about is About.ADDRESS, report.at_once


def _shortened(report: RecipientReport) -> RecipientReport:
    return replace(report, diagnostic=shorten(report.diagnostic, _MAX_DIAGNOSTIC))


def _message_ids(copy: Fields, fields: Fields) -> tuple[str, ...]:
    """Of the returned mail; where it is not returned, of that to which the report answers."""
    values = copy.get("message-id") or [
        *fields.get("in-reply-to", ()),
        *fields.get("references", ()),
    ]
    ids = dict.fromkeys(name for value in values[:5] for name in _MESSAGE_ID.findall(value[:2000]))
    return tuple(ids)[:_MAX_MESSAGE_IDS]


def _wrapped_report(parts: Sequence[MimePart]) -> list[MimePart]:
    """The parts of a report that a gateway has attached as a message."""
    for part in parts:
        if part.type == "message/rfc822":
            inner = parse_part(part.body.lstrip("\n"))
            if inner.type == "multipart/report" and is_from_machine(inner.fields):
                return list(leaves(inner))
    return []


def _original(parts: Sequence[MimePart]) -> Fields:
    return next(
        (parse_part(part.body.lstrip("\n")).fields for part in parts if part.type in _ORIGINAL_PARTS), {}
    )
