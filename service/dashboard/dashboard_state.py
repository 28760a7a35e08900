"""The state of users, goals and sessions at the dashboard, read directly before sending."""

from collections.abc import Mapping
from dataclasses import dataclass

from service.dashboard.model import User


@dataclass(frozen=True, slots=True)
class DashboardState:
    """The dashboard's answer. A missing user was deleted; a missing goal is not open; a missing session is
    not running."""

    users: Mapping[str, User]
    open_goals: frozenset[str]
    running_sessions: frozenset[str] = frozenset()
