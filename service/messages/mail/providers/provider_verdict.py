"""What a provider's event means for its recipient, by the classifier of reports. Pure."""

import re
from dataclasses import dataclass

from service.messages.mail.providers.provider_event import EventKind, ProviderEvent
from service.messages.mail.report_verdict import judge_report
from service.messages.mail.smtp_reply import About
from service.text import clean, shorten

_LONGEST = 4000
_SHOWN = 300
_TYPE = re.compile(r"\s*[\w.-]{1,40}\s*;\s*")


@dataclass(frozen=True, slots=True)
class EventVerdict:
    """``about``: whom a failure is about; None: it is none. ``at_once``: there is certainly no such address.

    ``diagnostic``: what was said, on one line.
    """

    diagnostic: str
    about: About | None = None
    at_once: bool = False


def verdict_of(event: ProviderEvent, *, ours: bool) -> EventVerdict:
    """``ours``: the event names the address to which we wrote, not one to which that forwards."""
    text = event.diagnostic[:_LONGEST]
    prefix = _TYPE.match(text)
    text = text[prefix.end() :] if prefix else text
    shown = shorten(clean(text), _SHOWN)
    if event.kind is not EventKind.FAILED:
        return EventVerdict(shown)
    verdict = judge_report(event.status, text)
    if verdict.about is not About.ADDRESS or (event.permanent and ours):
        return EventVerdict(shown, verdict.about, verdict.at_once)
    return EventVerdict(shown, About.MAILBOX if event.permanent else About.WAY)
