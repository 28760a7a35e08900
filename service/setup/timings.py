"""When jobs are due, according to the settings."""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from difflib import get_close_matches

import structlog

from service.engine.job import CatchUp, Job, JobType, TimeMode
from service.engine.ledger import JobDefinition
from service.engine.schedule import Schedule
from service.engine.trigger import Timing, timing_of
from service.engine.useful_hours import first_useless
from service.errors import ConfigurationError
from service.settings import Settings

log = structlog.get_logger()


def timings_of(jobs: Mapping[str, Job], settings: Settings) -> dict[str, Timing]:
    """Each job's schedule (the original's, or the configured one by id or name) and clock.

    ``REMINDER_TIME_MODE=service`` puts the reminders on one clock. Raises ConfigurationError for a configured
    job that does not exist, and for a schedule with a time at which the job would be too late to be useful.
    """
    names = _jobs_named(jobs, settings.job_schedules)
    chosen = {id_: Schedule.parse(settings.job_schedules[name]) for name, id_ in names.items()}
    late = {name: first_useless(jobs[id_], chosen[id_]) for name, id_ in names.items()}
    if problems := [_too_late(name, jobs[names[name]], at) for name, at in late.items() if at]:
        raise ConfigurationError(problems)
    one_clock = settings.reminder_time_mode == "service"
    return {
        id_: timing_of(
            job,
            chosen.get(id_),
            TimeMode.SERVICE if one_clock and job.type is JobType.REMINDER else None,
        )
        for id_, job in jobs.items()
    }


def _jobs_named(jobs: Mapping[str, Job], names: Iterable[str]) -> dict[str, str]:
    """Name or id to id. Raises ConfigurationError for those that do not exist."""
    ids = {job.name: id_ for id_, job in jobs.items()} | {id_: id_ for id_ in jobs}
    problems = []
    for name in sorted(set(names) - set(ids)):
        matches = get_close_matches(name, ids, n=1)
        hint = (
            f"is {matches[0]} meant?" if matches else f"use one of {', '.join(j.name for j in jobs.values())}"
        )
        problems.append(f"JOB_SCHEDULES: there is no job {name!r}; {hint}")
    if problems:
        raise ConfigurationError(problems)
    return {name: ids[name] for name in sorted(names, key=lambda name: name in jobs)}


def _too_late(name: str, job: Job, at: datetime) -> str:
    until = job.useful_until(at)
    day = "" if until.date() == at.date() else f"{until:%d %B} "
    return (
        f"JOB_SCHEDULES: {name} at {at:%H:%M} would always be missed:"
        f" it is useful until {day}{until:%H:%M}; choose an earlier time"
    )


_CATCH_UP = {
    CatchUp.NONE: timedelta(0),
    CatchUp.LATEST: timedelta(days=7),
    CatchUp.EVERY: timedelta(days=400),
}
"""How far back a changed schedule of a job begins at most."""


def definition(job: Job, timing: Timing, settings: Settings) -> JobDefinition:
    """The job's row in the ledger; the hash changes with everything that decides when the job is due."""
    zone = settings.service_timezone if timing.mode is TimeMode.SERVICE else ""
    return JobDefinition(
        job=job.id,
        cron=timing.schedule.expression,
        mode=str(timing.mode),
        schedule_hash=f"{timing.schedule.hash}:{timing.mode}:{zone}",
        timeout=job.timeout,
        max_attempts=job.max_attempts,
        exclusive=not job.overlap,
        catch_up=_CATCH_UP[job.catch_up],
    )
