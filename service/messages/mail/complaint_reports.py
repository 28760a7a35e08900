"""Complaints: abuse feedback reports (RFC 5965), also as multipart/mixed, as some senders make them."""

from collections.abc import Sequence

from service.messages.mail.bounce_report import NOT_AT_ONCE, RecipientReport, ReportKind, first_address
from service.messages.mail.mime import Fields, MimePart, first_field, parse_fields
from service.text import clean

FEEDBACK_PART = "message/feedback-report"
_COMPLAINTS = frozenset({"abuse", "fraud", "virus"})
_LONGEST = 4000


def complaint_report(parts: Sequence[MimePart], copy: Fields) -> RecipientReport | None:
    """The complaint of a feedback report; None: it says something else, for example that it was no spam.

    ``copy``: the header of the returned mail, in which a redacted report may name the recipient.
    """
    fields = feedback_fields(parts)
    kind = first_field(fields, "feedback-type").strip().lower()
    if kind not in _COMPLAINTS:
        return None
    diagnostic = clean(f"{kind} {first_field(fields, 'user-agent')[:_LONGEST]}")
    recipient = first_address(first_field(fields, "original-rcpt-to")) or first_address(
        first_field(copy, "x-hmxmroriginalrecipient")
    )
    return RecipientReport(ReportKind.COMPLAINT, None, NOT_AT_ONCE, None, diagnostic, recipient)


def feedback_fields(parts: Sequence[MimePart]) -> Fields:
    """The fields of the feedback report; none where there is no such part."""
    return next((parse_fields(part.body) for part in parts if part.type == FEEDBACK_PART), {})
