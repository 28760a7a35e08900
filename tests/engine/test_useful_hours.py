"""The hours at which a job's slots are of use follow from the job; others are not offered, and refused."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from service.engine.job import TimeMode
from service.engine.schedule import Schedule
from service.engine.trigger import Timing, planned_runs
from service.engine.useful_hours import first_useless, useful_at, useful_hours
from service.errors import ConfigurationError
from service.jobs import hours_of_kinds
from service.messages.reminder import reminders
from service.settings import Settings
from service.setup.timings import timings_of
from tests.acme import JOBS
from tests.kinds import BREAKS, DAILY, DEADLINES, INACTIVE, MONTHLY, WEEKLY

DAY = set(range(24))


def _configured(schedules: str, **more: str) -> list[str]:
    """What is said of JOB_SCHEDULES."""
    try:
        timings_of(JOBS, Settings.load({"JOB_SCHEDULES": schedules, **more}))
    except ConfigurationError as error:
        return error.problems
    return []


@pytest.mark.parametrize("id_", JOBS)
def test_every_usual_schedule_is_useful(id_: str) -> None:
    assert first_useless(JOBS[id_], Schedule.parse(JOBS[id_].schedule)) is None


def test_the_hours_that_may_be_chosen_end_where_the_job_does() -> None:
    found = hours_of_kinds(JOBS)

    assert found[DEADLINES.name] == set(range(20))
    assert found[INACTIVE.name] == set(range(20))
    assert found[DAILY.name] == set(range(21))
    assert found[WEEKLY.name] == found[MONTHLY.name] == found[BREAKS.name] == DAY


@pytest.mark.parametrize(
    ("job", "schedule", "last"),
    [
        ("goalDeadlines", "30 8 * * *", 19),
        ("weeklyReview", "59 9 * * 1", 23),
        ("monthlyReport", "0 9 2 * *", 23),
        ("monthlyReport", "0 9 3 * *", 19),
        ("monthlyReport", "0 9 1,29 * *", 19),
        ("monthlyReport", "0 9 29 2 *", 19),
    ],
)
def test_the_hours_follow_the_schedules_days_and_minutes(job: str, schedule: str, last: int) -> None:
    id_ = f"reminder.{job}"
    kind = reminders(JOBS)[id_].kind

    assert useful_hours(JOBS[id_], Schedule.parse(schedule)) == set(range(last + 1))
    assert hours_of_kinds(JOBS, {id_: Schedule.parse(schedule)})[kind.name] == set(range(last + 1))


def test_a_chosen_hour_that_is_accepted_is_never_missed_at_once_and_a_refused_one_always_is() -> None:
    job = JOBS["reminder.goalDeadlines"]
    offered = hours_of_kinds(JOBS)[DEADLINES.name]

    for hour in DAY:
        assert useful_at(job, datetime(2026, 3, 10, hour)) == (hour in offered)


@pytest.mark.parametrize(("group", "hour"), [("UTC", 9), ("UTC@7", 7), ("UTC@8", 9), ("UTC@21", 9)])
def test_a_slot_is_run_at_the_hour_that_the_timing_says(group: str, hour: int) -> None:
    job = JOBS["reminder.goalDeadlines"]
    timing = Timing(Schedule.parse(job.schedule), TimeMode.USER, frozenset({7}))
    zone, midnight = ZoneInfo("UTC"), datetime(2026, 3, 10, tzinfo=UTC)

    [run] = planned_runs(timing, job, [group], zone, midnight, midnight + timedelta(days=1))

    schedule, _ = timing.of(group, zone)
    assert schedule.next(zone, midnight).at == run.at == midnight.replace(hour=hour)


@pytest.mark.parametrize(
    ("job", "schedule", "told"),
    [
        (
            "goalDeadlines",
            "0 22 * * *",
            "goalDeadlines at 22:00 would always be missed: it is useful until 20:00",
        ),
        ("goalDeadlines", "0 20 * * *", "goalDeadlines at 20:00"),
        ("goalDeadlines", "0 9,21 * * *", "goalDeadlines at 21:00"),
        ("goalDeadlines", "30 9-22 * * *", "goalDeadlines at 20:30"),
        ("goalDeadlines", "* * * * *", "goalDeadlines at 20:00"),
        ("reminder.goalDeadlines", "30 21 1 1 *", "reminder.goalDeadlines at 21:30"),
        ("dailyCheck", "0 21 * * 6", "dailyCheck at 21:00 would always be missed: it is useful until 21:00"),
        ("inactiveUsers", "59 23 29 2 *", "inactiveUsers at 23:59"),
        ("monthlyReport", "0 21 1,5 * *", "monthlyReport at 21:00"),
        ("monthlyReport", "* * 1-2,31 * *", "monthlyReport at 20:00"),
    ],
)
@pytest.mark.parametrize("mode", ["user", "service"])
def test_a_time_that_is_too_late_is_refused_by_name(job: str, schedule: str, told: str, mode: str) -> None:
    [problem] = _configured(f'{{"{job}": "{schedule}"}}', REMINDER_TIME_MODE=mode)

    assert problem.startswith(f"JOB_SCHEDULES: {told}")


@pytest.mark.parametrize(
    ("job", "schedule"),
    [
        ("goalDeadlines", "59 0-19 * * *"),
        ("dailyCheck", "30 20 * * *"),
        ("weeklyReview", "59 23 * * 0"),
        ("monthlyReport", "0 23 1,2 * *"),
        ("breakReminders", "* * * * *"),
        ("dataCleanup", "59 23 * * *"),
        ("analytics.performanceMetrics", "*/20 * * * *"),
    ],
)
def test_any_other_time_is_accepted(job: str, schedule: str) -> None:
    assert _configured(f'{{"{job}": "{schedule}"}}') == []


def test_a_job_that_does_not_exist_is_named_with_the_one_that_may_be_meant() -> None:
    [problem] = _configured('{"goaldeadlines": "0 9 * * *"}')
    assert problem == "JOB_SCHEDULES: there is no job 'goaldeadlines'; is goalDeadlines meant?"

    [problem] = _configured('{"xyz": "0 9 * * *"}')
    assert all(job.name in problem for job in JOBS.values())


def test_a_schedule_by_id_goes_before_one_by_name() -> None:
    both = '{"reminder.goalDeadlines": "0 8 * * *", "goalDeadlines": "0 7 * * *"}'

    timing = timings_of(JOBS, Settings.load({"JOB_SCHEDULES": both}))["reminder.goalDeadlines"]

    assert timing.schedule.expression == "0 8 * * *"
