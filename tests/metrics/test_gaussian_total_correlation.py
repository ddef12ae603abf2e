"""Gaussian total correlation against disentanglement_lib, closed forms, and where a covariance is singular."""

from __future__ import annotations

import math

import numpy as np
import pytest

from disentangle_ext.metrics import gaussian_total_correlation
from tests.metrics.checks import OF_CODES_ALONE
from tests.metrics.parity import data, read
from tests.metrics.problems import GRID, correlated

CASES = {
    case: values["dlib"]["gaussian_total_correlation"] for case, values in read("information.json")["cases"].items()
}
SINGULAR, DEAD = "c04_linear_mix_d10", "c06_dead_dims_exact"


@pytest.mark.parametrize("check", OF_CODES_ALONE, ids=lambda check: check.__name__)
def test_as_every_score_of_codes_alone(check):
    check(gaussian_total_correlation)


@pytest.mark.parametrize("case", [case for case in CASES if case not in (SINGULAR, DEAD)])
def test_equals_disentanglement_lib(case):
    assert gaussian_total_correlation(data(case)[0]).score == pytest.approx(CASES[case], rel=1e-9)


def test_rounding_noise_of_a_singular_covariance_is_refused_where_public_code_returns_it():
    assert CASES[SINGULAR] == pytest.approx(90.2, abs=0.1)
    with pytest.raises(ValueError, match=r"gaussian_total_correlation: codes .* full rank .* got rank 5 for 10"):
        gaussian_total_correlation(data(SINGULAR)[0])
    with pytest.raises(ValueError, match="got rank 2 for 3 dimensions that vary, in 3 rows"):
        gaussian_total_correlation(np.eye(3))


def test_dead_dimensions_are_left_out_where_public_code_returns_nan():
    table = data(DEAD)[0]
    assert math.isnan(CASES[DEAD])
    result = gaussian_total_correlation(table)
    assert result.dead == (1, 3, 4, 7)
    assert result.score == pytest.approx(gaussian_total_correlation(table[:, [0, 2, 5, 6]]).score, rel=1e-12)


@pytest.mark.parametrize("rho", [0.0, 0.3, -0.8, 0.999])
def test_two_gaussians_have_the_closed_form(rho):
    expected = -0.5 * math.log(1 - rho**2)
    assert gaussian_total_correlation(correlated(rho)).score == pytest.approx(expected, abs=1e-12)


def test_independent_codes_and_a_single_dimension_score_zero():
    assert gaussian_total_correlation(GRID).score == pytest.approx(0, abs=1e-12)
    assert gaussian_total_correlation(GRID[:, :1]).score == pytest.approx(0, abs=1e-14)


@pytest.mark.parametrize("scale", [1e-300, 1e-20, 1e20, 1e140])
def test_it_does_not_depend_on_the_unit_of_a_dimension(scale):
    table = correlated(0.5, rows=50)
    expected = gaussian_total_correlation(table).score
    assert gaussian_total_correlation(table * [1, scale]).score == pytest.approx(expected, rel=1e-9)
