"""What a mail to the bounce address says, and about whom."""

import re
from dataclasses import dataclass, replace
from enum import StrEnum

from service.mail_address import comparable_address
from service.messages.mail.report_verdict import judge_report
from service.messages.mail.smtp_reply import About

MAX_ADDRESSES = 50
NOT_AT_ONCE = False
_OUTSIDE = r"\s<>()\[\],;:\"@\\\x00-\x1f\x7f-\x9f\ufffd"
ADDRESS = re.compile(rf"(?<![^{_OUTSIDE}'])(?!')[^{_OUTSIDE}]{{1,64}}@[^{_OUTSIDE}']{{1,255}}")


class ReportKind(StrEnum):
    """What a report says about the recipient."""

    FAILED = "failed"
    """Not delivered, and nobody tries any more."""
    DELAYED = "delayed"
    """Not delivered yet; the other server keeps trying."""
    DELIVERED = "delivered"
    """Delivered, or passed on to where no reports come from."""
    COMPLAINT = "complaint"
    """The recipient reported it as spam."""


@dataclass(frozen=True, slots=True)
class RecipientReport:
    """What a report says about one recipient. ``about``: what the failure or the delay is about; ``at_once``:
    there is certainly no such address. ``recipient`` None: it names none.
    """

    kind: ReportKind
    about: About | None
    at_once: bool
    status: str | None
    diagnostic: str
    recipient: str | None


@dataclass(frozen=True, slots=True)
class BounceReport:
    """A report. It proves nothing by itself: trust it only if an address in ``envelope_to`` or ``copy_from``
    is signed.

    ``recipients``: what it says about each, the worst first. ``envelope_to``: to whom it came; ``copy_from``
    and ``message_ids``: envelope senders and Message-IDs (without brackets) of the returned mail.
    """

    recipients: tuple[RecipientReport, ...]
    envelope_to: tuple[str, ...] = ()
    copy_from: tuple[str, ...] = ()
    message_ids: tuple[str, ...] = ()

    @property
    def worst(self) -> RecipientReport:
        """The worst that it says about anybody."""
        return self.recipients[0]

    def about_recipient(self, address: str) -> RecipientReport:
        """What it says about this address; if it names only others, a forward failed: not about ours."""
        ours = comparable_address(address)
        for recipient in self.recipients:
            if recipient.recipient is None or comparable_address(recipient.recipient) == ours:
                return recipient
        worst = self.worst
        if worst.about is not About.ADDRESS or worst.kind is not ReportKind.FAILED:
            return worst
        return replace(worst, about=About.MAILBOX, at_once=False)


def failed(status: str | None, diagnostic: str, recipient: str | None, *notices: str) -> RecipientReport:
    """A failure; what it is about is judged from its status, the server's reply and the words for people."""
    verdict = judge_report(status, diagnostic, *notices)
    return RecipientReport(ReportKind.FAILED, verdict.about, verdict.at_once, status, diagnostic, recipient)


def delayed(status: str | None, diagnostic: str, recipient: str | None) -> RecipientReport:
    """Still being tried: about the mailbox where it is full or busy, else about the way."""
    about = judge_report(status, diagnostic).about
    about = About.MAILBOX if about is About.MAILBOX else About.WAY
    return RecipientReport(ReportKind.DELAYED, about, NOT_AT_ONCE, status, diagnostic, recipient)


def first_address(text: str) -> str | None:
    """The first address in a text."""
    match = ADDRESS.search(text)
    return match.group().rstrip(".") if match else None


def addresses_in(values: list[str]) -> tuple[str, ...]:
    """All addresses in these texts, each once."""
    found_addresses = dict.fromkeys(
        address.rstrip(".") for value in values for address in ADDRESS.findall(value)
    )
    return tuple(found_addresses)[:MAX_ADDRESSES]
