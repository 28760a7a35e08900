"""Whom a server's answer is about: the table of answers, answers like them, and what becomes of a message."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.messages.mail.smtp_reply import About, Fate, ReplyVerdict, enhanced_codes, fate_of, judge
from service.messages.mail.transport import SendResult, SmtpPhase

_TABLE = Path(__file__).parents[2] / "cases" / "smtp_replies.tsv"
_ROWS = [line.split("\t") for line in _TABLE.read_text("utf-8").splitlines()[1:]]


@pytest.mark.parametrize(("phase", "code", "text", "about", "at_once", "why"), _ROWS)
def test_each_answer_of_the_table(
    phase: str, code: str, text: str, about: str, at_once: str, why: str
) -> None:
    verdict = judge(SmtpPhase(phase), None if code == "-" else int(code), text.replace("\\n", "\n"))

    assert verdict.about in about.split("|"), why
    assert verdict.at_once == (at_once == "yes"), why


def test_the_table_is_whole() -> None:
    assert len(_ROWS) == 70
    assert {row[3] for row in _ROWS} >= set(About)


# ── Answers like them: phase, code, text, about; "!" means at once ──────────────────────────────────────────

_MORE = [
    ("rcpt", 554, "5.7.1 <unknown[192.0.2.1]>: Client host rejected: cannot find your hostname", "us"),
    ("rcpt", 550, "Client host rejected: cannot find your reverse hostname, [192.0.2.4]", "us"),
    ("rcpt", 501, "<localhost>: Helo command rejected: Invalid name", "us"),
    ("rcpt", 550, "relay not permitted", "us"),
    ("rcpt", 553, "sorry, that domain isn't in my list of allowed rcpthosts", "us"),
    ("rcpt", 554, "<bounce@dash.example>: Sender address rejected: Domain not found", "us"),
    ("rcpt", 550, "Verification failed for <b@d.example>\nUnrouteable address\nSender verify failed", "us"),
    ("rcpt", 550, "5.1.1.23 is listed", "us"),
    ("rcpt", 550, "[5.1.1.77] refused", "us"),
    ("rcpt", 530, "5.1.1 Log in", "us"),
    ("rcpt", 554, "Transaction failed", "us"),
    ("rcpt", 550, "Recipient address rejected: Access denied", "us"),
    ("rcpt", 550, "#5.7.1 Your access to submit messages to this e-mail system has been rejected.", "us"),
    ("rcpt", 550, "Sending quota of this host exceeded", "us"),
    ("mail", 552, "5.2.2 over quota", "us"),
    ("auth", 535, "5.7.8 Authentication failed, please try again", "us"),
    ("dot", 552, "Message size exceeds fixed limit", "us"),
    ("dot", 550, "mailbox unavailable", "us"),
    ("rcpt", 550, "5.1.1 The email account that you tried to reach is disabled", "mailbox"),
    ("rcpt", 550, "The user you are trying to contact is receiving mail at a rate that prevents", "mailbox"),
    ("rcpt", 550, "5.1.1 User's mailbox is over its size limit", "mailbox"),
    ("rcpt", 550, "5.1.1 Mailbox temporarily disabled", "mailbox"),
    ("rcpt", 550, "4.2.2 over quota", "mailbox"),
    ("rcpt", 552, "Requested mail action aborted: exceeded storage allocation", "mailbox"),
    ("rcpt", 452, "mailbox is over quota", "mailbox"),
    ("rcpt", 452, "Insufficient system storage", "way"),
    ("rcpt", 550, "Service is temporarily unavailable", "way"),
    ("rcpt", 550, "5.4.1 No answer from host", "way"),
    ("dot", 554, "5.4.6 Too many hops", "way"),
    ("dot", 550, "5.4.5 Daily user sending limit exceeded", "way"),
    ("connect", 554, "Too many connections from your host", "way"),
    ("connect", 554, "5.3.2 System does not accept network messages", "way"),
    ("rcpt", 550, "5.1.1+tag@node.example is not known here", "address"),
    ("rcpt", 550, "See 5.1.1 of our rules", "address"),
    ("rcpt", 550, "#5.1.0 Address rejected.", "address"),
    ("rcpt", 550, "Invalid Recipient - https://docs.example/DOC-1369#550 [abc5.1.1]", "address"),
    ("rcpt", 554, "5.4.4 <x@gone.example>: Host or domain name not found. Name service error", "address"),
    ("rcpt", 550, "mx.spamfilter.example: user unknown", "address"),
    ("rcpt", 501, "5.1.3 Bad recipient address syntax", "address"),
    ("dot", 550, "User unknown", "address"),
    ("rcpt", 550, "5.1.1 <spam-policy@blocked.example>: no such user", "address!"),
    ("rcpt", 550, "5.1.1 <a@b.example>: User unknown in relay recipient table", "address!"),
    ("rcpt", 550, "sorry, no mailbox here by that name. (#5.1.1)", "address!"),
    ("rcpt", 550, "5.1.1 User unknown. Please check the address and try again", "address!"),
    ("rcpt", 550, "550 5.1.1 User unknown", "address!"),
]  # fmt: skip


@pytest.mark.parametrize(("phase", "code", "text", "about"), _MORE)
def test_answers_like_them(phase: str, code: int, text: str, about: str) -> None:
    assert judge(SmtpPhase(phase), code, text) == ReplyVerdict(About(about.rstrip("!")), about.endswith("!"))


@pytest.mark.parametrize(
    ("text", "codes"),
    [
        ("5.1.1 no", ["5.1.1"]),
        ("#5.1.1 no", ["5.1.1"]),
        ("5.1.1: no", ["5.1.1"]),
        ("5.1.1", ["5.1.1"]),
        ("no (#5.1.1)", ["5.1.1"]),
        ("well\n5.7.1 no\nno (#5.2.2).", ["5.7.1", "5.2.2"]),
        ("no 5.1.1", []),
        ("no (#5.1.1) at all", []),
        ("(5.1.1) no", []),
        ("5.1.1.9 no", []),
        ("5.1.2026 no", []),
        ("5.1.1@node.example", []),
        ("5.1.1-node.example", []),
        ("<5.1.1@node.example> no", []),
        ("https://a.example/?ip=5.1.1.23", []),
        ("3.5.1 is our version", []),
    ],
)
def test_an_enhanced_code_counts_only_at_its_place(text: str, codes: list[str]) -> None:
    assert enhanced_codes(550, text) == codes


# ── What becomes of the message ─────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("phase", "code", "text", "what"),
    [
        (SmtpPhase.DOT, 250, "2.0.0 taken", Fate.SENT),
        (SmtpPhase.DOT, None, "connection lost", Fate.UNCONFIRMED),
        (SmtpPhase.CONTENT, None, "connection lost", Fate.RETRY),
        (SmtpPhase.RCPT, 552, "5.2.2 Mailbox full", Fate.MAILBOX),
        (SmtpPhase.RCPT, 550, "Unrouteable address", Fate.RETRY),
        (SmtpPhase.RCPT, 550, "5.1.1 nobody", Fate.NO_SUCH_ADDRESS),
        (SmtpPhase.RCPT, 550, "nobody", Fate.HARD),
        (SmtpPhase.RCPT, 554, "5.7.1 Relay access denied", Fate.OURS),
        (SmtpPhase.DOT, 554, "5.7.1 spam", Fate.OURS),
        (SmtpPhase.DOT, 552, "no", Fate.OURS),
        (SmtpPhase.DOT, 552, "5.3.4 Message is larger than 10 MB", Fate.CONTENT),
        (SmtpPhase.DOT, 552, "Message size exceeds fixed limit", Fate.CONTENT),
        (SmtpPhase.DOT, 554, "5.6.0 malformed", Fate.CONTENT),
        (SmtpPhase.DOT, 550, "5.7.1 bare LF in the content", Fate.CONTENT),
        (SmtpPhase.RCPT, 550, "5.5.2 the name in your HELO is too long", Fate.OURS),
        (SmtpPhase.AUTH, 535, "5.7.8 no", Fate.OURS),
        (SmtpPhase.EHLO, 504, "5.5.2 no", Fate.OURS),
    ],
)
def test_what_becomes_of_the_message(phase: SmtpPhase, code: int | None, text: str, what: Fate) -> None:
    assert fate_of(SendResult(1, accepted=code == 250, phase=phase, code=code, reply=text)) is what


# ── Whatever is said ────────────────────────────────────────────────────────────────────────────────────────

_TEXTS = st.text(max_size=200) | st.lists(
    st.sampled_from([*" .:(#)<>@\n", "5.1.1", "5.7.1", "user unknown", "blocked", "full", "later"]),
    max_size=12,
).map("".join)


@given(st.sampled_from(SmtpPhase), st.integers(400, 599), _TEXTS)
def test_nobody_is_given_up_for_a_4xx_or_before_being_named(phase: SmtpPhase, code: int, text: str) -> None:
    verdict = judge(phase, code, text)

    if code < 500 or phase not in {SmtpPhase.RCPT, SmtpPhase.DATA, SmtpPhase.CONTENT, SmtpPhase.DOT}:
        assert verdict.about is not About.ADDRESS
    if verdict.at_once:
        assert verdict.about is About.ADDRESS
        assert set(enhanced_codes(code, text)) <= {"5.1.1", "5.1.2", "5.1.10"}


@pytest.mark.parametrize("unit", ["a", "a.", "user ", "<", "@", "not ", "over ", "5.1.1\n", "1.", "-"])
def test_a_long_answer_is_read_in_bounded_work(unit: str) -> None:
    """With quadratic work this would take minutes."""
    assert judge(SmtpPhase.RCPT, 550, unit * (1_000_000 // len(unit))).about in About
