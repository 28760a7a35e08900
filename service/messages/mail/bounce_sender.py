"""Who wrote a mail to the bounce address: a mail system, or a person's answering machine."""

import re
from email.errors import HeaderParseError
from email.header import decode_header

from service.messages.mail.mime import Fields, MimePart, first_field

_LONGEST = 1000
_VACATION = ("x-autoreply", "x-autorespond", "x-autoresponder", "x-vacation")
_MACHINE = re.compile(
    r"mail(?:er)?[-_. ]?daemon|post[-_]?master\b|mdaemon|\bmail(?:er)? (?:delivery|administrator|system"
    r"|gateway|service)"
    r"|\bdelivery (?:sub)?system|\bsystem administrator|\bmail[-_]?admin|\bmailsweeper|\bmailmarshal"
    r"|\binterscan"
    r"|\bimss\b|\bmail[-_ ]?router|\bmailer\b|\banti-?(?:virus|spam)|\bsymantec"
    r"|\bno-?reply@.*\bmail delivery",
    re.IGNORECASE,
)
_ANSWER_SUBJECT = re.compile(r"\s*(?:re|fwd?|aw|wg|antw|tr|rv|sv|vs)(?:\[\d+\])?\s*:", re.IGNORECASE)
_AWAY_SUBJECT = re.compile(
    r"out[- ]of[- ](?:the[- ])?office|auto(?:matic|mated)?[- ]?(?:reply|response|antwort)|vacation|abwesen"
    r"|absence"
    r"|automati(?:que|sche)\b|automatica\b|on leave|away from|fuera de la oficina|不在",
    re.IGNORECASE,
)
_BOUNCE_SUBJECT = re.compile(
    r"undeliver|returned (?:mail|message|to )|returning (?:mail|message)|failure notice|non-?deliver"
    r"|unzustellbar|non remis"
    r"|deliver(?:y|ed)\b.{0,40}(?:status|notification|report|fail|error|unsuccessful|problem|impossible|delay)"
    r"|(?:mail|message)\b.{0,40}(?:fail|error|could not|not (?:be )?(?:sent|delivered)|returned|bounced"
    r"|rejected)"
    r"|fail(?:ed|ure)\b.{0,40}(?:deliver|mail|message)|could not (?:send|deliver|be delivered)"
    r"|unable to deliver|bounce"
    r"|not delivered|nicht (?:zugestellt|zustellbar)|no (?:se pudo )?entreg|mancata consegna|devuelto"
    r"|\bND[NR]\b|not member\b|fml (?:status|command)|user unknown|invalid address|配信"
    r"|送信.{0,10}エラー|недостав",
    re.IGNORECASE,
)


def is_vacation(fields: Fields) -> bool:
    """Whether a header says that it is a person's answering machine."""
    named = any(name in fields for name in _VACATION)
    return named or "auto_reply" in first_field(fields, "precedence").lower()


def is_auto_reply(mail: MimePart) -> bool:
    """``auto-replied`` alone proves nothing: Postfix, Exim and Gmail say it of their bounces, too."""
    if _AWAY_SUBJECT.search(subject_of(mail.fields)):
        return True
    replied = first_field(mail.fields, "auto-submitted").strip().lower().startswith("auto-replied")
    is_report = mail.type == "multipart/report" or "x-failed-recipients" in mail.fields
    return (
        replied and not is_report and not (has_machine_name(mail.fields) and has_bounce_subject(mail.fields))
    )


def is_from_machine(fields: Fields) -> bool:
    """Whether a mail system sent it: by its sender, or by the subject where no envelope sender is known."""
    path = "".join(first_field(fields, "return-path")[:_LONGEST].split())
    if path == "<>" or has_machine_name(fields) or _MACHINE.search(path) or "x-failed-recipients" in fields:
        return True
    return not path and has_bounce_subject(fields)


def has_bounce_subject(fields: Fields) -> bool:
    """Whether the subject is one of a bounce, and not of an answer to one."""
    subject = subject_of(fields)
    return bool(_BOUNCE_SUBJECT.search(subject)) and not _ANSWER_SUBJECT.match(subject)


def subject_of(fields: Fields) -> str:
    """The subjects, decoded."""
    return " ".join(_decoded(subject[:_LONGEST]) for subject in fields.get("subject", ())[:5])


def has_machine_name(fields: Fields) -> bool:
    """Whether the sender is called as mail systems are."""
    return bool(_MACHINE.search(first_field(fields, "from")[:_LONGEST]))


def _decoded(subject: str) -> str:
    try:
        pieces = decode_header(subject)
    except (HeaderParseError, ValueError):
        return subject
    return " ".join(p.decode("utf-8", "replace") if isinstance(p, bytes) else p for p, _ in pieces)
