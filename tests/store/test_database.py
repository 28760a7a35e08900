"""What Python values become on their way into jsonb."""

import asyncpg
import pytest


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("a\0b\0\0", "ab"),
        (r"typed: \u0000", r"typed: \u0000"),
        ("\\\0", "\\"),
        ("\\\\\0\\u0000\0", "\\\\\\u0000"),
    ],
)
async def test_only_a_real_nul_is_left_out(pool: asyncpg.Pool, given: str, kept: str) -> None:
    assert await pool.fetchval("SELECT $1::jsonb", {given: [given]}) == {kept: [kept]}
