"""Why somebody got nothing: stored in few bytes, read in words, and there is always a table for it."""

from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from service.archive import expiry
from service.engine import ledger as ledger_module
from service.engine import queries
from service.engine.run import RunState
from service.manager import runs as runs_module
from service.messages import explain, refusals
from service.messages.refusals import RefusedPerson, causes_of, own_detail, packed_id
from tests.given import GOALS, World, goal, user
from tests.interleaving import waits

DAY = date(2026, 3, 10)
NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)
HEX, UUID_ = "65f0c0ffee0123456789abcd", "6ba7b810-9dad-41d1-80b4-00c04fd430c8"
WORDS = "SELECT user_id, reason, detail FROM service.refusal_in_words ORDER BY run_id, user_id"
MONTHS = "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'service.refusal'::regclass"


def refused(*ids: str, day: date = DAY, reason: str = "not_due", detail: str = "") -> list[RefusedPerson]:
    return [RefusedPerson(id_, day, reason, detail) for id_ in ids]


async def record(pool: asyncpg.Pool, run: int, *people: RefusedPerson) -> None:
    async with pool.acquire() as connection, connection.transaction():
        await refusals.record(connection, run, GOALS, people)  # type: ignore[arg-type]


# ── What is stored ──────────────────────────────────────────────────────────────────────────────────────────


async def test_an_id_is_what_it_was(pool: asyncpg.Pool) -> None:
    sizes = {
        HEX: 13, UUID_: 17, HEX.upper(): 25, UUID_.upper(): 37, HEX[:-1]: 24, f"{HEX}\n": 26, "Zoë": 5,
        UUID_.replace("-", ""): 33, "42": 3, "": 1, "anna/b?c\\000": 13, "\x01": 2,
    }  # fmt: skip

    packed = {user_id: packed_id(user_id) for user_id in sizes}

    assert {user_id: len(one) for user_id, one in packed.items()} == sizes
    unpacked = await pool.fetch(
        "SELECT service.unpacked_id(p) FROM unnest($1::bytea[]) AS p", list(packed.values())
    )
    assert [row[0] for row in unpacked] == list(packed)


async def test_a_sentence_about_many_is_stored_once_and_ones_own_goes_with_its_row(
    pool: asyncpg.Pool,
) -> None:
    together = refused("a", "b", detail="It is Sunday.")
    alone = refused("c", detail="Her goal is Secret.")

    await record(pool, 1, *together, *alone, *refused("d", reason="no_email"))
    await record(pool, 2, *refused("a", "b", detail="It is Sunday."))

    assert [tuple(row) for row in await pool.fetch(WORDS)] == [
        ("a", "not_due", "It is Sunday."), ("b", "not_due", "It is Sunday."),
        ("c", "not_due", "Her goal is Secret."), ("d", "no_email", ""),
        ("a", "not_due", "It is Sunday."), ("b", "not_due", "It is Sunday."),
    ]  # fmt: skip
    stored = await pool.fetch("SELECT job, reason, detail FROM service.refusal_cause ORDER BY 2, 3")
    assert [tuple(row) for row in stored] == [
        (GOALS, "no_email", ""), (GOALS, "not_due", ""), (GOALS, "not_due", "It is Sunday."),
    ]  # fmt: skip


async def test_the_moment_is_kept_to_the_second(world: World) -> None:
    await world.at("2026-03-10T08:00:59.9Z")

    await record(world.pool, 1, *refused("a"))

    told = await world.pool.fetchval("SELECT decided_at FROM service.refusals_of($1)", packed_id("a"))
    assert told == datetime(2026, 3, 10, 8, 0, 59, tzinfo=UTC)


def test_a_long_sentence_stays_with_the_people() -> None:
    """PostgreSQL's indexes refuse texts of a few thousand characters."""
    short, long = refused("a", "b", detail="x" * 200), refused("a", "b", detail="x" * 201)

    for people, shared in ((short, "x" * 200), (long, "")):
        assert causes_of(people) == [("not_due", shared)] * 2
    assert own_detail(short[0], ("not_due", "x" * 200)) is None
    assert own_detail(long[0], ("not_due", "")) == "x" * 201


@pytest.mark.parametrize(
    "of", [lambda n: f"65f0c0ff{n * 2654435761 % 2**64:016x}", lambda n: str(UUID(int=n * 2**80))]
)
async def test_a_row_takes_120_bytes_at_most_with_all_indexes(pool: asyncpg.Pool, of: Any) -> None:
    """Everybody is there once, which is the dearest case; see ``benchmarks.refusals`` for a million."""
    pages, size = 20, 1000
    for page in range(pages):
        ids = [of(n) for n in range(page * size, (page + 1) * size)]
        await record(pool, 1, *refused(*ids, detail="No activity within seven days."))

    total = await pool.fetchval("SELECT pg_total_relation_size('service.refusal_2026_03')")
    assert total / (pages * size) <= 120


# ── Its months ──────────────────────────────────────────────────────────────────────────────────────────────


async def test_whoever_needs_a_month_makes_it_and_the_next_a_week_before(pool: asyncpg.Pool) -> None:
    assert not await pool.fetch(MONTHS)

    await record(pool, 1, *refused("a", day=date(2026, 3, 24)))
    assert [row[0] for row in await pool.fetch(MONTHS)] == ["service.refusal_2026_03"]
    await record(pool, 2, *refused("a", day=date(2026, 3, 25)))
    await record(pool, 3, *refused("a", day=date(2025, 12, 31)), *refused("b", day=date(2026, 1, 1)))

    assert sorted(row[0] for row in await pool.fetch(MONTHS)) == [
        f"service.refusal_{month}" for month in ("2025_12", "2026_01", "2026_03", "2026_04")
    ]
    assert await pool.fetchval("SELECT count(*) FROM service.refusal") == 4


async def test_two_who_need_a_new_month_at_once_make_it_once(pool: asyncpg.Pool) -> None:
    async with pool.acquire() as connection:
        async with connection.transaction():
            await refusals.record(connection, 1, GOALS, refused("a"))  # type: ignore[arg-type]
            other = await waits(pool, record(pool, 2, *refused("b", reason="no_email")))
        await other

    assert len(await pool.fetch(MONTHS)) == 1
    assert [row["user_id"] for row in await pool.fetch(WORDS)] == ["a", "b"]


async def test_two_who_give_a_sentence_its_number_at_once_give_it_one(pool: asyncpg.Pool) -> None:
    await record(pool, 1, *refused("z", reason="no_email"))
    async with pool.acquire() as connection:
        async with connection.transaction():
            await refusals.record(connection, 1, GOALS, refused("a"))  # type: ignore[arg-type]
            other = await waits(pool, record(pool, 2, *refused("b")))
        await other

    assert await pool.fetchval("SELECT count(*) FROM service.refusal_cause") == 2
    assert await pool.fetchval("SELECT count(DISTINCT cause) FROM service.refusal") == 2


# ── A run that begins again ─────────────────────────────────────────────────────────────────────────────────


async def _failed(world: World, *names: str, user_errors: int) -> int:
    """A run of everybody that failed after it had recorded why these got nothing."""
    world.jobs = {GOALS: world.jobs[GOALS]}
    await world.at("2026-03-10T08:00:00Z")
    people = [user(name, email=None) for name in names]
    await world.live(*people, *(goal(name, name, "2026-03-11") for name in names))
    result = await (await world.runner()).run_manual(GOALS)
    assert set(await world.reasons()) == set(names)
    counts = {"no_email": len(names), **({"user_error": user_errors} if user_errors else {})}
    sql = "UPDATE service.job_run SET state = 'failed', counts = $2, not_before = service.now() WHERE id = $1"
    await world.pool.execute(sql, result.run_id, counts)
    assert result.run_id
    return result.run_id


async def test_a_run_that_begins_again_records_everybody_once(world: World) -> None:
    """Also what the last release had recorded for it."""
    run = await _failed(world, "ann", "bob", user_errors=1)
    await world.pool.execute(
        "INSERT INTO service.decision (run_id, user_id, job, local_date, reason)"
        " VALUES ($1, 'ann', $2, $3, 'user_error')",
        run, GOALS, DAY,
    )  # fmt: skip

    assert await (await world.ledger()).retry(run)
    assert await world.reasons() == {}
    again = await (await world.runner()).run_one()

    assert again
    assert (again.id, again.state) == (run, RunState.SUCCEEDED)
    assert [row["user_id"] for row in await world.pool.fetch(WORDS)] == ["ann", "bob"]


async def test_a_run_that_goes_on_at_its_cursor_keeps_what_it_recorded(world: World) -> None:
    run = await _failed(world, "ann", user_errors=0)

    assert await (await world.ledger()).retry(run)

    assert set(await world.reasons()) == {"ann"}


# ── Reading ─────────────────────────────────────────────────────────────────────────────────────────────────


async def _many(pool: asyncpg.Pool) -> None:
    """Runs for 500 people, on days of two months."""
    for n in range(20):
        ids = [f"{k:024x}" for k in range(500)]
        day = date(2026, 2 + n % 2, 1 + n)
        await record(pool, n + 1, *refused(*ids, day=day, detail="No activity within seven days."))
    await pool.execute("ANALYZE service.refusal")


async def _plan(pool: asyncpg.Pool, sql: str, *values: object) -> str:
    return "\n".join(row[0] for row in await pool.fetch(f"EXPLAIN (COSTS OFF) {sql}", *values))


async def test_questions_read_an_index_of_the_months_in_question(pool: asyncpg.Pool) -> None:
    await _many(pool)
    ann = packed_id(f"{7:024x}")
    explaining = queries.load(explain.__file__)["decisions"]
    counting = queries.load(runs_module.__file__)["run_reasons"]
    retrying = queries.load(ledger_module.__file__)["retry"]
    forgetting = queries.load(expiry.__file__)["runs"]
    one_day = await _plan(pool, explaining, ann, GOALS, date(2026, 3, 10), None, None)

    for index, plan in (
        ("person_idx", one_day),
        ("person_idx", await _plan(pool, "SELECT * FROM service.refusals_of($1)", ann)),
        ("run_id_cause_idx", await _plan(pool, counting, 1)),
        ("run_id_cause_idx", await _plan(pool, retrying, 1, timedelta(days=30), "by hand")),
        ("run_id_cause_idx", await _plan(pool, forgetting, NOON, expiry.BATCH)),
    ):
        assert index in plan, plan
        assert "Seq Scan on refusal_2026" not in plan, plan
    assert "refusal_2026_03" in one_day
    assert "refusal_2026_02" not in one_day, one_day
