"""Runs of analytics jobs to be killed: a parent that forks one at each line of input.

``python -m tests.analytics.worker DSN``. A line is ``whole`` (work until nothing is due), or ``before N`` /
``after N``: die by SIGKILL before / after the commit of the N-th step. Each answer is ``done`` or ``dead``.
With ``two``, two children work side by side until nothing is due.
"""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from service import log
from service.engine.database import open_pool
from service.engine.ledger import Ledger, Run
from tests.analytics.given import Lab
from tests.analytics.test_catch_up import bell


def _mortal(ledger: Ledger, moment: str, steps: int) -> None:
    whole = ledger.step
    taken = 0

    def count(now: str) -> None:
        nonlocal taken
        taken += now == moment
        if now == moment and taken == steps:
            os.kill(os.getpid(), signal.SIGKILL)

    @asynccontextmanager
    async def step(run: Run) -> AsyncIterator[asyncpg.Connection]:
        async with whole(run) as connection:
            yield connection
            count("before")
        count("after")

    ledger.step = step  # type: ignore[method-assign]


async def work(dsn: str, moment: str, steps: int) -> None:
    """Decide what is due and run it."""
    pool = await open_pool(dsn, max_size=4)
    lab = Lab(pool)
    ledger = await lab.ledger(attempts=10_000)
    _mortal(ledger, moment, steps)
    await bell(ledger).sweep_once()
    runner = lab.runner(ledger)
    while await runner.run_one():
        pass
    await pool.close()


def main() -> None:
    """Fork at each line, reap the dead."""
    log.configure("error", json=True)
    for line in sys.stdin:
        moment, _, steps = line.strip().partition(" ")
        children = []
        for _ in range(2 if moment == "two" else 1):
            child = os.fork()
            if child == 0:
                asyncio.run(work(sys.argv[1], moment, int(steps or 0)))
                os._exit(0)
            children.append(child)
        ends = [os.waitpid(child, 0)[1] for child in children]
        print(
            "dead" if any(map(os.WIFSIGNALED, ends)) else "done" if not any(ends) else f"failed {ends}",
            flush=True,
        )


if __name__ == "__main__":
    main()
