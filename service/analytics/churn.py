"""Churn risk: the probability that somebody has no session in the coming 28 days.

A logistic regression on log recency, log active days in 28 and in 180 days, and log tenure, refitted on the
dashboard's own people: their figures as they stood 28 days ago, and whether they came back since. Fitted by
Newton's method (iteratively reweighted least squares: McCullagh and Nelder, 1989, §4.4) with a ridge penalty,
on standardised columns, so that it also ends where the groups do not overlap.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_ACTIVE_DAYS = 3
_RIDGE = 1.0
_ROWS = 5_000
_MOST_STEPS = 25
_CLOSE = 1e-8
_OF_EACH = 20


@dataclass(frozen=True, slots=True)
class ChurnFeatures:
    """Somebody as of a date. ``recency``: days since the last active day. ``active_28``, ``active_180``:
    active days in the last 28 and 180. ``tenure``: days since the first activity."""

    recency: int
    active_28: int
    active_180: int
    tenure: int

    @property
    def sufficient(self) -> bool:
        """Whether enough is known to say anything: 3 active days in 180."""
        return self.active_180 >= _ACTIVE_DAYS

    @property
    def row(self) -> tuple[float, ...]:
        """The columns of the regression: log(1 + x) of each."""
        return tuple(math.log1p(x) for x in (self.recency, self.active_28, self.active_180, self.tenure))


@dataclass(frozen=True, slots=True)
class ChurnModel:
    """``coefficients``: the intercept, then one for each standardised column. ``rows`` were used, of which
    ``left`` churned. ``skill``: 1 - Brier score / that of the base rate, on the same rows; 0 is no better
    than the base rate."""

    coefficients: tuple[float, ...]
    means: tuple[float, ...]
    scales: tuple[float, ...]
    rows: int
    left: int
    skill: float

    def risk(self, habits: ChurnFeatures) -> float | None:
        """P(no session in the coming 28 days), between 0 and 1. None, "insufficient": under 3 active days in
        180."""
        return self._probability(habits.row) if habits.sufficient else None

    def _probability(self, row: Sequence[float]) -> float:
        return _logistic(_dot(self.coefficients, _standard(row, self.means, self.scales)))

    def to_json(self) -> dict[str, Any]:
        """What ``from_json`` restores exactly."""
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "ChurnModel":
        """A stored model."""
        return cls(
            coefficients=tuple(stored["coefficients"]),
            means=tuple(stored["means"]),
            scales=tuple(stored["scales"]),
            rows=stored["rows"],
            left=stored["left"],
            skill=stored["skill"],
        )


def fit(people: Sequence[tuple[ChurnFeatures, bool]]) -> ChurnModel | None:
    """From (habits 28 days ago, no session since). None, "insufficient": fewer than 20 who left, or 20 who
    stayed.

    People with under 3 active days in 180 are left out. Of more than 5,000, evenly spaced ones are used: give
    them in a fixed order (by id) and the result is the same each time. At most 25 steps: about half a second
    of CPU: not for the event loop.
    """
    known = [(habits.row, left) for habits, left in people if habits.sufficient]
    known = [known[n * len(known) // _ROWS] for n in range(_ROWS)] if len(known) > _ROWS else known
    gone = sum(left for _, left in known)
    if min(gone, len(known) - gone) < _OF_EACH:
        return None
    columns = list(zip(*(row for row, _ in known), strict=True))
    means = tuple(math.fsum(column) / len(column) for column in columns)
    scales = tuple(_deviation(column, mean) for column, mean in zip(columns, means, strict=True))
    rows = [_standard(row, means, scales) for row, _ in known]
    labels = [float(left) for _, left in known]
    coefficients = newton(rows, labels, _RIDGE)
    model = ChurnModel(tuple(coefficients), means, scales, len(known), gone, 0.0)
    return ChurnModel(model.coefficients, means, scales, len(known), gone, _skill(coefficients, rows, labels))


def newton(rows: Sequence[Sequence[float]], labels: Sequence[float], ridge: float) -> list[float]:
    """The coefficients that minimise -Σ log likelihood + ridge/2 · Σ β² (the first column, the intercept, is
    free).

    Steps that would make it worse are halved, so that it ends; at most 25 steps.
    """
    width = len(rows[0])
    beta = [0.0] * width
    loss = _loss(beta, rows, labels, ridge)
    for _ in range(_MOST_STEPS):
        step = _newton_step(beta, rows, labels, ridge)
        share = 1.0
        while share > 1e-6:
            tried = [b + share * s for b, s in zip(beta, step, strict=True)]
            reached = _loss(tried, rows, labels, ridge)
            if reached <= loss:
                break
            share /= 2
        else:
            return beta
        done = loss - reached <= _CLOSE * (1 + abs(loss))
        beta, loss = tried, reached
        if done:
            break
    return beta


def _newton_step(
    beta: Sequence[float], rows: Sequence[Sequence[float]], labels: Sequence[float], ridge: float
) -> list[float]:
    width = len(beta)
    gradient = [0.0, *(-ridge * b for b in beta[1:])]
    hessian = [[ridge if i == j > 0 else 0.0 for j in range(width)] for i in range(width)]
    for row, label in zip(rows, labels, strict=True):
        p = _logistic(_dot(beta, row))
        weight = p * (1 - p)
        for i, x in enumerate(row):
            gradient[i] += (label - p) * x
            weighted = weight * x
            line = hessian[i]
            for j in range(i + 1):
                line[j] += weighted * row[j]
    for i in range(width):
        for j in range(i):
            hessian[j][i] = hessian[i][j]
    return solve(hessian, gradient)


def solve(matrix: Sequence[Sequence[float]], right: Sequence[float]) -> list[float]:
    """x of matrix · x = right, by elimination with partial pivoting. ValueError: a singular matrix."""
    lines = [[*line, value] for line, value in zip(matrix, right, strict=True)]
    size = len(lines)
    for column in range(size):
        pivot = max(range(column, size), key=lambda n: abs(lines[n][column]))
        if abs(lines[pivot][column]) < 1e-300:
            raise ValueError("these equations have no single solution")
        lines[column], lines[pivot] = lines[pivot], lines[column]
        for n in range(column + 1, size):
            share = lines[n][column] / lines[column][column]
            for m in range(column, size + 1):
                lines[n][m] -= share * lines[column][m]
    found = [0.0] * size
    for n in reversed(range(size)):
        rest = sum(lines[n][m] * found[m] for m in range(n + 1, size))
        found[n] = (lines[n][size] - rest) / lines[n][n]
    return found


def _loss(
    beta: Sequence[float], rows: Sequence[Sequence[float]], labels: Sequence[float], ridge: float
) -> float:
    """log(1 + exp(η)) - y·η, without overflow, and the penalty."""
    total = ridge / 2 * sum(b * b for b in beta[1:])
    for row, label in zip(rows, labels, strict=True):
        eta = _dot(beta, row)
        total += max(eta, 0.0) + math.log1p(math.exp(-abs(eta))) - label * eta
    return total


def _skill(beta: Sequence[float], rows: Sequence[Sequence[float]], labels: Sequence[float]) -> float:
    base = sum(labels) / len(labels)
    missed = sum((_logistic(_dot(beta, row)) - label) ** 2 for row, label in zip(rows, labels, strict=True))
    return 1 - missed / sum((base - label) ** 2 for label in labels)


def _logistic(eta: float) -> float:
    if eta >= 0:
        return 1 / (1 + math.exp(-eta))
    grown = math.exp(eta)
    return grown / (1 + grown)


def _dot(one: Sequence[float], other: Sequence[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


def _standard(row: Sequence[float], means: Sequence[float], scales: Sequence[float]) -> tuple[float, ...]:
    """A leading 1 for the intercept, then each column in its standard deviations."""
    return (1.0, *((x - m) / s for x, m, s in zip(row, means, scales, strict=True)))


def _deviation(column: Sequence[float], mean: float) -> float:
    """The standard deviation; 1 for a column that never varies."""
    spread = math.sqrt(math.fsum((x - mean) ** 2 for x in column) / len(column))
    return spread if spread > 1e-9 else 1.0
