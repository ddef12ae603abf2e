"""MIG-sup against the code of Zaidi et al. 2020, its definition, and at its edges."""

from __future__ import annotations

import math

import numpy as np
import pytest

from disentangle_ext.metrics import mig_sup
from tests.metrics.checks import OF_GAPS
from tests.metrics.parity import data, read
from tests.metrics.problems import GRID, information_by_definition, random_problem, standard

CASES = read("information.json")["cases"]
MERGED = np.stack([GRID[:, 0] + 4 * GRID[:, 1], GRID[:, 2]], 1)


@pytest.mark.parametrize("check", OF_GAPS, ids=lambda check: check.__name__)
def test_as_every_gap(check):
    check(mig_sup)


@pytest.mark.parametrize("num_bins", [10, 20])
@pytest.mark.parametrize("case", [case for case in CASES if case != "c06_dead_dims_exact"])
def test_equals_the_code_of_zaidi(case, num_bins):
    # It rescales codes before it bins them, which takes a few that lie on edges into other bins.
    tolerance = 1e-3 if (case, num_bins) == ("c10_merged_code", 10) else 1e-9
    expected = CASES[case]["zaidi"][f"mig_sup_{num_bins}"]
    assert mig_sup(*data(case), num_bins=num_bins).score == pytest.approx(expected, abs=tolerance)


def test_dead_codes_are_named_where_that_code_returns_nan():
    case = "c06_dead_dims_exact"
    codes, factors = data(case)
    assert math.isnan(CASES[case]["zaidi"]["mig_sup_20"])
    result = mig_sup(codes, factors)
    assert result.dead == (1, 3, 4, 7)
    assert result.score == mig_sup(codes[:, [0, 2, 5, 6]], factors).score
    assert result.best[1] == -1
    assert math.isnan(result.gaps[1])
    assert mig_sup(np.ones((120, 2)), GRID).score == 0


@pytest.mark.parametrize("seed", range(3))
def test_equals_the_definition(seed):
    codes, factors = random_problem(seed)
    _, known, of_codes, _ = information_by_definition(codes, factors, 7)
    gaps = [np.diff(sorted(row)[-2:])[0] / h for row, h in zip(known, of_codes)]
    result = mig_sup(codes, factors, num_bins=7)
    np.testing.assert_allclose(result.gaps, gaps, atol=1e-12)
    assert result.score == pytest.approx(np.mean(gaps), abs=1e-12)


def test_it_asks_that_no_dimension_holds_two_factors_and_not_that_no_two_hold_one():
    assert mig_sup(np.repeat(standard(GRID), 2, axis=1), GRID).score == pytest.approx(1, abs=1e-12)
    result = mig_sup(MERGED, GRID)
    assert result.gaps[0] == pytest.approx((math.log(5) - math.log(4)) / math.log(20), abs=1e-12)
    assert result.best.tolist() == [1, 2]


def test_it_can_divide_by_the_factor_instead():
    np.testing.assert_allclose(mig_sup(MERGED, GRID, normalize="factors").gaps, [0, 1], atol=1e-12)
    with pytest.raises(ValueError, match="unknown normalize 'factor'"):
        mig_sup(MERGED, GRID, normalize="factor")
