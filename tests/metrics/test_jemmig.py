"""JEMMIG against the code of Zaidi et al. 2020, its definition, and where dimensions know equally much."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from disentangle_ext.metrics import jemmig, mig
from tests.metrics.checks import OF_GAPS
from tests.metrics.parity import data, read
from tests.metrics.problems import GRID, entropy, information_by_definition, random_problem

CASES = read("information.json")["cases"]


@pytest.mark.parametrize("check", OF_GAPS, ids=lambda check: check.__name__)
def test_as_every_gap(check):
    check(jemmig)


@pytest.mark.parametrize("num_bins", [10, 20])
@pytest.mark.parametrize("case", [case for case in CASES if case != "c21_constant_factor"])
def test_equals_the_code_of_zaidi(case, num_bins):
    # It rescales codes before it bins them, which takes a few that lie on edges into other bins.
    tolerance = 1e-3 if (case, num_bins) == ("c10_merged_code", 10) else 1e-9
    expected = CASES[case]["zaidi"][f"jemmig_{num_bins}"]
    assert jemmig(*data(case), num_bins=num_bins).score == pytest.approx(expected, abs=tolerance)


def test_that_code_takes_a_constant_factor_into_the_mean_with_no_code_for_it():
    case = "c21_constant_factor"
    assert jemmig(*data(case)).score - CASES[case]["zaidi"]["jemmig_20"] > 0.2


@pytest.mark.parametrize("seed", range(3))
def test_equals_the_definition(seed):
    codes, factors = random_problem(seed)
    joint, known, _, of_factors = information_by_definition(codes, factors, 7)
    scores = []
    for k, h in enumerate(of_factors):
        column = [row[k] for row in known]
        second, first = sorted(column)[-2:]
        value = joint[column.index(first)][k] - first + second
        scores.append(1 - value / (h + math.log(7)))
    result = jemmig(codes, factors, num_bins=7)
    np.testing.assert_allclose(result.normalized, scores, atol=1e-12)
    assert result.score == pytest.approx(np.mean(scores), abs=1e-12)


def test_the_joint_entropy_sees_a_dimension_with_two_factors_where_mig_does_not():
    merged = np.stack([GRID[:, 0] + 4 * GRID[:, 1], GRID[:, 2]], 1)
    assert mig(merged, GRID).score == pytest.approx(1, abs=1e-12)
    np.testing.assert_allclose(jemmig(merged, GRID).jemmig, [math.log(5), math.log(4), 0], atol=1e-12)


def test_dead_and_uneven_codes_have_the_documented_floor():
    dead = jemmig(np.zeros((120, 2)), GRID, num_bins=20)
    expected = [math.log(20) / (math.log(size) + math.log(20)) for size in (4, 5, 6)]
    np.testing.assert_allclose(dead.normalized, expected, atol=1e-12)
    uneven = np.tile([[0.0], [1.0]], (60, 1))[np.argsort(GRID[:, 2] % 2, kind="stable").argsort()]
    factor = np.repeat([0, 1], 60)[:, None]
    floor = (math.log(20) - entropy(uneven[:, 0].tolist())) / (math.log(2) + math.log(20))
    assert jemmig(uneven, factor).score == pytest.approx(floor, abs=1e-12)


def test_among_dimensions_that_know_equally_much_the_one_with_the_smallest_joint_entropy_counts():
    factor = np.repeat(np.arange(4), 6)
    wide = np.stack([3 * factor + np.tile(np.arange(3), 8), factor], 1)
    for codes, best in ((wide, 1), (wide[:, ::-1], 0)):
        result = jemmig(codes, factor[:, None])
        assert result.best.tolist() == [best]
        assert result.jemmig[0] == pytest.approx(math.log(4), abs=1e-12)


@pytest.mark.parametrize("seed", range(8))
def test_the_order_and_the_sign_of_code_dimensions_change_nothing(seed):
    rng = np.random.default_rng(seed)
    factors = np.stack([rng.integers(0, 5, 60), rng.integers(0, 3, 60)], 1)
    # Three dimensions know the whole first factor, one of them more than that; their sums differ in the last bit.
    known = factors[:, 0]
    codes = np.stack([2 * known + rng.integers(0, 2, 60), known, 4 - known, rng.normal(size=60)], 1)
    expected = jemmig(codes, factors)
    for order in itertools.permutations(range(4)):
        signs = rng.choice([-1, 1], 4)
        result = jemmig((codes * signs)[:, order], factors)
        np.testing.assert_allclose(result.normalized, expected.normalized, rtol=0, atol=1e-12)
        chosen = [result.joint_entropy[d, k] for k, d in enumerate(result.best)]
        np.testing.assert_allclose(chosen, [expected.joint_entropy[d, k] for k, d in enumerate(expected.best)])
