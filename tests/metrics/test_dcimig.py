"""DCIMIG against the code of Zaidi et al. 2020, its definition, and at its edges."""

from __future__ import annotations

import math

import numpy as np
import pytest

from disentangle_ext.metrics import dcimig
from tests.metrics.checks import OF_GAPS
from tests.metrics.parity import data, read
from tests.metrics.problems import GRID, information_by_definition, random_problem, standard

CASES = read("information.json")["cases"]


@pytest.mark.parametrize("check", OF_GAPS, ids=lambda check: check.__name__)
def test_as_every_gap(check):
    check(dcimig)


@pytest.mark.parametrize("num_bins", [10, 20])
@pytest.mark.parametrize("case", CASES)
def test_equals_the_code_of_zaidi(case, num_bins):
    # It rescales codes before it bins them, which takes a few that lie on edges into other bins.
    tolerance = 1e-3 if (case, num_bins) == ("c10_merged_code", 10) else 1e-9
    expected = CASES[case]["zaidi"][f"dcimig_{num_bins}"]
    assert dcimig(*data(case), num_bins=num_bins).score == pytest.approx(expected, abs=tolerance)


@pytest.mark.parametrize("seed", range(3))
def test_equals_the_definition(seed):
    codes, factors = random_problem(seed)
    _, known, _, of_factors = information_by_definition(codes, factors, 7)
    captured = [0.0] * len(of_factors)
    for row in known:
        best = row.index(max(row))
        captured[best] = max(captured[best], np.diff(sorted(row)[-2:])[0])
    expected = sum(captured) / sum(of_factors)
    assert dcimig(codes, factors, num_bins=7).score == pytest.approx(expected, abs=1e-12)


def test_it_asks_that_no_dimension_holds_two_factors_and_not_that_no_two_hold_one():
    assert dcimig(np.repeat(standard(GRID), 2, axis=1), GRID).score == pytest.approx(1, abs=1e-12)
    merged = np.stack([GRID[:, 0] + 4 * GRID[:, 1], GRID[:, 2]], 1)
    expected = (math.log(5) - math.log(4) + math.log(6)) / (math.log(4) + math.log(5) + math.log(6))
    assert dcimig(merged, GRID).score == pytest.approx(expected, abs=1e-12)
