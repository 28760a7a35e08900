"""Opens connections to a mail server, up to the log-in, and not too many while it refuses us."""

import asyncio
import math
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Literal, TypeVar, cast

import aiosmtplib

from service.clock import Clock
from service.engine.retry import backoff
from service.messages.mail.transport import SmtpPhase

_OPEN_SECONDS = 60.0  # seconds for which a log-in that succeeded says that the next will
_Opened = TypeVar("_Opened")


@dataclass(frozen=True, slots=True)
class SmtpConfig:
    """Where and how to send. Timeouts in seconds; RFC 5321 requires a long one after the dot.

    ``ehlo``: the host name that we give ourselves; None: this machine's. ``tls_context``: whom we trust;
    None: the system's authorities.
    """

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
    ehlo: str | None = None
    tls_context: ssl.SSLContext | None = None


class ServerRefusal(Exception):
    """No connection could be opened. ``code`` None: the server could not be reached."""

    def __init__(self, phase: SmtpPhase, code: int | None, reply: str) -> None:
        super().__init__(reply)
        self.phase, self.code, self.reply = phase, code, reply

    def __str__(self) -> str:
        return f"{self.phase}: {self.code or ''} {self.reply}".strip()


@dataclass(frozen=True, slots=True)
class Extensions:
    """What the server offers: PIPELINING (RFC 2920), SMTPUTF8 (RFC 6531)."""

    pipelining: bool = False
    smtputf8: bool = False


async def connect(config: SmtpConfig) -> tuple[asyncio.Transport, Extensions]:
    """A transport on which the log-in is done, and what the server offers.

    Raises ServerRefusal.
    """
    client = aiosmtplib.SMTP(
        hostname=config.host,
        port=config.port,
        local_hostname=config.ehlo,
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
        raise ServerRefusal(SmtpPhase.EHLO, error.code, error.message) from error
    except aiosmtplib.SMTPResponseException as error:
        client.close()
        raise ServerRefusal(phase, error.code, error.message) from error
    except (aiosmtplib.SMTPException, OSError, TimeoutError, ValueError) as error:
        client.close()
        raise ServerRefusal(phase, None, f"{type(error).__name__}: {error}") from error
    except BaseException:
        client.close()
        raise
    offers = Extensions(*(client.supports_extension(name) for name in ("pipelining", "smtputf8")))
    return cast("asyncio.Transport", client.transport), offers


class ConnectGate:
    """Opens connections concurrently while the server accepts us, and otherwise one at a time.

    So a server that refuses us is tried once, not once per connection: the others get the same refusal.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._turn = asyncio.Lock()
        self._open_until = -math.inf
        self._refusals = 0
        self._refused_at = -math.inf
        self.refusal: ServerRefusal | None = None

    @property
    def is_open(self) -> bool:
        """Whether the server has accepted us lately, so that several may be opened at once."""
        return self._clock.monotonic() < self._open_until

    @property
    def closed(self) -> bool:
        """Whether the last refusal is recent (5 s, doubling to 60 s with each in a row)."""
        age = self._clock.monotonic() - self._refused_at
        return self.refusal is not None and age < backoff(self._refusals, first=5.0)

    async def open(self, connect: Callable[[], Awaitable[_Opened]]) -> _Opened:
        """Open a connection. Raises ServerRefusal."""
        earlier = self.refusal
        if not self.is_open:
            async with self._turn:
                if (refusal := self.refusal) and refusal is not earlier:
                    raise ServerRefusal(refusal.phase, refusal.code, refusal.reply)
                if not self.is_open:
                    return await self._connect(connect)
        return await self._connect(connect)

    async def _connect(self, connect: Callable[[], Awaitable[_Opened]]) -> _Opened:
        try:
            connection = await connect()
        except ServerRefusal as error:
            self._refusals, self._refused_at = self._refusals + 1, self._clock.monotonic()
            self.refusal, self._open_until = error, -math.inf
            raise
        self._refusals, self.refusal = 0, None
        self._open_until = self._clock.monotonic() + _OPEN_SECONDS
        return connection
