"""Absence: which step of inactiveUsers is due, and when to leave somebody in peace (spec §3)."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

LAST_DAY = 21
HISTORIC_DAYS = 30
_ANSWER = timedelta(days=7)
_SILENCE = timedelta(days=180)
_UNANSWERED = 3


@dataclass(frozen=True, slots=True)
class Episode:
    """An absence that was written about: its first date, the last step's date, and whether activity followed
    within seven days of that step."""

    start: date
    last_step_on: date
    answered: bool


def step_due(days_away: int, steps: Sequence[int]) -> int | None:
    """The number (from 1) of the step that ``days_away`` is in; None before the first and after the last.

    A step is due from its day until the day before the next one, the last until day 21.
    """
    ends = [*(day - 1 for day in steps[1:]), max(LAST_DAY, steps[-1])]
    for number, (begin, end) in enumerate(zip(steps, ends, strict=True), 1):
        if begin <= days_away <= end:
            return number
    return None


def answered(last_step_on: date, active: Sequence[date]) -> bool:
    """Whether somebody came back within seven days of the last step."""
    return any(last_step_on <= day <= last_step_on + _ANSWER for day in active)


def silent_until(episodes: Sequence[Episode], today: date) -> date | None:
    """Until when nothing is said: 180 days from the last step, after three unanswered episodes in a row.

    ``episodes``: earlier ones, ascending. None: nothing stands against writing.
    """
    last = [e for e in episodes if not _still_open(e, today)][-_UNANSWERED:]
    if len(last) < _UNANSWERED or any(episode.answered for episode in last):
        return None
    until = last[-1].last_step_on + _SILENCE
    return until if today < until else None


def _still_open(episode: Episode, today: date) -> bool:
    """Too early to call it unanswered."""
    return not episode.answered and today <= episode.last_step_on + _ANSWER
