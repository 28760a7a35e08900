"""The bytes of one mail on the wire: its commands, its content, and what must not be sent at all."""

import re

from service.messages.mail.transport import Envelope, SendResult, SmtpPhase

FINAL_DOT = b".\r\n"
RESET = b"RSET\r\n"
DATA = b"DATA\r\n"
_MAILBOX = re.compile(r"[!-;=?-~\u0080-\U0010ffff]+")


def mail_command(envelope: Envelope) -> bytes:
    """MAIL."""
    extension = " BODY=8BITMIME SMTPUTF8" if envelope.needs_smtputf8 else ""  # its header To is 8-bit
    return f"MAIL FROM:<{envelope.sender}>{extension}\r\n".encode()


def rcpt_command(envelope: Envelope) -> bytes:
    """RCPT."""
    return f"RCPT TO:<{envelope.recipient}>\r\n".encode()


def dot_stuffed(content: bytes) -> bytes:
    """The content, dot-stuffed, ending in CRLF, without the final dot."""
    whole = content if content.endswith(b"\r\n") else content + b"\r\n"
    stuffed = whole.replace(b"\r\n.", b"\r\n..")
    return b"." + stuffed if stuffed.startswith(b".") else stuffed


def failure(envelope: Envelope, phase: SmtpPhase, code: int | None, reply: str) -> SendResult:
    """The result of a mail that was not accepted."""
    return SendResult(envelope.id, accepted=False, phase=phase, code=code, reply=reply)


def without_smtputf8(envelope: Envelope) -> SendResult:
    """The result of a mail to an international address where the server does not take such."""
    return failure(envelope, SmtpPhase.RCPT, 553, "5.6.7 the mail server does not offer SMTPUTF8")


def rejection(envelope: Envelope) -> SendResult | None:
    """The result of an envelope that must not be sent: malformed address, bare line end. None: it may."""
    if not (_sendable(envelope.recipient) and _sendable(envelope.sender) and envelope.sender.isascii()):
        return failure(envelope, SmtpPhase.RCPT, 553, "5.1.3 the address cannot be sent to")
    if _has_bare(envelope.content):
        return failure(envelope, SmtpPhase.DOT, 554, "5.6.0 the content holds a bare CR, LF or NUL")
    return None


def _sendable(address: str) -> bool:
    return address.isprintable() and _MAILBOX.fullmatch(address) is not None


def _has_bare(content: bytes) -> bool:
    """A CR or LF on its own, or a NUL. Counting is forty times faster than a pattern with look-arounds."""
    pairs = content.count(b"\r\n")
    return content.count(b"\n") != pairs or content.count(b"\r") != pairs or b"\0" in content
