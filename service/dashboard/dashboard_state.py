"""How users and goals stand at the dashboard right now; asked directly before sending."""

from collections.abc import Mapping
from dataclasses import dataclass

from service.dashboard.model import User


@dataclass(frozen=True, slots=True)
class DashboardState:
    """The dashboard's answer. A user who is missing was deleted; a goal that is missing is not open, a
    session that is missing is not running."""

    users: Mapping[str, User]
    open_goals: frozenset[str]
    running_sessions: frozenset[str] = frozenset()
