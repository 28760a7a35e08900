"""Our PostgreSQL: the shared pool, whose every wait has an end, and the migrations."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import asyncpg
import structlog
from asyncpg.pool import PoolAcquireContext

from service.engine import postgres_url, queries, schema, session, zone_table
from service.engine.database_errors import PoolExhausted
from service.engine.postgres_url import DEFAULT_CONNECTIONS, FEWEST_CONNECTIONS, Pooler
from service.engine.session import DEFAULT, DatabaseSession, PooledSession, Timeouts
from service.errors import ConfigurationError
from service.url import describe_error

Connection = asyncpg.Connection | asyncpg.pool.PoolConnectionProxy
"""A connection, or one of the pool."""
_SQL = queries.load(__file__)
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
_IDLE = 15.0
"""Seconds after which a connection that nobody needed is closed: other processes may be short of it."""
_GIVE_BACK = 2.0
_CONNECT = 10.0
_CLOSE = 0.5
_FULL_PAUSE = 1.0
"""Seconds between two attempts to connect while the server has no connection left for us."""
_LOOK = 0.02
"""Seconds between two looks whether one of ours was given back meanwhile."""

log = structlog.get_logger()


# ── The pool ────────────────────────────────────────────────────────────────────────────────────────────────


class PoolConnection(PoolAcquireContext):
    """``async with pool.acquire()``: sees the error of every statement."""

    __slots__ = ()

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
    """A pool that replaces sessions after their lifetime and when the server's role changes.

    Taking a connection and closing the pool end in time, also while the server keeps silent.
    """

    __slots__ = ("_clock", "_full_until", "_longest_wait")

    def __init__(self, *args: Any, longest_wait: float, **values: Any) -> None:
        super().__init__(*args, **values)
        self._longest_wait = longest_wait
        self._clock = asyncio.get_running_loop().time
        self._full_until = 0.0

    def acquire(self, *, timeout: float | None = None) -> Any:
        """A connection, for ``async with``; ``timeout`` in seconds, None: as long as the pool waits.

        Raises PoolExhausted, and what connecting raises. A server that has no connection left is asked again
        until the timeout.
        """
        return PoolConnection(self, timeout)

    async def _acquire(self, timeout: float | None) -> Any:  # noqa: ASYNC109 — asyncpg's own name
        """asyncpg takes every connection here."""
        seconds = self._longest_wait if timeout is None else timeout
        waiting = asyncio.timeout(seconds)
        full: asyncpg.TooManyConnectionsError | None = None
        try:
            async with waiting:
                while True:
                    await self._while_full()
                    asking = not self.get_idle_size()
                    try:
                        connection = await self._connected()
                    except asyncpg.TooManyConnectionsError as error:
                        full, self._full_until = error, self._clock() + _FULL_PAUSE
                        continue
                    if asking:
                        self._full_until = 0.0
                    return connection
        except TimeoutError:
            if waiting.expired():
                raise full or self._exhausted(seconds) from None
            raise

    async def _while_full(self) -> None:
        """After the server had no connection left: one task asks it again each second, the others wait for
        one of ours.
        """
        while self._clock() < self._full_until and not self.get_idle_size():  # noqa: ASYNC110
            await asyncio.sleep(_LOOK)
        if self._full_until and not self.get_idle_size():
            self._full_until = self._clock() + _FULL_PAUSE

    async def _connected(self) -> Any:
        """A connection whose lifetime is not over."""
        acquire = cast("Any", super())._acquire
        while (connection := await acquire(None)).expired:
            with suppress(Exception):  # it is closed either way
                await connection.close(timeout=_GIVE_BACK)
        return connection

    def _exhausted(self, seconds: float) -> PoolExhausted:
        busy, most = self.get_size() - self.get_idle_size(), self.get_max_size()
        return PoolExhausted(
            f"no connection to our PostgreSQL was free within {seconds:.0f} s ({busy} of at most {most} are"
            " in use); if that lasts, look for locks and slow statements there, or raise DATABASE_POOL_SIZE"
        )

    async def close(self) -> None:
        """Close all connections; those that are still used after a moment are cut."""
        with suppress(TimeoutError):  # asyncpg has terminated those that are left
            async with asyncio.timeout(_CLOSE):
                await super().close()


async def open_pool(
    dsn: str,
    *,
    min_size: int = 1,
    max_size: int = DEFAULT_CONNECTIONS,
    timeouts: Timeouts = DEFAULT,
    pooler: Pooler = "auto",
    ca_file: Path | None = None,
) -> asyncpg.Pool:
    """Open the shared pool. jsonb columns arrive and leave as Python values; times are aware UTC.

    A statement that takes too long raises QueryCanceledError, or TimeoutError if the server does not answer.
    Through a pooler (see ``postgres_url``) the server's timeouts hold inside transactions.
    Raises ConfigurationError for a DSN that the driver does not understand.
    """

    async def begin(connection: asyncpg.Connection) -> None:
        ours = cast("DatabaseSession", connection)
        ours.begin(timeouts)
        ours.enable_keepalive()
        await session.prepare(connection)

    target = postgres_url.read(dsn, pooler, ca_file)
    limit = max(target.connections or max_size, FEWEST_CONNECTIONS)
    try:
        return await Pool(
            target.url,
            min_size=min_size,
            max_size=min(max_size, limit),
            max_queries=50_000,
            max_inactive_connection_lifetime=_IDLE,
            init=begin,
            loop=None,
            connection_class=PooledSession if target.pooled else DatabaseSession,
            record_class=asyncpg.Record,
            timeout=_CONNECT,
            command_timeout=timeouts.command,
            longest_wait=timeouts.acquire,
            reset=session.keep,
            **target.options(timeouts.server_settings()),
        )
    except (asyncpg.ClientConfigurationError, ValueError) as error:
        raise ConfigurationError(
            [f"DATABASE_URL: the driver refuses it: {describe_error(error, dsn)}"]
        ) from None


@asynccontextmanager
async def transaction_of(
    pool: asyncpg.Pool, connection: Connection | None = None
) -> AsyncIterator[Connection]:
    """The caller's ``connection``, in its transaction; None: one of the pool, in a transaction of its own."""
    if connection is not None:
        yield connection
        return
    async with pool.acquire() as own, own.transaction():
        yield own


@asynccontextmanager
async def long_statements(connection: Connection) -> AsyncIterator[None]:
    """Raise the timeouts of statements and locks to what statistics need, until the transaction ends.

    Raises ValueError outside of a transaction.
    """
    ours = cast("DatabaseSession", connection)
    seconds = ours.timeouts.long_statement
    if not connection.is_in_transaction():
        raise ValueError("long statements need a transaction")
    limit = session.milliseconds(seconds)
    await connection.execute(f"SET LOCAL statement_timeout = {limit}; SET LOCAL lock_timeout = {limit}")
    before = ours.set_command_timeout(seconds + _CONNECT)
    try:
        yield
    finally:
        ours.set_command_timeout(before)


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
            await connection.execute(f"SET LOCAL lock_timeout = {session.milliseconds(waiting.turn)}")
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
            f" SET LOCAL lock_timeout = {session.milliseconds(waiting.turn)}"
        )
        try:
            await connection.execute(
                "SELECT pg_advisory_xact_lock($1)", MIGRATION_LOCK, timeout=waiting.turn + _CONNECT
            )
        except asyncpg.LockNotAvailableError:
            raise ConfigurationError(
                [
                    f"another process has been migrating the database for {waiting.turn:.0f} s;"
                    " wait for it, or stop it, and start again"
                ]
            ) from None
        # The lock timeout keeps others from queueing behind a lock that a migration waits for.
        await connection.execute(f"SET LOCAL lock_timeout = {session.milliseconds(waiting.lock)}")
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
