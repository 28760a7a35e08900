"""One SMTP connection, which pulls mails from a queue: a protocol, with no task or timer for each mail.

Replies are read strictly in order, so that ``MAIL RCPT DATA`` travel in one write, and those of the next mail
together with this mail's final dot (RFC 2920). The dot is written only when the queue has granted it, and
only into an empty buffer, so that we know whether the system took it.
"""

import asyncio
import math
import select
from collections import deque
from collections.abc import Callable
from typing import Protocol

from service.clock import Clock
from service.messages.mail.mail_queue import CheckedQueue
from service.messages.mail.smtp_connect import Extensions, SmtpConfig
from service.messages.mail.smtp_message import (
    DATA,
    FINAL_DOT,
    RESET,
    dot_stuffed,
    failure,
    mail_command,
    rcpt_command,
    without_smtputf8,
)
from service.messages.mail.smtp_reply_reader import MalformedReply, ReplyReader
from service.messages.mail.transport import Envelope, SendResult, SmtpPhase

_HANGUP = getattr(select, "POLLRDHUP", 0)  # Linux; elsewhere POLLHUP, which is always reported, has to do
_GONE = _HANGUP | select.POLLHUP | select.POLLERR | select.POLLNVAL
_TAKEN = frozenset({250, 251})
_CLOSING = 421
_QUIT_SECONDS = 2.0
_LONGEST_TICK = 5.0

Handler = Callable[[int, str], None]


class ConnectionOwner(Protocol):
    """Whoever keeps connections."""

    def idle(self, connection: "SmtpConnection") -> None:
        """It found nothing to send."""

    def quitting(self) -> None:
        """A connection says QUIT."""

    def ended(self, connection: "SmtpConnection") -> None:
        """It is closed."""


class SmtpConnection(asyncio.Protocol):
    """An open connection, logged in. ``mails``: where it pulls from.

    A connection that breaks, times out or gets a reply that it did not wait for is closed; that concerns
    only the mail that was on its way.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        mails: CheckedQueue,
        owner: ConnectionOwner,
        config: SmtpConfig,
        clock: Clock,
        offers: Extensions,
    ) -> None:
        self.mails = mails
        self._transport = transport
        self._owner = owner
        self._config = config
        self._clock = clock
        self._offers = offers
        self._reader = ReplyReader()
        self._awaited: deque[Handler] = deque()
        self._transaction = (self._on_mail, self._on_rcpt, self._on_data)
        self._current: Envelope | None = None  # begun, without a dot
        self._phase = SmtpPhase.MAIL  # of the current mail
        self._refusal: SendResult | None = None  # of the current mail, while further replies are awaited
        self._dotted: Envelope | None = None  # its dot is written, its answer not yet here
        self._dot_buffered = False  # the system has not taken that dot yet
        self._dot_requested = False
        self._draining = False
        self._paused = False
        self._reset = b""
        self._kept = False  # the server may have closed it before we began with this mail
        self._begun = 0
        self._stopped = False
        self._commands_left = False  # commands of a mail that was given back are written
        self._quitting = False
        self._end_reason: str | None = None
        self._deadline = math.inf
        shortest = min(config.command_timeout, config.data_timeout, config.idle)
        self._tick_seconds = min(_LONGEST_TICK, shortest / 4)
        self._poll = select.poll()
        self._poll.register(transport.get_extra_info("socket").fileno(), select.POLLOUT | _HANGUP)
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(self._tick_seconds, self._tick)
        transport.set_write_buffer_limits(high=0)  # "resumed" means: the system took everything
        transport.set_protocol(self)
        if transport.is_closing():  # it broke before it was ours
            self._loop.call_soon(self._end, "connection lost")

    @property
    def has_dot(self) -> bool:
        """Whether the answer to a final dot is awaited."""
        return self._dotted is not None

    @property
    def is_idle(self) -> bool:
        """Whether it can begin with a mail."""
        return not (self._current or self._dotted or self._quitting or self._end_reason)

    @property
    def is_quitting(self) -> bool:
        """Whether it is being closed."""
        return self._quitting

    @property
    def outdated(self) -> bool:
        """Whether it has been idle for too long."""
        return self.is_idle and self._clock.monotonic() >= self._deadline

    # ── What the owner says ─────────────────────────────────────────────────────────────────────────────────

    def pull(self) -> None:
        """Begin with the next mail; without one it becomes idle, and after enough of them it is closed."""
        if self._end_reason or self._quitting:
            return
        if self._stopped or self._begun >= self._config.per_connection:
            self.quit()
        elif not self.begin_next():
            self._kept = True
            self._wait(self._config.idle)
            self._owner.idle(self)

    def begin_next(self) -> bool:
        """Send the next mail. False: there is none."""
        envelope = self._next()
        if envelope is None:
            return False
        self._wait(self._config.command_timeout)
        self._transport.write(self._first_commands(envelope))
        return True

    def _next(self) -> Envelope | None:
        """The next mail; those that this server does not take are answered."""
        while envelope := self.mails.next():
            if self._offers.smtputf8 or not envelope.needs_smtputf8:
                return envelope
            self.mails.queue.answered(without_smtputf8(envelope))
        return None

    def quit(self) -> None:
        """Send QUIT and close."""
        if not (self._end_reason or self._quitting):
            self._quitting = True
            self._owner.quitting()
            self._wait(_QUIT_SECONDS)
            self._awaited.append(self._on_quit)
            self._transport.write(b"QUIT\r\n")

    def stop(self) -> None:
        """Give back the mail that has no dot, and close as soon as the answer to a dot is here."""
        self._stopped = True
        if self._dotted is None and self._current is None:
            self.quit()
        elif self._dotted is None:
            self._end("sending was stopped", give_back=True)
        elif self._current is not None:
            envelope, self._current = self._current, None
            self._commands_left = True
            self.mails.queue.give_back(envelope)

    def abort(self, reason: str) -> None:
        """Close at once."""
        self._end(reason)

    # ── Commands and replies ────────────────────────────────────────────────────────────────────────────────

    def _first_commands(self, envelope: Envelope) -> bytes:
        """Make this the current mail: what is to be written for it first."""
        self._current = envelope
        self._phase = SmtpPhase.MAIL
        self._begun += 1
        reset, self._reset = self._reset, b""
        if reset:
            self._awaited.append(self._on_reset)
        if self._offers.pipelining:
            self._awaited.extend(self._transaction)
            return reset + mail_command(envelope) + rcpt_command(envelope) + DATA
        if reset:
            return reset
        self._awaited.append(self._on_mail)
        return mail_command(envelope)

    def _command(self, command: bytes, handler: Handler) -> None:
        self._awaited.append(handler)
        self._transport.write(command)

    def _on_reset(self, code: int, _reply: str) -> None:
        self._wait(self._config.command_timeout)
        if code == _CLOSING:
            self._end("the server closes the connection")
        elif not self._offers.pipelining and self._current:
            self._command(mail_command(self._current), self._on_mail)

    def _on_mail(self, code: int, reply: str) -> None:
        if self._continues(SmtpPhase.RCPT, code, reply) and self._current:
            self._command(rcpt_command(self._current), self._on_rcpt)

    def _on_rcpt(self, code: int, reply: str) -> None:
        if self._continues(SmtpPhase.DATA, code, reply):
            self._command(DATA, self._on_data)

    def _continues(self, following: SmtpPhase, code: int, reply: str) -> bool:
        """Whether the command of the following phase is to be written; with pipelining it has been."""
        self._wait(self._config.command_timeout)
        if code not in _TAKEN:
            self._refuse(code, reply)
            if self._refusal is None or self._end_reason:
                return False
        self._phase = following
        return not self._offers.pipelining

    def _on_data(self, code: int, reply: str) -> None:
        self._wait(self._config.command_timeout)
        if code != 354:
            self._refuse(code, reply)
            if self._offers.pipelining:
                self._next_after_refusal()
        elif self._refusal:  # it accepts content nevertheless: send an empty message, to no recipient
            self._command(FINAL_DOT, self._on_empty)
        else:
            self._write_content()

    def _refuse(self, code: int, reply: str) -> None:
        """The server refuses the current mail; with pipelining, further replies to it may be on their way."""
        assert self._current
        if self._refusal is None:
            self._refusal = failure(self._current, self._phase, code, reply)
        if code == _CLOSING:
            self._end("the server closes the connection")
        elif not self._offers.pipelining:
            self._next_after_refusal()

    def _on_empty(self, _code: int, _reply: str) -> None:
        self._next_after_refusal()

    def _next_after_refusal(self) -> None:
        refusal, self._refusal, self._current = self._refusal, None, None
        if refusal is None or self._end_reason:
            return
        self._reset = RESET
        self._kept = True
        self.mails.queue.answered(refusal)
        self.pull()

    # ── Content and dot ─────────────────────────────────────────────────────────────────────────────────────

    def _write_content(self) -> None:
        assert self._current
        self._phase = SmtpPhase.CONTENT
        self._wait(self._config.data_timeout)
        self._transport.write(dot_stuffed(self._current.content))
        if self._transport.is_closing():
            self._end("connection lost")
        elif self._paused:
            self._draining = True
        else:
            self._request_dot()

    def _request_dot(self) -> None:
        assert self._current
        self._deadline = math.inf  # now the server waits for us
        self._dot_requested = True
        try:
            self.mails.queue.request_dot(self._current.id, self._granted)
        except BaseException:
            self._dot_requested = False
            raise

    def _granted(self, granted: bool) -> None:  # noqa: FBT001
        if not self._dot_requested:
            return
        self._dot_requested = False
        if not granted:
            self._current = None
            self._end("the dot was not granted")
        elif self._end_reason:
            self._close_current(self._end_reason)
        else:
            self._write_dot()

    def _write_dot(self) -> None:
        """Write the final dot, and the first commands of the next mail.

        A socket that does not take them at once gets the dot alone: as long as any of it is in our buffer,
        the server cannot have it. Until here the mail was certainly not delivered.
        """
        events = self._events()
        if events & _GONE:
            self._end("connection lost")
            return
        writable = bool(events & select.POLLOUT)
        following = self._next() if writable and self._goes_on() else None
        self._dotted, self._current = self._current, None
        self._awaited.append(self._on_dot)
        self._wait(self._config.data_timeout)
        self._transport.write(FINAL_DOT + self._first_commands(following) if following else FINAL_DOT)
        if self._transport.is_closing():  # the system did not take it
            self._dot_buffered = True
            self._end("connection lost")
        elif not writable:
            self._dot_buffered = self._transport.get_write_buffer_size() > 0

    def _events(self) -> int:
        """What the system says of the socket, even if the event loop has not heard of it yet."""
        if self._transport.is_closing():
            return _GONE
        ready = self._poll.poll(0)
        return ready[0][1] if ready else 0

    def _goes_on(self) -> bool:
        return self._offers.pipelining and not self._stopped and self._begun < self._config.per_connection

    def _on_dot(self, code: int, reply: str) -> None:
        assert self._dotted
        self._wait(self._config.command_timeout)
        result = SendResult(
            self._dotted.id, accepted=200 <= code < 300, phase=SmtpPhase.DOT, code=code, reply=reply
        )
        self._dotted = None
        self._dot_buffered = False
        self._kept = True
        self.mails.queue.answered(result)
        if code == _CLOSING or self._commands_left:
            self._end("the server closes the connection")
        elif self._current is None:
            self.pull()

    def _on_quit(self, _code: int, _reply: str) -> None:
        self._end("closed")

    # ── What the transport says ─────────────────────────────────────────────────────────────────────────────

    def data_received(self, data: bytes) -> None:
        try:
            for code, reply in self._reader.feed(data):
                if self._end_reason:
                    return
                if not self._awaited:
                    self._end(f"unexpected reply: {code} {reply}")
                    return
                self._awaited.popleft()(code, reply)
        except MalformedReply as error:
            self._end(str(error))

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = self._dot_buffered = False
        if self._draining:
            self._draining = False
            self._request_dot()

    def eof_received(self) -> None:
        self._end("connection lost")

    def connection_lost(self, exc: Exception | None) -> None:
        self._end("connection lost")

    # ── Timeouts and the end ────────────────────────────────────────────────────────────────────────────────

    def _wait(self, seconds: float) -> None:
        self._deadline = self._clock.monotonic() + seconds

    def _tick(self) -> None:
        if self.outdated:
            self.quit()
        elif self._clock.monotonic() >= self._deadline:
            self._end("timeout")
        if not self._end_reason:
            self._timer = self._loop.call_later(self._tick_seconds, self._tick)

    def _end(self, reason: str, *, give_back: bool = False) -> None:
        """Close at once, and report of the mails that were on their way."""
        if self._end_reason:
            return
        self._end_reason = reason
        self._timer.cancel()
        self._draining = False
        dotted, self._dotted = self._dotted, None
        self._transport.abort()
        try:
            if dotted:
                phase = SmtpPhase.CONTENT if self._dot_buffered else SmtpPhase.DOT
                self.mails.queue.answered(failure(dotted, phase, None, reason))
            if give_back:
                self._dot_requested = False
            if not self._dot_requested:  # else ``_granted`` says how it ends
                self._close_current(reason, give_back=give_back or dotted is not None)
        finally:
            self._owner.ended(self)

    def _close_current(self, reason: str, *, give_back: bool = False) -> None:
        envelope, self._current = self._current, None
        if envelope is None:
            return
        if self._phase is SmtpPhase.MAIL and self._kept:
            give_back = True
        elif self._refusal:
            give_back = False
        if give_back:
            self.mails.queue.give_back(envelope)
        else:
            self.mails.queue.answered(self._refusal or failure(envelope, self._phase, None, reason))
