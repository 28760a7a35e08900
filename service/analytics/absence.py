"""Absence: which step of inactiveUsers is due, and when to pause these messages."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

LAST_DAY = 21
HISTORIC_DAYS = 30
_TIME_TO_ANSWER = timedelta(days=7)
_PAUSE = timedelta(days=180)
_MAX_UNANSWERED = 3


@dataclass(frozen=True, slots=True)
class Episode:
    """An absence with at least one message: its first date, the date of the last step, and whether the user
    was active within seven days of that step."""

    start: date
    last_step_on: date
    answered: bool


def step_due(days_away: int, steps: Sequence[int]) -> int | None:
    """The number (from 1) of the step that ``days_away`` is in; None before the first and after the last.

    A step is due from its day until the day before the next one, the last until day 21.
    """
    last_days = [*(day - 1 for day in steps[1:]), max(LAST_DAY, steps[-1])]
    for number, (first, last) in enumerate(zip(steps, last_days, strict=True), 1):
        if first <= days_away <= last:
            return number
    return None


def answered(last_step_on: date, active: Sequence[date]) -> bool:
    """Whether the user was active within seven days of the last step."""
    return any(last_step_on <= day <= last_step_on + _TIME_TO_ANSWER for day in active)


def silent_until(episodes: Sequence[Episode], today: date) -> date | None:
    """The end of the pause after three unanswered episodes in a row: 180 days after the last step.

    ``episodes``: earlier ones, ascending. None: there is no pause.
    """
    closed = [e for e in episodes if not _may_still_be_answered(e, today)][-_MAX_UNANSWERED:]
    if len(closed) < _MAX_UNANSWERED or any(episode.answered for episode in closed):
        return None
    pause_end = closed[-1].last_step_on + _PAUSE
    return pause_end if today < pause_end else None


def _may_still_be_answered(episode: Episode, today: date) -> bool:
    """Whether it is too early to call the episode unanswered."""
    return not episode.answered and today <= episode.last_step_on + _TIME_TO_ANSWER
