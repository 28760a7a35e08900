"""Invented goals of the samples of all mails: one person's story about 10 March 2026."""

from collections.abc import Mapping, Sequence
from typing import Any

RECIPIENT = "Ada Lovelace"
"""Whom the samples are written to."""

TODAY = "2026-03-10"


def sample_goal(
    number: int,
    title: str,
    due: str | None,
    days: int | None,
    percent: int | None,
    amount: tuple[float, float, str] | None = None,
) -> dict[str, Any]:
    """One goal as the facts of a mail hold it. ``amount``: current value, target, unit."""
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


BOOKS = sample_goal(1, "Read ten books", "2026-03-11", 1, 30, (3, 10, "books"))
TAX = sample_goal(2, "Hand in the tax return", "2026-03-11", 1, 0, (0, 1, "form"))
CALL = sample_goal(3, "Call grandmother", TODAY, 0, None)
RUN = sample_goal(4, "Run 42 km this month", "2026-03-09", -1, 88, (37, 42, "km"))
ETUDE = sample_goal(5, "Practise the étude daily", "2026-03-17", 7, 75, (15, 20, "days"))
GARDEN = sample_goal(6, "Plant tomatoes", "2026-03-14", 4, 5, (1, 20, "pots"))
SOMEDAY = sample_goal(7, "Learn enough Portuguese for Lisbon", None, None, 40)


def goal_ids(goals: Sequence[Mapping[str, Any]]) -> list[str]:
    """Their ids, in the same order."""
    return [goal["id"] for goal in goals]
