"""One session at our PostgreSQL: its timeouts, on the server and here, and what may not be left in it.

Releasing a session asks nothing of the server: open transactions are rolled back, and nothing else may
outlast a transaction (settings, locks, listeners, temporary tables).
"""

import asyncio
import json
import random
import re
import socket
from dataclasses import dataclass
from typing import Any, cast

import asyncpg

_NUL = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")  # the escape, not a backslash that somebody typed before it
_OUTLASTS = re.compile(
    r"\s*(?:SET\s+(?!LOCAL|TRANSACTION|CONSTRAINTS)|LISTEN\b|SELECT\s+pg_advisory_lock)", re.I
)
"""Statements whose effect would stay in the session for whoever gets it next."""
_CANCEL = 5.0
_KEEPALIVE = {"TCP_KEEPIDLE": 15, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 30_000}
"""A peer that is gone is noticed after half a minute; TCP_USER_TIMEOUT in ms, the others in seconds."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """The timeouts of sessions at our PostgreSQL, in seconds, far above what any statement needs."""

    acquire: float = 30.0
    """The longest wait for a free session of the pool; then PoolExhausted."""
    statement: float = 60.0
    """The server cancels a statement after this."""
    command: float = 75.0
    """The client closes a connection after this: a live server would have cancelled the statement."""
    lock: float = 60.0
    """The longest that a statement waits for a lock."""
    idle_transaction: float = 60.0
    """The server ends a session that is idle inside a transaction for this long: a frozen process keeps its
    locks no longer than its leases."""
    long_statement: float = 1800.0
    """Timeout of ``long_statements``: the first run of a statistic may rebuild a year."""
    lifetime: float = 600.0
    """Sessions are closed after this, so that all of them move to a new primary soon."""

    @property
    def limits(self) -> dict[str, str]:
        """What bounds the waits of a transaction, as PostgreSQL's settings."""
        return {
            "statement_timeout": milliseconds(self.statement),
            "lock_timeout": milliseconds(self.lock),
            "idle_in_transaction_session_timeout": milliseconds(self.idle_transaction),
        }

    def server_settings(self) -> dict[str, str]:
        """As PostgreSQL's settings at the start of a session."""
        return {
            "timezone": "UTC",
            **self.limits,
            "tcp_keepalives_idle": "30",
            "tcp_keepalives_interval": "10",
            "tcp_keepalives_count": "3",
        }

    def set_local(self) -> str:
        """The same limits for one transaction, which a pooler's session does not have by itself."""
        return " ".join(f"SET LOCAL {name} = {value};" for name, value in self.limits.items())


DEFAULT = Timeouts()


def milliseconds(seconds: float) -> str:
    """Seconds as PostgreSQL's settings take them."""
    return str(round(1000 * seconds))


class BoundedConnection(asyncpg.Connection):
    """A connection to any PostgreSQL whose waits end, also where the other side has vanished."""

    __slots__ = ()

    @property
    def _private(self) -> Any:
        """asyncpg's private attributes; a test fails if a newer version lacks them."""
        return self

    def enable_keepalive(self) -> None:
        """Let the kernel notice a lost peer; does nothing for a Unix socket."""
        connection = self._private._transport.get_extra_info("socket")
        if connection is None or connection.family not in (socket.AF_INET, socket.AF_INET6):
            return
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEPALIVE.items():
            if option := getattr(socket, name, None):  # not every platform has them all
                connection.setsockopt(socket.IPPROTO_TCP, option, value)

    def _cancel_current_command(self, *waiters: Any) -> None:
        """asyncpg waits as long for a cancellation as for a statement; this closes the connection sooner."""
        cast("Any", super())._cancel_current_command(*waiters)
        asyncio.get_running_loop().call_later(_CANCEL, self._give_up, waiters)

    def _give_up(self, waiters: "tuple[asyncio.Future[None], ...]") -> None:
        if not self.is_closed() and not all(waiter.done() for waiter in waiters):
            self.terminate()


class DatabaseSession(BoundedConnection):
    """One session at our PostgreSQL."""

    __slots__ = ("_ends_at", "timeouts")

    def __init__(self, *args: Any, **values: Any) -> None:
        super().__init__(*args, **values)
        self.begin(DEFAULT)

    def begin(self, timeouts: Timeouts) -> None:
        """Start its lifetime, with some jitter: sessions opened together do not end together."""
        self.timeouts = timeouts
        loop = asyncio.get_running_loop()
        self._ends_at = loop.time() + timeouts.lifetime * random.uniform(0.8, 1.0)  # noqa: S311

    @property
    def expired(self) -> bool:
        """Whether its lifetime is over."""
        return asyncio.get_running_loop().time() >= self._ends_at

    async def execute(self, query: str, *args: Any, timeout: float | None = None) -> str:  # noqa: ASYNC109
        """As asyncpg does. Raises ValueError for what would stay in the session after its transaction."""
        if _OUTLASTS.match(query):
            raise ValueError(f"this would outlast its transaction; use SET LOCAL, or a lease: {query[:60]}")
        return await super().execute(query, *args, timeout=timeout)

    def set_command_timeout(self, seconds: float) -> float:
        """Set the default timeout of commands; returns the previous one."""
        config = self._private._config
        before: float = config.command_timeout
        self._private._config = config._replace(command_timeout=seconds)
        return before


class PooledSession(DatabaseSession):
    """One connection to a pooler that lends the server's sessions out for a transaction each.

    Each transaction sets its limits itself, in the same message as its beginning. A statement outside of a
    transaction has only the client's timeout, after which it is cancelled.
    """

    __slots__ = ()

    async def execute(self, query: str, *args: Any, timeout: float | None = None) -> str:  # noqa: ASYNC109
        """As asyncpg does, which begins its transactions here."""
        if query.startswith("BEGIN") and not args:
            query = f"{query} {self.timeouts.set_local()}"
        return await super().execute(query, *args, timeout=timeout)


async def prepare(connection: asyncpg.Connection) -> None:
    """Let jsonb columns arrive and leave as Python values."""
    for kind in ("json", "jsonb"):
        await connection.set_type_codec(kind, encoder=_dumps, decoder=json.loads, schema="pg_catalog")


async def keep(_connection: object) -> None:
    """In place of asyncpg's reset, which would ask the server at each release."""


def _dumps(value: Any) -> str:
    # PostgreSQL's jsonb refuses U+0000; the dashboard's text may hold it.
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return _NUL.sub(r"\1", text) if "\\u0000" in text else text
