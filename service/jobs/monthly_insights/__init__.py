"""monthlyInsights: the local month before: people by segment and lifecycle, features, churn, cohorts."""

from datetime import timedelta

from service.analytics import maintenance
from service.analytics.statistic import Statistic
from service.engine.job import CatchUp, Desk, Job, JobType, TimeMode


async def work(desk: Desk) -> None:
    """Fill missing months once dailyAnalytics has been through their last date."""
    await maintenance.keep(desk, Statistic.MONTHLY)
    await maintenance.portraits(desk, maintenance.last_period(desk, Statistic.MONTHLY).date())


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
