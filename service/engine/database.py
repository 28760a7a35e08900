"""Our PostgreSQL: the shared pool, its timeouts, and the migrations."""

import asyncio
import hashlib
import json
import random
import re
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import asyncpg
import structlog
from asyncpg.pool import PoolAcquireContext

from service.engine import postgres_url, queries, schema, zone_table
from service.engine.database_errors import undo_at_end
from service.engine.postgres_url import Pooler
from service.errors import ConfigurationError
from service.url import describe_error

Connection = asyncpg.Connection | asyncpg.pool.PoolConnectionProxy
"""A connection, or one of the pool."""
_SQL = queries.load(__file__)
_NUL = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")  # the escape, not a backslash that somebody typed before it
MIGRATION_LOCK = 0x6A6F6273  # "jobs": one migrator at a time
_ROLE_CHANGED = (
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    asyncpg.PostgresConnectionError,
    asyncpg.InternalClientError,
)
"""Errors after a failover or a restart: 25006, 57P01, 57P02, 57P03, lost connections, and sessions in a state
that asyncpg does not understand, as after a shutdown while they were idle."""
_FEWEST_CONNECTIONS = 5
"""Some work holds one connection and needs another; a smaller limit in the URL would stop it."""
_GIVE_BACK = 2.0
_CANCEL = 5.0
_CONNECT = 10.0
_KEEPALIVE = {"TCP_KEEPIDLE": 15, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 30_000}
"""A peer that is gone is noticed after half a minute; TCP_USER_TIMEOUT in ms, the others in seconds."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Timeouts:
    """The timeouts of sessions at our PostgreSQL, in seconds, far above what any statement needs."""

    statement: float = 120.0
    """The server cancels a statement after this."""
    command: float = 150.0
    """The client closes a connection after this: a live server would have cancelled the statement."""
    lock: float = 60.0
    """The longest that a statement waits for a lock."""
    idle_transaction: float = 300.0
    """The server ends a session that is idle inside a transaction for this long."""
    long_statement: float = 1800.0
    """Timeout of ``long_statements``: the first run of a statistic may rebuild a year."""
    lifetime: float = 600.0
    """Sessions are closed after this, so that all of them move to a new primary soon."""

    def server_settings(self) -> dict[str, str]:
        """As PostgreSQL's settings at the start of a session."""
        return {
            "timezone": "UTC",
            "statement_timeout": _ms(self.statement),
            "lock_timeout": _ms(self.lock),
            "idle_in_transaction_session_timeout": _ms(self.idle_transaction),
            "tcp_keepalives_idle": "30",
            "tcp_keepalives_interval": "10",
            "tcp_keepalives_count": "3",
        }


DEFAULT = Timeouts()


def _ms(seconds: float) -> str:
    return str(round(1000 * seconds))


# ── Sessions ────────────────────────────────────────────────────────────────────────────────────────────────


class DatabaseSession(asyncpg.Connection):
    """One session at our PostgreSQL."""

    __slots__ = ("_ends_at", "timeouts")
    pooled = False
    """Whether a pooler may lend another session of the server for each transaction."""

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

    @property
    def _private(self) -> Any:
        """asyncpg's private attributes; a test fails if a newer version lacks them."""
        return self

    def set_command_timeout(self, seconds: float) -> float:
        """Set the default timeout of commands; returns the previous one."""
        config = self._private._config
        before: float = config.command_timeout
        self._private._config = config._replace(command_timeout=seconds)
        return before

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


class PooledSession(DatabaseSession):
    """One connection to a pooler that lends the server's sessions out for a transaction each."""

    __slots__ = ()
    pooled = True


async def _prepare(connection: asyncpg.Connection) -> None:
    for kind in ("json", "jsonb"):
        await connection.set_type_codec(kind, encoder=_dumps, decoder=json.loads, schema="pg_catalog")


def _dumps(value: Any) -> str:
    # PostgreSQL's jsonb refuses U+0000; the dashboard's text may hold it.
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return _NUL.sub(r"\1", text) if "\\u0000" in text else text


# ── The pool ────────────────────────────────────────────────────────────────────────────────────────────────


class PoolConnection(PoolAcquireContext):
    """``async with pool.acquire()``: sees the error of every statement."""

    __slots__ = ()

    async def __aenter__(self) -> Any:
        while (connection := cast("Any", await super().__aenter__())).expired:
            self.connection = None
            with suppress(Exception):  # it is closed either way
                await connection.close(timeout=_GIVE_BACK)
        return connection

    async def __aexit__(self, *raised: object) -> None:
        """Release the connection; after one of ``_ROLE_CHANGED`` all of the pool are replaced."""
        if isinstance(error := raised[1] if raised else None, BaseException):
            await self._give_back(error)
        else:
            await super().__aexit__(*raised)

    async def _give_back(self, error: BaseException) -> None:
        if isinstance(error, _ROLE_CHANGED):
            await self.pool.expire_connections()
        connection, self.connection, self.done = self.connection, None, True
        assert connection is not None
        with suppress(Exception):  # the first error matters more; asyncpg has closed the connection
            await self.pool.release(connection, timeout=_GIVE_BACK)
        if isinstance(error, asyncpg.InternalClientError):
            raise asyncpg.ConnectionDoesNotExistError(
                str(error)
            ) from error  # as after any other lost session


class Pool(asyncpg.Pool):
    """A pool that replaces sessions after their lifetime and when the server's role changes."""

    __slots__ = ()

    def acquire(self, *, timeout: float | None = None) -> Any:
        """A connection, for ``async with``; ``timeout`` in seconds."""
        return PoolConnection(self, timeout)


async def open_pool(
    dsn: str,
    *,
    min_size: int = 1,
    max_size: int = 10,
    timeouts: Timeouts = DEFAULT,
    pooler: Pooler = "auto",
    ca_file: Path | None = None,
) -> asyncpg.Pool:
    """Open the shared pool. jsonb columns arrive and leave as Python values; times are aware UTC.

    A statement that takes too long raises QueryCanceledError, or TimeoutError if the server does not answer.
    Through a pooler (see ``postgres_url``) only the client's timeouts hold.
    Raises ConfigurationError for a DSN that the driver does not understand.
    """

    async def begin(connection: asyncpg.Connection) -> None:
        session = cast("DatabaseSession", connection)
        session.begin(timeouts)
        session.enable_keepalive()
        await _prepare(connection)

    target = postgres_url.read(dsn, pooler, ca_file)
    limit = max(target.connections or max_size, _FEWEST_CONNECTIONS)
    try:
        return await Pool(
            target.url,
            min_size=min_size,
            max_size=min(max_size, limit),
            max_queries=50_000,
            max_inactive_connection_lifetime=300.0,
            init=begin,
            loop=None,
            connection_class=PooledSession if target.pooled else DatabaseSession,
            record_class=asyncpg.Record,
            timeout=_CONNECT,
            command_timeout=timeouts.command,
            **target.pool_options(timeouts.server_settings()),
        )
    except (asyncpg.ClientConfigurationError, ValueError) as error:
        raise ConfigurationError(
            [f"DATABASE_URL: the driver refuses it: {describe_error(error, dsn)}"]
        ) from None


@asynccontextmanager
async def long_statements(connection: Connection) -> AsyncIterator[None]:
    """Raise the timeouts of statements and locks to what statistics need.

    On the server they apply until the transaction ends; outside of one, until the session is released, or not
    at all through a pooler.
    """
    session = cast("DatabaseSession", connection)
    seconds = session.timeouts.long_statement
    command = "SET LOCAL" if connection.is_in_transaction() else "SET"
    if command == "SET LOCAL" or not session.pooled:
        await connection.execute(
            f"{command} statement_timeout = {_ms(seconds)}; {command} lock_timeout = {_ms(seconds)}"
        )
    before = session.set_command_timeout(seconds + _CONNECT)
    try:
        yield
    finally:
        session.set_command_timeout(before)


@asynccontextmanager
async def advisory_lock(pool: asyncpg.Pool, key: str, *values: Any, wait: bool) -> AsyncIterator[bool]:
    """Hold an advisory lock on a connection of its own; yields False if it is taken and ``wait`` is off.

    ``key``: an SQL expression of ``values``. PostgreSQL releases the lock when this process dies. Through a
    pooler it is the lock of a transaction, for as long as which the pooler leaves us the session.
    """
    async with pool.acquire() as connection:
        pooled = cast("DatabaseSession", connection).pooled
        scope = "_xact" if pooled else ""
        async with _own_transaction(connection) if pooled else nullcontext():
            if wait:
                async with long_statements(connection):
                    await connection.execute(f"SELECT pg_advisory{scope}_lock({key})", *values)
            elif not await connection.fetchval(f"SELECT pg_try_advisory{scope}_lock({key})", *values):
                yield False
                return
            if pooled:
                yield True
                return
            unlock = f"SELECT pg_advisory_unlock({key})"
            async with undo_at_end(lambda: connection.execute(unlock, *values)):
                yield True


@asynccontextmanager
async def _own_transaction(connection: Connection) -> AsyncIterator[None]:
    """A transaction that may be idle for long, and writes nothing."""
    transaction = connection.transaction()
    await transaction.start()
    async with undo_at_end(transaction.rollback):
        await connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        yield


# ── Migrations ──────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class MigrationWaits:
    """How long a migration waits, in seconds: for another one, and ``attempts`` times for a table's lock."""

    turn: float = 600.0
    lock: float = 10.0
    attempts: int = 6
    pause: float = 2.0


_DAY = 86_400.0
_MIGRATING = MigrationWaits()


async def migrate(
    pool: asyncpg.Pool, default_zone: str | None = None, waiting: MigrationWaits = _MIGRATING
) -> list[str]:
    """Apply the missing migrations, each in its own transaction; returns their names.

    Then update the zones; ``default_zone``: see ``zone_table.fill``.

    A release that may not write to the database applies nothing. Raises ConfigurationError if it may not
    even read it, if a migration was edited after it ran (its checksum differs), and if another session holds
    a lock for too long.
    """
    async with pool.acquire() as connection:
        if not (await schema.require_readable(connection)).writable:
            return []
        async with _turn(connection, waiting):
            await connection.execute(_SQL["prepare_migrations"])
            rows = await connection.fetch(_SQL["applied_migrations"])
        checksums = {row["name"]: row["checksum"] for row in rows}
        applied = await _apply_missing(connection, checksums, waiting, default_zone)
        async with _turn(connection, waiting):
            await connection.execute(f"SET LOCAL lock_timeout = {_ms(waiting.turn)}")
            names = await connection.fetch(_SQL["applied_migrations"])
            await schema.note_version(connection, [row["name"] for row in names])
            await zone_table.fill(connection, default_zone)
        return applied


@asynccontextmanager
async def _turn(connection: Connection, waiting: MigrationWaits) -> AsyncIterator[None]:
    """A transaction of the only migrator. It may take long: only waiting for locks is limited.

    Raises ConfigurationError if another process migrates for too long.
    """
    async with connection.transaction():
        await connection.execute(
            "SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0;"
            f" SET LOCAL lock_timeout = {_ms(waiting.turn)}"
        )
        try:
            await connection.execute("SELECT pg_advisory_xact_lock($1)", MIGRATION_LOCK, timeout=_DAY)
        except asyncpg.LockNotAvailableError:
            raise ConfigurationError(
                [
                    f"another process has been migrating the database for {waiting.turn:.0f} s;"
                    " wait for it, or stop it, and start again"
                ]
            ) from None
        # The lock timeout keeps others from queueing behind a lock that a migration waits for.
        await connection.execute(f"SET LOCAL lock_timeout = {_ms(waiting.lock)}")
        yield


async def _apply_missing(
    connection: Connection, checksums: Mapping[str, str], waiting: MigrationWaits, default_zone: str | None
) -> list[str]:
    applied: list[str] = []
    for path in schema.files():
        text = path.read_text("utf-8")
        checksum = hashlib.sha256(text.encode()).hexdigest()
        if path.stem not in checksums:
            if older := await schema.process_in_the_way(connection, text):
                log.warning(
                    "migrations wait for a process of an older release", name=path.stem, process=older
                )
                break
            if await _apply(connection, path.stem, text, checksum, waiting, default_zone):
                applied.append(path.stem)
        elif checksums[path.stem] != checksum:
            raise ConfigurationError(
                [f"migration {path.stem} was changed after it was applied; add a new one instead"]
            )
    return applied


async def _apply(
    connection: Connection,
    name: str,
    text: str,
    checksum: str,
    waiting: MigrationWaits,
    default_zone: str | None,
) -> bool:
    """Apply one migration; False: another process has done so meanwhile."""
    for attempt in range(1, waiting.attempts + 1):
        try:
            async with _turn(connection, waiting):
                if await connection.fetchval(_SQL["is_applied"], name):
                    return False
                # Our schema exists: it holds the table of migrations, and a role may own it and no more.
                await connection.execute(text.replace("CREATE SCHEMA service;", "", 1), timeout=_DAY)
                if name == zone_table.FILLED_AFTER:
                    await zone_table.fill(connection, default_zone)
                await connection.execute(_SQL["record_migration"], name, checksum)
        except asyncpg.LockNotAvailableError:
            log.warning("migration waits for a lock", name=name, attempt=attempt)
            await asyncio.sleep(waiting.pause)
        else:
            return True
    raise ConfigurationError(
        [
            f"migration {name}: another session holds a lock on a table that it changes;"
            " look in pg_stat_activity for transactions that are open for long, end them, and start again"
        ]
    )
