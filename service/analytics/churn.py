"""Churn risk: the probability that a user has no session in the next 28 days.

A logistic regression on log recency, log active days in 28 and in 180 days, and log tenure, fitted on the
dashboard's own users: their figures of 28 days ago, and whether they have been active since. Fitted by
Newton's method (iteratively reweighted least squares: McCullagh and Nelder, 1989, §4.4) with a ridge penalty,
on standardised columns, so that it converges even if the groups do not overlap.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

_MIN_ACTIVE_DAYS = 3
_RIDGE = 1.0
_MAX_ROWS = 5_000
_MAX_STEPS = 25
_TOLERANCE = 1e-8
_MIN_PER_CLASS = 20
_FOLDS = 5

Features = Sequence[float]


@dataclass(frozen=True, slots=True)
class ChurnFeatures:
    """A user's features as of a date. ``recency``: days since the last active day. ``active_28``,
    ``active_180``: active days in the last 28 and 180. ``tenure``: days since the first activity."""

    recency: int
    active_28: int
    active_180: int
    tenure: int

    @property
    def sufficient(self) -> bool:
        """Whether there is enough data: 3 active days in 180."""
        return self.active_180 >= _MIN_ACTIVE_DAYS

    @property
    def row(self) -> tuple[float, ...]:
        """The columns of the regression: log(1 + x) of each."""
        return tuple(math.log1p(x) for x in (self.recency, self.active_28, self.active_180, self.tenure))


@dataclass(frozen=True, slots=True)
class ChurnModel:
    """``coefficients``: the intercept, then one for each standardised column. ``rows`` were used, of which
    ``left`` churned. ``skill``: 1 - Brier score / that of the base rate, out of sample: each fifth of the
    rows is predicted by a model (and a base rate) of the other four. On its own rows a model's skill would be
    told too high, with few rows by 0.10. 0 is no better than the base rate, below 0 is worse."""

    coefficients: tuple[float, ...]
    means: tuple[float, ...]
    scales: tuple[float, ...]
    rows: int
    left: int
    skill: float

    def risk(self, habits: ChurnFeatures) -> float | None:
        """P(no session in the next 28 days), between 0 and 1. None, "insufficient": under 3 active days in
        180."""
        return self.probability(habits.row) if habits.sufficient else None

    def probability(self, row: Features) -> float:
        """The risk by the columns of the regression."""
        return _logistic(_dot(self.coefficients, _standardised(row, self.means, self.scales)))

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
    """Fit a model on (features 28 days ago, no session since). None, "insufficient": fewer than 20 users who
    left, or fewer than 20 who stayed.

    Users with under 3 active days in 180 are left out. Of more than 5,000, evenly spaced ones are used; in a
    fixed order (by id) the result is always the same. It takes about a second of CPU: run it in a thread.
    """
    samples = [(habits.row, float(has_left)) for habits, has_left in people if habits.sufficient]
    samples = (
        [samples[n * len(samples) // _MAX_ROWS] for n in range(_MAX_ROWS)]
        if len(samples) > _MAX_ROWS
        else samples
    )
    churned = int(sum(has_left for _, has_left in samples))
    if min(churned, len(samples) - churned) < _MIN_PER_CLASS:
        return None
    model = _fit(samples, None)
    return replace(model, skill=_skill_out_of_sample(samples, model))


def _fit(samples: Sequence[tuple[Features, float]], start: Sequence[float] | None) -> ChurnModel:
    columns = list(zip(*(row for row, _ in samples), strict=True))
    means = tuple(math.fsum(column) / len(column) for column in columns)
    scales = tuple(_deviation(column, mean) for column, mean in zip(columns, means, strict=True))
    rows = [_standardised(row, means, scales) for row, _ in samples]
    labels = [label for _, label in samples]
    coefficients = newton(rows, labels, _RIDGE, start)
    return ChurnModel(tuple(coefficients), means, scales, len(samples), int(sum(labels)), 0.0)


def _skill_out_of_sample(samples: Sequence[tuple[Features, float]], model: ChurnModel) -> float:
    """``ChurnModel.skill``. The fits start from the ``model`` of all rows: that saves steps, and there is one
    minimum."""
    folds = _folds([label for _, label in samples])
    error = base_error = 0.0
    for fold in range(_FOLDS):
        others = [sample for sample, n in zip(samples, folds, strict=True) if n != fold]
        judge = _fit(others, model.coefficients)
        base = judge.left / judge.rows
        for (row, label), n in zip(samples, folds, strict=True):
            if n == fold:
                error += (judge.probability(row) - label) ** 2
                base_error += (base - label) ** 2
    return 1 - error / base_error


def _folds(labels: Sequence[float]) -> list[int]:
    """The fold of each row, in turn, those who left and those who stayed apart: each fold has both."""
    turns = {0.0: count(), 1.0: count()}
    return [next(turns[label]) % _FOLDS for label in labels]


def newton(
    rows: Sequence[Sequence[float]],
    labels: Sequence[float],
    ridge: float,
    start: Sequence[float] | None = None,
) -> list[float]:
    """The coefficients that minimise -Σ log likelihood + ridge/2 · Σ β² (the first column, the intercept, is
    free).

    Steps that would increase the loss are halved, so that it converges; at most 25 steps from ``start``
    (without: from zeros).
    """
    width = len(rows[0])
    beta = list(start or [0.0] * width)
    loss = _loss(beta, rows, labels, ridge)
    for _ in range(_MAX_STEPS):
        step = _newton_step(beta, rows, labels, ridge)
        fraction = 1.0
        while fraction > 1e-6:
            candidate = [b + fraction * s for b, s in zip(beta, step, strict=True)]
            candidate_loss = _loss(candidate, rows, labels, ridge)
            if candidate_loss <= loss:
                break
            fraction /= 2
        else:
            return beta
        converged = loss - candidate_loss <= _TOLERANCE * (1 + abs(loss))
        beta, loss = candidate, candidate_loss
        if converged:
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


def solve(matrix: Sequence[Sequence[float]], constants: Sequence[float]) -> list[float]:
    """x of matrix · x = constants, by elimination with partial pivoting. ValueError: a singular matrix."""
    lines = [[*line, value] for line, value in zip(matrix, constants, strict=True)]
    size = len(lines)
    for column in range(size):
        pivot = max(range(column, size), key=lambda n: abs(lines[n][column]))
        if abs(lines[pivot][column]) < 1e-300:
            raise ValueError("these equations have no single solution")
        lines[column], lines[pivot] = lines[pivot], lines[column]
        for n in range(column + 1, size):
            factor = lines[n][column] / lines[column][column]
            for m in range(column, size + 1):
                lines[n][m] -= factor * lines[column][m]
    solution = [0.0] * size
    for n in reversed(range(size)):
        solved = sum(lines[n][m] * solution[m] for m in range(n + 1, size))
        solution[n] = (lines[n][size] - solved) / lines[n][n]
    return solution


def _loss(
    beta: Sequence[float], rows: Sequence[Sequence[float]], labels: Sequence[float], ridge: float
) -> float:
    """log(1 + exp(η)) - y·η, without overflow, and the penalty."""
    total = ridge / 2 * sum(b * b for b in beta[1:])
    for row, label in zip(rows, labels, strict=True):
        eta = _dot(beta, row)
        total += max(eta, 0.0) + math.log1p(math.exp(-abs(eta))) - label * eta
    return total


def _logistic(eta: float) -> float:
    if eta >= 0:
        return 1 / (1 + math.exp(-eta))
    exponential = math.exp(eta)
    return exponential / (1 + exponential)


def _dot(first: Sequence[float], second: Sequence[float]) -> float:
    return sum(a * b for a, b in zip(first, second, strict=True))


def _standardised(row: Sequence[float], means: Sequence[float], scales: Sequence[float]) -> tuple[float, ...]:
    """A leading 1 for the intercept, then each column in standard deviations from its mean."""
    return (1.0, *((x - m) / s for x, m, s in zip(row, means, scales, strict=True)))


def _deviation(column: Sequence[float], mean: float) -> float:
    """The standard deviation; 1 for a column that never varies."""
    spread = math.sqrt(math.fsum((x - mean) ** 2 for x in column) / len(column))
    return spread if spread > 1e-9 else 1.0
