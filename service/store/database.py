"""Our PostgreSQL: the shared pool and the migrations."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import asyncpg

from service.errors import ConfigurationError
from service.store import zones

Connection = asyncpg.Connection | asyncpg.pool.PoolConnectionProxy
"""A connection of our own, or one lent by the pool."""
MIGRATIONS = Path(__file__).parent / "migrations"
_NUL = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")  # the escape, not a backslash that somebody typed before it
MIGRATION_LOCK = 0x6A6F6273  # "jobs": one migrator at a time


async def _prepare(connection: asyncpg.Connection) -> None:
    for kind in ("json", "jsonb"):
        await connection.set_type_codec(kind, encoder=_dumps, decoder=json.loads, schema="pg_catalog")


def _dumps(value: Any) -> str:
    # PostgreSQL's jsonb refuses U+0000; the dashboard's text may hold it.
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return _NUL.sub(r"\1", text) if "\\u0000" in text else text


async def open_pool(dsn: str, *, min_size: int = 1, max_size: int = 10) -> asyncpg.Pool:
    """Open the shared pool. jsonb columns arrive and leave as Python values; times are aware UTC."""
    return await asyncpg.create_pool(
        dsn, min_size=min_size, max_size=max_size, init=_prepare, server_settings={"timezone": "UTC"}
    )


async def migrate(pool: asyncpg.Pool, default_zone: str | None = None) -> list[str]:
    """Apply what is missing, each migration in its own transaction; returns the names applied.

    A migration that was edited after it ran is refused: its checksum is kept. Then the zones are brought up
    to date; ``default_zone``: see ``zones.fill``.
    """
    applied: list[str] = []
    async with pool.acquire() as connection:
        await connection.execute("SELECT pg_advisory_lock($1)", MIGRATION_LOCK)
        try:
            await connection.execute(
                "CREATE TABLE IF NOT EXISTS public.service_migration"
                " (name text PRIMARY KEY, checksum text NOT NULL,"
                " applied_at timestamptz NOT NULL DEFAULT now())"
            )
            rows = await connection.fetch("SELECT name, checksum FROM public.service_migration")
            known = {row["name"]: row["checksum"] for row in rows}
            for path in sorted(MIGRATIONS.glob("*.sql")):
                text = path.read_text("utf-8")
                checksum = hashlib.sha256(text.encode()).hexdigest()
                if path.stem in known:
                    if known[path.stem] != checksum:
                        raise ConfigurationError(
                            [f"migration {path.stem} was changed after it was applied; add a new one instead"]
                        )
                    continue
                async with connection.transaction():
                    await connection.execute(text)
                    await connection.execute(
                        "INSERT INTO public.service_migration (name, checksum) VALUES ($1, $2)",
                        path.stem,
                        checksum,
                    )
                applied.append(path.stem)
            await zones.fill(connection, default_zone)
        finally:
            await connection.execute("SELECT pg_advisory_unlock($1)", MIGRATION_LOCK)
    return applied
