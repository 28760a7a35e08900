"""The status of the jobs, from one reading of the ledger. Pure; names are the original's."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import asyncpg

from service.engine.job import Job, JobType
from service.manager.run_json import last_run_json
from service.manager.skip_shares import SkipShare
from service.zones import iso_or_none


@dataclass(frozen=True, slots=True)
class StatusSnapshot:
    """The jobs by id, and a row of the query ``overview`` for each, taken at ``as_of`` (None: not yet).

    ``skip_shares``: reasons for which a job suddenly leaves out far more people than it used to.
    """

    jobs: Mapping[str, Job]
    rows: Mapping[str, asyncpg.Record] = field(default_factory=dict)
    as_of: datetime | None = None
    skip_shares: Sequence[SkipShare] = ()

    @property
    def last_ends(self) -> dict[str, datetime | None]:
        """When a run of each job ended last."""
        return {job: row["last_ended_at"] for job, row in self.rows.items()}

    def jobs_of(self, kind: JobType) -> list[Job]:
        """The jobs of a type."""
        return [job for job in self.jobs.values() if job.type is kind]

    def type_status(self, kind: JobType, *, running: bool) -> dict[str, Any]:
        """A type of jobs, as ``get_status`` shows it. ``running``: whether the manager was started."""
        jobs = self.jobs_of(kind)
        return {
            "isRunning": running and bool(jobs),
            "activeJobs": [job.name for job in jobs],
            "jobCount": len(jobs),
            "jobs": {job.name: self._job_status(job) for job in jobs},
        }

    def _job_status(self, job: Job) -> dict[str, Any]:
        row = self.rows.get(job.id)
        if row is None:
            return {"schedule": job.schedule, "mode": str(job.mode), "paused": False, "lastRun": None}
        return {
            "schedule": row["cron"],
            "mode": row["mode"],
            "paused": row["paused"],
            "pausedBy": row["paused_by"] if row["paused"] else None,
            "pausedReason": row["paused_reason"] if row["paused"] else None,
            "pausedUntil": iso_or_none(row["paused_until"]) if row["paused"] else None,
            "running": row["running"],
            "pending": row["pending"],
            "decidedUntil": iso_or_none(row["materialized_through"]),
            "lastSuccessAt": iso_or_none(row["last_success_at"]),
            "lastRun": last_run_json(row),
        }
