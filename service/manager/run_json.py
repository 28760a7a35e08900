"""Runs as the API shows them. Pure."""

from collections.abc import Mapping
from typing import Any

import asyncpg

from service.engine.run import last_line
from service.zones import iso_or_none


def run_json(row: Mapping[str, Any] | asyncpg.Record) -> dict[str, Any]:
    """A run as the API shows it. Instants are ISO 8601 in UTC; ``nominalLocal`` is a wall-clock time."""
    job_type, _, name = row["job"].partition(".")
    local = row["nominal_local"]
    return {
        "id": row["id"],
        "jobType": job_type,
        "jobName": name,
        "trigger": row["trigger"],
        "state": row["state"],
        "reason": row["reason"],
        "nominalAt": iso_or_none(row["nominal_at"]),
        "nominalLocal": local.isoformat() if local else None,
        "zones": row["zones"],
        "options": row["options"],
        "attempt": row["attempt"],
        "done": row["done"],
        "total": row["total"],
        "counts": row["counts"],
        "error": last_line(row["error"]),
        "notBefore": iso_or_none(row["not_before"]),
        "cancelRequestedAt": iso_or_none(row["cancel_requested_at"]),
        "waivedAt": iso_or_none(row["waived_at"]),
        "waivedBy": row["waived_by"],
        "waivedReason": row["waived_reason"],
        "createdAt": iso_or_none(row["created_at"]),
        "startedAt": iso_or_none(row["started_at"]),
        "finishedAt": iso_or_none(row["finished_at"]),
    }


def last_run_json(row: asyncpg.Record) -> dict[str, Any] | None:
    """The last run of a job, from a row of the query ``overview``; None: there was none."""
    if row["last_id"] is None:
        return None
    return {
        "id": row["last_id"],
        "state": row["last_state"],
        "trigger": row["last_trigger"],
        "nominalAt": iso_or_none(row["last_nominal_at"]),
        "finishedAt": iso_or_none(row["last_finished_at"]),
        "error": last_line(row["last_error"]),
    }


def attempt_json(row: asyncpg.Record, *, traceback: bool) -> dict[str, Any]:
    """One attempt at a run. ``traceback``: include the full one."""
    return {
        "process": row["owner"],
        "state": row["state"],
        "reason": row["reason"],
        "startedAt": iso_or_none(row["started_at"]),
        "endedAt": iso_or_none(row["ended_at"]),
        "error": last_line(row["error"]),
        "traceback": row["error"] if traceback else None,
    }
