"""What an observer sees from outside while a scenario plays: health of each replica, and how much is done."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from tests.chaos.stage import SLOTS, Stage

_EVERY = 0.5
_DONE = f"SELECT count(*) FROM service.job_run WHERE job = '{SLOTS}' AND state = 'succeeded'"


class Watch:
    """``greens`` and ``done``: samples with their time. Who is frozen, dead or not up yet is left out."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._now = asyncio.get_running_loop().time
        self.greens: list[tuple[float, bool]] = []
        self.done: list[tuple[float, int]] = []

    @asynccontextmanager
    async def watching(self) -> AsyncIterator["Watch"]:
        tasks = [asyncio.create_task(self._see_health()), asyncio.create_task(self._see_progress())]
        try:
            yield self
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _see_health(self) -> None:
        while True:
            at = self._now()
            asked = [one for one in self._stage.replicas if one.alive and not one.frozen]
            answers = await asyncio.gather(*(replica.healthy() for replica in asked))
            still = [green for one, green in zip(asked, answers, strict=True) if one.alive and one.answers]
            if still:
                self.greens.append((at, all(still)))
            await asyncio.sleep(_EVERY)

    async def _see_progress(self) -> None:
        while True:
            with suppress(Exception):
                async with asyncio.timeout(2), self._stage.operator() as connection:
                    self.done.append((self._now(), await connection.fetchval(_DONE)))
            await asyncio.sleep(_EVERY)

    def red_after(self, start: float) -> float | None:
        """Seconds until health was first red; None: it never was."""
        return next((round(at - start, 1) for at, green in self.greens if at >= start and not green), None)

    async def until_green(self, since: float, seconds: float) -> float | None:
        """Seconds from ``since`` until every replica was green; None: not within ``seconds``."""
        while self._now() < since + seconds:
            for at, green in self.greens:
                if at >= since and green:
                    return round(at - since, 1)
            await asyncio.sleep(_EVERY)
        return None

    def rate(self, start: float, end: float) -> float:
        """Slots per second that were done between two times."""
        seen = [(at, n) for at, n in self.done if start <= at <= end]
        if len(seen) < 2:
            return 0.0
        (begin, before), (last, after) = seen[0], seen[-1]
        return (after - before) / (last - begin)
