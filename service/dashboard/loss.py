"""How many rows of a table may be gone before that is believed: absence is not a fact.

A table may be empty for a moment: a restore, a reload, a wrong name of a database. What is gone is deleted
from the copy only while it is little; more needs a person's word, or the rows' return.
"""

from dataclasses import dataclass
from datetime import datetime

FEW = 10
"""Rows that may go in a day from a table of any size."""
_SHARE = 5  # a fifth


@dataclass(frozen=True, slots=True)
class LossWindow:
    """The last 24 hours of a table: its rows at their start, and how many of them were deleted here since.

    Those whose loss somebody confirmed are in neither.
    """

    start: int
    deleted: int


def is_plausible(window: LossWindow, rows: int, missing: int) -> bool:
    """Whether the copy may delete ``missing`` of the ``held`` rows: at most a fifth, or a few, in a day.

    Never all of them; but a table of a single row may lose it.
    """
    lost = window.deleted + missing
    if 0 < missing == rows and max(rows, window.start) > 1:
        return False
    return lost <= max(FEW, window.start // _SHARE) or missing == 0


@dataclass(frozen=True, slots=True)
class Loss:
    """An open question: ``missing`` of ``of`` rows of a table went missing; ``waiting`` of them are kept."""

    table: str
    missing: int
    of: int
    waiting: int
    since: datetime

    @property
    def sentence(self) -> str:
        """What happened and what to do."""
        still_here = "" if self.waiting == self.missing else f" ({self.waiting:,} of them are kept here)"
        return (
            f"the dashboard lost {self.missing:,} of {self.of:,} {self.table.replace('_', ' ')}"
            f" since {self.since:%Y-%m-%d %H:%M} UTC{still_here};"
            f" confirm with `python -m service sync --confirm {self.table}`, or restore them"
        )
