"""Why somebody got nothing: dropped by the month, and exported and erased with the person."""

from datetime import date, datetime
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from service.archive.archive import Archive
from service.archive.personal_data import PersonalData
from service.engine.run import RunRequest, RunResult
from service.messages import refusals
from service.messages.refusals import RefusedPerson
from tests.given import GOALS, World, user

CLEANUP = "analytics.dataCleanup"
MONTHS = (
    "SELECT inhrelid::regclass::text FROM pg_inherits"
    " WHERE inhparent = 'service.refusal'::regclass ORDER BY 1"
)


@pytest.fixture
async def world(world: World) -> World:
    """Ann and Bob got nothing on the last of June and on the first of July."""
    await world.at("2026-08-20T12:00:00Z")
    await world.live(user("ann"), user("bob"))
    await world.ledger()
    for day in ("2025-06-30", "2025-07-01"):
        await _refuse(world.pool, day, "ann", "bob")
    return world


async def _refuse(pool: asyncpg.Pool, day: str, *ids: str) -> int:
    run: int = await pool.fetchval(
        "INSERT INTO service.job_run (job, trigger, nominal_at, state, not_before)"
        " VALUES ($1, 'cron', $2, 'succeeded', $2) RETURNING id",
        GOALS, datetime.fromisoformat(f"{day}T12:00:00Z"),
    )  # fmt: skip
    people = [RefusedPerson(id_, date.fromisoformat(day), "not_due", "It is Sunday.") for id_ in ids]
    async with pool.acquire() as connection, connection.transaction():
        await refusals.record(connection, run, GOALS, people)  # type: ignore[arg-type]
    return run


async def _clean(world: World, **options: Any) -> RunResult:
    return await (await world.runner()).run_manual(CLEANUP, RunRequest(**options))


async def _kept(pool: asyncpg.Pool) -> tuple[list[str], list[str]]:
    """Months, and dates of runs."""
    months = [row[0].removeprefix("service.refusal_") for row in await pool.fetch(MONTHS)]
    runs = await pool.fetch(
        "SELECT nominal_at::date::text FROM service.job_run WHERE trigger = 'cron' ORDER BY 1"
    )
    return months, [row[0] for row in runs]


async def test_a_month_is_dropped_when_all_of_it_is_too_old(world: World) -> None:
    """Its runs go with it, not before. The last of July is a date somewhere until a day later."""
    found = {}
    for now in ("2026-08-20T12:00:00Z", "2026-09-05T23:00:00Z", "2026-09-06T00:00:00Z"):
        await world.at(now)
        result = await _clean(world)
        assert result.state == "succeeded", result.error
        found[now[:10]] = (await _kept(world.pool), result.counts.get("refusalMonthsForgotten"))

    assert found == {
        "2026-08-20": ((["2025_07"], ["2025-07-01"]), 1),
        "2026-09-05": ((["2025_07"], ["2025-07-01"]), None),
        "2026-09-06": (([], []), 1),
    }


async def test_a_dry_run_says_how_many_and_waits_for_nobody(world: World) -> None:
    """Its transaction would hold the table until its end."""
    async with world.pool.acquire() as reading, reading.transaction():
        await reading.fetch("SELECT FROM service.refusal")
        result = await _clean(world, dry_run=True)

    assert result.counts["refusalMonthsForgotten"] == 1
    assert (await _kept(world.pool))[0] == ["2025_06", "2025_07"]


async def test_a_month_that_somebody_reads_for_long_stays_until_the_next_time(world: World) -> None:
    async with world.pool.acquire() as reading, reading.transaction():
        await reading.fetch("SELECT FROM service.refusal")
        result = await _clean(world)
    assert (result.state, result.counts.get("refusalMonthsForgotten")) == ("succeeded", None)
    assert (await _kept(world.pool))[0] == ["2025_06", "2025_07"]

    await _clean(world)

    assert (await _kept(world.pool))[0] == ["2025_07"]


async def test_a_person_takes_them_along_and_erases_them(world: World, tmp_path: Path) -> None:
    """Also those that the last release stored."""
    no_dashboard: Any = None
    people = PersonalData(world.pool, Archive(world.pool, tmp_path, no_dashboard))
    run = await _refuse(world.pool, "2026-08-19", "ann")
    await world.pool.execute(
        "INSERT INTO service.decision (run_id, user_id, job, local_date, reason, detail)"
        " SELECT $1, unnest($2::text[]), $3, '2026-08-18', 'no_email', 'There is none.'",
        run, ["ann", "bob"], GOALS,
    )  # fmt: skip

    exported = (await people.export("ann"))["decision"]
    erased = await people.erase("ann", "tester")

    told = {(row["user_id"], row["local_date"], row["reason"], row["detail"]) for row in exported}
    assert told == {
        ("ann", day, "not_due", "It is Sunday.") for day in ("2025-06-30", "2025-07-01", "2026-08-19")
    } | {("ann", "2026-08-18", "no_email", "There is none.")}
    assert erased["deleted"]["decision"] == 4
    left = await world.pool.fetch("SELECT user_id FROM service.refusal_in_words")
    assert [row["user_id"] for row in left] == ["bob"] * 3
