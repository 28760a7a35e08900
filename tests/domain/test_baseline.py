"""A day against the same weekday before: said only when enough is known."""

import pytest

from service.domain.baseline import DayTrend, Trend, day_trend


@pytest.mark.parametrize(
    ("current", "before", "expected"),
    [
        (120, [100, 100, 100, 100], (Trend.NONE, 100, 20)),  # more than 20 %, not 20
        (121, [100, 90, 110, 100], (Trend.TREND, 100, 21)),
        (150, [100, 100, 100, None], (Trend.TREND, 100, 50)),
        (151, [100, 100, 100, None], (Trend.SIGNIFICANT, 100, 51)),
        (49, [100, 100, 100, 5000], (Trend.SIGNIFICANT, 100, -51)),
        (500, [100, 100, None, None], (Trend.INSUFFICIENT, None, None)),
        (38, [19, 19, 19, 19], (Trend.INSUFFICIENT, 19, 100)),
        (30, [20, 20, 20, 20], (Trend.TREND, 20, 50)),
        (9, [0, 0, 0, 0], (Trend.INSUFFICIENT, 0, None)),
    ],
)
def test_verdicts(current: float, before: list[float | None], expected: tuple[Trend, float, float]) -> None:
    assert day_trend(current, before) == DayTrend(*expected)
