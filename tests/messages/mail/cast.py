"""The letters of the mail tests: Ada, who has six goals, and people who type strange things."""

from datetime import UTC, datetime
from functools import cache
from typing import Any

from service.messages.mail.compose import Composer, Email
from service.messages.mail.sample_goals import sample_goal
from tests.acme import KINDS


@cache
def composer() -> Composer:
    """A composer for https://dashboard.example."""
    return Composer(
        "https://dashboard.example",
        "https://jobs.dashboard.example",
        "Dashboard <hello@dashboard.example>",
        KINDS.values(),
        reply_to="Support <support@dashboard.example>",
    )


def six_goals() -> dict[str, Any]:
    """A full day: every section, and two goals more."""
    books, forms = (3, 10, "books"), (0, 1, "form")
    sections = {
        "tomorrow": [
            sample_goal(1, "Read ten books", "2026-03-11", 1, 30, books),
            sample_goal(2, "Hand in the tax return", "2026-03-11", 1, 0, forms),
        ],
        "today": [sample_goal(3, "Call grandmother", "2026-03-10", 0, None, None)],
        "overdue": [sample_goal(4, "Run 42 km this month", "2026-03-09", -1, 88, (37, 42, "km"))],
        "week": [sample_goal(5, "Practise the étude daily", "2026-03-17", 7, 100, (20, 20, "days"))],
        "also": [sample_goal(6, "Plant tomatoes", "2026-03-14", 4, 5, (1, 20, "pots"))],
    }
    return _mail(sections, count=8, tomorrow=2, more=2)


def one_goal(title: str = "Read ten books") -> dict[str, Any]:
    """The most common mail: one goal, tomorrow."""
    only = sample_goal(1, title, "2026-03-11", 1, 30, (3, 10, "books"))
    return _mail({"tomorrow": [only]}, count=1, tomorrow=1, more=0)


def _mail(
    sections: dict[str, list[dict[str, Any]]], *, count: int, tomorrow: int, more: int
) -> dict[str, Any]:
    return {
        "local_date": "2026-03-10",
        "sections": [{"key": key, "goals": goals} for key, goals in sections.items()],
        "count": count,
        "tomorrow": tomorrow,
        "more": more,
    }


def letter(facts: dict[str, Any] | None = None, **changes: Any) -> Email:
    """A letter to Ada about six goals, unless told otherwise."""
    values: dict[str, Any] = {
        "template": "goal_deadlines",
        "facts": six_goals() if facts is None else facts,
        "recipient_name": "Ada Lovelace",
        "address": "ada@example.org",
        "message_id": "5d41402abc4b2a76b9719d911017c592@dashboard.example",
        "message_date": datetime(2026, 3, 10, 8, 0, tzinfo=UTC),
        "token": "Zx8QmN3vR5tY7uI9oP1aSdFgHjKlQwEr",
        "job": "reminder.goalDeadlines",
    }
    return Email(**{**values, **changes})
