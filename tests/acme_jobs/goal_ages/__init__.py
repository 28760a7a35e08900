"""acme.goalAges: how many goals are open, by their age; the run's counts are the result."""

from datetime import timedelta

from service.engine import queries
from service.engine.context import RunContext
from service.engine.job import CatchUp, Job, JobType, TimeMode

_SQL = queries.load(__file__)


async def work(context: RunContext) -> None:
    """Count once; a run that was interrupted before its step counts again."""
    async with context.step() as connection:
        row = await connection.fetchrow(_SQL["ages"], context.tick.as_of)
        assert row
        await context.advance(connection, "done", 1, {name: n for name, n in row.items() if n})


JOB = Job(
    type=JobType.ANALYTICS,
    name="acme.goalAges",
    about="How many goals are open, by their age.",
    schedule="30 4 * * *",
    mode=TimeMode.SERVICE,
    catch_up=CatchUp.LATEST,
    useful_until=lambda local: local + timedelta(days=1),
    steps=work,
    needs=frozenset({"goals", "goals.created"}),
)
