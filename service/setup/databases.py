"""Finding and connecting to our own PostgreSQL and the dashboard's database."""

import asyncio
from dataclasses import dataclass, field
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import structlog

from service.engine import embedded
from service.engine.database import open_pool
from service.errors import ConfigurationError, SourceUnavailable
from service.settings import Settings

log = structlog.get_logger()

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


async def connect(dsn: str) -> asyncpg.Pool:
    """Connect to our own PostgreSQL; waits for one that is still starting (compose, a restarted node).

    Raises SourceUnavailable, and ConfigurationError for a URL that the driver does not understand.
    """
    for attempt in range(_START_ATTEMPTS):
        try:
            return await open_pool(dsn, max_size=20)
        except (OSError, asyncpg.CannotConnectNowError) as error:
            log.warning("waiting for our PostgreSQL", attempt=attempt + 1, error=type(error).__name__)
            await asyncio.sleep(1)
    raise SourceUnavailable("DATABASE_URL: this service's PostgreSQL cannot be reached; is it running?")
