"""What is wrong with runs and messages, as conditions, and every condition in a sentence. Pure."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import asyncpg

from service.engine.conditions import Condition, ConditionSeverity
from service.engine.gates import Gate, Scope
from service.engine.unsettled import FAILED, UnsettledSlot
from service.zones import iso

Row = Mapping[str, Any] | asyncpg.Record

_LAG = timedelta(minutes=5)
_PENDING_TOO_LONG = timedelta(minutes=15)
_AHEAD = timedelta(minutes=1)
LEASE_LIMIT = timedelta(minutes=1)
"""A lease that ended longer ago should have been taken over."""
PROGRESS_LIMIT = timedelta(minutes=15)
"""A run should have committed something within this."""
MESSAGE_LIMIT = timedelta(minutes=15)
"""A message that is due should have left within this."""
LOCK_LIMIT = timedelta(seconds=10)
"""No statement should wait for a lock for longer."""
_ASKED = frozenset({"manual", None})
"""Triggers of runs whose result somebody saw; a later run settles them."""

OF_JOBS = (
    "slot_unsettled",
    "run_failed",
    "slots_undecided",
    "watermark_ahead",
    "run_waiting",
    "success_stale",
)
_TOLD_BY_CHECKS = frozenset(
    {
        "slot_unsettled", "run_failed", "slots_undecided", "run_waiting", "success_stale", "loop_restarting",
        "mail_refused", "inbox_refused", "dashboard_problem", "process_unfit", "doubt",
    }
)  # fmt: skip
"""The checks and warnings of health say these, too."""
OF_PROGRESS = ("lease_expired", "run_without_progress", "messages_waiting")


# ── Jobs ────────────────────────────────────────────────────────────────────────────────────────────────────


def job_conditions(
    job: str, row: Row, now: datetime, slots: Sequence[datetime], unsettled: Sequence[UnsettledSlot] = ()
) -> list[Condition]:
    """What is wrong with a job. ``row``: of the queries ``overview`` or ``jobs``.

    ``slots``: its last two (see ``health.last_slots``). A success older than both is stale; a pause excuses
    that, and a gate that stops the job. ``unsettled``: slots that failed; a failed manual run counts until
    the next run.
    """
    found = [
        Condition("slot_unsettled", f"{job}/{slot.run_id}", people=slot.undecided, details=slot.to_json())
        for slot in unsettled
    ]
    if row["last_state"] in FAILED and row["last_trigger"] in _ASKED and not row["last_waived_at"]:
        found.append(Condition("run_failed", job, details={"state": row["last_state"]}))
    decided = row["materialized_through"]
    if now - decided > _LAG:
        found.append(Condition("slots_undecided", job, details={"until": iso(decided)}))
    if decided - now > _AHEAD:
        found.append(Condition("watermark_ahead", job, details={"until": iso(decided)}))
    if row.get("stopped"):
        return found  # the gate says why its runs wait
    if row["oldest_pending"] and now - row["oldest_pending"] > _PENDING_TOO_LONG:
        found.append(Condition("run_waiting", job, details={"since": iso(row["oldest_pending"])}))
    since = row["last_success_at"] or row["first_created"]
    if since and len(slots) == 2 and since < slots[0] and not row["paused"]:
        found.append(Condition("success_stale", job, details={"since": iso(since)}))
    return found


# ── Progress ────────────────────────────────────────────────────────────────────────────────────────────────


def progress_conditions(row: Row) -> list[Condition]:
    """What should have gone on by now. ``row``: of the query ``progress``."""
    found = [
        Condition("lease_expired", what, details={"since": iso(row[name])})
        for what, name in (("runs", "run_lease"), ("messages", "message_lease"))
        if row[name]
    ]
    found += [
        Condition("run_without_progress", f"{run['job']}/{run['run']}", details=run)
        for run in row["stuck_runs"] or ()
    ]
    if row["waiting"]:
        details = {"since": iso(row["waiting_since"])}
        found.append(Condition("messages_waiting", people=row["waiting"], details=details))
    return found


def lock_conditions(rows: Sequence[Row]) -> list[Condition]:
    """Statements that wait for locks, as one condition. ``rows``: of the query ``locks``."""
    if not rows:
        return []
    details = {"seconds": rows[0]["seconds"], "statements": len(rows), "heldBy": rows[0]["held_by"] or []}
    return [Condition("lock_wait", details=details)]


def copy_conditions(rows: Iterable[Row]) -> list[Condition]:
    """Tables of the copy that were not brought up to date for too long."""
    return [
        Condition("copy_stale", row["collection"], details={"since": iso(row["synced_at"])}) for row in rows
    ]


def gate_conditions(gates: Iterable[Gate]) -> list[Condition]:
    """Gates that are shut: a person's are warnings, all others problems."""
    return [
        Condition(
            "gate_shut",
            f"{gate.scope}:{gate.name}:{gate.cause}",
            ConditionSeverity.WARNING if gate.cause == "operator" else ConditionSeverity.PROBLEM,
            details={
                "gate": gate.id,
                "scope": str(gate.scope),
                "name": gate.name,
                "cause": str(gate.cause),
                "by": gate.by,
                "until": iso(gate.until) if gate.until else None,
                **gate.details,
            },
        )
        for gate in gates
        if gate.scope is not Scope.TABLE  # the copy's own problems say more
    ]


# ── In words ────────────────────────────────────────────────────────────────────────────────────────────────


def _gate(_subject: str, d: Mapping[str, Any]) -> str:
    if d["scope"] == "clock":
        return (
            f"the database's clock ran away: it said {d.get('database')} when this host said {d.get('host')};"
            " nothing is decided or claimed until it agrees again."
            f" If the database is right: python -m service gates open {d['gate']}"
        )
    what = "everything" if d["scope"] == "all" else f"the {d['scope']} {d['name']}"
    why = f": {d['reason']}" if d.get("reason") else ""
    until = f" until {d['until']}" if d["until"] else ""
    return f"{what} is stopped by {d['by']}{until}{why}; open it: python -m service gates open {d['gate']}"


def _locks(_subject: str, d: Mapping[str, Any]) -> str:
    holders = ", ".join(
        f"process {h['pid']} of {h['user']}" + (f" ({h['application']})" if h["application"] else "")
        for h in d["heldBy"]
    )
    waiting = f"{d['statements']} statements wait" if d["statements"] > 1 else "a statement waits"
    return (
        f"{waiting} for a lock in our PostgreSQL, for {d['seconds']} s"
        f"; held by {holders or 'a transaction that has just ended'}"
    )


_WORDS: dict[str, Callable[[str, Mapping[str, Any]], str]] = {
    "slot_unsettled": lambda _, d: str(d["problem"]),
    "run_failed": lambda _, d: f"the last run {d['state']}",
    "slots_undecided": lambda _, _d: "the schedule was not looked at for more than 5 minutes",
    "watermark_ahead": lambda _, d: f"its slots are decided until {d['until']}, which has not come yet",
    "run_waiting": lambda _, _d: "a due run has been waiting for more than 15 minutes",
    "success_stale": lambda _, d: f"the last success is stale: none since {d['since']}",
    "lease_expired": lambda s, d: f"{s} whose process is gone since {d['since']} are taken over by nobody",
    "run_without_progress": lambda s, d: f"run {d['run']} of {d['job']} got no further since {d['since']}",
    "messages_waiting": lambda _, d: f"messages that are due have been waiting since {d['since']}",
    "lock_wait": _locks,
    "copy_stale": lambda s, d: f"the copy of {s} is not up to date since {d['since']}",
    "gate_shut": _gate,
    "loop_stalled": lambda _, d: f"the loop {d['loop']} of {d['process']} stands still for {d['seconds']} s",
}


def sentence(condition: Condition) -> str:
    """A condition in words, without a capital letter and full stop."""
    words = _WORDS.get(condition.key)
    return words(condition.subject, condition.details) if words else str(condition.details["what"])


def to_json(condition: Condition) -> dict[str, Any]:
    """As health shows it."""
    return {
        "key": condition.key,
        "subject": condition.subject,
        "severity": str(condition.severity),
        "since": iso(condition.since) if condition.since else None,
        "people": condition.people,
        "what": sentence(condition),
        "inChecks": condition.key in _TOLD_BY_CHECKS,
    }
