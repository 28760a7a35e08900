"""How a composed message leaves: what a transport is given and what it reports."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class SmtpPhase(StrEnum):
    """Where in the conversation a message stood when its fate was decided."""

    CONNECT = "connect"
    EHLO = "ehlo"
    TLS = "tls"
    AUTH = "auth"
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"
    CONTENT = "content"
    """The content was being written; the final dot was not: certain non-delivery."""
    DOT = "dot"
    """The final dot was written, or may have been."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """A message ready to leave. ``content`` has CRLF line ends only and is not dot-stuffed."""

    id: int
    sender: str
    recipient: str
    content: bytes


@dataclass(frozen=True, slots=True)
class SendResult:
    """The fate of one message. ``code`` None: the connection broke or timed out in ``phase``."""

    id: int
    accepted: bool
    phase: SmtpPhase
    code: int | None
    reply: str


BeforeDot = Callable[[Sequence[int]], Awaitable[frozenset[int]]]
"""Asked before the final dot is written; returns those that may get it. Everything else must not be sent."""

OnResult = Callable[[SendResult], Awaitable[None]]

ShouldSend = Callable[[Envelope], bool]
"""Asked before a message's first command. What is no longer wanted is left alone: no result."""


def always(_envelope: Envelope) -> bool:
    """All are wanted."""
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
        """Send over one connection, in order; exactly one result for each that is wanted."""

    async def ping(self) -> str | None:
        """None when a message could be sent now, else what is wrong."""

    async def close(self) -> None:
        """Say goodbye and close every connection."""
