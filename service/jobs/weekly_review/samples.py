"""Samples of the weekly review."""

from collections.abc import Sequence
from typing import Any

from service.messages.kind import Sample
from service.messages.mail.sample_goals import BOOKS, GARDEN, TAX, goal_ids


def _week(variant: str, minutes: Sequence[int], **changes: Any) -> Sample:
    """A week from Monday 2 March, by focus minutes a day."""
    most, seconds, active = max(minutes), sum(minutes) * 60, sum(m > 0 for m in minutes)
    sessions = sum(round(m / 25) for m in minutes)
    facts = {
        "local_date": "2026-03-08",
        "first": "2026-03-02",
        "last": "2026-03-08",
        "figures": {"focus_seconds": seconds, "sessions": sessions, "active_days": active},
        "average_seconds": round(seconds / sessions) if sessions else 0,
        "change": None,
        "days": [
            {"date": f"2026-03-0{n}", "seconds": m * 60, "percent": round(100 * m / most) if most else 0}
            for n, m in enumerate(minutes, start=2)
        ],
        "best_day": f"2026-03-0{2 + list(minutes).index(most)}" if most else None,
        "streak": 0,
        "goals_done": 0,
        "done_titles": [],
        "goals": [],
        "more": 0,
        "goal_ids": [],
        "final": None,
        "suggestion": {"rule": "begin_small"},
        "url_path": "/analytics",
    }
    return Sample(variant, facts | changes)


def _ahead(goal: dict[str, Any]) -> dict[str, Any]:
    """A goal as seen on the Sunday of the review, two days earlier."""
    return goal | {"days": goal["days"] + 2}


_FULL_WEEK = (50, 125, 75, 0, 100, 25, 50)
_COMING = [_ahead(BOOKS), _ahead(TAX), _ahead(GARDEN)]
_FULL = {
    "change": 12,
    "streak": 3,
    "goals_done": 2,
    "done_titles": ["Finish the tax papers", "Water the garden for a month"],
    "goals": _COMING,
    "more": 2,
    "goal_ids": goal_ids(_COMING),
    "suggestion": {"rule": "goal_behind", **_COMING[0]},
}
_REVISED = {"focus_seconds": 6 * 3600 + 35 * 60, "sessions": 15, "active_days": 5}


SAMPLES = (
    _week("full", _FULL_WEEK, **_FULL),
    _week("quiet", (0,) * 7, change=-100),
    _week("final", _FULL_WEEK, **_FULL, final=_REVISED),
)
