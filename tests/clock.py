"""The database's clock, stopped."""

import asyncpg


async def stop_clock(connection: asyncpg.Connection | asyncpg.Pool, at: str) -> None:
    """Replace the database's clock by a stopped one, e.g. ``2026-03-10T09:00:00Z``."""
    await connection.execute(
        f"CREATE OR REPLACE FUNCTION service.now() RETURNS timestamptz LANGUAGE sql VOLATILE AS "
        f"$$SELECT '{at}'::timestamptz$$"
    )
