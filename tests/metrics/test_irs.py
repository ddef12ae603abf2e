"""IRS against its definition, and what its options do to a perfect code."""

from __future__ import annotations

import numpy as np
import pytest

from disentangle_ext.metrics import irs
from tests.metrics.parity import data
from tests.metrics.problems import random_problem


def by_definition(codes, factors, quantile):
    """The robustness [D, K] and the largest deviation [D], class by class."""
    furthest = np.abs(codes - codes.mean(0)).max(0)
    robustness = np.empty((codes.shape[1], factors.shape[1]))
    for k, labels in enumerate(factors.T):
        groups = [codes[labels == each] for each in np.unique(labels)]
        inside = [np.quantile(np.abs(group - group.mean(0)), quantile, axis=0) for group in groups]
        robustness[:, k] = 1 - np.mean(inside, axis=0) / furthest
    return robustness, furthest


@pytest.mark.parametrize("quantile", [0.99, 1, 0.5])
def test_equals_the_definition(quantile):
    codes, factors = random_problem()
    robustness, furthest = by_definition(codes, factors, quantile)
    result = irs(codes, factors, quantile=quantile)
    np.testing.assert_allclose(result.robustness, robustness, atol=1e-12)
    np.testing.assert_allclose(result.max_deviation, furthest, rtol=1e-12)
    np.testing.assert_array_equal(result.parent, robustness.argmax(1))
    assert result.score == pytest.approx(robustness.max(1) @ furthest / furthest.sum(), abs=1e-12)


def test_binning_the_factors_again_spoils_a_perfect_code():
    codes, factors = data("c01_perfect_dsprites")
    assert irs(codes, factors).score == pytest.approx(1, abs=1e-12)
    assert irs(codes, factors, factor_bins=20).score == pytest.approx(0.985, abs=1e-3)


def test_dead_codes_are_left_out_and_constant_factors_skipped():
    codes, factors = random_problem()
    expected = irs(codes, factors[:, [0, 2]]).score
    result = irs(np.hstack([codes, np.full((400, 1), 2.0)]), factors * [1, 0, 1])
    assert result.score == pytest.approx(expected, abs=1e-12)
    assert result.skipped == (1,)
    assert np.isnan(result.by_code[4])
    assert result.parent[4] == -1
    assert irs(np.ones((400, 2)), factors).score == 0


def test_the_unit_of_the_codes_changes_nothing():
    codes, factors = random_problem()
    expected = irs(codes, factors).score
    for scale in (1e-300, 1e300):
        with np.errstate(over="raise", invalid="raise"):
            assert irs(codes * scale, factors).score == pytest.approx(expected, rel=1e-9)


def test_plot():
    pytest.importorskip("matplotlib").use("Agg")
    assert "IRS" in irs(*random_problem(rows=60)).plot().get_title(loc="left")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"quantile": 0}, "irs: quantile must be greater than 0 and at most 1, got 0"),
        ({"quantile": "1"}, "irs: quantile must be"),
        ({"factor_bins": 1}, "irs: factor_bins must be an integer of at least 2, got 1"),
    ],
)
def test_errors_name_the_argument(options, message):
    with pytest.raises(ValueError, match=message):
        irs(*random_problem(rows=20), **options)
