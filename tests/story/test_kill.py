"""kill -9 at any moment, against a recording server in a process of its own.

``hold``: nobody gets two, and everyone who got none is listed as unconfirmed. ``resend``: nobody is lost,
copies are byte-identical, and beside answers that the server withheld there is at most one per connection
and kill.
"""

import asyncio
import json
import os
import random
import signal
import sys
from collections import Counter, defaultdict
from pathlib import Path

import asyncpg
import pytest

from tests.given import GOALS, World, goal, user
from tests.process import spawn

_CONNECTIONS = 4
_DROPPED = 0.002


async def _spawn(*arguments: str) -> asyncio.subprocess.Process:
    pipe = asyncio.subprocess.PIPE
    return await spawn(sys.executable, "-m", *arguments, stdin=pipe, stdout=pipe)


async def _line(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    async with asyncio.timeout(60):
        return (await process.stdout.readline()).decode().strip()


async def _fork(parent: asyncio.subprocess.Process) -> int:
    assert parent.stdin is not None
    parent.stdin.write(b"go\n")
    return int(await _line(parent))


async def _plan(world: World, people: int) -> None:
    # The real clock: leases of real processes run out by it.
    names = [f"u{n:05d}" for n in range(people)]
    today = await world.pool.fetchval("SELECT (service.now() AT TIME ZONE 'UTC')::date + 1")
    await world.live(*(user(n, "UTC") for n in names), *(goal(f"g{n}", n, today.isoformat()) for n in names))
    await (await world.runner()).run_manual(GOALS)


async def _drained(pool: asyncpg.Pool) -> None:
    busy = "SELECT count(*) FROM service.delivery_with_state WHERE channel = 'email' AND state = ANY ($1)"
    async with asyncio.timeout(120):
        while await pool.fetchval(busy, ["planned", "claimed", "sending"]):
            await asyncio.sleep(0.1)


async def _kill_often(world: World, dsn: str, log: Path, kills: int, dice: random.Random) -> None:
    """Kill deliveries at random moments, then let one finish in peace; resends fall due at the end."""
    server = await _spawn("tests.smtp_server", "--log", str(log), "--drop-after-dot", str(_DROPPED))
    port = await _line(server)
    parent = await _spawn("tests.story.worker", dsn, port)
    try:
        for _ in range(kills):
            child = await _fork(parent)
            await asyncio.sleep(dice.uniform(0.02, 0.25))  # the moment of death is the point of the test
            os.kill(child, signal.SIGKILL)
            assert await _line(parent) == "dead"
        child = await _fork(parent)
        await _drained(world.pool)
        await world.pool.execute(
            "UPDATE service.delivery_state SET not_before = service.now() WHERE state = 'unconfirmed'"
        )
        async with asyncio.timeout(120):
            while await world.pool.fetchval(_RESENDS):
                await asyncio.sleep(0.1)
        await _drained(world.pool)
        os.kill(child, signal.SIGKILL)
        await _line(parent)
    finally:
        for process in (parent, server):
            process.kill()
            await process.wait()


_RESENDS = """
SELECT count(*) FROM service.delivery_with_state
WHERE state = 'unconfirmed' AND unconfirmed_policy = 'resend' AND resends = 0 AND channel = 'email'
"""


@pytest.mark.long
@pytest.mark.parametrize("policy", ["hold", "resend"])
async def test_a_death_at_any_moment_neither_doubles_nor_loses(
    world: World, dsn: str, tmp_path: Path, policy: str, long_form: bool
) -> None:
    kills = 150 if long_form else 8
    log = tmp_path / "taken.jsonl"
    log.touch()
    await _plan(world, kills * 60)
    await world.pool.execute("UPDATE service.delivery SET unconfirmed_policy = $1", policy)

    await _kill_often(world, dsn, log, kills, random.Random(7))

    taken = [json.loads(line) for line in log.read_text().splitlines()]
    times = Counter(one["message_id"] for one in taken)
    copies = defaultdict(set)
    for one in taken:
        copies[one["message_id"]].add(one["sha256"])
    rows = await world.pool.fetch(
        "SELECT message_id, state FROM service.delivery_with_state WHERE channel = 'email'"
    )
    planned = {row["message_id"] for row in rows}
    unconfirmed = {row["message_id"] for row in rows if row["state"] == "unconfirmed"}
    sent = {row["message_id"] for row in rows if row["state"] == "sent"}

    assert sent | unconfirmed == planned
    assert sent <= times.keys()
    assert all(len(same) == 1 for same in copies.values())
    if policy == "hold":
        assert max(times.values()) == 1
        assert planned - times.keys() <= unconfirmed
    else:
        assert planned <= times.keys()
        doubled = sum(n - 1 for n in times.values())
        resent = await world.pool.fetchval("SELECT sum(resends) FROM service.delivery_with_state")
        assert doubled <= resent <= _CONNECTIONS * kills + len(planned) * _DROPPED * 3
