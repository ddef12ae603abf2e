"""DCI by its predictors, its formulas, and at the scales and class counts that scikit-learn warns of."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from disentangle_ext.metrics import FactorResult
from disentangle_ext.metrics.suite import score_all

pytest.importorskip("sklearn")


def random_problem(seed=0, rows=200):
    rng = np.random.default_rng(seed)
    factors = np.stack([rng.integers(0, size, rows) for size in (3, 5)], 1)
    codes = rng.normal(size=(rows, 3))
    codes[:, :2] += 3 * factors
    return codes, factors


def fast_without_warnings(codes, factors):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = score_all(codes, factors, metrics=["dci_fast"])["dci_fast"]
    assert isinstance(result, FactorResult)
    return result


def test_codes_whose_sum_float32_cannot_hold_are_scored_without_a_warning():
    codes, factors = random_problem()
    expected = fast_without_warnings(codes, factors)
    for scale in (1e38, 1.5e306):
        signs = codes - codes.mean(0)
        np.testing.assert_array_equal(
            fast_without_warnings(signs * scale, factors).importance, fast_without_warnings(signs, factors).importance
        )
    assert fast_without_warnings(codes * [1, 1e300, 1], factors).score == pytest.approx(expected.score, abs=1e-6)


def test_factors_with_a_class_for_most_rows_are_scored_without_a_warning():
    rng = np.random.default_rng(0)
    codes, factors = rng.normal(size=(45, 3)), np.stack([np.arange(45) % 40, np.arange(45) % 3], 1)
    assert 0 <= fast_without_warnings(codes, factors).score <= 1
