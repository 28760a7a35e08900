"""chaos.everyMinute: each page of each slot leaves a row in ``chaos_effect``, which has no key.

Only the fence keeps the page of a process that lost its run out of it.
"""

import asyncio
from datetime import timedelta

from service.engine.context import RunContext
from service.engine.job import CatchUp, Job, JobType, TimeMode

PAGES = 3
_PAGE_SECONDS = 0.01


async def work(context: RunContext) -> None:
    """Write the pages that are missing, a step each."""
    for page in range(int(context.cursor or 0) + 1, PAGES + 1):
        await asyncio.sleep(_PAGE_SECONDS)
        async with context.step(long=False) as connection:
            await connection.execute("INSERT INTO chaos_effect VALUES ($1, $2)", context.tick.as_of, page)
            await context.advance(connection, str(page), 1)


JOB = Job(
    type=JobType.ANALYTICS,
    name="chaos.everyMinute",
    about="Leaves a row for each page of each slot.",
    schedule="* * * * *",
    mode=TimeMode.UTC,
    catch_up=CatchUp.EVERY,
    useful_until=lambda local: local + timedelta(days=300),
    steps=work,
)
