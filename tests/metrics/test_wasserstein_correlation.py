"""Wasserstein correlation against disentanglement_lib, closed forms, and at the ends of the range of float64."""

from __future__ import annotations

import math

import numpy as np
import pytest

from disentangle_ext.metrics import wasserstein_correlation
from tests.metrics.checks import OF_CODES_ALONE
from tests.metrics.parity import data, read
from tests.metrics.problems import GRID, correlated

CASES = read("information.json")["cases"]


@pytest.mark.parametrize("check", OF_CODES_ALONE, ids=lambda check: check.__name__)
def test_as_every_score_of_codes_alone(check):
    check(wasserstein_correlation)


@pytest.mark.parametrize("case", CASES)
def test_equals_disentanglement_lib(case):
    theirs, ours = CASES[case]["dlib"], wasserstein_correlation(data(case)[0])
    # The square root of the rounding of a singular covariance is all that theirs has of the mix.
    tolerance = 1e-7 if case == "c04_linear_mix_d10" else 1e-9
    assert ours.score == pytest.approx(theirs["gaussian_wasserstein_correlation"], rel=tolerance)
    assert ours.normalized == pytest.approx(theirs["gaussian_wasserstein_correlation_norm"], rel=tolerance)


def test_dead_dimensions_change_nothing():
    table = data("c06_dead_dims_exact")[0]
    expected = wasserstein_correlation(table[:, [0, 2, 5, 6]]).score
    assert wasserstein_correlation(table).score == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("rho", [0.0, 0.3, -0.8, 0.999])
def test_two_gaussians_have_the_closed_form(rho):
    table = correlated(rho)
    # The eigenvalues of the correlation are 1 + rho and 1 - rho.
    distance = 2 * (2 - math.sqrt(1 + rho) - math.sqrt(1 - rho))
    assert wasserstein_correlation(table).normalized == pytest.approx(distance / 2, abs=1e-12)
    scaled = wasserstein_correlation(table * 3).score
    assert scaled == pytest.approx(9 * distance * len(table) / (len(table) - 1), abs=1e-11)


def test_copies_are_as_far_from_independent_as_codes_can_be():
    column = np.random.default_rng(0).normal(size=(500, 1))
    for copies in (2, 5):
        table = np.repeat(column, copies, axis=1)
        expected = 2 - 2 / math.sqrt(copies)
        assert wasserstein_correlation(table).normalized == pytest.approx(expected, abs=1e-12)


def test_independent_codes_and_a_single_dimension_score_zero():
    assert wasserstein_correlation(GRID).score == pytest.approx(0, abs=1e-12)
    assert wasserstein_correlation(GRID[:, :1]).score == pytest.approx(0, abs=1e-14)


@pytest.mark.parametrize("scale", [1e-300, 1e-20, 1e20, 1e140])
def test_normalized_it_does_not_depend_on_the_unit(scale):
    table = correlated(0.5, rows=50)
    with np.errstate(over="raise", invalid="raise"):
        expected = wasserstein_correlation(table).normalized
        assert wasserstein_correlation(table * scale).normalized == pytest.approx(expected, rel=1e-9)


def test_deviations_below_the_normal_numbers_are_no_reason_to_overflow():
    table = np.array([[0.0, 0.0], [0.0, 0.0], [1e-320, 0.0]])
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        assert wasserstein_correlation(table).normalized == pytest.approx(0, abs=1e-12)


def test_errors_name_the_argument():
    with pytest.raises(ValueError, match="wasserstein_correlation: codes must have at least 2 rows, got 1"):
        wasserstein_correlation([[1.0, 2.0]])
    with pytest.raises(ValueError, match="wasserstein_correlation: codes must have a variance that float64 can hold"):
        wasserstein_correlation([[1e200], [-1e200]])
