"""Classifies the replies of a mail server: what they are about (spec, SMTP answers and reports).

An enhanced code is read only directly after the basic code of a line (RFC 2034), or in qmail's ``(#5.1.1)``
at the end of a line; never inside an address, a URL or a name. If codes and words disagree, the mildest
counts, so that no address is given up for what may be our fault.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from service.messages.mail import smtp_words as say
from service.messages.mail.smtp_wordings import named_by_wordings
from service.messages.mail.transport import SendResult, SmtpPhase


class About(StrEnum):
    """What a refusal is about. If it names several, the first in this order counts."""

    WAY = "way"
    """The connection, the relay, or a temporary problem: try again."""
    MAILBOX = "mailbox"
    """The current state of the recipient's mailbox: full, disabled for a while, busy."""
    US = "us"
    """Our host, log-in, sender, reputation or content."""
    ADDRESS = "address"
    """The recipient's address does not exist."""


@dataclass(frozen=True, slots=True)
class ReplyVerdict:
    """What a refusal is about. ``at_once``: the address certainly does not exist: suppress it at once."""

    about: About
    at_once: bool = False


class Fate(StrEnum):
    """What to do with a message after the server's reply."""

    SENT = "sent"
    RETRY = "retry"
    """A temporary problem of the connection or the way: try later, and count the attempt."""
    MAILBOX = "mailbox"
    """The mailbox is full or switched off: as RETRY, and counted towards its rest."""
    HARD = "hard"
    """The address refuses mail: failed, and counted as a hard bounce."""
    NO_SUCH_ADDRESS = "no_such_address"
    """As HARD, and the address is suppressed at once."""
    CONTENT = "content"
    """The content is too large or malformed, so a retry is useless: failed; three in a row stop sending."""
    NEEDS_SMTPUTF8 = "needs_smtputf8"
    """The address is international, and a server on the way does not take such: failed; nobody's fault."""
    OURS = "ours"
    """The server refuses us, not the recipient: try again without counting the attempt."""
    UNCONFIRMED = "unconfirmed"
    """The connection was lost after the dot: nobody knows."""


BOUNCES = frozenset({Fate.HARD, Fate.NO_SUCH_ADDRESS})
"""What says that the address takes no mail."""
COUNTED = BOUNCES | {Fate.MAILBOX}
"""What counts against an address."""
NO_SUCH_ADDRESS = frozenset({"5.1.1", "5.1.2", "5.1.10"})
"""Enhanced codes that say it of the address for certain."""
_NEEDS_SMTPUTF8 = "5.6.7"
_LOGIN_CODES = range(530, 540)
_ABOUT_A_RECIPIENT = frozenset({550, 551, 553, 556})
_STORAGE_EXCEEDED = 552
_THROTTLES = frozenset({421, 450, 451, 452})
_RECIPIENT_NAMED = frozenset({SmtpPhase.RCPT, SmtpPhase.DATA, SmtpPhase.CONTENT, SmtpPhase.DOT})


def judge(phase: SmtpPhase, code: int | None, text: str) -> ReplyVerdict:
    """What a refusal is about. ``code`` None: no reply. ``text``: the lines after the code."""
    if code is None:
        return ReplyVerdict(About.WAY)
    codes, words = enhanced_codes(code, text), say.prose(text)
    if code < 500:
        return ReplyVerdict(about_temporary(phase, codes, words))
    if before_recipient(phase):
        return ReplyVerdict(about_session(codes, words))
    named = named_by(code, codes, words)
    about = next((subject for subject in About if subject in named), None) or about_basic_code(phase, code)
    return ReplyVerdict(about, about is About.ADDRESS and bool(codes) and set(codes) <= NO_SUCH_ADDRESS)


def named_by(code: int | None, codes: Sequence[str], words: str) -> set[About]:
    """All that a permanent refusal names, by its basic and enhanced codes and its words (``say.prose``)."""
    return {*_named_by_codes(code, codes, words), *_named_by_words(codes, words)}


def fate_of(result: SendResult) -> Fate:
    """Classify one result."""
    if result.accepted:
        return Fate.SENT
    if result.code is None and result.phase is SmtpPhase.DOT:
        return Fate.UNCONFIRMED
    if _NEEDS_SMTPUTF8 in enhanced_codes(result.code, result.reply):
        return Fate.NEEDS_SMTPUTF8
    verdict = judge(result.phase, result.code, result.reply)
    if verdict.about is About.ADDRESS:
        return Fate.NO_SUCH_ADDRESS if verdict.at_once else Fate.HARD
    if verdict.about is About.US:
        return Fate.CONTENT if _is_permanent_content_error(result) else Fate.OURS
    return Fate.MAILBOX if verdict.about is About.MAILBOX else Fate.RETRY


def before_recipient(phase: SmtpPhase) -> bool:
    """Whether no recipient had been named yet, so that the server refuses every message."""
    return phase not in _RECIPIENT_NAMED


def throttles(result: SendResult) -> bool:
    """Whether the recipient's domain asks us to send more slowly.

    False if the reply is about one mailbox (X.1.n; full, busy), if it is greylisting, which expects a retry,
    or if it came before the recipient was named: then it is about the relay.
    """
    if result.accepted or result.code not in _THROTTLES or before_recipient(result.phase):
        return False
    codes = enhanced_codes(result.code, result.reply)
    if any(code.startswith("4.1.") for code in codes) or say.GREYLISTED.search(result.reply):
        return False
    return judge(result.phase, result.code, result.reply).about is About.WAY


# ── Decisions ───────────────────────────────────────────────────────────────────────────────────────────────


def about_temporary(phase: SmtpPhase, codes: Sequence[str], words: str) -> About:
    """4xx is always tried again; about the mailbox if the reply says so, except for greylisting."""
    if before_recipient(phase) or say.GREYLISTED.search(words):
        return About.WAY
    mailbox = any(_names_mailbox(code, words) for code in codes) or say.full_or_busy(words)
    return About.MAILBOX if mailbox else About.WAY


def about_session(codes: Sequence[str], words: str) -> About:
    """Before a recipient was named the reply cannot be about one."""
    temporary = any(map(_is_of_the_way, codes)) or say.LATER.search(words) or say.TEMPORARY.search(words)
    return About.WAY if temporary else About.US


def about_basic_code(phase: SmtpPhase, code: int) -> About:
    """By the basic code alone (RFC 5321): at RCPT these are about the recipient, all others about us."""
    if phase is not SmtpPhase.RCPT:
        return About.US
    if code in _ABOUT_A_RECIPIENT:
        return About.ADDRESS
    return About.MAILBOX if code == _STORAGE_EXCEEDED else About.US


def _is_permanent_content_error(result: SendResult) -> bool:
    """Whether the message is too large or malformed; words count only after the server has read it."""
    if before_recipient(result.phase):
        return False
    codes = enhanced_codes(result.code, result.reply)
    if any(code == "5.3.4" or code.startswith("5.6.") for code in codes):
        return True
    words = say.prose(result.reply)
    content_refused = say.TOO_LARGE.search(words) or say.MALFORMED.search(words)
    return result.phase is not SmtpPhase.RCPT and bool(content_refused)


# ── Codes ───────────────────────────────────────────────────────────────────────────────────────────────────

_AFTER_BASIC_CODE = re.compile(r"#?([245]\.\d{1,3}\.\d{1,3})(?=$|[\s:;,()\[\]<]|[.-](?:\s|$))")
_AT_THE_END = re.compile(r"\(#([245]\.\d{1,3}\.\d{1,3})\)[.\s]*$")

_MAILBOX_CODE = re.compile(r"[45]\.2\.\d+")
_US_CODE = re.compile(r"5\.(?:1\.[78]|3\.4|[567]\.\d+)")
_ADDRESS_CODE = re.compile(r"5\.1\.(?:[12346]|10|351)")
"""RFC 3463, RFC 7505; Exchange Online's 5.1.351: a remote server's unknown recipient."""
_WAY_CODE = re.compile(r"5\.[34]\.\d+|4\.\d+\.\d+")


def enhanced_codes(code: int | None, text: str) -> list[str]:
    """The RFC 3463 codes, at most one per line, such as ``5.1.1``."""
    codes = (_enhanced_code(code, line.strip()) for line in text.splitlines())
    return [found_code for found_code in codes if found_code]


def _enhanced_code(code: int | None, line: str) -> str | None:
    line = line.removeprefix(f"{code} ").lstrip()  # of a relay that repeats what another server said
    match = _AFTER_BASIC_CODE.match(line) or _AT_THE_END.search(line)
    return match.group(1) if match else None


def _named_by_codes(basic: int | None, codes: Sequence[str], words: str) -> Iterator[About]:
    if basic in _LOGIN_CODES:
        yield About.US
    for code in codes:
        if _names_mailbox(code, words):
            yield About.MAILBOX
        elif _US_CODE.fullmatch(code):
            yield About.US
        elif _ADDRESS_CODE.fullmatch(code) or _says_no_such_address(code, words):
            yield About.ADDRESS
        elif _WAY_CODE.fullmatch(code):
            yield About.WAY


def _names_mailbox(code: str, words: str) -> bool:
    """X.2.0 leaves the reason to the words: Comcast and Orange say so of mail that they take for spam."""
    return bool(_MAILBOX_CODE.fullmatch(code)) and not (code.endswith(".0") and _says_us(words))


def _says_us(words: str) -> bool:
    """Whether the words (``say.prose``) speak of us, by general patterns or a provider's own."""
    return bool(say.US.search(words)) or About.US in named_by_wordings(words)


def _is_of_the_way(code: str) -> bool:
    return bool(_WAY_CODE.fullmatch(code)) and not _US_CODE.fullmatch(code)


def _says_no_such_address(code: str, words: str) -> bool:
    """5.4.1 with Office 365's words for an unknown recipient, and 5.4.n with those for an unknown domain."""
    unknown = code == "5.4.1" and say.OFFICE_365_UNKNOWN.search(words)
    return bool(unknown or (code.startswith("5.4.") and say.NO_DOMAIN.search(words)))


# ── Words ───────────────────────────────────────────────────────────────────────────────────────────────────


def _named_by_words(codes: Sequence[str], words: str) -> Iterator[About]:
    if say.SENDER_CHECK.search(words):  # whatever else is said is about our sender
        yield About.US
        return
    yield from map(About, named_by_wordings(words))
    if "5.4.1" in codes:
        words = say.OFFICE_365_UNKNOWN.sub(" ", words)
    if disabled := say.DISABLED.search(words) or say.full_or_busy(words):
        yield About.MAILBOX
    if say.LATER.search(words) or say.TRY_AGAIN.search(words):
        yield About.WAY
    if say.TEMPORARY.search(words) and not disabled:  # what is temporary is the mailbox's trouble
        yield About.WAY
    if say.US.search(say.TAKES_NO_MAIL.sub(" ", words)):
        yield About.US
    elif say.UNKNOWN.search(words):
        yield About.ADDRESS
    elif say.IP.search(words):
        yield About.US
