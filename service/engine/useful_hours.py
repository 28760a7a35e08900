"""At which times of day a job's slots are of use: later ones would be missed, every time.

All of it follows from the job's own ``useful_until``.
"""

from datetime import datetime
from functools import lru_cache

from service.engine.job import Job
from service.engine.schedule import Schedule


def useful_at(job: Job, local: datetime) -> bool:
    """Whether a slot at this wall-clock time leaves the job any time to be run."""
    return job.useful_until(local) > local


def first_useless(job: Job, schedule: Schedule) -> datetime | None:
    """The first wall-clock time of a schedule at which the job's run would be missed; None: there is none."""
    times = schedule.times()
    every = (datetime.combine(day, at) for day in schedule.days() for at in times)
    return next((local for local in every if not useful_at(job, local)), None)


@lru_cache(maxsize=256)
def useful_hours(job: Job, schedule: Schedule) -> frozenset[int]:
    """The hours of the day that may be chosen instead of the schedule's own; see ``Schedule.at_hour``."""
    minutes = {at.replace(hour=0) for at in schedule.times()}
    days = [datetime.combine(day, at) for day in schedule.days() for at in minutes]
    return frozenset(
        hour for hour in range(24) if all(useful_at(job, local.replace(hour=hour)) for local in days)
    )
