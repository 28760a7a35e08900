"""How old a job's last success may become."""

from datetime import timedelta

import pytest

from service.engine.schedule import Schedule
from service.engine.staleness import Frequency, frequency, stale_after
from service.jobs import all_jobs


def hours(expression: str) -> tuple[float, Frequency]:
    schedule = Schedule.parse(expression)
    return round(stale_after(schedule) / timedelta(hours=1), 1), frequency(schedule)


@pytest.mark.parametrize(
    ("expression", "limit"),
    [
        ("*/5 * * * *", (3, Frequency.HOURLY)),
        ("17 * * * *", (3, Frequency.HOURLY)),
        ("0 */2 * * *", (36, Frequency.DAILY)),
        ("0 9,10 * * *", (36, Frequency.DAILY)),
        ("0 9 * * 1-5", (72 + 36, Frequency.RARE)),
        ("0 9 */2 * *", (48 + 24, Frequency.RARE)),
        ("0 7 1 */3 *", ((92 + 2) * 24, Frequency.RARE)),
    ],
)
def test_the_limit_follows_from_the_schedule(expression: str, limit: tuple[float, Frequency]) -> None:
    assert hours(expression) == limit


def test_the_limits_of_the_service_s_own_jobs() -> None:
    assert {job.name: hours(job.schedule) for job in all_jobs().values()} == {
        "performanceMetrics": (3, Frequency.HOURLY),
        "dailyAnalytics": (36, Frequency.DAILY),
        "dailyCheck": (36, Frequency.DAILY),
        "dataCleanup": (36, Frequency.DAILY),
        "goalDeadlines": (36, Frequency.DAILY),
        "inactiveUsers": (36, Frequency.DAILY),
        "userBehavior": (36, Frequency.DAILY),
        "breakReminders": (94.8, Frequency.RARE),
        "weeklyAggregation": (9 * 24, Frequency.RARE),
        "weeklyReview": (9 * 24, Frequency.RARE),
        "monthlyInsights": (33 * 24, Frequency.RARE),
        "monthlyReport": (33 * 24, Frequency.RARE),
    }
