"""Samples of the daily check-in."""

from typing import Any

from service.messages.kind import Sample
from service.messages.mail.sample_goals import BOOKS, GARDEN, SOMEDAY, TODAY, goal_ids


def _daily(variant: str, streak: int, goals: list[dict[str, Any]]) -> Sample:
    facts = {
        "local_date": TODAY,
        "variant": variant,
        "streak": streak,
        "goals": goals,
        "goal_ids": goal_ids(goals),
        "url_path": "/timer",
    }
    return Sample(variant, facts)


SAMPLES = (
    _daily("streak", 6, [BOOKS, GARDEN]),
    _daily("gentle", 0, [SOMEDAY]),
)
