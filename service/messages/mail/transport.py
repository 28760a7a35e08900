"""The interface of transports: what they get and what they report."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


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


@dataclass(frozen=True, slots=True)
class SendResult:
    """The result of one message. ``code`` None: the connection broke or timed out in ``phase``."""

    id: int
    accepted: bool
    phase: SmtpPhase
    code: int | None
    reply: str


BeforeDot = Callable[[Sequence[int]], Awaitable[frozenset[int]]]
"""Called before the final dot is written; returns the ids that may get it. The others must not be sent."""

OnResult = Callable[[SendResult], Awaitable[None]]

ShouldSend = Callable[[Envelope], bool]
"""Called before the first command of a message. False: it is not sent, and gets no result."""


def always(_envelope: Envelope) -> bool:
    """Send all."""
    return True


class Transport(Protocol):
    """SMTP, or the local inbox."""

    async def send(
        self,
        envelopes: Sequence[Envelope],
        before_dot: BeforeDot,
        on_result: OnResult,
        should_send: ShouldSend = always,
    ) -> None:
        """Send over one connection, in order; exactly one result for each that should be sent."""

    async def ping(self) -> str | None:
        """None when a message could be sent now, else what is wrong."""

    async def close(self) -> None:
        """Close all connections."""
