"""monthlyInsights: the local month before: people by segment and lifecycle, features, churn, cohorts."""

from datetime import timedelta

from service.domain.statistic import Statistic
from service.jobs import statistics
from service.jobs.job import CatchUp, Desk, Job, JobType, TimeMode


async def work(desk: Desk) -> None:
    """Fill missing months once dailyAnalytics has been through their last date."""
    await statistics.keep(desk, Statistic.MONTHLY)
    await statistics.portraits(desk, statistics.last_period(desk, Statistic.MONTHLY).date())


JOB = Job(
    type=JobType.ANALYTICS,
    name="monthlyInsights",
    schedule="0 3 1 * *",
    mode=TimeMode.SERVICE,
    catch_up=CatchUp.EVERY,
    useful_until=lambda local: local + timedelta(days=365),
    work=work,
    needs=frozenset({"timer_sessions", "users.timezone"}),
    timeout=timedelta(hours=2),
)
