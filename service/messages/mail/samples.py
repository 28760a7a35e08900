"""Invented facts for every mail and each of its variants: for previews, pictures and tests.

They have the shape that the jobs freeze in the outbox. One person's story about 10 March 2026.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from service.dashboard.model import MessageKind


@dataclass(frozen=True, slots=True)
class Sample:
    """One mail as it could be. ``job`` is the ledger's name, ``variant`` one of the ways it can turn out."""

    template: str
    variant: str
    kind: MessageKind
    job: str
    facts: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Of files and tests: ``weekly_review_quiet``."""
        return f"{self.template}_{self.variant}"


NAME = "Ada Lovelace"
"""Whom the samples are written to."""

_TODAY = "2026-03-10"


def _goal(
    number: int,
    title: str,
    due: str | None,
    days: int | None,
    percent: int | None,
    amount: tuple[float, float, str] | None = None,
) -> dict[str, Any]:
    current, target, unit = amount or (None, None, None)
    return {
        "id": f"g{number}",
        "title": title,
        "due": due,
        "days": days,
        "percent": percent,
        "current": current,
        "target": target,
        "unit": unit,
        "url_path": f"/goals/g{number}",
    }


_BOOKS = _goal(1, "Read ten books", "2026-03-11", 1, 30, (3, 10, "books"))
_TAX = _goal(2, "Hand in the tax return", "2026-03-11", 1, 0, (0, 1, "form"))
_CALL = _goal(3, "Call grandmother", _TODAY, 0, None)
_RUN = _goal(4, "Run 42 km this month", "2026-03-09", -1, 88, (37, 42, "km"))
_ETUDE = _goal(5, "Practise the étude daily", "2026-03-17", 7, 75, (15, 20, "days"))
_GARDEN = _goal(6, "Plant tomatoes", "2026-03-14", 4, 5, (1, 20, "pots"))
_SOMEDAY = _goal(7, "Learn enough Portuguese for Lisbon", None, None, 40)


def _ids(goals: Sequence[Mapping[str, Any]]) -> list[str]:
    return [goal["id"] for goal in goals]


def _deadlines(variant: str, sections: dict[str, list[dict[str, Any]]], more: int) -> Sample:
    goals = [goal for group in sections.values() for goal in group]
    facts = {
        "local_date": _TODAY,
        "sections": [{"key": key, "goals": group} for key, group in sections.items()],
        "more": more,
        "count": len(goals) + more,
        "tomorrow": len(sections.get("tomorrow", ())),
        "goal_ids": _ids(goals),
    }
    return Sample("goal_deadlines", variant, MessageKind.DEADLINES, "reminder.goalDeadlines", facts)


def _daily(variant: str, streak: int, goals: list[dict[str, Any]]) -> Sample:
    facts = {
        "local_date": _TODAY,
        "variant": variant,
        "streak": streak,
        "goals": goals,
        "goal_ids": _ids(goals),
        "url_path": "/timer",
    }
    return Sample("daily_check", variant, MessageKind.DAILY, "reminder.dailyCheck", facts)


def _away(variant: str, days: int, streak: int, goals: list[dict[str, Any]]) -> Sample:
    facts = {
        "local_date": _TODAY,
        "variant": variant,
        "days_away": days,
        "longest_streak": streak,
        "goals": goals,
        "goal_ids": _ids(goals),
        "url_path": "/timer" if variant == "never_began" else "/dashboard",
    }
    return Sample("inactive_users", variant, MessageKind.INACTIVE, "reminder.inactiveUsers", facts)


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
    return Sample("weekly_review", variant, MessageKind.WEEKLY, "reminder.weeklyReview", facts | changes)


def _ahead(goal: dict[str, Any]) -> dict[str, Any]:
    """A goal as seen on the Sunday of the review, two days earlier."""
    return goal | {"days": goal["days"] + 2}


_FULL_WEEK = (50, 125, 75, 0, 100, 25, 50)
_COMING = [_ahead(_BOOKS), _ahead(_TAX), _ahead(_GARDEN)]
_FULL = {
    "change": 12,
    "streak": 3,
    "goals_done": 2,
    "done_titles": ["Finish the tax papers", "Water the garden for a month"],
    "goals": _COMING,
    "more": 2,
    "goal_ids": _ids(_COMING),
    "suggestion": {"rule": "goal_behind", **_COMING[0]},
}
_REVISED = {"focus_seconds": 6 * 3600 + 35 * 60, "sessions": 15, "active_days": 5}


def _month(variant: str, **changes: Any) -> Sample:
    """February 2026, empty unless told otherwise."""
    weeks = (
        ("2026-02-01", "2026-02-01"),
        ("2026-02-02", "2026-02-08"),
        ("2026-02-09", "2026-02-15"),
        ("2026-02-16", "2026-02-22"),
        ("2026-02-23", "2026-02-28"),
    )
    hours = changes.pop("hours", (0, 0, 0, 0, 0))
    most = max(hours)
    facts = {
        "local_date": "2026-03-01",
        "month": "2026-02-01",
        "first": "2026-02-01",
        "last": "2026-02-28",
        "focus_seconds": round(sum(hours) * 3600),
        "sessions": 0,
        "average_seconds": 0,
        "daily_seconds": round(sum(hours) * 3600 / 28),
        "active_days": 0,
        "days": 28,
        "best_day": None,
        "longest_streak": 0,
        "change": None,
        "goals_created": 0,
        "goals_done": 0,
        "goals_rate": None,
        "goals_overdue": 0,
        "done_titles": [],
        "weeks": [
            {
                "first": first,
                "last": last,
                "seconds": round(h * 3600),
                "percent": round(100 * h / most) if most else 0,
            }
            for (first, last), h in zip(weeks, hours, strict=True)
        ],
        "categories": [],
        "url_path": "/analytics?month=2026-02",
    }
    return Sample("monthly_report", variant, MessageKind.MONTHLY, "reminder.monthlyReport", facts | changes)


SAMPLES = (
    _deadlines(
        "full",
        {
            "tomorrow": [_BOOKS, _TAX],
            "today": [_CALL],
            "overdue": [_RUN],
            "week": [_ETUDE],
            "also": [_GARDEN],
        },
        more=2,
    ),
    _deadlines("one", {"tomorrow": [_BOOKS]}, more=0),
    _daily("streak", 6, [_BOOKS, _GARDEN]),
    _daily("gentle", 0, [_SOMEDAY]),
    _week("full", _FULL_WEEK, **_FULL),
    _week("quiet", (0,) * 7, change=-100),
    _week("final", _FULL_WEEK, **_FULL, final=_REVISED),
    _away("step1", 3, 9, [_BOOKS, _GARDEN, _SOMEDAY]),
    _away("step2", 7, 9, [_ETUDE]),
    _away("step3", 14, 0, []),
    _away("never_began", 3, 0, []),
    Sample(
        "break_reminders",
        "break",
        MessageKind.BREAKS,
        "reminder.breakReminders",
        {
            "variant": "break",
            "focused_seconds": 50 * 60,
            "number": 1,
            "local_date": _TODAY,
            "break_minutes": 5,
            "session_ids": ["s1"],
            "url_path": "/timer",
        },
    ),
    _month(
        "full",
        hours=(0.5, 7.75, 5.5, 9.25, 6),
        sessions=64,
        average_seconds=1631,
        active_days=19,
        best_day="2026-02-18",
        longest_streak=6,
        change=-8,
        goals_created=4,
        goals_done=3,
        goals_rate=38,
        goals_overdue=1,
        done_titles=["Finish the tax papers", "Run 100 km", "Draft the talk"],
        categories=[
            {"name": "Writing", "seconds": 41_400, "percent": 100},
            {"name": "Study", "seconds": 34_200, "percent": 83},
            {"name": "Planning", "seconds": 18_000, "percent": 43},
            {"name": "Reading", "seconds": 10_800, "percent": 26},
        ],
    ),
    _month("empty", change=-100, goals_created=1, goals_rate=0, goals_overdue=1),
)


def sample_of(job: str, variant: str | None = None) -> Sample | None:
    """The sample of a job (ledger's name): the first one, or that of the variant; None: there is none."""
    return next((s for s in SAMPLES if s.job == job and variant in {None, s.variant}), None)


def variants_of(job: str) -> tuple[str, ...]:
    """What ``sample_of`` can be asked for."""
    return tuple(s.variant for s in SAMPLES if s.job == job)
