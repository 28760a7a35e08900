"""The states of a delivery, and what the database makes of them."""

import asyncpg

from service.messages.delivery_state import DeliveryState


async def test_what_never_left_or_was_refused_does_not_count_as_delivered(pool: asyncpg.Pool) -> None:
    states = list(map(str, DeliveryState))
    rows = await pool.fetch(
        "SELECT state FROM unnest($1::text[]) AS state WHERE NOT service.counts_as_delivered(state)", states
    )

    assert {row["state"] for row in rows} == {"failed", "skipped", "missed", "expired", "cancelled"}


async def test_the_table_holds_these_states_and_no_others(pool: asyncpg.Pool) -> None:
    check = await pool.fetchval(
        "SELECT string_agg(pg_get_constraintdef(oid), ' ') FROM pg_constraint"
        " WHERE conrelid = 'service.delivery_state'::regclass AND conname = 'delivery_state_state_check'"
    )

    assert all(f"'{state}'" in check for state in DeliveryState)
    assert check.count("'::text") == len(DeliveryState)
