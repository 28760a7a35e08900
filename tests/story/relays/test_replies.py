"""What a real mail server answers on the wire: nothing counts against somebody whom it is not about."""

import ssl
from collections.abc import Mapping

import pytest

from service.clock import SystemClock
from service.messages.mail.smtp import SmtpPool
from service.messages.mail.smtp_reply import Fate, fate_of
from service.messages.mail.transport import Envelope
from tests.messages.mail.mails import Mails, send
from tests.story.relays import internet, name_server
from tests.story.relays.conftest import Relay, started
from tests.story.relays.relay import DOMAIN, Setup

pytestmark = pytest.mark.long(only=True)
_ODD = "odd_helo@wire.example"
_CALLED = {"called": internet.Fate("address", "550 5.1.1 Nobody of that name", domain="called.example")}

_OF_A_MAIL: Mapping[str, tuple[Fate | None, Fate | None]] = {
    "ann@person.example": (Fate.SENT, Fate.SENT),
    "listed@wire.example": (Fate.OURS, Fate.OURS),
    "listed_in_words@wire.example": (None, Fate.OURS),
    "unknown_sender@wire.example": (Fate.RETRY, Fate.OURS),
    _ODD: (Fate.RETRY, Fate.OURS),
    "rejected@wire.example": (Fate.OURS, Fate.OURS),
    "policy@wire.example": (Fate.OURS, Fate.OURS),
    "full@wire.example": (Fate.MAILBOX, Fate.MAILBOX),
    "later@wire.example": (Fate.RETRY, Fate.RETRY),
    "unknown@wire.example": (Fate.NO_SUCH_ADDRESS, Fate.RETRY),
    f"stranger@{DOMAIN}": (Fate.NO_SUCH_ADDRESS, None),
    "called@called.example": (None, Fate.NO_SUCH_ADDRESS),
    "pat@wire.dead.example": (Fate.RETRY, Fate.RETRY),
    "pat@wire.lame.example": (Fate.RETRY, Fate.RETRY),
}
"""Each recipient, and what we do after the answer of Postfix and of Exim; None: the relay has no such rule.

Of an address that it does not know Exim says the same as of a domain that does not exist: "Unrouteable".
"""


def mail(n: int, recipient: str, subject: str = "Two goals are due", body: str = "") -> Envelope:
    sender = (
        f"bounce@{name_server.DEAD}" if recipient.startswith("unknown_sender") else f"bounce+{n}@{DOMAIN}"
    )
    content = (
        f"Message-ID: <{n}@{DOMAIN}>\r\nFrom: reminders@{DOMAIN}\r\nSubject: {subject}\r\n\r\n{body}\r\n"
    )
    return Envelope(n, sender, recipient, content.encode())


async def answered(given: Setup, *mails: Envelope, **changes: object) -> Mails:
    """What the relay makes of them."""
    trusted = ssl.create_default_context(cafile=given.certificate.authority)
    pool = SmtpPool(given.config(**{"tls_context": trusted, **changes}), SystemClock())
    try:
        return await send(pool, *mails)
    finally:
        await pool.close()


async def test_what_a_relay_says_of_a_mail(kind: Relay) -> None:
    column = ("postfix", "exim").index(kind.name)
    wanted = {to: fates[column] for to, fates in _OF_A_MAIL.items() if fates[column]}
    recipients = list(wanted)
    lines = "x" * 70 + "\r\n"
    async with started(kind, _CALLED) as given:
        mails = await answered(given, *map(mail, range(len(recipients)), recipients))
        contents = await answered(
            given,
            mail(0, "ann@person.example", subject="forbidden"),
            mail(1, "ann@person.example", body=lines * 2000),
        )

    assert {recipients[result.id]: fate_of(result) for result in mails.results} == wanted
    assert [fate_of(result) for result in contents.results] == [Fate.OURS, Fate.CONTENT]


_OF_US: Mapping[str, tuple[Mapping[str, object], tuple[str, str]]] = {
    "no log-in": ({"user": ""}, ("rcpt 554", "rcpt 550")),
    "a wrong password": ({"password": "wrong"}, ("auth 535", "auth 535")),
    "a certificate that nobody trusts": ({"tls_context": None}, ("connect None", "connect None")),
    "a log-in in clear": ({"security": "none"}, ("auth None", "auth None")),
    "a host name that is none": ({"ehlo": "a_b"}, ("rcpt 504", "ehlo 501")),
}
"""What is wrong with us, and where Postfix and Exim say so, with which code."""


async def test_what_a_relay_says_of_us(kind: Relay) -> None:
    said, fates = {}, set()
    async with started(kind, {}) as given:
        for mistake, (changes, _) in _OF_US.items():
            mails = await answered(
                given, mail(0, _ODD if "ehlo" in changes else "ann@person.example"), **changes
            )
            said[mistake] = {f"{phase} {code}" for _, _, phase, code in mails.ends}
            said[mistake] |= {f"{phase} {code}" for phase, code in mails.refusals}
            fates |= {fate_of(result) for result in mails.results}

    column = ("postfix", "exim").index(kind.name)
    assert said == {mistake: {places[column]} for mistake, (_, places) in _OF_US.items()}
    assert fates == {Fate.OURS}
