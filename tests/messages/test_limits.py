"""How much mail a domain is sent: the setting, and what throttles."""

from datetime import timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.engine.retry import delay, domain_pauses
from service.messages.limits import DomainLimit, DomainLimits, domain_of
from service.messages.mail.smtp_reply import throttles
from service.messages.mail.transport import SendResult, SmtpPhase


def test_the_setting_reads_as_it_is_written() -> None:
    limits = DomainLimits.parse(" Gmail.com = 5/20, *=10/0 ,gmx.de=0/0.5,")

    assert limits.of("gmail.com") == DomainLimit(5, 20)
    assert limits.of("gmx.de") == DomainLimit(0, 0.5)
    assert limits.of("example.org") == DomainLimit(10, 0)
    assert DomainLimits.parse("") == DomainLimits()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("gmail.com", "write mails at once/mails per second"),
        ("gmail.com=5", "write mails at once/mails per second"),
        ("gmail.com=5/x", "write mails at once/mails per second"),
        ("gmail.com=-1/5", "write mails at once/mails per second"),
        ("gmail.com=1/-5", "write mails at once/mails per second"),
        ("gmail.com=1/inf", "write mails at once/mails per second"),
        ("gmail.com=1/nan", "write mails at once/mails per second"),
        ("gmail.com=1.5/2", "write mails at once/mails per second"),
        ("a@gmail.com=1/2", "'a@gmail.com' is no domain"),
        ("=1/2", "'' is no domain"),
        ("*.gmail.com=1/2", "'*.gmail.com' is no domain"),
        ("gmail.com=1/2,GMAIL.com=3/4", "gmail.com is named twice"),
    ],
)
def test_each_mistake_is_named(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match="'") as caught:
        DomainLimits.parse(text)

    assert problem in str(caught.value)


def test_all_mistakes_are_named_at_once() -> None:
    with pytest.raises(ValueError, match=r"'a=1'.*'b c=1/2'.*'d=1/y'"):
        DomainLimits.parse("a=1,b c=1/2,d=1/y,e=1/1")


def test_a_domain_is_what_follows_the_at() -> None:
    assert domain_of("Ann@Example.ORG") == "example.org"


@pytest.mark.parametrize(
    ("phase", "code", "reply", "told"),
    [
        (SmtpPhase.RCPT, 421, "4.7.28 unusual rate of mail", True),
        (SmtpPhase.RCPT, 450, "busy", True),
        (SmtpPhase.DOT, 451, "4.7.500 Server busy. Please try again later", True),
        (SmtpPhase.DATA, 452, "4.3.1 insufficient storage", True),
        (SmtpPhase.RCPT, 450, "4.2.1 the user is receiving mail at a rate that …", False),
        (SmtpPhase.RCPT, 452, "4.2.2 the mailbox is over quota", False),
        (SmtpPhase.RCPT, 450, "4.2.0 ann@example.org: Recipient address rejected: Greylisted", False),
        (SmtpPhase.RCPT, 451, "4.7.1 Greylisting in action, please come back later", False),
        (SmtpPhase.MAIL, 421, "4.3.2 shutting down", False),
        (SmtpPhase.CONNECT, 421, "too many connections", False),
        (SmtpPhase.RCPT, 550, "5.7.1 no", False),
        (SmtpPhase.DOT, None, "connection lost", False),
        (SmtpPhase.DOT, 250, "2.0.0 taken", False),
    ],
)
def test_what_asks_a_sender_to_slow_down(phase: SmtpPhase, code: int | None, reply: str, told: bool) -> None:
    assert throttles(SendResult(1, accepted=code == 250, phase=phase, code=code, reply=reply)) is told


@given(st.floats(0, 1, exclude_max=True), st.floats(0, 1, exclude_max=True))
def test_pauses_double_and_never_delay_a_messages_own_retry(spread: float, other: float) -> None:
    pauses = domain_pauses(spread)

    assert timedelta(seconds=30) <= pauses[0] <= timedelta(seconds=36)
    assert all(abs(later - 2 * earlier) < timedelta(milliseconds=1) for earlier, later in pairwise(pauses))
    assert pauses[-1] < timedelta(minutes=20)
    assert all(pause < delay(times, other) for times, pause in enumerate(pauses, 1))
