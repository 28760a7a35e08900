"""What a provider's event means for its recipient, by the classifier of replies and reports. Pure."""

import re
from dataclasses import dataclass

from service.messages.mail.providers.provider_event import EventKind, ProviderEvent
from service.messages.mail.smtp_reply import About, judge
from service.messages.mail.transport import SmtpPhase
from service.text import clean, shorten

_LONGEST = 4000
_SHOWN = 300
_TYPE = re.compile(r"\s*[\w.-]{1,40}\s*;\s*")
_REPLY = re.compile(r"(?<![\d.-])([45][0-5]\d)[ -](.*)", re.DOTALL)


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
    reply = _REPLY.search(text)
    code, words = (int(reply[1]), reply[2]) if reply else (550 if event.permanent else 450, text)
    verdict = judge(SmtpPhase.RCPT, code, f"{event.status or ''}\n{words}")
    if verdict.about is not About.ADDRESS or (event.permanent and ours):
        return EventVerdict(shown, verdict.about, verdict.at_once)
    return EventVerdict(shown, About.MAILBOX if event.permanent else About.WAY)
