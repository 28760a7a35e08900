"""Cohort tables: of the users first active in one period, how many were active n periods later.

Exact: active in the n-th period after. Unbounded: active in the n-th or any later period so far.
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
    """``active`` of the ``size`` users of a ``cohort`` (its first date), n periods later.

    ``mature``: that period is over in every zone. ``grows``: it is about "n or later", and whoever comes back
    adds to it for ever.
    """

    cohort: date
    n: int
    size: int
    active: int
    mature: bool
    grows: bool = False


def table(cells: Iterable[CohortCell]) -> dict[str, Any]:
    """``{cohorts: [{cohort, size, cells}], averages}``; ``cells`` are indexed by n, null where immature.

    A cohort's size is that of its newest cell. ``averages`` per n: Σ active / Σ size over the cohorts whose
    cell is mature, so that large cohorts have more weight.
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
                "cells": [_cell_json(row.get(n)) for n in range(width)],
            }
            for cohort, row in sorted(rows.items())
        ],
        "averages": [_average(n, [row[n] for row in rows.values() if n in row]) for n in range(width)],
    }


def _cell_json(cell: CohortCell | None) -> dict[str, Any] | None:
    if cell is None or not cell.mature:
        return None
    return {
        "n": cell.n,
        "size": cell.size,
        "active": cell.active,
        "rate": _rate(cell.active, cell.size),
        "final": not cell.grows,
    }


def _average(n: int, cells: Sequence[CohortCell]) -> dict[str, Any]:
    mature = [cell for cell in cells if cell.mature]
    size, active = sum(cell.size for cell in mature), sum(cell.active for cell in mature)
    return {
        "n": n,
        "cohorts": len(mature),
        "size": size,
        "active": active,
        "rate": _rate(active, size),
        "final": bool(mature) and not any(cell.grows for cell in mature),
    }


def _rate(active: int, size: int) -> float | None:
    return round(active / size, 4) if size else None


def unbounded(
    statistic: Statistic, last_seen: Iterable[tuple[date, date, int]], periods: Mapping[date, bool]
) -> list[CohortCell]:
    """Cells "n or later" from (cohort, period of the last active date, number of users).

    ``periods``: those with figures, and whether they are final, which makes their cells mature.
    """
    people: dict[date, dict[date, int]] = defaultdict(dict)
    for cohort, last_period, count in last_seen:
        people[cohort][last_period] = people[cohort].get(last_period, 0) + count
    return [
        CohortCell(
            cohort,
            distance(statistic, cohort, period),
            sum(counts.values()),
            sum(count for last_period, count in counts.items() if last_period >= period),
            mature,
            grows=True,
        )
        for cohort, counts in people.items()
        for period, mature in periods.items()
        if period >= cohort
    ]


def distance(statistic: Statistic, cohort: date, period: date) -> int:
    """How many weeks or months ``period`` is after ``cohort``; both are starts of periods."""
    if statistic is Statistic.MONTHLY:
        return (period.year - cohort.year) * 12 + period.month - cohort.month
    return (period - cohort).days // 7
