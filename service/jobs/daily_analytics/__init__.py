"""dailyAnalytics: the day before, in the service zone; and whatever late data changed in any statistic."""

from datetime import UTC, timedelta

from service.analytics import maintenance
from service.analytics.anomaly.series import DAYS
from service.analytics.statistic import Statistic
from service.engine.context import RunContext
from service.engine.job import CatchUp, Job, JobType, TimeMode


async def work(context: RunContext) -> None:
    """Rebuild stale days, fill missing service days, revise what rests on them, and look for anomalies."""
    await maintenance.rebuild_stale_days(context)
    await maintenance.derive_missing(context, Statistic.DAILY)
    await maintenance.derive_stale(context)
    last = maintenance.last_period(context, Statistic.DAILY).replace(tzinfo=UTC)
    await maintenance.detect_anomalies(context, DAYS, last + timedelta(days=1))


JOB = Job(
    type=JobType.ANALYTICS,
    name="dailyAnalytics",
    about="The day before, in the service zone; and whatever late data changed in any statistic.",
    schedule="0 1 * * *",
    mode=TimeMode.SERVICE,
    catch_up=CatchUp.EVERY,
    useful_until=lambda local: local + timedelta(days=30),
    steps=work,
    needs=frozenset({"timer_sessions", "users.timezone"}),
    timeout=timedelta(hours=3),
)
