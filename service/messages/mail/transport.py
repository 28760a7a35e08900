"""The interface of transports: they pull mails from a queue, and report what became of each."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from service.mail_address import needs_smtputf8


class SmtpPhase(StrEnum):
    """The SMTP phase in which a message was accepted or refused."""

    CONNECT = "connect"
    EHLO = "ehlo"
    TLS = "tls"
    AUTH = "auth"
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"
    CONTENT = "content"
    """The content was being written, but not the final dot: certainly not delivered."""
    DOT = "dot"
    """The final dot was written, or may have been."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """A message ready to send. ``content`` has CRLF line ends only and is not dot-stuffed."""

    id: int
    sender: str
    recipient: str
    content: bytes

    @property
    def needs_smtputf8(self) -> bool:
        """Whether only a server that offers SMTPUTF8 takes it."""
        return needs_smtputf8(self.recipient)


@dataclass(frozen=True, slots=True)
class SendResult:
    """The result of one message. ``code`` None: the connection broke or timed out in ``phase``."""

    id: int
    accepted: bool
    phase: SmtpPhase
    code: int | None
    reply: str


class MailQueue(Protocol):
    """What a transport sends, and whom it tells. It calls these on the event loop; none of them may raise."""

    def next(self) -> Envelope | None:
        """The next mail, for a connection that is ready. None: nothing now; ``Transport.wake`` asks again."""

    def request_dot(self, delivery: int, granted: Callable[[bool], None]) -> None:
        """The content is written, the final dot is not: ``granted`` is to be called once, now or later.

        False: the dot must not be written: the connection is closed, and nothing is reported of this mail.
        Until ``granted`` is called nothing is reported of it either, even if the connection breaks; but a
        stop gives it back at once, and then ``granted`` does nothing.
        """

    def answered(self, result: SendResult) -> None:
        """What became of a mail; once for each, unless its dot was refused or it was given back."""

    def give_back(self, envelope: Envelope) -> None:
        """Certainly nothing of this mail was sent: it is to be the next one again.

        No connection could be opened for it, or the server closed one that had been kept open before it
        began with this mail, or sending was stopped.
        """

    def refused(self, phase: SmtpPhase, code: int | None, reply: str) -> None:
        """No connection could be opened. ``code`` None: no answer. ``wake`` tries it again."""


class Transport(Protocol):
    """SMTP, or the local inbox."""

    @property
    def connections(self) -> int:
        """How many are open."""

    @property
    def in_use(self) -> int:
        """How many of them have a mail on its way."""

    def start(self, queue: MailQueue) -> None:
        """Send what this queue holds, from the next ``wake`` on."""

    def wake(self, at_most: int | None = None) -> None:
        """There is (again) something in the queue.

        ``at_most``: no connection is opened beside so many, until the next call.
        """

    async def stop(self, seconds: float) -> None:
        """Pull nothing more. Mails without a dot are given back at once; the others end within ``seconds``.

        Then all connections are closed with QUIT, which takes two seconds more at the most.
        """

    async def send_one(self, envelope: Envelope) -> SendResult:
        """Send one mail beside the queue. Its dot is always granted."""

    async def ping(self, *, at_once: bool = False) -> str | None:
        """None when a message could be sent now, else what is wrong."""

    async def close(self) -> None:
        """Close all connections; nothing is waited for but QUIT."""
