"""Churn risk: known coefficients are found again, and probabilities mean what they say."""

import json
import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.analytics import churn
from service.analytics.churn import ChurnFeatures, ChurnModel, fit, newton, solve

TRUE = (-1.0, 0.9, -0.8, -0.3, -0.2)
"""The intercept, then for the log of recency, active days in 28 and 180, tenure."""


def somebody(dice: random.Random) -> ChurnFeatures:
    active = dice.randint(3, 120)
    lately = min(28, int(active * 28 / 180 * dice.uniform(0.3, 1.7)))
    return ChurnFeatures(dice.randint(0, 60), lately, active, dice.randint(10, 1000))


def true_risk(habits: ChurnFeatures) -> float:
    eta = TRUE[0] + sum(b * x for b, x in zip(TRUE[1:], habits.row, strict=True))
    return 1 / (1 + math.exp(-eta))


def people(count: int, seed: int = 1) -> list[tuple[ChurnFeatures, bool]]:
    dice = random.Random(seed)
    return [(one, dice.random() < true_risk(one)) for one in (somebody(dice) for _ in range(count))]


@pytest.fixture(scope="module")
def model() -> ChurnModel:
    found = fit(people(5000))
    assert found is not None
    return found


def test_known_coefficients_are_found_again(model: ChurnModel) -> None:
    slopes = [b / scale for b, scale in zip(model.coefficients[1:], model.scales, strict=True)]
    intercept = model.coefficients[0] - sum(b * m for b, m in zip(slopes, model.means, strict=True))
    assert slopes == pytest.approx(TRUE[1:], abs=0.25)
    assert intercept == pytest.approx(TRUE[0], abs=0.8)


def test_risks_of_other_people_mean_what_they_say(model: ChurnModel) -> None:
    others = sorted((model.risk(one) or 0.0, left) for one, left in people(5000, seed=2))
    for at in range(0, 5000, 1000):
        fifth = others[at : at + 1000]
        promised = sum(risk for risk, _ in fifth) / 1000
        happened = sum(left for _, left in fifth) / 1000
        assert promised == pytest.approx(happened, abs=0.04)
    assert model.skill > 0.1


def test_each_risk_is_near_the_true_one(model: ChurnModel) -> None:
    for one, _ in people(500, seed=3):
        assert model.risk(one) == pytest.approx(true_risk(one), abs=0.1)


def test_skill_is_told_out_of_sample() -> None:
    """Of people who leave by the toss of a coin nothing is known; on its own rows a model seems to know."""
    told, seeming = [], []
    for seed in range(20):
        dice = random.Random(seed)
        known = [(somebody(dice), dice.random() < 0.5) for _ in range(60)]
        found = fit(known)
        assert found is not None
        base = found.left / found.rows
        errors = [((found.risk(one) or 0.0) - left) ** 2 for one, left in known]
        seeming.append(1 - sum(errors) / sum((base - left) ** 2 for _, left in known))
        told.append(found.skill)
    assert sum(told) / 20 < 0
    assert sum(seeming) / 20 - sum(told) / 20 > 0.08


def test_few_active_days_are_insufficient(model: ChurnModel) -> None:
    assert model.risk(ChurnFeatures(recency=5, active_28=2, active_180=2, tenure=90)) is None
    assert model.risk(ChurnFeatures(recency=5, active_28=2, active_180=3, tenure=90)) is not None


def test_few_people_are_insufficient() -> None:
    stayed = [(one, False) for one, left in people(400) if not left]
    gone = [(one, True) for one, left in people(400) if left]
    assert fit([]) is None
    assert fit(stayed + gone[:19]) is None
    assert fit(stayed + gone[:20]) is not None
    assert fit(gone[:20] + stayed[:19]) is None
    strangers = [(ChurnFeatures(1, 2, 2, 5), True)] * 100
    assert fit(stayed + strangers) is None, "people with two active days are no evidence"


def test_rows_are_bounded_and_the_same_each_time(model: ChurnModel) -> None:
    many = people(12_000)
    found = fit(many)
    assert found is not None
    assert found.rows == 5000
    assert fit(many) == found
    assert model.rows == 5000


def test_it_ends_where_the_groups_do_not_overlap() -> None:
    apart = [(ChurnFeatures(n, 20 - n // 3, 40, 200), n > 30) for n in range(61)] * 2
    found = fit(apart)
    assert found is not None
    early, late = found.risk(ChurnFeatures(1, 20, 40, 200)), found.risk(ChurnFeatures(59, 1, 40, 200))
    assert early is not None
    assert late is not None
    assert 0 < early < 0.05 < 0.95 < late < 1


def test_a_model_can_be_stored(model: ChurnModel) -> None:
    assert ChurnModel.from_json(json.loads(json.dumps(model.to_json()))) == model


rows = st.lists(
    st.tuples(st.just(1.0), st.floats(-3, 3), st.floats(-3, 3), st.booleans()), min_size=5, max_size=40
).filter(lambda found: len({left for *_, left in found}) == 2)


@settings(deadline=None)
@given(rows)
def test_at_the_end_the_gradient_is_zero(known: list[tuple[float, float, float, bool]]) -> None:
    table = [row[:3] for row in known]
    labels = [float(row[3]) for row in known]
    beta = newton(table, labels, ridge=1.0)
    gradient = [0.0, *(-b for b in beta[1:])]
    for row, label in zip(table, labels, strict=True):
        p = 1 / (1 + math.exp(-sum(b * x for b, x in zip(beta, row, strict=True))))
        gradient = [g + (label - p) * x for g, x in zip(gradient, row, strict=True)]
    assert gradient == pytest.approx([0, 0, 0], abs=1e-2)


@settings(deadline=None)
@given(st.integers(1, 6), st.randoms(use_true_random=False))
def test_equations_are_solved(size: int, dice: random.Random) -> None:
    matrix = [[dice.uniform(-1, 1) + (3 * size if i == j else 0) for j in range(size)] for i in range(size)]
    dice.shuffle(matrix)
    wanted = [dice.uniform(-5, 5) for _ in range(size)]
    right = [sum(a * x for a, x in zip(line, wanted, strict=True)) for line in matrix]
    assert solve(matrix, right) == pytest.approx(wanted)


def test_equations_without_a_solution_are_refused() -> None:
    with pytest.raises(ValueError, match="no single solution"):
        churn.solve([[1, 2], [2, 4]], [1, 2])
