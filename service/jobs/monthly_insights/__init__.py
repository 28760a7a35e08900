"""monthlyInsights: the local month before: people by segment and lifecycle, features, churn, cohorts."""

from datetime import timedelta

from service.analytics import maintenance
from service.engine.context import RunContext
from service.engine.job import CatchUp, Job, JobType, TimeMode


async def work(context: RunContext) -> None:
    """Fill missing months once dailyAnalytics has been through their last date."""
    await maintenance.update_months(context)


JOB = Job(
    type=JobType.ANALYTICS,
    name="monthlyInsights",
    about="The local month before: people by segment and lifecycle, features, churn, cohorts.",
    schedule="0 3 1 * *",
    mode=TimeMode.SERVICE,
    catch_up=CatchUp.EVERY,
    useful_until=lambda local: local + timedelta(days=365),
    steps=work,
    needs=frozenset({"timer_sessions", "users.timezone"}),
    timeout=timedelta(hours=2),
)
