"""What a report of a failure is about: its status, the server's reply that it quotes, and its own words.

The reply is judged like one on the wire (``smtp_reply``). A report does not always say in which phase it
came, and its own words tell what no server said: that no route or no answer was found.
"""

import re
from dataclasses import dataclass

from service.messages.mail import smtp_words as say
from service.messages.mail.smtp_reply import (
    NO_SUCH_ADDRESS,
    About,
    ReplyVerdict,
    about_basic_code,
    about_session,
    about_temporary,
    before_recipient,
    enhanced_codes,
    named_by,
)
from service.messages.mail.transport import SmtpPhase

_LONGEST = 4000
"""Characters of a reply, or of a notice, that are read."""


@dataclass(frozen=True, slots=True)
class _Quoted:
    """The reply that a report quotes. ``code`` None: it quotes none. ``codes``: enhanced ones; ``text``: what
    follows the code, or all.
    """

    phase: SmtpPhase | None
    code: int | None
    codes: tuple[str, ...]
    text: str

    @property
    def words(self) -> str:
        return say.prose(self.text)


def judge_report(status: str | None, *texts: str) -> ReplyVerdict:
    """What a failure is about. ``status``: of RFC 3464. ``texts``: the diagnostic, then the notice for
    people; the first that says something counts, with the status.
    """
    status_codes = (status,) if status and status != "5.0.0" else ()
    replies = [_quoted(text[:_LONGEST]) for text in texts if text.strip()]
    phase = next((reply.phase for reply in replies if reply.phase), None)
    for reply in replies:
        codes = (*status_codes, *reply.codes)
        named = _named(phase, reply, codes)
        if named:
            about = next(subject for subject in About if subject in named)
            return ReplyVerdict(about, about is About.ADDRESS and _certain(codes))
        if reply.code is not None:  # it was the server that said nothing more
            return ReplyVerdict(_about_code_alone(phase, reply.code, reply.words))
    if status_codes:
        named = set(named_by(None, [*status_codes], ""))
        about = next((subject for subject in About if subject in named), About.WAY)
        return ReplyVerdict(about, about is About.ADDRESS and _certain(status_codes))
    return ReplyVerdict(About.WAY)  # a bare 5.0.0: the relay itself gave up


def is_permanent(text: str) -> bool:
    """Whether a text quotes a reply 5xx."""
    code = _quoted(text[:_LONGEST]).code
    return code is not None and code >= 500


def quoted_status(text: str) -> str | None:
    """The enhanced code of the reply that a text quotes."""
    return next(iter(_quoted(text[:_LONGEST]).codes), None)


def quoted_reply(text: str) -> tuple[int | None, str]:
    """The code and the text of the reply that a text quotes; None and the whole text if it quotes none."""
    quoted = _quoted(text[:_LONGEST])
    return quoted.code, quoted.text


# ── Decisions ───────────────────────────────────────────────────────────────────────────────────────────────


def _named(phase: SmtpPhase | None, reply: _Quoted, codes: tuple[str, ...]) -> set[About]:
    if reply.code is not None and reply.code < 500:
        return {about_temporary(phase or SmtpPhase.RCPT, [*codes], reply.words)}
    if phase and before_recipient(phase):
        said = codes if reply.code is None else reply.codes  # Postfix calls each refused greeting 4.n.n
        return {about_session([*said], reply.words)}
    named = set(named_by(reply.code, [*codes], reply.words))
    if any(code.startswith("4.") for code in codes) or _TRIED_FOR_LONG.search(reply.words):
        return {about_temporary(phase or SmtpPhase.RCPT, [*codes], reply.words)}
    late = phase in {SmtpPhase.DATA, SmtpPhase.CONTENT, SmtpPhase.DOT}
    if named == {About.ADDRESS} and late and not codes:
        return {About.MAILBOX}  # it had taken the recipient: docomo says so of what the person filters
    return named


_TRIED_FOR_LONG = re.compile(r"\bretry time(?:out exceeded| not reached)", re.IGNORECASE)
"""Exim adds it to what it said of the last try, which was temporary."""
_MAILBOX_UNAVAILABLE = re.compile(r"\bmailbox (?:is )?(?:unavailable|not available)\b", re.IGNORECASE)
"""RFC 5321's own sentence for 550."""


def _about_code_alone(phase: SmtpPhase | None, code: int, words: str) -> About:
    """A 5xx whose words nobody understands: of a phase that the report does not name, it accuses nobody."""
    about = about_basic_code(phase or SmtpPhase.RCPT, code)
    if about is About.ADDRESS and phase is None and not _MAILBOX_UNAVAILABLE.search(words):
        return About.US
    return about


def _certain(codes: tuple[str, ...]) -> bool:
    return bool(codes) and {code for code in codes if not code.endswith(".0.0")} <= NO_SUCH_ADDRESS


# ── The reply in a text ─────────────────────────────────────────────────────────────────────────────────────

_ZOHO_CODE = re.compile(r"\bERROR_CODE ?: ?")
_NOT_A_REPLY = r"(?!\s*(?:hours?|seconds?|secs?|minutes?|days?|bytes?|[kmg]i?b|messages?|times|attempts?)\b)"
_CODE = re.compile(
    rf"(?<![\w.:/@+=-])#?([245][0-5]\d)(?=[ \t:,;-]|$){_NOT_A_REPLY}[ \t:,;'\"-]*", re.MULTILINE
)
_CODE_WITH_HASH = re.compile(r"(?<![\w/])#\s?([245]\.\d{1,3}\.\d{1,3})(?=[\s>):;,.]|$)")


def _quoted(text: str) -> _Quoted:
    text = _ZOHO_CODE.sub("", text)
    phase = phase_in(text)
    match = next((m for m in _CODE.finditer(text) if m.group(1)[0] != "2"), None)
    if match is None:
        return _Quoted(phase, None, tuple(_hash_codes(text)), text)
    code = match.group(1)
    reply = re.sub(rf"(?<![\w.:/@+=-])#?{code}[ -]+(?={code}[ -]|#?[245]\.\d|\S)", "\n", text[match.end() :])
    lines = _IN_REPLY.sub(" ", reply)
    codes = [*enhanced_codes(int(code), lines), *_hash_codes(lines)]
    return _Quoted(phase, int(code), tuple(dict.fromkeys(codes)), lines)


def _hash_codes(text: str) -> list[str]:
    return _CODE_WITH_HASH.findall(say.without_urls(text))


# ── The phase ───────────────────────────────────────────────────────────────────────────────────────────────

_IN_REPLY = re.compile(r"\(in reply to [^()\n]{1,60}\)|\(state \d{1,2}\)|\[(?:RCPT_TO|BODY|MAIL_FROM|HELO)\]")

_PHASES = (
    (SmtpPhase.DOT, r"in reply to (?:the )?end of data|after end of data|after (?:pipelined )?(?:end of"
                    r"|sending) data"
                    r"|failed after i sent the message|\bTEXT command|\[BODY\]|\(state 1[78]\)"),
    (SmtpPhase.CONNECT, r"refused to talk to me|after initial connection|greeting failed"
                        r"|initial server greeting"
                        r"|(?:in reply|response) to (?:the )?(?:connect|initial)"),
    (SmtpPhase.EHLO, r"(?:in reply to|after|following|response to) (?:the )?(?:EHLO|HELO)\b"
                     r"|my name was rejected"
                     r"|>>> ?(?:EHLO|HELO)\b[^\n]*\n(?:[^\n]*\n){0,2}<<< ?[45]|\[HELO\]"),
    (SmtpPhase.AUTH, r"(?:in reply to|after|following) (?:the )?AUTH\b|>>> ?AUTH\b[^\n]*\n<<< ?[45]"),
    (SmtpPhase.MAIL, r"(?:in (?:reply|response) to|after|following"
                     r"|for) (?:the )?(?:pipelined )?MAIL(?: FROM)?\b[: ]"
                     r"|sender was rejected|>>> ?MAIL From[^\n]*\n(?:[^\n]*\n){0,2}<<< ?[45]|\[MAIL_FROM\]"),
    (SmtpPhase.RCPT, r"(?:in (?:reply|response) to|after|following"
                     r"|for) (?:the )?(?:pipelined )?RCPT(?: TO)?\b"
                     r"|does not like recipient|>>> ?RCPT To[^\n]*\n(?:[^\n]*\n){0,2}<<< ?[45]|\[RCPT_TO\]"
                     r"|\(state 1[34]\)"),
    (SmtpPhase.DATA, r"(?:in (?:reply|response) to|after|following|for) (?:the )?(?:pipelined )?DATA\b"
                     r"|failed on DATA|>>> ?DATA[^\n]*\n(?:[^\n]*\n){0,2}<<< ?[45]|\(state 1[56]\)"),
)  # fmt: skip
_PHASE_PATTERNS = tuple((phase, re.compile(pattern, re.IGNORECASE)) for phase, pattern in _PHASES)


def phase_in(text: str) -> SmtpPhase | None:
    """After which command the quoted reply came; None: the text does not say."""
    return next((phase for phase, pattern in _PHASE_PATTERNS if pattern.search(text)), None)
