"""When the mail server's answers add up to a stop of all sending, and how long it is left alone."""

from datetime import timedelta

import pytest

from service.engine.retry import pause_after_refusal
from service.messages.mail.smtp_reply import Fate
from service.messages.mail.transport import SendResult, SmtpPhase
from service.messages.relay import RelayState


def note(relay: RelayState, what: Fate, id: int = 1, phase: SmtpPhase = SmtpPhase.RCPT) -> None:
    relay.note(what, SendResult(id, what is Fate.SENT, phase, 554, "no"), f"u{id}@example.org", 0.0)


def stopped(phase: SmtpPhase = SmtpPhase.AUTH) -> RelayState:
    relay = RelayState()
    note(relay, Fate.OURS, phase=phase)
    return relay


def reason(relay: RelayState) -> str:
    assert relay.refusal
    return relay.refusal.reason


@pytest.mark.parametrize(
    "phase", [SmtpPhase.CONNECT, SmtpPhase.EHLO, SmtpPhase.TLS, SmtpPhase.AUTH, SmtpPhase.MAIL]
)
def test_a_refusal_before_a_recipient_was_named_stops_at_once(phase: SmtpPhase) -> None:
    assert reason(stopped(phase)) == f"the mail server refuses us at {phase}: 554"


@pytest.mark.parametrize("what", [Fate.OURS, Fate.CONTENT])
@pytest.mark.parametrize("phase", [SmtpPhase.RCPT, SmtpPhase.DATA, SmtpPhase.DOT])
def test_later_it_takes_three_different_ones_in_a_row(what: Fate, phase: SmtpPhase) -> None:
    relay = RelayState()
    for id_ in (1, 2, 2, 1):
        note(relay, what, id_, phase)
        assert relay.refusal is None
    note(relay, what, 3, phase)
    assert "3" in reason(relay)


@pytest.mark.parametrize("what", [Fate.RETRY, Fate.HARD, Fate.NO_SUCH_ADDRESS, Fate.UNCONFIRMED])
def test_what_is_not_about_us_stops_nothing(what: Fate) -> None:
    relay = RelayState()
    for id_ in (1, 2, 3, 4, 4, 4):
        note(relay, what, id_)
    assert relay.refusal is None


def test_a_mail_that_is_taken_starts_the_count_anew() -> None:
    relay = RelayState()
    for id_, what in enumerate([Fate.OURS, Fate.OURS, Fate.SENT, Fate.OURS, Fate.OURS]):
        note(relay, what, id_)
    assert relay.refusal is None


def test_only_a_probe_ends_a_stop() -> None:
    relay = stopped()
    note(relay, Fate.SENT)  # over a connection that was open before
    assert relay.closed

    relay.probing = True
    assert not relay.closed
    note(relay, Fate.SENT)
    assert relay.refusal is None


@pytest.mark.parametrize(("age", "pause"), [(-5, 1), (0, 1), (4, 1), (20, 5), (60, 15), (6000, 15)])
def test_a_message_refused_for_our_sake_is_tried_less_often_the_longer_it_waits(age: int, pause: int) -> None:
    assert pause_after_refusal(timedelta(minutes=age)) == timedelta(minutes=pause)


# ── Too many of the same ────────────────────────────────────────────────────────────────────────────────────


def bounce(
    relay: RelayState, id: int, text: str = "5.1.1 <x@example.org>: no such user", at: float = 0.0
) -> None:
    result = SendResult(id, False, SmtpPhase.RCPT, 550, text)
    relay.note(Fate.NO_SUCH_ADDRESS, result, f"u{id}@example.org", at)


def taken(relay: RelayState, *ids: int) -> None:
    for id_ in ids:
        note(relay, Fate.SENT, id_)


def test_five_recipients_and_all_are_refused_in_the_same_words() -> None:
    relay = RelayState()
    for id_ in (1, 1, 1, 2, 3, 4):
        bounce(relay, id_, f"5.1.1 <u{id_}@example.org>: no such user")
    assert relay.refusal is None
    bounce(relay, 5)
    assert relay.refusal
    assert relay.refusal.words == "550 5.1.1 no such user"


def test_ten_of_a_third_of_the_last_hundred_are_refused_in_the_same_words() -> None:
    relay = RelayState()
    taken(relay, *range(100, 190))
    for id_ in range(1, 30):
        bounce(relay, id_)
    assert relay.refusal is None
    bounce(relay, 30)
    assert "30 of the last 100 recipients" in reason(relay)


def test_a_few_of_many_are_dead_addresses() -> None:
    relay = RelayState()
    taken(relay, *range(100, 150))
    for id_ in range(9):
        bounce(relay, id_)
    assert relay.refusal is None


def test_different_words_are_different_reasons_and_yesterday_is_over() -> None:
    relay = RelayState()
    for id_, text in enumerate(["5.1.1 gone", "5.1.1 moved", "5.1.1 left", "5.1.1 closed", "5.1.1 dead"]):
        bounce(relay, id_, text)
    for id_ in range(10, 14):
        bounce(relay, id_, at=0.0)
    bounce(relay, 15, at=86_401.0)
    assert relay.refusal is None


def test_what_a_person_overrules_is_about_the_recipients() -> None:
    relay = RelayState()
    for id_ in range(5):
        bounce(relay, id_)
    relay.overrule()
    assert relay.refusal is None
    for id_ in range(5, 50):
        bounce(relay, id_)
    assert relay.refusal is None
