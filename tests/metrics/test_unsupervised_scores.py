"""The scores of codes alone, against disentanglement_lib, closed forms, and at their edges."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from disentangle_ext.metrics import (
    active_units,
    gaussian_total_correlation,
    mutual_information_score,
    wasserstein_correlation,
)

ORACLES = Path(__file__).parent / "oracles"
CASES = json.loads((ORACLES / "information.json").read_text())["cases"]
SCORES = [gaussian_total_correlation, wasserstein_correlation, mutual_information_score, active_units]


@pytest.fixture(scope="module")
def codes():
    with np.load(ORACLES / "mig.npz") as stored:
        return {case: stored[f"{case}__codes"] for case in CASES}


def correlated(rho, rows=4000, seed=0):
    """Two columns of unit variance with exactly the correlation rho."""
    a, b = np.random.default_rng(seed).normal(size=(2, rows))
    a, b = (each - each.mean() for each in (a, b))
    b -= a * (a @ b) / (a @ a)
    a, b = (each / each.std() for each in (a, b))
    return np.stack([a, rho * a + math.sqrt(1 - rho * rho) * b], 1)


@pytest.mark.parametrize("case", CASES)
def test_equal_disentanglement_lib(codes, case):
    theirs = CASES[case]["dlib"]
    table = codes[case]
    for num_bins in (10, 20):
        ours = mutual_information_score(table, num_bins=num_bins).score
        assert ours == pytest.approx(theirs[f"mutual_info_score_{num_bins}"], rel=1e-9)
    # The square root of the rounding of a singular covariance is all that theirs has of the mix.
    tolerance = 1e-7 if case == "c04_linear_mix_d10" else 1e-9
    ours = wasserstein_correlation(table)
    assert ours.score == pytest.approx(theirs["gaussian_wasserstein_correlation"], rel=tolerance)
    assert ours.normalized == pytest.approx(theirs["gaussian_wasserstein_correlation_norm"], rel=tolerance)
    if case not in ("c04_linear_mix_d10", "c06_dead_dims_exact"):
        ours = gaussian_total_correlation(table).score
        assert ours == pytest.approx(theirs["gaussian_total_correlation"], rel=1e-9)


def test_rounding_noise_of_a_singular_covariance_is_refused_where_public_code_returns_it(codes):
    assert CASES["c04_linear_mix_d10"]["dlib"]["gaussian_total_correlation"] == pytest.approx(90.2, abs=0.1)
    with pytest.raises(ValueError, match=r"gaussian_total_correlation: codes .* full rank .* got rank 5 for 10"):
        gaussian_total_correlation(codes["c04_linear_mix_d10"])
    with pytest.raises(ValueError, match="got rank 2 for 3 dimensions that vary, in 3 rows"):
        gaussian_total_correlation(np.eye(3))


def test_dead_dimensions_are_left_out_where_public_code_returns_nan(codes):
    table = codes["c06_dead_dims_exact"]
    assert math.isnan(CASES["c06_dead_dims_exact"]["dlib"]["gaussian_total_correlation"])
    result = gaussian_total_correlation(table)
    assert result.dead == (1, 3, 4, 7)
    live = table[:, [0, 2, 5, 6]]
    assert result.score == pytest.approx(gaussian_total_correlation(live).score, rel=1e-12)
    assert wasserstein_correlation(table).score == pytest.approx(wasserstein_correlation(live).score, rel=1e-12)
    pairs = 4 * 3 / (8 * 7)
    assert mutual_information_score(table).score == pytest.approx(mutual_information_score(live).score * pairs)
    assert active_units(table).active.tolist() == [d in (0, 2, 5, 6) for d in range(8)]


@pytest.mark.parametrize("rho", [0.0, 0.3, -0.8, 0.999])
def test_two_gaussians_have_the_closed_forms(rho):
    table = correlated(rho)
    assert gaussian_total_correlation(table).score == pytest.approx(-0.5 * math.log(1 - rho**2), abs=1e-12)
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
    # Pairs of bins that determine each other share their entropy.
    classes = np.repeat(np.arange(8), 5)[:, None]
    assert mutual_information_score(np.hstack([classes, -classes])).score == pytest.approx(math.log(8))


def test_independent_codes_score_zero():
    grid = np.stack(np.meshgrid(np.arange(4), np.arange(5), np.arange(6), indexing="ij"), -1).reshape(-1, 3)
    for score in (gaussian_total_correlation, wasserstein_correlation, mutual_information_score):
        assert score(grid).score == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("scale", [1e-300, 1e-20, 1e20, 1e140])
def test_scores_without_a_unit_do_not_depend_on_the_scale(scale):
    table = correlated(0.5, rows=50)
    expected = gaussian_total_correlation(table).score
    assert gaussian_total_correlation(table * [1, scale]).score == pytest.approx(expected, rel=1e-9)
    with np.errstate(over="raise", invalid="raise"):
        expected = wasserstein_correlation(table).normalized
        assert wasserstein_correlation(table * scale).normalized == pytest.approx(expected, rel=1e-9)
        assert active_units(table * scale).score == (2 if scale > 1 else 0)


def test_deviations_below_the_normal_numbers_are_no_reason_to_overflow():
    table = np.array([[0.0, 0.0], [0.0, 0.0], [1e-320, 0.0]])
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        assert wasserstein_correlation(table).normalized == pytest.approx(0, abs=1e-12)


def test_active_units_counts_variances_above_the_threshold():
    alternating = np.array([[-1.0], [1.0]] * 10)
    table = alternating * [1, 0.11, 0.1 - 1e-9, 0]
    result = active_units(table)
    assert result.score == 2
    np.testing.assert_allclose(result.std, [1, 0.11, 0.1 - 1e-9, 0], atol=1e-15)
    assert active_units(table, threshold=0).score == 3
    assert active_units(table, threshold=1).score == 0
    assert active_units(np.zeros((5, 2)), threshold=0).score == 0


@pytest.mark.parametrize("score", SCORES)
def test_one_dimension_and_dead_codes_have_a_score(score):
    column = np.random.default_rng(0).normal(size=(40, 1))
    assert score(column).score == pytest.approx(1 if score is active_units else 0, abs=1e-14)
    assert score(np.full((40, 3), 2.5)).score == 0
    json.dumps(score(np.full((40, 3), 2.5)).as_dict(), allow_nan=False)


@pytest.mark.parametrize("score", SCORES)
def test_tensors_and_plots(score):
    table = np.random.default_rng(1).normal(size=(200, 3)) @ [[1, 0.5, 0], [0, 1, 0.5], [0, 0, 1]]
    result = score(torch.from_numpy(table))
    assert result.score == score(table).score
    assert result.settings["num_points"] == 200
    pytest.importorskip("matplotlib").use("Agg")
    assert result.title in result.plot().get_title(loc="left")


@pytest.mark.parametrize("score", SCORES)
def test_errors_name_the_argument(score):
    name = score.__name__
    with pytest.raises(ValueError, match=rf"{name}: codes must be finite, got nan at \[0, 1\]"):
        score([[0.0, math.nan], [1.0, 2.0]])
    with pytest.raises(ValueError, match=rf"{name}: codes must be \[N, D\].*got \[2\]"):
        score([0.0, 1.0])
    with pytest.raises(TypeError, match=f"{name}: codes must be real"):
        score([[1j], [2]])


def test_errors_of_single_scores():
    with pytest.raises(ValueError, match="wasserstein_correlation: codes must have at least 2 rows, got 1"):
        wasserstein_correlation([[1.0, 2.0]])
    with pytest.raises(ValueError, match="wasserstein_correlation: codes must have a variance that float64 can hold"):
        wasserstein_correlation([[1e200], [-1e200]])
    with pytest.raises(ValueError, match="mutual_information_score: num_bins must be .* got 1"):
        mutual_information_score([[0.0], [1.0]], num_bins=1)
    with pytest.raises(ValueError, match="active_units: threshold must be .* got -1"):
        active_units([[0.0], [1.0]], threshold=-1)
