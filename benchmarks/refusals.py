"""Why somebody got nothing: ``python -m benchmarks.refusals [N [people]]``.

N rows (1,000,000) of so many people (as many) are recorded as a run records them, in pages of 1,000 and a
transaction each, over one connection: bytes of a row with all indexes (aim: 120), rows per second (aim:
100,000), and seconds of CPU of this process and of PostgreSQL, for ids of MongoDB and for UUIDs. In the same
run the same rows in the shape that releases up to 0.1.1 write. Ratios are what counts; machines differ.
"""

import asyncio
import random
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import psutil

from service import log
from service.engine import embedded
from service.engine.database import migrate, open_pool
from service.messages import refusals
from service.messages.refusals import RefusedPerson
from service.setup import databases

_JOB = "reminder.dailyCheck"
_PAGE = 1000
_FIRST = date(2026, 3, 1)
_SENTENCES = (
    "No activity within seven days.",
    "A focus session was completed today.",
    "Not on this day of the week.",
)
_BEFORE = """
INSERT INTO service.decision (run_id, user_id, job, local_date, reason, detail)
SELECT $1, user_id, $2, local_date, reason, detail
FROM unnest($3::text[], $4::date[], $5::text[], $6::text[]) AS d(user_id, local_date, reason, detail)
ON CONFLICT (run_id, user_id) DO UPDATE SET reason = excluded.reason, detail = excluded.detail
"""
_SIZE = """
SELECT sum(pg_total_relation_size(oid)) FROM pg_class
WHERE relnamespace = 'service'::regnamespace AND relkind = 'r' AND (relname ~ $1)
"""
_DEFINITION = """
INSERT INTO service.job_def (job, cron, mode, schedule_hash, timeout, max_attempts, materialized_through)
VALUES ($1, '0 18 * * *', 'user', '', '1 hour', 3, service.now())
"""
Record = Callable[[Any, int, list[RefusedPerson]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Measured:
    """Bytes of a row; rows per second; seconds of CPU for all rows: this process, and PostgreSQL."""

    size: float
    rate: float
    own: float
    postgres: float


async def _now(connection: asyncpg.Connection, run: int, page: list[RefusedPerson]) -> None:
    await refusals.record(connection, run, _JOB, page)


async def _before(connection: asyncpg.Connection, run: int, page: list[RefusedPerson]) -> None:
    columns = zip(*((r.user_id, r.local_date, r.reason, r.detail) for r in page), strict=True)
    ids, dates, reasons, details = map(list, columns)
    await connection.execute(_BEFORE, run, _JOB, ids, dates, reasons, details)


SHAPES: dict[str, tuple[Record, str]] = {"now": (_now, r"^refusal_\d"), "before": (_before, "^decision$")}


def _cpu(folder: Path) -> tuple[float, float]:
    server = psutil.Process(int((folder / "postmaster.pid").read_text("utf-8").split()[0]))
    every = [server, *server.children(recursive=True)]
    used = [time.user + time.system for time in (one.cpu_times() for one in every)]
    return time.process_time(), sum(used)


async def measure(pool: asyncpg.Pool, folder: Path, ids: list[str], days: int, shape: str) -> Measured:
    """Record everybody on each of so many days."""
    record, tables = SHAPES[shape]
    seconds, own, postgres = 0.0, 0.0, 0.0
    async with pool.acquire() as connection:
        for n in range(days):
            day = _FIRST + timedelta(days=n)
            run, pages = await _run(pool, day), _pages(ids, day)
            began, before = time.perf_counter(), _cpu(folder)
            for page in pages:
                async with connection.transaction():
                    await record(connection, run, page)
            now = _cpu(folder)
            seconds += time.perf_counter() - began
            own, postgres = own + now[0] - before[0], postgres + now[1] - before[1]
    rows = len(ids) * days
    size = float(await pool.fetchval(_SIZE, tables))
    await pool.execute("TRUNCATE service.refusal, service.decision")
    return Measured(size / rows, rows / seconds, own, postgres)


def _pages(ids: list[str], day: date) -> list[list[RefusedPerson]]:
    return [
        [
            RefusedPerson(id_, day, "not_due", _SENTENCES[k % 3])
            for k, id_ in enumerate(ids[start : start + _PAGE])
        ]
        for start in range(0, len(ids), _PAGE)
    ]


async def _run(pool: asyncpg.Pool, day: date) -> int:
    run: int = await pool.fetchval(
        "INSERT INTO service.job_run (job, trigger, nominal_at, state, not_before)"
        " VALUES ($1, 'manual', $2, 'succeeded', $2) RETURNING id",
        _JOB,
        datetime.combine(day, datetime.min.time(), UTC),
    )
    return run


def people(count: int, kind: str) -> list[str]:
    """Ids as the dashboard's are, in the order in which a run reads them."""
    dice = random.Random(1)
    if kind == "UUID":
        return sorted(str(UUID(int=dice.getrandbits(128), version=4)) for _ in range(count))
    return sorted(f"{dice.getrandbits(96):024x}" for _ in range(count))


async def main(rows: int, count: int) -> None:
    """Each kind of id and each shape, on one server."""
    with tempfile.TemporaryDirectory(prefix="jobs-bench-") as name:
        folder = Path(name) / "postgres"
        dsn, server = embedded.start(folder)
        try:
            pool = await open_pool(await databases.ensure_database(dsn, "jobs"))
            await migrate(pool)
            await pool.execute(_DEFINITION, _JOB)
            for kind in ("MongoDB", "UUID"):
                ids = people(count, kind)
                found = {shape: await measure(pool, folder, ids, rows // count, shape) for shape in SHAPES}
                _print(kind, rows, count, found)
            await pool.close()
        finally:
            server.stop()


def _print(kind: str, rows: int, count: int, found: dict[str, Measured]) -> None:
    print(f"\n{rows:,} rows of {count:,} people, ids: {kind}")
    for shape, of in found.items():
        print(
            f"  {shape:<8}{of.size:6.1f} bytes a row   {of.rate:9,.0f} rows/s"
            f"   CPU: service {of.own:5.1f}, PostgreSQL {of.postgres:5.1f} s"
        )
    now, before = found["now"], found["before"]
    smaller, faster = now.size / before.size, now.rate / before.rate
    print(f"  ratio   {smaller:6.2f} of the bytes   {faster:6.1f} times the rows/s", flush=True)


if __name__ == "__main__":
    log.configure("error", json=True)
    rows = int(sys.argv[1]) if sys.argv[1:] else 1_000_000
    asyncio.run(main(rows, int(sys.argv[2]) if sys.argv[2:] else rows))
