"""Samples of the reminders after a pause."""

from typing import Any

from service.messages.kind import Sample
from service.messages.mail.sample_goals import BOOKS, ETUDE, GARDEN, SOMEDAY, TODAY, goal_ids


def _away(variant: str, days: int, streak: int, goals: list[dict[str, Any]]) -> Sample:
    facts = {
        "local_date": TODAY,
        "variant": variant,
        "days_away": days,
        "longest_streak": streak,
        "goals": goals,
        "goal_ids": goal_ids(goals),
        "url_path": "/timer" if variant == "never_began" else "/dashboard",
    }
    return Sample(variant, facts)


SAMPLES = (
    _away("step1", 3, 9, [BOOKS, GARDEN, SOMEDAY]),
    _away("step2", 7, 9, [ETUDE]),
    _away("step3", 14, 0, []),
    _away("never_began", 3, 0, []),
)
