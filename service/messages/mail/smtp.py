"""The SMTP pool: aiosmtplib opens connections, on which our own pipelined transactions run.

aiosmtplib does what is difficult and rare: connect, EHLO, STARTTLS, AUTH. Then its transport gets our
protocol, ``Wire``, which reads replies strictly in order, so that ``MAIL RCPT DATA`` travel in one write,
and those of the next message together with this message's final dot (RFC 2920). The dot itself is written
only when the caller has made a durable note of it.
"""

import asyncio
import math
import re
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, cast

import aiosmtplib

from service.clock import Clock
from service.engine.retry import backoff
from service.messages.mail.smtp_wire import ConnectionLost, Wire
from service.messages.mail.transport import (
    BeforeDot,
    Envelope,
    OnResult,
    SendResult,
    ShouldSend,
    SmtpPhase,
    always,
)

_MAILBOX = re.compile(r"[!-;=?-~]+")
_DOT = b".\r\n"
_OPEN_SECONDS = 60.0  # seconds for which a log-in that succeeded says that the next will


@dataclass(frozen=True, slots=True)
class SmtpConfig:
    """Where and how to send. Timeouts in seconds; RFC 5321 requires a long one after the dot."""

    host: str
    port: int
    security: Literal["none", "starttls", "tls"] = "starttls"
    user: str = ""
    password: str = field(default="", repr=False)
    connections: int = 10
    per_connection: int = 100
    idle: float = 60.0
    connect_timeout: float = 30.0
    command_timeout: float = 60.0
    data_timeout: float = 300.0
    tls_context: ssl.SSLContext | None = None


class _Refused(Exception):
    """No connection could be opened. ``code`` None: it could not be reached."""

    def __init__(self, phase: SmtpPhase, code: int | None, reply: str) -> None:
        super().__init__(reply)
        self.phase, self.code, self.reply = phase, code, reply

    def __str__(self) -> str:
        return f"{self.phase}: {self.code or ''} {self.reply}".strip()


class _Connection:
    """One open connection, ready for transactions."""

    def __init__(self, wire: Wire, config: SmtpConfig, clock: Clock, *, pipelining: bool) -> None:
        self._wire = wire
        self._config = config
        self._clock = clock
        self._pipelining = pipelining
        self._reset = b""
        self._phase = SmtpPhase.MAIL
        self.sent = 0
        self.used_at = clock.monotonic()

    @property
    def usable(self) -> bool:
        """Whether it may carry another message."""
        fresh = self._clock.monotonic() - self.used_at < self._config.idle
        return not self._wire.lost and fresh and self.sent < self._config.per_connection

    async def send(
        self,
        envelopes: Sequence[Envelope],
        before_dot: BeforeDot,
        on_result: OnResult,
        should_send: ShouldSend,
    ) -> Sequence[Envelope]:
        """Send in order; returns those that were not sent and need another connection."""
        reused = self.sent > 0
        ahead: Envelope | None = None
        for index, envelope in enumerate(envelopes):
            if not self.usable:
                return envelopes[index:]
            if envelope is not ahead if ahead else not should_send(envelope):
                continue
            following = partial(_next_to_send, envelopes[index + 1 :], should_send)
            try:
                result, ahead = await self._send_message(envelope, following, before_dot, ahead=bool(ahead))
            except ConnectionLost as error:
                self._wire.abort()
                if self._phase is SmtpPhase.MAIL and (reused or index):
                    return envelopes[index:]  # the server closed a connection that it had kept open
                await on_result(_failed(envelope, self._phase, None, str(error)))
                return envelopes[index + 1 :]
            except BaseException:
                # Cancelled, or the caller failed before the dot: never continue after half a message.
                self._wire.abort()
                raise
            self.sent += 1
            self.used_at = self._clock.monotonic()
            await on_result(result)
            if result.code == 421:
                self._wire.abort()
        return ()

    async def _send_message(
        self,
        envelope: Envelope,
        following: Callable[[], Envelope | None],
        before_dot: BeforeDot,
        *,
        ahead: bool,
    ) -> tuple[SendResult, Envelope | None]:
        """Send one message. ``ahead``: its commands were sent before. Returns the next one if its were."""
        refusal = await self._commands(envelope, ahead=ahead)
        if refusal:
            return refusal, None
        self._phase = SmtpPhase.CONTENT
        self._wire.write(_dot_stuffed(envelope.content), replies=0)
        await self._wire.drain(self._config.data_timeout)
        if envelope.id not in await before_dot([envelope.id]):
            self._wire.abort()
            return _failed(envelope, SmtpPhase.CONTENT, None, "the dot was not granted"), None
        goes_on = self._pipelining and self.sent + 1 < self._config.per_connection
        upcoming = following() if goes_on else None
        self._wire.write(_DOT, replies=1)
        self._phase = SmtpPhase.DOT  # not before: until here the message was certainly not delivered
        if upcoming:
            self._send_commands(upcoming)
        code, reply = await self._wire.reply(self._config.data_timeout)
        self._phase = SmtpPhase.MAIL
        accepted = 200 <= code < 300
        return SendResult(
            envelope.id, accepted=accepted, phase=SmtpPhase.DOT, code=code, reply=reply
        ), upcoming

    def _send_commands(self, envelope: Envelope) -> None:
        mail, rcpt = _commands(envelope)
        self._wire.write(self._reset + mail + rcpt + b"DATA\r\n", replies=3 + bool(self._reset))

    async def _commands(self, envelope: Envelope, *, ahead: bool) -> SendResult | None:
        """Send MAIL, RCPT, DATA, together or one by one. None: the server waits for the content."""
        self._phase = SmtpPhase.MAIL
        if self._pipelining:
            return await self._pipelined(envelope, ahead=ahead)
        mail, rcpt = _commands(envelope)
        if self._reset:
            await self._execute(self._reset)
            self._reset = b""
        for phase, command in ((SmtpPhase.MAIL, mail), (SmtpPhase.RCPT, rcpt), (SmtpPhase.DATA, b"DATA\r\n")):
            self._phase = phase
            code, reply = await self._execute(command)
            if code not in ({354} if phase is SmtpPhase.DATA else {250, 251}):
                self._reset = b"RSET\r\n"
                return _failed(envelope, phase, code, reply)
        return None

    async def _execute(self, command: bytes) -> tuple[int, str]:
        self._wire.write(command, replies=1)
        return await self._wire.reply(self._config.command_timeout)

    async def _pipelined(self, envelope: Envelope, *, ahead: bool) -> SendResult | None:
        if not ahead:
            self._send_commands(envelope)
        if self._reset:
            await self._wire.reply(self._config.command_timeout)
            self._reset = b""
        refusal: SendResult | None = None
        for phase in (SmtpPhase.MAIL, SmtpPhase.RCPT):
            code, reply = await self._wire.reply(self._config.command_timeout)
            self._phase = SmtpPhase.RCPT if phase is SmtpPhase.MAIL else SmtpPhase.DATA
            if code not in {250, 251} and refusal is None:
                refusal = _failed(envelope, phase, code, reply)
        code, reply = await self._wire.reply(self._config.command_timeout)
        if refusal and code == 354:  # it accepts content nevertheless: send an empty message, to no recipient
            await self._execute(_DOT)
        if refusal or code != 354:
            self._reset = b"RSET\r\n"
            return refusal or _failed(envelope, SmtpPhase.DATA, code, reply)
        return None

    async def quit(self) -> None:
        """Send QUIT and close."""
        try:
            if not self._wire.lost:
                self._wire.write(b"QUIT\r\n", replies=1)
                await self._wire.reply(2.0)
        except ConnectionLost:
            pass
        self._wire.abort()


class _ConnectGate:
    """Opens connections concurrently while the server accepts us, and otherwise one at a time.

    So a server that refuses us is tried once, not once per connection: the others get the same refusal.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._turn = asyncio.Lock()
        self._open_until = -math.inf
        self._refusals = 0
        self._refused_at = -math.inf
        self.refusal: _Refused | None = None

    @property
    def closed(self) -> bool:
        """Whether the last refusal is recent (5 s, doubling to 60 s with each in a row)."""
        age = self._clock.monotonic() - self._refused_at
        return self.refusal is not None and age < backoff(self._refusals, first=5.0)

    async def open(self, connect: Callable[[], Awaitable[_Connection]]) -> _Connection:
        """Open a connection. Raises _Refused."""
        earlier = self.refusal
        if not self._is_open:
            async with self._turn:
                if (refusal := self.refusal) and refusal is not earlier:
                    raise _Refused(refusal.phase, refusal.code, refusal.reply)
                if not self._is_open:
                    return await self._connect(connect)
        return await self._connect(connect)

    @property
    def _is_open(self) -> bool:
        return self._clock.monotonic() < self._open_until

    async def _connect(self, connect: Callable[[], Awaitable[_Connection]]) -> _Connection:
        try:
            connection = await connect()
        except _Refused as error:
            self._refusals, self._refused_at = self._refusals + 1, self._clock.monotonic()
            self.refusal, self._open_until = error, -math.inf
            raise
        self._refusals, self.refusal = 0, None
        self._open_until = self._clock.monotonic() + _OPEN_SECONDS
        return connection


class SmtpPool:
    """A pool of connections to one server. They are closed after a number of messages or when idle."""

    def __init__(self, config: SmtpConfig, clock: Clock) -> None:
        self._config = config
        self._clock = clock
        self._free = asyncio.Semaphore(config.connections)
        self._idle_connections: list[_Connection] = []
        self._gate = _ConnectGate(clock)
        self._pinging = asyncio.Lock()
        self.opened = 0

    async def send(
        self,
        envelopes: Sequence[Envelope],
        before_dot: BeforeDot,
        on_result: OnResult,
        should_send: ShouldSend = always,
    ) -> None:
        """Send in order over one connection at a time; one result for each envelope that should be sent."""
        remaining: Sequence[Envelope] = [e for e in envelopes if not _rejection(e)]
        for envelope in envelopes:
            if rejection := _rejection(envelope):
                await on_result(rejection)
        async with self._free:
            while remaining := list(filter(should_send, remaining)):
                try:
                    connection = await self._connect()
                except _Refused as error:
                    for envelope in remaining:
                        await on_result(_failed(envelope, error.phase, error.code, error.reply))
                    return
                try:
                    remaining = await connection.send(remaining, before_dot, on_result, should_send)
                finally:
                    await self._give_back(connection)

    async def _connect(self) -> _Connection:
        await self._quit_unusable()
        if self._idle_connections:
            return self._idle_connections.pop()
        return await self._gate.open(self._open)

    async def _quit_unusable(self) -> None:
        """Close idle connections that may carry no message any more."""
        unusable = [connection for connection in self._idle_connections if not connection.usable]
        self._idle_connections = [one for one in self._idle_connections if one not in unusable]
        await asyncio.gather(*(connection.quit() for connection in unusable))

    async def _give_back(self, connection: _Connection) -> None:
        if connection.usable:
            self._idle_connections.append(connection)
        else:
            await connection.quit()

    async def _open(self) -> _Connection:
        config = self._config
        client = aiosmtplib.SMTP(
            hostname=config.host,
            port=config.port,
            timeout=config.connect_timeout,
            use_tls=config.security == "tls",
            start_tls=config.security == "starttls",
            tls_context=config.tls_context,
        )
        phase = SmtpPhase.CONNECT
        try:
            await client.connect()
            phase = SmtpPhase.EHLO
            await client.ehlo()
            if config.user:
                phase = SmtpPhase.AUTH
                await client.login(config.user, config.password)
        except aiosmtplib.SMTPHeloError as error:
            client.close()
            raise _Refused(SmtpPhase.EHLO, error.code, error.message) from error
        except aiosmtplib.SMTPResponseException as error:
            client.close()
            raise _Refused(phase, error.code, error.message) from error
        except (aiosmtplib.SMTPException, OSError, TimeoutError, ValueError) as error:
            client.close()
            raise _Refused(phase, None, f"{type(error).__name__}: {error}") from error
        except BaseException:
            client.close()
            raise
        transport = cast("asyncio.Transport", client.transport)
        wire = Wire(transport)
        transport.set_protocol(wire)
        self.opened += 1
        return _Connection(wire, config, self._clock, pipelining=client.supports_extension("pipelining"))

    async def ping(self) -> str | None:
        """None when a connection is open or can be opened, else what is wrong.

        This keeps at most one connection open. After a refusal the server is not tried again for a while.
        """
        async with self._pinging:
            await self._quit_unusable()
            if self._idle_connections or self._free.locked():
                return None
            if self._gate.closed:
                return str(self._gate.refusal)
            try:
                self._idle_connections.append(await self._gate.open(self._open))
            except _Refused as error:
                return str(error)
            return None

    async def close(self) -> None:
        """Close all connections with QUIT."""
        connections, self._idle_connections = self._idle_connections, []
        await asyncio.gather(*(connection.quit() for connection in connections))


def _next_to_send(envelopes: Sequence[Envelope], should_send: ShouldSend) -> Envelope | None:
    return next(filter(should_send, envelopes), None)


def _failed(envelope: Envelope, phase: SmtpPhase, code: int | None, reply: str) -> SendResult:
    return SendResult(envelope.id, accepted=False, phase=phase, code=code, reply=reply)


def _rejection(envelope: Envelope) -> SendResult | None:
    """The rejection of an envelope that must not be sent: malformed address, bare line end."""
    if not (_MAILBOX.fullmatch(envelope.recipient) and _MAILBOX.fullmatch(envelope.sender)):
        return _failed(envelope, SmtpPhase.RCPT, 553, "5.1.3 the address cannot be sent to")
    if _has_bare(envelope.content):
        return _failed(envelope, SmtpPhase.DOT, 554, "5.6.0 the content holds a bare CR, LF or NUL")
    return None


def _has_bare(content: bytes) -> bool:
    """A CR or LF on its own, or a NUL. Counting is forty times faster than a pattern with look-arounds."""
    pairs = content.count(b"\r\n")
    return content.count(b"\n") != pairs or content.count(b"\r") != pairs or b"\0" in content


def _commands(envelope: Envelope) -> tuple[bytes, bytes]:
    return f"MAIL FROM:<{envelope.sender}>\r\n".encode(), f"RCPT TO:<{envelope.recipient}>\r\n".encode()


def _dot_stuffed(content: bytes) -> bytes:
    """Dot-stuffed, ending in CRLF, without the final dot."""
    whole = content if content.endswith(b"\r\n") else content + b"\r\n"
    stuffed = whole.replace(b"\r\n.", b"\r\n..")
    return b"." + stuffed if stuffed.startswith(b".") else stuffed
