"""Reasons for which a job suddenly leaves out far more people than it used to. Pure.

The data of a third of all people may vanish from the dashboard while everything still answers. Then jobs go
on, and the share of one reason jumps.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

_TIMES = 3
_FEWEST = 10
"""People."""
_WEEK = 7
"""Slots; before that many the days of the week, and a new service's budgets, explain what is new."""
STEADY = frozenset(
    {"inactive_account", "no_email", "suppressed_address", "pref_email_off", "pref_category_off"}
)
"""Reasons that are the same on every day, so that one earlier slot is enough to compare with."""


@dataclass(frozen=True, slots=True)
class SkipShare:
    """``people`` of ``of`` were left out for a reason at the newest slot of a job.

    In the ``slots`` before it (28 at most), never a larger share than ``most`` of ``most_of``. ``run_id``:
    the run that left out the most.
    """

    job: str
    reason: str
    people: int
    of: int
    run_id: int
    slots: int
    most: int
    most_of: int

    @property
    def unusual(self) -> bool:
        """Whether the share is over three times as large as ever before, and of ten people or more."""
        if self.people < _FEWEST or self.slots < (1 if self.reason in STEADY else _WEEK):
            return False
        return self.people * max(1, self.most_of) > _TIMES * self.most * self.of

    @property
    def what(self) -> str:
        """What happened."""
        name = self.job.partition(".")[2]
        slots = "slot" if self.slots == 1 else f"{self.slots} slots"
        before = f"at most {_of(self.most, self.most_of)}" if self.most_of else "nobody"
        return f"{name} left out {_of(self.people, self.of)} as {self.reason}, in the {slots} before {before}"

    def to_json(self) -> dict[str, Any]:
        """As health and status show it."""
        return {
            "what": self.what,
            "remedy": "see who they are, and whether their records at the dashboard changed",
            "job": self.job,
            "reason": self.reason,
            "runId": self.run_id,
        }


def _of(people: int, of: int) -> str:
    return f"{people:,} of {of:,} people ({100 * people / of:.0f} %)"


def unusual_shares(rows: Iterable[Mapping[str, Any]]) -> list[SkipShare]:
    """Those that are unusual, of rows of the query ``skip_shares``."""
    return [share for row in rows if (share := SkipShare(**row)).unusual]
