"""Recognises a mail to an unsubscribe address. What is written in it does not matter, only who wrote it."""

import re
from dataclasses import dataclass

from service.messages.mail.mime import Fields, MimePart, decode_text, first_field, parse_part
from service.messages.mail.verp import unsubscribe_token_in

_MAX_HEAD = 64 * 1024
_ADDRESSED = ("delivered-to", "x-original-to", "envelope-to", "to")
_MADE_BY_MACHINES = ("x-autoreply", "x-autorespond", "x-autoresponder", "x-vacation", "x-failed-recipients")
_MACHINE_SENDER = re.compile(r"mailer[-_]daemon|postmaster@", re.IGNORECASE)
_AUTO_REPLY = re.compile(r"auto[-_]reply", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class UnsubscribeMail:
    """A mail to an unsubscribe address. ``automatic``: a bounce or an auto-reply, which is nobody's wish."""

    token: str
    automatic: bool


def read(raw: bytes, base: str, recipient: str | None = None) -> UnsubscribeMail | None:
    """The mail, if it was sent to an unsubscribe address; else None. Never raises.

    ``base``: the bounce address. ``recipient``: that of the envelope; None: the header says.
    """
    mail = parse_part(decode_text(raw[:_MAX_HEAD]).lstrip("\n"))
    values = [recipient] if recipient else [v for name in _ADDRESSED for v in mail.fields.get(name, ())]
    token = next(filter(None, (unsubscribe_token_in(value, base) for value in values)), None)
    return UnsubscribeMail(token, _is_automatic(mail)) if token else None


def _is_automatic(mail: MimePart) -> bool:
    """RFC 3834: everything whose Auto-Submitted is not ``no``; reports; what comes from nobody."""
    fields = mail.fields
    submitted = first_field(fields, "auto-submitted").partition(";")[0].strip().lower()
    return (
        submitted not in {"", "no"}
        or mail.type == "multipart/report"
        or any(name in fields for name in _MADE_BY_MACHINES)
        or bool(_AUTO_REPLY.search(first_field(fields, "precedence")))
        or _is_from_nobody(fields)
    )


def _is_from_nobody(fields: Fields) -> bool:
    nobody = "".join(first_field(fields, "return-path").split()) == "<>"
    return nobody or bool(_MACHINE_SENDER.search(first_field(fields, "from")[:1000]))
