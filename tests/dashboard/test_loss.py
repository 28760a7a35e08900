"""How many rows may be gone in a day before that is not believed any more."""

from datetime import UTC, datetime

import pytest

from service.dashboard.loss import Loss, LossWindow, is_plausible


@pytest.mark.parametrize(
    ("start", "deleted", "held", "missing", "answer"),
    [
        (100, 0, 100, 20, True),  # a fifth
        (100, 0, 100, 21, False),
        (100, 9, 91, 11, True),  # a fifth in all
        (100, 20, 80, 2, False),
        (100, 20, 80, 0, True),
        (104, 0, 104, 20, True),
        (104, 0, 104, 21, False),  # 20.8 would be a fifth
        (30, 0, 30, 10, True),  # few, whatever their share
        (30, 0, 30, 11, False),
        (30, 9, 21, 2, False),
        (10, 0, 10, 9, True),
        (10, 0, 10, 10, False),  # all
        (2, 0, 2, 2, False),
        (2, 1, 1, 1, False),  # all, one by one
        (1, 0, 1, 1, True),  # from two rows on
        (0, 0, 0, 0, True),
        (0, 0, 5, 5, False),
        (0, 0, 5, 4, True),
        (50, 0, 1000, 11, False),  # the count at the start of the day decides
        (1000, 0, 300, 200, True),
    ],
)
def test_the_bound(start: int, deleted: int, held: int, missing: int, answer: bool) -> None:
    assert is_plausible(LossWindow(start, deleted), held, missing) is answer


def test_the_sentence_names_the_figures_and_both_remedies() -> None:
    since = datetime(2026, 3, 10, 9, 0, 5, tzinfo=UTC)
    assert Loss("users", 1800, 1800, 1800, since).sentence == (
        "the dashboard lost 1,800 of 1,800 users since 2026-03-10 09:00 UTC;"
        " confirm with `python -m service sync --confirm users`, or restore them"
    )
    assert Loss("timer_sessions", 22, 100, 2, since).sentence == (
        "the dashboard lost 22 of 100 timer sessions since 2026-03-10 09:00 UTC (2 of them are kept here);"
        " confirm with `python -m service sync --confirm timer_sessions`, or restore them"
    )
