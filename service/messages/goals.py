"""How messages show goals: due date in the user's zone, progress, order."""

from collections.abc import Iterable
from datetime import date
from typing import Any
from zoneinfo import ZoneInfo

from service.dashboard.dashboard_state import DashboardState
from service.dashboard.model import Goal
from service.text import shorten

_PRIORITIES = ("urgent", "high", "medium", "low")
_TITLE = 100
_UNIT = 20


def due_on(goal: Goal, zone: ZoneInfo) -> date | None:
    """The local date on which a goal is due; None without a deadline. A floating date is the same for all."""
    if goal.due_date is not None or goal.due_at is None:
        return goal.due_date
    return goal.due_at.astimezone(zone).date()


def order(goal: Goal, due: date | None) -> tuple[date, int, str]:
    """By date, then priority, then title; goals without a date last."""
    ranked = goal.priority in _PRIORITIES
    rank = _PRIORITIES.index(goal.priority) if ranked else len(_PRIORITIES)
    return due or date.max, rank, goal.title


def is_reached(goal: Goal) -> bool:
    """Whether the target is reached, whatever the status says: such a goal needs no reminder."""
    target = goal.target_value
    return bool(target and target > 0 and goal.current_value is not None and goal.current_value >= target)


def goal_facts(goal: Goal, due: date | None, today: date) -> dict[str, Any]:
    """What templates show of a goal, as JSON without words of any language.

    ``days``: from today to the due date, negative when it has passed. ``percent``: 0–100.
    """
    percent = None if goal.progress is None else round(min(max(goal.progress, 0), 100))
    has_amount = (
        goal.progress is not None and goal.target_value is not None and goal.current_value is not None
    )
    return {
        "id": goal.id,
        "title": shorten(goal.title, _TITLE),
        "due": due.isoformat() if due else None,
        "days": (due - today).days if due else None,
        "percent": percent,
        "current": goal.current_value if has_amount else None,
        "target": goal.target_value if has_amount else None,
        "unit": shorten(goal.unit, _UNIT) if has_amount and goal.unit else None,
        "url_path": f"/goals/{goal.id}",
    }


def goals_now(listed: Iterable[dict[str, Any]], current: DashboardState, today: date) -> list[dict[str, Any]]:
    """The goals that a message lists as they are now, without those that were closed or reached meanwhile.

    ``listed``: from ``goal_facts``. ``today``: the message's date.
    """
    pairs = [(goal, current.open_goals.get(goal["id"])) for goal in listed]
    return [
        {**goal, **goal_facts(now, due_on(now, current.question.zone), today)}
        for goal, now in pairs
        if now and not is_reached(now)
    ]


def date_moved(listed: Iterable[dict[str, Any]], current: DashboardState) -> bool:
    """Whether an open goal that a message lists is due on another date now."""
    pairs = [(goal["due"], current.open_goals.get(goal["id"])) for goal in listed]
    zone = current.question.zone
    return any(now and due_on(now, zone) != (date.fromisoformat(due) if due else None) for due, now in pairs)
