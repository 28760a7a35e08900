"""Slots that failed and have neither succeeded since nor been waived, as health shows them. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from service.zones import iso, iso_or_none

FAILED = frozenset({"failed", "dead"})
"""States of a run that an operator must settle."""


_ACTIVE = frozenset({"pending", "running"})
_HOW = {"dead": "is dead", "failed": "failed", "cancelled": "failed and was cancelled"}


@dataclass(frozen=True, slots=True)
class UnsettledSlot:
    """A slot that failed; ``slot`` is aware.

    ``undecided``: about how many people were not processed; None: unknown. ``retryable``: it is not too late.
    ``others``: further slots of the same job that failed. ``retry_at``: when it is retried by itself.
    """

    run_id: int
    slot: datetime
    state: str
    undecided: int | None
    retryable: bool
    others: int = 0
    retry_at: datetime | None = None

    @property
    def what(self) -> str:
        """What happened."""
        how = _HOW.get(self.state, "failed and is being retried")
        people = f" with about {self.undecided:,} people undecided" if self.undecided else ""
        return f"the slot {iso(self.slot)} {how}{people}"

    @property
    def remedy(self) -> str:
        """What to do, as a command."""
        others = f" ({self.others:,} more of this job: runs list --state {self.state})" if self.others else ""
        if self.state in _ACTIVE:
            return f"see how it goes: python -m service runs show {self.run_id}{others}"
        if self.retry_at:
            now = f"retry it now or waive it: python -m service runs retry {self.run_id}{others}"
            return f"it is retried by itself at {iso(self.retry_at)}; {now}"
        if self.retryable:
            return f"retry it or waive it: python -m service runs retry {self.run_id}{others}"
        waive = f"python -m service runs waive {self.run_id} --reason …"
        return f"its messages would be stale, so waive it: {waive}{others}"

    @property
    def sentence(self) -> str:
        """What happened, and what to do."""
        return f"{self.what}; {self.remedy}"

    def to_json(self) -> dict[str, Any]:
        """As the API shows it."""
        return {
            "runId": self.run_id,
            "slot": iso(self.slot),
            "state": self.state,
            "undecided": self.undecided,
            "retryable": self.retryable,
            "retryAt": iso_or_none(self.retry_at),
            "what": self.what,
            "problem": self.sentence,
        }


def unsettled_of(row: Mapping[str, Any], now: datetime, *, stale: bool) -> UnsettledSlot:
    """From a row: id, nominal_at, state, people (to look at; None: unknown), done, deadline_at, others,
    retry_at.

    ``stale``: the job is of no use after its deadline, as with messages.
    """
    late = row["deadline_at"] is not None and row["deadline_at"] < now
    undecided = None if row["people"] is None else max(0, row["people"] - row["done"])
    return UnsettledSlot(
        row["id"],
        row["nominal_at"],
        row["state"],
        undecided,
        not (stale and late),
        row["others"],
        None if late else row["retry_at"],
    )


def not_retried(run: Mapping[str, Any]) -> str:
    """Why a run was not put back. ``run``: with state and deadline_at."""
    if run["state"] not in FAILED:
        return f"The run is {run['state']}; only one that failed or is dead can be retried"
    return (
        f"The run was useful until {iso(run['deadline_at'])}: its messages would be stale; waive it instead"
    )


def not_waived(run: Mapping[str, Any]) -> str:
    """Why a run was not waived. ``run``: with state, waived_at and waived_by."""
    if run["waived_at"] is not None:
        return f"The run was waived already, by {run['waived_by']} on {iso(run['waived_at'])}"
    return f"The run is {run['state']}; only one that failed or is dead can be waived"
