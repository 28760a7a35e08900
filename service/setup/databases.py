"""Finding and connecting to our own PostgreSQL and the dashboard's database."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import structlog

from service.engine import database, embedded, postgres_errors, postgres_url, queries
from service.engine.database_errors import FAILURES
from service.engine.postgres_errors import Server
from service.errors import ConfigurationError, SourceUnavailable
from service.jobs.extra_jobs import prepare_queries
from service.settings import Settings

log = structlog.get_logger()
_SQL = queries.load(__file__)

_START_ATTEMPTS = 30
"""Seconds that a start waits for our PostgreSQL to come up."""


@dataclass(frozen=True, slots=True)
class Databases:
    """The URLs of our own PostgreSQL and the dashboard's database, with the embedded defaults filled in."""

    service: str = field(repr=False)
    dashboard: str = field(repr=False)
    sample: bool


async def find_databases(settings: Settings) -> Databases:
    """The configured databases. Starts the embedded PostgreSQL if none is configured."""
    require_dashboard(settings)
    if settings.database_url:
        return Databases(settings.database_url, settings.dashboard_url, sample=False)
    server, _ = await asyncio.to_thread(embedded.start, settings.data_dir / "postgres")
    service = await ensure_database(server, "jobs")
    if settings.dashboard_url:
        return Databases(service, settings.dashboard_url, sample=False)
    return Databases(service, await ensure_database(server, "sample_dashboard"), sample=True)


def require_dashboard(settings: Settings) -> None:
    if settings.database_url and not settings.dashboard_url:
        raise ConfigurationError(
            [
                "DASHBOARD_URL: empty means the sample dashboard, which lives in the embedded PostgreSQL;"
                " set it (mongodb:// or postgresql://), or leave DATABASE_URL empty too"
            ]
        )


async def ensure_database(server: str, name: str) -> str:
    """DSN of a database of the embedded server; creates it if needed."""
    connection = await asyncpg.connect(server)
    try:
        if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", name):
            await connection.execute(f'CREATE DATABASE "{name}"')
    finally:
        await connection.close()
    return urlunsplit(urlsplit(server)._replace(path=f"/{name}"))


async def connect(settings: Settings, dsn: str, *, attempts: int = _START_ATTEMPTS) -> asyncpg.Pool:
    """Connect to our own PostgreSQL at ``dsn``; waits for one that is still starting (compose, a new node).

    ``attempts``: one a second. Raises SourceUnavailable if it cannot be reached, and ConfigurationError if it
    refuses us, or if the driver does not understand the URL.
    """
    problem = ""
    for warning in postgres_url.read(dsn, settings.database_pooler, settings.database_ca_file).warnings:
        log.warning("DATABASE_URL", warning=warning)
    for attempt in range(attempts):
        try:
            return await _open(settings, dsn)
        except FAILURES as error:
            problem = postgres_errors.describe(error, Server("DATABASE", dsn))
            if not _may_pass(error):
                raise ConfigurationError([problem]) from error
            log.warning("waiting for our PostgreSQL", attempt=attempt + 1, problem=problem)
        await asyncio.sleep(1)
    raise SourceUnavailable(problem)


async def _open(settings: Settings, dsn: str) -> asyncpg.Pool:
    pool = await database.open_pool(
        dsn,
        min_size=settings.database_pool_min_size,
        max_size=settings.database_pool_size,
        pooler=settings.database_pooler,
        ca_file=settings.database_ca_file,
    )
    if warning := await connection_warning(pool, settings.database_pool_size):
        log.warning("DATABASE_URL", warning=warning)
    return pool


async def connection_warning(executor: asyncpg.Pool | asyncpg.Connection, size: int) -> str | None:
    """A sentence if our role or database may have fewer connections than this process uses; else None."""
    row = await executor.fetchrow(_SQL["connection_limits"])
    limits = {"role": ("rolname", "rolconnlimit"), "database": ("datname", "datconnlimit")}
    for kind, (name, limit) in limits.items():
        if row and 0 <= row[limit] < size:
            return (
                f"the {kind} {row[name]} may have {row[limit]} connections, this process uses up to {size};"
                f' ALTER {kind.upper()} "{row[name]}" CONNECTION LIMIT n, or lower DATABASE_POOL_SIZE: all'
                " processes together must stay below"
            )
    return None


async def migrate(pool: asyncpg.Pool, dsn: str, default_zone: str) -> list[str]:
    """``engine.database.migrate``; raises ConfigurationError also for a role that may not."""
    try:
        return await database.migrate(pool, default_zone)
    except asyncpg.InsufficientPrivilegeError as error:
        raise ConfigurationError([postgres_errors.describe(error, Server("DATABASE", dsn))]) from error


@asynccontextmanager
async def open_database(dsn: str, settings: Settings) -> AsyncIterator[asyncpg.Pool]:
    """Our database with its schema, and with queries that it accepts; closed at the end.

    Raises ConfigurationError, and SourceUnavailable as ``connect`` does.
    """
    async with AsyncExitStack() as stack:
        pool = await connect(settings, dsn)
        stack.push_async_callback(pool.close)
        if applied := await migrate(pool, dsn, settings.default_timezone):
            log.info("migrations applied", names=applied)
        async with pool.acquire() as connection:
            await prepare_queries(connection, settings.job_packages)
        yield pool


def _may_pass(error: Exception) -> bool:
    """Whether another attempt may succeed: it may be starting, or be full for a moment."""
    if isinstance(error, asyncpg.PostgresError):
        passing = (asyncpg.CannotConnectNowError, asyncpg.TooManyConnectionsError)
        refused = isinstance(error, asyncpg.ProtocolViolationError)
        return isinstance(error, (*passing, asyncpg.PostgresConnectionError)) and not refused
    return not isinstance(error, ssl.SSLError)
