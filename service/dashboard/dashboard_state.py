"""The state of users, goals and sessions at the dashboard, read directly before sending."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from service.dashboard.model import Goal, TimerSession, User
from service.dashboard.profiles.shapes import Collection

_NEVER = datetime.min.replace(tzinfo=UTC)
_SIGNUP = timedelta(seconds=60)
"""Some dashboards set the time of the log-in once, at the signup: such a log-in is no activity."""
_CLOCKS_DIFFER = timedelta(minutes=5)
"""What is further ahead than this was not done: its time is wrong, or planned."""


@dataclass(frozen=True, slots=True)
class StateQuery:
    """What to ask the dashboard: users, goals and sessions by id.

    ``recent``: users whose latest sessions are asked for, and since when these started (aware).
    ``due_dates``: the dates of goals matter, so an answer without any date is doubted.
    """

    users: Sequence[str]
    goals: Sequence[str] = ()
    sessions: Sequence[str] = ()
    recent: Mapping[str, datetime] = field(default_factory=dict)
    due_dates: bool = False

    @property
    def ids(self) -> dict[Collection, Sequence[str]]:
        """What is asked for by id, by table."""
        return {
            Collection.USERS: self.users,
            Collection.GOALS: self.goals,
            Collection.SESSIONS: self.sessions,
        }


@dataclass(frozen=True, slots=True)
class Question:
    """The message for which the dashboard is asked: its recipient, the zone of its dates, the slot for which
    it was decided, and now (aware)."""

    user_id: str
    zone: ZoneInfo
    slot: datetime
    now: datetime


@dataclass(frozen=True, slots=True)
class DashboardState:
    """The dashboard's answer. A missing user was deleted; a goal that is not in ``open_goals`` is closed, or
    deleted; a missing session is not running.

    ``unclear``: rows that are missing from it, and of which nobody knows yet whether they were deleted.
    ``recent_sessions``: those of the users whose latest sessions were asked for. ``question``: the
    message that it is about.
    """

    users: Mapping[str, User]
    open_goals: Mapping[str, Goal]
    running_sessions: frozenset[str] = frozenset()
    closed_goals: Mapping[str, Goal] = field(default_factory=dict)
    unclear: frozenset[tuple[Collection, str]] = frozenset()
    recent_sessions: Mapping[str, Sequence[TimerSession]] = field(default_factory=dict)
    question: Question = Question("", ZoneInfo("UTC"), _NEVER, _NEVER)

    def is_unclear(self, user_id: str, facts: Mapping[str, Any]) -> bool:
        """Whether a message to this user with these facts is about such a row."""
        if not self.unclear:
            return False
        rows = {(Collection.USERS, user_id)}
        rows |= {(Collection.GOALS, id_) for id_ in facts.get("goal_ids", ())}
        rows |= {(Collection.SESSIONS, id_) for id_ in facts.get("session_ids", ())}
        return not self.unclear.isdisjoint(rows)

    @property
    def sessions(self) -> Sequence[TimerSession]:
        """The latest sessions of the message's recipient, as far as its job asks for them."""
        return self.recent_sessions.get(self.question.user_id, ())

    def active_after(self, at: datetime) -> bool:
        """Whether the message's recipient logged in, or did something in a session, after ``at``."""
        latest = self.question.now + _CLOCKS_DIFFER
        return any(at < act <= latest for act in self._acts())

    def _acts(self) -> Iterable[datetime]:
        user = self.users.get(self.question.user_id)
        if (
            user
            and user.last_login_at
            and not (user.created_at and user.last_login_at <= user.created_at + _SIGNUP)
        ):
            yield user.last_login_at
        for session in self.sessions:
            yield from filter(None, (session.started_at, session.ended_at, session.updated_at))
