"""Runners to be killed: a parent that forks one at each line of input and prints what it came to.

``python -m tests.story.one_page_worker DSN``. ``page`` forks a runner that applies one page of what is due
and then waits to be killed: ``page PID``. ``rest`` forks one that goes on to the end of the run, ``fatal ID``
one that dies when it decides about this person.
"""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import asyncpg

from service import log
from service.engine.database import open_pool
from service.engine.run import Tick
from service.messages import reminder as reminder_module
from service.messages.decision import Decision
from service.messages.reminder import FactsPage, Reminder
from tests.given import GOALS, World, composer

PAGE = 200


def _stuck_after_a_page(job: Reminder) -> Reminder:
    async def read(connection: asyncpg.Connection, tick: Tick, after: str) -> AsyncIterator[FactsPage]:
        async for page in job.read(connection, tick, after):
            yield page
            print("page", os.getpid(), flush=True)
            await asyncio.Event().wait()

    return replace(job, read=read)


def _deadly(job: Reminder, id_: str) -> Reminder:
    def decide(facts: Any, tick: Tick) -> Decision:
        if facts.user.id == id_:
            os.kill(os.getpid(), signal.SIGKILL)
        return job.decide(facts, tick)

    return replace(job, decide=decide)


async def _run(dsn: str, word: str, id_: str) -> None:
    pool = await open_pool(dsn, max_size=5)
    world = World(pool)
    job = world.reminder()
    if word == "page":
        job = _stuck_after_a_page(job)
    elif word == "fatal":
        job = _deadly(job, id_)
    world.jobs = {GOALS: job}
    await (await world.runner(f"runner-{os.getpid()}")).run_one()
    await pool.close()


def main() -> None:
    """Fork at each line, reap the dead."""
    reminder_module._PAGE = PAGE
    log.configure("error", json=True)
    composer()  # its templates are slow to read: once, before forking
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            word, _, id_ = line.strip().partition(" ")
            asyncio.run(_run(sys.argv[1], word, id_))
            os._exit(0)
        _, how = os.waitpid(child, 0)
        print("killed" if os.WIFSIGNALED(how) else "done", flush=True)


if __name__ == "__main__":
    main()
