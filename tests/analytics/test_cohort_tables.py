"""Cohort tables, against a table that was filled in by hand."""

from datetime import date

import pytest

from service.analytics.cohort_tables import CohortCell, distance, table, unbounded
from service.analytics.statistic import Statistic

FIRST, SECOND, THIRD = date(2026, 3, 1), date(2026, 3, 8), date(2026, 3, 15)


def test_unripe_cells_are_empty_and_large_cohorts_weigh_more() -> None:
    found = table(
        [
            CohortCell(FIRST, 0, 30, 30, mature=True),
            CohortCell(FIRST, 1, 30, 15, mature=True),
            CohortCell(FIRST, 2, 30, 7, mature=False),
            CohortCell(SECOND, 0, 10, 10, mature=True),
            CohortCell(SECOND, 1, 10, 0, mature=True),
        ]
    )

    second = found["cohorts"][1]
    assert (second["cohort"], second["size"]) == (SECOND, 10)
    assert second["cells"] == [
        {"n": 0, "size": 10, "active": 10, "rate": 1.0, "final": True},
        {"n": 1, "size": 10, "active": 0, "rate": 0.0, "final": True},
        None,
    ]
    assert found["cohorts"][0]["cells"][2] is None
    averages = [(a["cohorts"], a["size"], a["active"], a["rate"], a["final"]) for a in found["averages"]]
    assert averages[1:] == [(2, 40, 15, 0.375, True), (0, 0, 0, None, False)]
    assert table([]) == {"cohorts": [], "averages": []}


def test_n_or_later_counts_whoever_was_seen_then_or_after() -> None:
    seen = [(FIRST, FIRST, 3), (FIRST, SECOND, 2), (FIRST, THIRD, 5), (SECOND, SECOND, 4)]
    cells = unbounded(Statistic.WEEKLY, seen, {FIRST: True, SECOND: True, THIRD: False})

    assert cells == [
        CohortCell(FIRST, 0, 10, 10, mature=True, grows=True),
        CohortCell(FIRST, 1, 10, 7, mature=True, grows=True),
        CohortCell(FIRST, 2, 10, 5, mature=False, grows=True),
        CohortCell(SECOND, 0, 4, 4, mature=True, grows=True),
        CohortCell(SECOND, 1, 4, 0, mature=False, grows=True),
    ]
    shown = table(cells)
    assert {cell["final"] for row in shown["cohorts"] for cell in row["cells"] if cell} == {False}
    assert {average["final"] for average in shown["averages"]} == {False}


@pytest.mark.parametrize(
    ("statistic", "cohort", "period", "n"),
    [
        (Statistic.WEEKLY, date(2026, 3, 29), date(2026, 4, 12), 2),
        (Statistic.MONTHLY, date(2025, 11, 1), date(2026, 2, 1), 3),
    ],
)
def test_distances(statistic: Statistic, cohort: date, period: date, n: int) -> None:
    assert distance(statistic, cohort, period) == n
