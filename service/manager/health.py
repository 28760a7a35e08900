"""The health of the jobs: problems of each, and the checks of ``health_check``. Pure."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from service.engine.job import Job, JobType, TimeMode
from service.engine.schedule import Schedule
from service.engine.unsettled import UnsettledSlot
from service.manager.conditions import job_conditions, sentence
from service.manager.status import StatusSnapshot

_UTC = ZoneInfo("UTC")
_LOOKS_BACK = tuple(timedelta(days=days) for days in (4, 20, 70))
"""How far to look back for the last slots, the shortest first."""
_NOTHING = timedelta(0)
_ZONES = (timedelta(hours=12), timedelta(hours=14))
"""A wall-clock time occurs up to 12 hours later than in UTC, and up to 14 earlier."""

Check = dict[str, Any]
Checks = Callable[[], Awaitable[Mapping[str, Check]]]
"""Further health checks by name, each at least ``{"status": "running|stopped|unhealthy|error", …}``."""


def type_check(
    snapshot: StatusSnapshot,
    kind: JobType,
    schedules: Mapping[str, Schedule],
    now: datetime,
    unsettled: Mapping[str, Sequence[UnsettledSlot]],
    *,
    running: bool,
) -> Check:
    """The check of a type of jobs. ``unsettled``: by job id. ``running``: whether the manager was started."""
    jobs = snapshot.jobs_of(kind)
    failed = {job.name: unsettled[job.id] for job in jobs if job.id in unsettled}
    problems = {
        job.name: job_problems
        for job in jobs
        if (job_problems := _problems(snapshot, job, schedules.get(job.id), now, unsettled.get(job.id, ())))
    }
    if not running or not jobs:
        status = "stopped"
    else:
        status = "unhealthy" if problems else "running"
    details = {
        "problems": problems,
        "jobs": [job.name for job in jobs],
        "unsettled": {name: [slot.to_json() for slot in slots] for name, slots in failed.items()},
    }
    return {"status": status, "activeJobs": len(jobs), "details": details}


def broken_check(active: int, error: Exception, last: Check | None, age: timedelta | None) -> Check:
    """The check of a type with ``active`` jobs while the ledger cannot be read.

    ``last``: the check when it last could be, ``age`` ago; None: there is none yet.
    """
    known = last["details"] if last else {}
    seconds = None if age is None else round(age.total_seconds())
    details = {**known, "error": type(error).__name__, "ageSeconds": seconds}
    return {"status": "error", "activeJobs": active, "details": details}


def silent_check(error: Exception) -> Check:
    """The check of our database while it cannot be asked."""
    problem = "our PostgreSQL has not answered in time" if isinstance(error, TimeoutError) else None
    return {"status": "error", "details": {"error": type(error).__name__, "problem": problem}}


def database_check(problem: str | None) -> Check:
    """The check of our database, which answers. ``problem``: why it cannot be used nevertheless."""
    if problem:
        return {"status": "unhealthy", "details": {"problem": problem}}
    return {"status": "running", "details": {}}


def last_slots(schedule: Schedule, mode: str, now: datetime) -> list[datetime]:
    """The earliest instants (UTC) of the two newest slots that have passed in every zone; fewer if rare.

    A user-local slot has an instant in each zone: it has passed with the last of them.
    """
    late, early = _ZONES if mode == TimeMode.USER else (_NOTHING, _NOTHING)
    slots: list[datetime] = []
    for look_back in _LOOKS_BACK:
        slots = [slot.at - early for slot in schedule.slots(_UTC, now - look_back, now - late)][-2:]
        if len(slots) == 2:
            break
    return slots


def _problems(
    snapshot: StatusSnapshot,
    job: Job,
    schedule: Schedule | None,
    now: datetime,
    unsettled: Sequence[UnsettledSlot],
) -> list[str]:
    row = snapshot.rows.get(job.id)
    if row is None:
        return ["not registered in the ledger"]
    slots = last_slots(schedule, row["mode"], now) if schedule else []
    return [sentence(one) for one in job_conditions(job.id, row, now, slots, unsettled)]
