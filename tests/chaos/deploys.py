"""Rolling deploys: replicas of other schedules and of the last release, beside those of this one."""

import asyncio
import json
from datetime import timedelta

from tests import releases
from tests.chaos.replica import Replica
from tests.chaos.stage import SLOTS, Stage
from tests.releases import checked_out

_BEFORE = "UPDATE service.job_schedule SET materialized_through = $2 WHERE job = $1"


async def other_schedule(stage: Stage) -> None:
    """All replicas were down for a while; then one comes with another schedule, and an old one beside it."""
    for replica in stage.replicas:
        await replica.stop(60)
    await stage.sql("DELETE FROM service.job_run WHERE job = $1", SLOTS)
    await stage.sql("DELETE FROM chaos_effect WHERE job = $1", SLOTS)
    await stage.sql(_BEFORE, SLOTS, stage.first_slot - timedelta(seconds=1))
    changed = stage.add_replica({"JOB_SCHEDULES": json.dumps({SLOTS: "*/2 * * * *"})})
    stage.faults += 1
    await changed.start()
    await stage.replicas[0].start()
    await changed.until_started()
    await stage.replicas[0].until_started()
    await asyncio.sleep(65)  # so that a slot comes while both are there


async def _old(stage: Stage) -> Replica:
    """A replica of the last release, beside those of this one."""
    code = await asyncio.to_thread(checked_out, releases.last_release(), stage.folder / "last-release")
    old = stage.add_replica({"EXTRA_JOBS": ""}, code=code)
    await old.start()
    await old.until_started()
    stage.faults += 1
    return old


async def last_release(stage: Stage) -> None:
    """The last release works beside this one for some seconds, and is stopped."""
    old = await _old(stage)
    await asyncio.sleep(5)
    await old.stop(60)


async def newer_schema(stage: Stage) -> None:
    """A migration that the last release cannot write beside comes while it sends: it stands down."""
    old = await _old(stage)
    await stage.sql("UPDATE service.schema_range SET writable_from = $1", releases.last_release().schema + 1)
    async with asyncio.timeout(60):
        while await old.healthy():
            await asyncio.sleep(0.1)
    await old.stop(60)
