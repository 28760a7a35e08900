"""userBehavior: six-hour windows in UTC, [t - 6 h, t): how people use their timer, and when."""

from datetime import timedelta

from service.analytics import maintenance
from service.analytics.statistic import Statistic
from service.engine.job import CatchUp, Desk, Job, JobType, TimeMode


async def work(desk: Desk) -> None:
    """Fill missing windows, revise those that late data touched, and renew the profiles of the active."""
    await maintenance.absorb(desk)
    await maintenance.fill(desk, Statistic.BEHAVIOUR)
    await maintenance.revise(desk, [Statistic.BEHAVIOUR])
    await maintenance.profiles(desk)


JOB = Job(
    type=JobType.ANALYTICS,
    name="userBehavior",
    schedule="0 */6 * * *",
    mode=TimeMode.UTC,
    catch_up=CatchUp.EVERY,
    useful_until=lambda local: local + timedelta(days=7),
    work=work,
    needs=frozenset({"timer_sessions", "users.timezone"}),
    timeout=timedelta(hours=2),
)
