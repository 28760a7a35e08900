"""The folder is the registry: every package below ``service.jobs`` exports one ``JOB``."""

import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache

from service.dashboard.model import MessageKind
from service.engine.job import Job, JobType
from service.engine.schedule import Schedule
from service.engine.useful_hours import useful_hours
from service.messages.reminder import reminders


def all_jobs() -> dict[str, Job]:
    """Every job by its id (``reminder.goalDeadlines``), reminders first."""
    return dict(_all_jobs())


@cache
def _all_jobs() -> dict[str, Job]:
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    jobs = [importlib.import_module(f"{__name__}.{name}").JOB for name in names]
    return {job.id: job for job in sorted(jobs, key=lambda job: job.type is not JobType.REMINDER)}


def hours_of_kinds(schedules: Mapping[str, Schedule] | None = None) -> dict[MessageKind, frozenset[int]]:
    """The hours that may be chosen for each kind of message. ``schedules``: by job id; else the usual."""
    chosen = schedules or {}
    return {
        job.kind: useful_hours(job, chosen.get(id_) or Schedule.parse(job.schedule))
        for id_, job in reminders(all_jobs()).items()
    }
