"""Work in pages, each of which leaves a row in ``chaos_effect``, which has no key.

Only the fence keeps the page of a process that lost its run out of it.
"""

import asyncio

from service.engine.context import RunContext
from service.engine.job import Steps


def pages(count: int, seconds: float) -> Steps:
    """So many, each after so many seconds; those that are missing, a step each."""

    async def work(context: RunContext) -> None:
        for page in range(int(context.cursor or 0) + 1, count + 1):
            await asyncio.sleep(seconds)
            async with context.step(long=False) as connection:
                await connection.execute(
                    "INSERT INTO chaos_effect VALUES ($1, $2, $3)",
                    context.tick.job, context.tick.as_of, page,
                )  # fmt: skip
                await context.advance(connection, str(page), 1)

    return work
