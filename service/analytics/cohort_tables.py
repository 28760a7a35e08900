"""Cohort tables: of those whose first active date lies in one period, how many came back n periods later.

Exact: active in the n-th period after. Unbounded: active in the n-th or any later one, as far as is known.
The denominator is the whole cohort; a cell whose period is not over in every zone is empty, never 0.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from service.analytics.statistic import Statistic


@dataclass(frozen=True, slots=True)
class CohortCell:
    """``active`` of the ``size`` people of a cohort (its first date), n periods on.

    ``mature``: that period is over in every zone.
    """

    cohort: date
    n: int
    size: int
    active: int
    mature: bool


def table(cells: Iterable[CohortCell]) -> dict[str, Any]:
    """``{cohorts: [{cohort, size, cells}], averages}``; ``cells`` has its n as index, null where immature.

    A cohort's size is that of its newest cell. ``averages`` per n: Σ active / Σ size over the cohorts whose
    cell is mature, so that large cohorts weigh more.
    """
    rows: dict[date, dict[int, CohortCell]] = defaultdict(dict)
    for cell in cells:
        rows[cell.cohort][cell.n] = cell
    width = max((n for row in rows.values() for n in row), default=-1) + 1
    return {
        "cohorts": [
            {
                "cohort": cohort,
                "size": row[max(row)].size,
                "cells": [_shown(row.get(n)) for n in range(width)],
            }
            for cohort, row in sorted(rows.items())
        ],
        "averages": [_average(n, [row[n] for row in rows.values() if n in row]) for n in range(width)],
    }


def _shown(cell: CohortCell | None) -> dict[str, Any] | None:
    if cell is None or not cell.mature:
        return None
    return {"n": cell.n, "size": cell.size, "active": cell.active, "rate": _rate(cell.active, cell.size)}


def _average(n: int, cells: Sequence[CohortCell]) -> dict[str, Any]:
    ripe = [cell for cell in cells if cell.mature]
    size, active = sum(cell.size for cell in ripe), sum(cell.active for cell in ripe)
    return {"n": n, "cohorts": len(ripe), "size": size, "active": active, "rate": _rate(active, size)}


def _rate(active: int, size: int) -> float | None:
    return round(active / size, 4) if size else None


def unbounded(
    statistic: Statistic, last_seen: Iterable[tuple[date, date, int]], periods: Mapping[date, bool]
) -> list[CohortCell]:
    """Cells "n or later" from (cohort, period of the last active date, people).

    ``periods``: those that have their figures, and whether each is final, which makes its cells mature.
    """
    people: dict[date, dict[date, int]] = defaultdict(dict)
    for cohort, last, count in last_seen:
        people[cohort][last] = people[cohort].get(last, 0) + count
    return [
        CohortCell(
            cohort,
            distance(statistic, cohort, period),
            sum(ends.values()),
            sum(count for last, count in ends.items() if last >= period),
            mature,
        )
        for cohort, ends in people.items()
        for period, mature in periods.items()
        if period >= cohort
    ]


def distance(statistic: Statistic, cohort: date, period: date) -> int:
    """How many weeks or months ``period`` lies after ``cohort``, both starts of a period."""
    if statistic is Statistic.MONTHLY:
        return (period.year - cohort.year) * 12 + period.month - cohort.month
    return (period - cohort).days // 7
