"""What a job is: a value with a schedule and work, which is carried out in steps."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from service.engine.context import RunContext
from service.errors import UnknownJob, UnknownJobType


class JobType(StrEnum):
    """The two families of the original."""

    REMINDER = "reminder"
    ANALYTICS = "analytics"


class TimeMode(StrEnum):
    """In whose time the schedule is read: each user's, the service's zone, or UTC steps."""

    USER = "user"
    SERVICE = "service"
    UTC = "utc"


class CatchUp(StrEnum):
    """What becomes of slots that passed while nobody was there."""

    NONE = "none"
    LATEST = "latest"
    EVERY = "every"


Steps = Callable[[RunContext], Awaitable[None]]
"""Carries a run out. May be stopped between any two steps, and is then called again with its cursor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One job. ``useful_until(nominal_local)`` is the local wall-clock time after which a slot is missed.

    ``about``: one sentence for operators, what it is for.
    ``needs``: what it rests on at the dashboard, canonical. A table (``timer_sessions``): what it is about,
    without which it is off. A field (``users.email``): what it cannot do without. While one of these is
    missing, or its table cannot be read, the job's runs wait.
    ``steps``: how it is carried out; a kind of job may have its own ``work`` instead.
    """

    type: JobType
    name: str
    about: str
    schedule: str
    mode: TimeMode
    catch_up: CatchUp
    useful_until: Callable[[datetime], datetime]
    steps: Steps | None = None
    needs: frozenset[str] = frozenset()
    overlap: bool = False
    timeout: timedelta = timedelta(minutes=30)
    max_attempts: int = 5

    def __post_init__(self) -> None:
        """Raises TypeError for a job that does nothing."""
        if self.steps is None and type(self).work is Job.work:
            raise TypeError(f"{self.id} has no steps")

    @property
    def id(self) -> str:
        """The ledger's name of this job, e.g. ``reminder.goalDeadlines``."""
        return f"{self.type}.{self.name}"

    @property
    def own_hours(self) -> str | None:
        """The name under which people choose an hour of their own for it; None: they cannot."""
        return None

    async def work(self, context: RunContext) -> None:
        """Carry a run out, from the context's cursor on."""
        assert self.steps is not None
        await self.steps(context)


def find(jobs: Mapping[str, Job], job_type: str, name: str) -> Job:
    """The job that the caller named; ``UnknownJobType`` or ``UnknownJob`` with the original's words."""
    if job_type not in set(JobType):
        raise UnknownJobType(job_type)
    try:
        return jobs[f"{job_type}.{name}"]
    except KeyError:
        raise UnknownJob(name) from None
