"""Samples of the monthly report."""

from typing import Any

from service.messages.kind import Sample


def _month(variant: str, **changes: Any) -> Sample:
    """February 2026; ``changes`` replace facts of an empty month."""
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
    return Sample(variant, facts | changes)


SAMPLES = (
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
