"""Samples of the deadline mail."""

from typing import Any

from service.messages.kind import Sample
from service.messages.mail.sample_goals import BOOKS, CALL, ETUDE, GARDEN, RUN, TAX, TODAY, goal_ids


def _deadlines(variant: str, sections: dict[str, list[dict[str, Any]]], more: int) -> Sample:
    goals = [goal for group in sections.values() for goal in group]
    facts = {
        "local_date": TODAY,
        "sections": [{"key": key, "goals": group} for key, group in sections.items()],
        "more": more,
        "count": len(goals) + more,
        "tomorrow": len(sections.get("tomorrow", ())),
        "goal_ids": goal_ids(goals),
    }
    return Sample(variant, facts)


SAMPLES = (
    _deadlines(
        "full",
        {
            "tomorrow": [BOOKS, TAX],
            "today": [CALL],
            "overdue": [RUN],
            "week": [ETUDE],
            "also": [GARDEN],
        },
        more=2,
    ),
    _deadlines("one", {"tomorrow": [BOOKS]}, more=0),
)
