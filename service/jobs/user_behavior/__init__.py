"""userBehavior: six-hour windows in UTC, [t - 6 h, t): how people use their timer, and when."""

from datetime import timedelta

from service.analytics import maintenance
from service.analytics.statistic import Statistic
from service.engine.context import RunContext
from service.engine.job import CatchUp, Job, JobType, TimeMode


async def work(context: RunContext) -> None:
    """Fill missing windows, revise those that late data touched, and renew the profiles of the active."""
    await maintenance.rebuild_stale_days(context)
    await maintenance.derive_missing(context, Statistic.BEHAVIOUR)
    await maintenance.derive_stale(context, [Statistic.BEHAVIOUR])
    await maintenance.update_profiles(context)


JOB = Job(
    type=JobType.ANALYTICS,
    name="userBehavior",
    about="Six-hour windows in UTC, [t - 6 h, t): how people use their timer, and when.",
    schedule="0 */6 * * *",
    mode=TimeMode.UTC,
    catch_up=CatchUp.EVERY,
    useful_until=lambda local: local + timedelta(days=7),
    steps=work,
    needs=frozenset({"timer_sessions", "users.timezone"}),
    timeout=timedelta(hours=2),
)
