"""Faults of the dashboard: its MongoDB, what it holds, and the lines to it. See ``faults`` for the others."""

import asyncio
from typing import Any

import psutil
from pymongo import MongoClient
from pymongo.errors import PyMongoError

from tests.chaos.faults import frozen
from tests.chaos.scenario import Fault
from tests.chaos.stage import Stage

_WAITING = """
SELECT DISTINCT d.user_id FROM service.delivery AS d JOIN service.delivery_state AS s USING (id)
WHERE d.channel = 'email' AND s.state = 'planned' AND s.claim IS NULL ORDER BY d.user_id
"""
_CLOSED = 20
_LATE_DAYS = range(2, 8)


def then_goals_are_reached(fault: Fault) -> Fault:
    """The same; and before the service can ask again, people whose mails wait reach their goals."""

    async def followed(stage: Stage) -> None:
        await fault(stage)
        stage.dashboard.refuse()  # so that nobody has an answer of before
        waiting = [row["user_id"] for row in await stage.sql(_WAITING)]
        await stage.people.close_goals(stage.dice.sample(waiting, min(_CLOSED, len(waiting))))
        stage.dashboard.heal()
        if not waiting:
            stage.problems.append("no mail waited at the end of the fault")

    return followed


# ── The dashboard's MongoDB ─────────────────────────────────────────────────────────────────────────────────


async def kill_dashboard(stage: Stage) -> None:
    """SIGKILL; it is started again after ten seconds."""
    stage.faults += 1
    await asyncio.to_thread(stage.servers.mongo.kill)
    await asyncio.sleep(10)
    stage.servers.mongo.start()
    await _when_primary(stage)


async def step_down(stage: Stage) -> None:
    """The primary steps down for some seconds."""
    stage.faults += 1
    with MongoClient[Any](stage.servers.mongo.url) as client:
        client.admin.command({"replSetStepDown": 3, "force": True})
    await _when_primary(stage)


async def _when_primary(stage: Stage) -> None:
    def primary() -> bool:
        with MongoClient[Any](stage.servers.mongo.url, serverSelectionTimeoutMS=1000) as client:
            try:
                return bool(client.admin.command("hello").get("isWritablePrimary"))
            except PyMongoError:
                return False

    async with asyncio.timeout(60):
        while not await asyncio.to_thread(primary):
            await asyncio.sleep(0.1)


async def freeze_dashboard(stage: Stage) -> None:
    """SIGSTOP for longer than the driver needs to notice."""
    await frozen(stage, [psutil.Process(stage.servers.mongo.process.pid)], 45)


# ── What it holds ───────────────────────────────────────────────────────────────────────────────────────────


def empty_dashboard(share: float, *, dropped: bool = False) -> Fault:
    """A share of the people and goals is gone for ten seconds, and comes back with the same ids.

    ``dropped``: so are the collections, as by mongorestore.
    """

    async def emptied(stage: Stage) -> None:
        stage.faults += 1
        gone = await stage.people.store.take_out(share, dropped=dropped)
        await asyncio.sleep(10)
        await stage.people.store.put_back(gone)

    return emptied


async def late_sessions(stage: Stage) -> None:
    """No fault: sessions of days ago come, change and go, with stamps of their time."""
    people = stage.people
    for days in _LATE_DAYS:
        await people.write_sessions(stage.dice.sample(people.people, 30), days=days)
        some = stage.dice.sample(sorted(people.sessions), 21)
        await people.edit_sessions(some[1:])
        await people.delete_sessions(some[:1])
        await asyncio.sleep(2)


async def compared(stage: Stage) -> None:
    """No fault: an operator lets everything be read again, for what left no trace in the time of writing."""
    live = next(replica for replica in stage.replicas if replica.alive)
    await live.until_started()
    await live.post("/api/admin/sync", {"full": True, "reason": "late sessions"})


async def new_sessions(stage: Stage) -> None:
    """No fault: sessions of yesterday that come now."""
    await stage.people.write_sessions(stage.dice.sample(stage.people.people, 50), days=1, written=stage.now())
