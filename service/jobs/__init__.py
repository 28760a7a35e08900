"""The folder is the registry: every package below ``service.jobs`` exports one ``JOB``.

Packages outside this one add jobs in the same way; see ``extra_jobs``.
"""

from collections.abc import Mapping, Sequence
from functools import cache

from service.engine.job import Job, JobType
from service.engine.schedule import Schedule
from service.engine.useful_hours import useful_hours
from service.jobs.extra_jobs import jobs_of_package, require_usable
from service.messages.reminder import reminders


def all_jobs(packages: Sequence[str] = ()) -> dict[str, Job]:
    """Every job by its id (``reminder.goalDeadlines``), reminders first.

    ``packages``: importable packages with further jobs (EXTRA_JOBS). Raises ConfigurationError naming all
    problems of them.
    """
    return dict(_all_jobs(tuple(packages)))


@cache
def _all_jobs(packages: tuple[str, ...]) -> dict[str, Job]:
    jobs = jobs_of_package(__name__)
    extra = {package: jobs_of_package(package) for package in packages}
    require_usable(jobs, extra)
    every = [*jobs, *(job for brought in extra.values() for job in brought)]
    return {job.id: job for job in sorted(every, key=lambda job: job.type is not JobType.REMINDER)}


def hours_of_kinds(
    jobs: Mapping[str, Job], schedules: Mapping[str, Schedule] | None = None
) -> dict[str, frozenset[int]]:
    """The hours that may be chosen for each kind of message, by its name.

    ``schedules``: by job id, where they differ from the default.
    """
    overrides = schedules or {}
    return {
        job.kind.name: useful_hours(job, overrides.get(id_) or Schedule.parse(job.schedule))
        for id_, job in reminders(jobs).items()
    }
