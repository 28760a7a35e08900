"""weeklyAggregation: the seven local dates that ended on Saturday, with lifecycle, retention and cohorts."""

from datetime import timedelta

from service.analytics import maintenance
from service.analytics.statistic import Statistic
from service.engine.context import RunContext
from service.engine.job import CatchUp, Job, JobType, TimeMode


async def work(context: RunContext) -> None:
    """Fill missing weeks once dailyAnalytics has been through them; provisional until they are over."""
    await maintenance.update_statistic(context, Statistic.WEEKLY)


JOB = Job(
    type=JobType.ANALYTICS,
    name="weeklyAggregation",
    about="The seven local dates that ended on Saturday, with lifecycle, retention and cohorts.",
    schedule="0 2 * * 0",
    mode=TimeMode.SERVICE,
    catch_up=CatchUp.EVERY,
    useful_until=lambda local: local + timedelta(days=90),
    steps=work,
    needs=frozenset({"timer_sessions", "users.timezone"}),
    timeout=timedelta(hours=2),
)
