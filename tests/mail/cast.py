"""The letters of the mail tests: Ada, who has six goals, and people who type strange things."""

from datetime import UTC, datetime
from functools import cache
from typing import Any

from service.domain.dashboard import Kind
from service.mail.message import Composer, Letter


@cache
def composer() -> Composer:
    """A composer for https://dashboard.example."""
    return Composer(
        "https://dashboard.example",
        "https://jobs.dashboard.example",
        "Dashboard <hello@dashboard.example>",
        reply_to="Support <support@dashboard.example>",
    )


def goal(
    number: int, title: str, due: str, when: str, progress: float | None, text: str | None
) -> dict[str, Any]:
    """One goal as the facts hold it."""
    return {
        "id": f"g{number}",
        "title": title,
        "due": due,
        "when": when,
        "progress": progress,
        "progress_text": text,
        "url_path": f"/goals/g{number}",
    }


def six_goals() -> dict[str, Any]:
    """A full day: every section, and two goals more."""
    return {
        "name": "Ada Lovelace",
        "subject": "6 goals due soon, 2 tomorrow",
        "headline": "2 goals are due tomorrow",
        "local_date": "2026-03-10",
        "sections": [
            {
                "key": "tomorrow",
                "title": "Due tomorrow",
                "goals": [
                    goal(1, "Read ten books", "2026-03-11", "in 1 day", 30, "3 / 10 books (30 %)"),
                    goal(2, "Hand in the tax return", "2026-03-11", "in 1 day", 0, "0 / 1 form (0 %)"),
                ],
            },
            {
                "key": "today",
                "title": "Due today",
                "goals": [goal(3, "Call grandmother", "2026-03-10", "today", None, None)],
            },
            {
                "key": "overdue",
                "title": "Overdue",
                "goals": [
                    goal(4, "Run 42 km this month", "2026-03-09", "1 day ago", 88, "37 / 42 km (88 %)")
                ],
            },
            {
                "key": "week",
                "title": "Due in one week",
                "goals": [
                    goal(
                        5, "Practise the étude daily", "2026-03-17", "in 7 days", 100, "20 / 20 days (100 %)"
                    )
                ],
            },
            {
                "key": "also",
                "title": "Also due soon",
                "goals": [goal(6, "Plant tomatoes", "2026-03-14", "in 4 days", 5, "1 / 20 pots (5 %)")],
            },
        ],
        "more": 2,
    }


def one_goal(title: str = "Read ten books") -> dict[str, Any]:
    """The most common mail: one goal, tomorrow."""
    return {
        "name": "Ada Lovelace",
        "subject": f"Due tomorrow: {title}",
        "headline": "1 goal is due tomorrow",
        "local_date": "2026-03-10",
        "sections": [
            {
                "key": "tomorrow",
                "title": "Due tomorrow",
                "goals": [goal(1, title, "2026-03-11", "in 1 day", 30, "3 / 10 books (30 %)")],
            }
        ],
        "more": 0,
    }


def letter(facts: dict[str, Any] | None = None, **changes: Any) -> Letter:
    """A letter to Ada about six goals, unless told otherwise."""
    values: dict[str, Any] = {
        "template": "goal_deadlines",
        "facts": six_goals() if facts is None else facts,
        "recipient_name": "Ada Lovelace",
        "address": "ada@example.org",
        "message_id": "5d41402abc4b2a76b9719d911017c592@dashboard.example",
        "message_date": datetime(2026, 3, 10, 8, 0, tzinfo=UTC),
        "token": "Zx8QmN3vR5tY7uI9oP1aSdFgHjKlQwEr",
        "kind": Kind.DEADLINES,
        "job": "reminder.goalDeadlines",
    }
    return Letter(**{**values, **changes})
