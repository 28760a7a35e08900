"""How many rows of a table may disappear at once before that looks like a mistake.

A table may be empty for a moment: a restore, a reload, the wrong database. A small loss is deleted from the
copy too. A larger one waits until a person confirms it, or until the rows are back.
"""

from dataclasses import dataclass
from datetime import datetime

FEW = 10
"""Rows that may disappear within a day from a table of any size."""
_SHARE = 5  # a fifth


@dataclass(frozen=True, slots=True)
class LossWindow:
    """The last 24 hours of a table: its rows at their start, and how many of them were deleted here since.

    Rows whose loss was confirmed count in neither.
    """

    start: int
    deleted: int


def is_plausible(window: LossWindow, rows: int, missing: int) -> bool:
    """Whether the copy may delete ``missing`` of its ``rows``: at most a fifth, or ``FEW``, within a day.

    Never all of them, except from a table of a single row.
    """
    lost = window.deleted + missing
    if 0 < missing == rows and max(rows, window.start) > 1:
        return False
    return lost <= max(FEW, window.start // _SHARE) or missing == 0


@dataclass(frozen=True, slots=True)
class Loss:
    """A loss awaiting confirmation: ``missing`` of ``of`` rows. The copy still has ``waiting`` of them."""

    table: str
    missing: int
    of: int
    waiting: int
    since: datetime

    @property
    def what(self) -> str:
        """What happened."""
        still_here = "" if self.waiting == self.missing else f" ({self.waiting:,} of them are kept here)"
        return (
            f"the dashboard lost {self.missing:,} of {self.of:,} {self.table.replace('_', ' ')}"
            f" since {self.since:%Y-%m-%d %H:%M} UTC{still_here}"
        )

    @property
    def sentence(self) -> str:
        """What happened and what to do, for operators."""
        return f"{self.what}; confirm with `python -m service sync --confirm {self.table}`, or restore them"
