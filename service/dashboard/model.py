"""What the dashboard knows about people: users, goals and timer sessions in canonical form."""

from dataclasses import dataclass, field
from datetime import date, datetime, time


@dataclass(frozen=True, slots=True)
class QuietHours:
    """A local span of the day without messages: start inclusive, end exclusive, may wrap midnight."""

    start: time
    end: time

    def contains(self, at: time) -> bool:
        """Whether the local time ``at`` lies inside. ``start == end`` is empty."""
        if self.start <= self.end:
            return self.start <= at < self.end
        return at >= self.start or at < self.end


@dataclass(frozen=True, slots=True)
class Preferences:
    """What a user allows, as the dashboard says it. ``None`` means that the dashboard is silent.

    ``kinds``: what is allowed of each kind of message, by our names for the dashboard's keys (``deadlines``
    for its ``goalReminders``). Which kinds there are, the jobs say.
    """

    email: bool | None = None
    reminders: bool | None = None
    in_app: bool | None = None
    kinds: dict[str, bool] = field(default_factory=dict)
    quiet: QuietHours | None = None
    work_start: time | None = None
    work_end: time | None = None
    work_minutes: int = 25
    short_break_minutes: int = 5
    week_start: int = 1
    """First day of the user's week, 0 = Sunday … 6 = Saturday."""


@dataclass(frozen=True, slots=True)
class User:
    """One account. ``timezone`` is always a valid IANA name; ``timezone_valid``: whether it was stored so."""

    id: str
    name: str
    email: str | None
    timezone: str
    locale: str
    active: bool
    created_at: datetime | None
    last_login_at: datetime | None
    preferences: Preferences
    timezone_valid: bool = True
    updated_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Goal:
    """One goal. Due on ``due_date`` (floating: the same date for everybody), at ``due_at``, or never."""

    id: str
    user_id: str
    title: str
    category: str | None
    open: bool
    priority: str
    target_value: float | None
    current_value: float | None
    unit: str | None
    progress: float | None
    """Per cent, 0–100, or ``None`` when it cannot be known."""
    due_date: date | None
    due_at: datetime | None
    created_at: datetime | None
    completed_at: datetime | None
    updated_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class TimerSession:
    """One timer session; a *focus* session counts towards focus time and streaks, a break does not."""

    id: str
    user_id: str
    goal_id: str | None
    kind: str
    focus: bool
    status: str
    """``running | paused | completed | cancelled | abandoned | rejected``."""
    started_at: datetime
    ended_at: datetime | None
    paused_at: datetime | None
    planned_seconds: int | None
    focus_seconds: int
    category: str | None = None
    tags: tuple[str, ...] = ()
    rating: int | None = None
    updated_at: datetime | None = None
