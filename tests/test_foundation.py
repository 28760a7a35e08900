import asyncpg


async def test_migrations_make_a_working_schema(pool: asyncpg.Pool) -> None:
    assert await pool.fetchval("SELECT count(*) FROM service.delivery") == 0
