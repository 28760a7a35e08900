"""A run of a job, its states and how it is requested; the tick that the job gets."""

import re
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum
from typing import Any
from zoneinfo import ZoneInfo

from service.engine.schedule import check_instant
from service.errors import BadRequest
from service.zones import zone_of

_DETAIL = re.compile(r"^(?:DETAIL|HINT|CONTEXT): ", re.MULTILINE)
_LONGEST_LINE = 500
MOST_HALVINGS = 9
"""So often halved, a page of a thousand people is one person. `ledger.sql` knows the number."""


class Trigger(StrEnum):
    """What caused a run."""

    CRON = "cron"
    """Its slot came due."""
    CATCHUP = "catchup"
    """Its slot came due while no process was running."""
    MANUAL = "manual"
    """Somebody asked for it to run now."""
    BACKFILL = "backfill"
    """Somebody asked for past periods to be derived again."""
    ONCE = "once"
    """Somebody asked for it to run once, later."""


class RunState(StrEnum):
    """The states of a run: ``pending → running → succeeded | partial | failed``, or another end."""

    PENDING = "pending"
    """It waits for a free runner, or for what it rests on."""
    RUNNING = "running"
    """A process works on it, under a lease."""
    SUCCEEDED = "succeeded"
    """Everybody was decided, or every step is done."""
    PARTIAL = "partial"
    """Deciding failed for a few people; everybody else was decided."""
    FAILED = "failed"
    """It ended with an error that does not pass by itself."""
    SKIPPED = "skipped"
    """Its slot was not to be run: the job was paused, or is off."""
    MISSED = "missed"
    """Its slot was found too late to be useful."""
    CANCELLED = "cancelled"
    """An operator stopped it."""
    DEAD = "dead"
    """It failed to advance in as many attempts as its job allows."""


@dataclass(frozen=True, slots=True)
class Pause:
    """A job is paused from ``since`` (None: it is not) until ``until`` (None: for good)."""

    since: datetime | None
    until: datetime | None = None

    def covers(self, slot: datetime) -> bool:
        """Whether it skips a slot."""
        return self.since is not None and self.since <= slot and (self.until is None or slot < self.until)


@dataclass(frozen=True, slots=True)
class JobRules:
    """What the operator may tune in the jobs' rules.

    ``daily_check_days``: weekdays on which dailyCheck is sent, 0 = Monday … 6 = Sunday.
    ``inactive_steps``: days of absence at which inactiveUsers writes.
    """

    daily_check_days: frozenset[int] = frozenset(range(7))
    inactive_steps: tuple[int, ...] = (3, 7, 14)


@dataclass(frozen=True, slots=True)
class Tick:
    """The moment for which a job decides. Everything is computed as of ``as_of``, never as of now.

    ``zones``: the slot groups whose slot this is (``Europe/Berlin``, ``Europe/Berlin@7``); None: every user.
    ``confirm``: an operator confirmed a large removal.
    ``halvings``: how often the run's pages were halved, because its owners died at the same cursor; if more
    often than MOST_HALVINGS, the next person is passed over.
    ``clock_zone``: when set (``REMINDER_TIME_MODE=service``), all local dates are taken in this one zone.
    """

    job: str
    run_id: int
    as_of: datetime
    zones: tuple[str, ...] | None
    trigger: Trigger
    user_id: str | None = None
    force: bool = False
    dry_run: bool = False
    confirm: bool = False
    halvings: int = 0
    clock_zone: str | None = None
    rules: JobRules = JobRules()

    @property
    def manual(self) -> bool:
        """Lateness limits and default quiet hours do not apply to manual runs."""
        return self.trigger is Trigger.MANUAL

    def zone_of(self, user_zone: str) -> ZoneInfo:
        """The zone in which this tick's local dates are taken for a user."""
        return zone_of(self.clock_zone or user_zone)

    def local_date(self, user_zone: str) -> date:
        """D: the user's local date at the tick."""
        return self.as_of.astimezone(self.zone_of(user_zone)).date()


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """A slot that came due: one run for all ``zones`` whose wall clock showed ``local`` at ``at``.

    ``missed``: too late to be useful; recorded, never run. ``deadline_at``: until when it is useful.
    """

    at: datetime
    local: datetime
    zones: tuple[str, ...] | None
    trigger: Trigger
    missed: bool
    reason: str | None
    deadline_at: datetime | None

    @property
    def state(self) -> str:
        """The ledger's state of the new row."""
        return str(RunState.MISSED if self.missed else RunState.PENDING)


@dataclass(frozen=True, slots=True)
class RunRequest:
    """The options of a manual run.

    ``as_of``: the instant (aware) it is computed for, None: now. ``dry_run`` decides and writes nothing.
    ``user_id``: for this user only; ``force``: even if it was sent to them before. ``confirm``:
    dataCleanup may remove more than 20 % of the dashboard's sessions. ``wait``: False leaves the run to the
    next free runner.
    """

    dry_run: bool = False
    as_of: datetime | None = None
    user_id: str | None = None
    force: bool = False
    confirm: bool = False
    wait: bool = True

    def __post_init__(self) -> None:
        """Raises BadRequest for options that contradict each other."""
        if self.as_of is not None:
            if self.as_of.tzinfo is None:
                raise BadRequest("asOf needs a zone, e.g. 2026-03-10T09:00:00Z")
            check_instant(self.as_of)
        if self.force and self.user_id is None:
            raise BadRequest("force needs userId: it is for one person")

    def check_time(self, now: datetime) -> None:
        """Raises BadRequest if ``as_of`` is after ``now`` and this is no dry run."""
        if self.as_of is not None and self.as_of > now and not self.dry_run:
            raise BadRequest("asOf lies in the future: only a dry run can look there; add dryRun")


@dataclass(frozen=True, slots=True)
class RunResult:
    """The result of a manual run. A dry run has no ``run_id``; ``sample``: examples of what it would do."""

    run_id: int | None
    state: str
    counts: dict[str, int]
    sample: list[dict[str, Any]] = field(default_factory=list)
    error: str | None = None


def last_line(error: str | None) -> str | None:
    """The last line of a traceback. The rest, and PostgreSQL's DETAIL, may hold people's data."""
    text = (error or "").rpartition("Traceback (most recent call last):")[2]
    lines = _DETAIL.split(text, maxsplit=1)[0].strip().splitlines()
    return lines[-1][:_LONGEST_LINE] if lines else None
