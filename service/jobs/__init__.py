"""The folder is the registry: every module below ``reminders`` and ``analytics`` exports one ``JOB``."""

import importlib
import pkgutil
from types import ModuleType

from service.errors import UnknownJob, UnknownJobType
from service.jobs import analytics, reminders
from service.jobs.job import Job, JobType


def _jobs_in(package: ModuleType) -> list[Job]:
    names = sorted(module.name for module in pkgutil.iter_modules(package.__path__))
    modules = [importlib.import_module(f"{package.__name__}.{name}") for name in names]
    return [module.JOB for module in modules]


def all_jobs() -> dict[str, Job]:
    """Every job by its id (``reminder.goalDeadlines``)."""
    return {job.id: job for package in (reminders, analytics) for job in _jobs_in(package)}


def find(jobs: dict[str, Job], job_type: str, name: str) -> Job:
    """The job that the caller named; ``UnknownJobType`` or ``UnknownJob`` with the original's words."""
    if job_type not in set(JobType):
        raise UnknownJobType(job_type)
    try:
        return jobs[f"{job_type}.{name}"]
    except KeyError:
        raise UnknownJob(name) from None
