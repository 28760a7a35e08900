"""The folder is the registry: every module below ``reminders`` and ``analytics`` exports one ``JOB``."""

import importlib
import pkgutil
import sys
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


def about(job: Job) -> str:
    """What a job is for, in one sentence: how its module introduces it."""
    module = sys.modules[(job.work or job.decide).__module__]
    said = (module.__doc__ or "").strip().split("\n\n", maxsplit=1)[0].replace("\n", " ")
    sentence = said.partition(": ")[2] or said
    return sentence[:1].upper() + sentence[1:]
