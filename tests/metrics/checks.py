"""What metrics of one family have in common: each check takes the metric, and the file of the metric runs them all."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

from tests.metrics.parity import data
from tests.metrics.problems import GRID, random_problem, standard, torus

# Metrics made of gaps of mutual information: mig_sup, dcimig, jemmig, rmig.


def gap_skips_constant_factors(score):
    codes, factors = data("c21_constant_factor")
    result = score(codes, factors, factor_names=["size", "colour"])
    assert result.skipped == (1,)
    assert result.score == pytest.approx(score(codes, factors[:, :1]).score, abs=1e-12)
    assert result.as_dict()["skipped"] == ["colour"]
    json.dumps(result.as_dict(), allow_nan=False)


def gap_is_one_for_a_perfect_code_and_at_its_floor_for_noise(score):
    assert score(standard(GRID), GRID).score == pytest.approx(1, abs=1e-12)
    noise = np.random.default_rng(0).uniform(-4, 4, (20_000, 4))
    factors = np.random.default_rng(1).integers(0, 4, (20_000, 3))
    assert 0 <= score(noise, factors).score < 0.01


def gap_takes_one_code_and_one_factor(score):
    code = standard(GRID)[:, :1]
    assert score(code, GRID[:, :1]).score == pytest.approx(1, abs=1e-12)
    assert 0 <= score(code, GRID).score <= 1
    assert 0 <= score(np.ones((120, 1)), GRID).score <= 1


def gap_takes_labels_that_tell_classes_apart(score):
    codes, factors = random_problem()
    expected = score(codes, factors).score
    gappy = np.array([-7, 100, 3, 12, 5])[factors]
    assert score(torch.from_numpy(codes), gappy).score == pytest.approx(expected, abs=1e-12)


def gap_has_an_interval_and_a_plot(score):
    codes, factors = random_problem()
    result = score(codes, factors, bootstrap=20, seed=1)
    assert result.interval.low < result.score < result.interval.high
    assert result.score == score(codes, factors).score
    pytest.importorskip("matplotlib").use("Agg")
    assert result.title in result.plot().get_title(loc="left")
    assert score(np.ones((400, 2)), factors * [1, 0, 1]).plot() is not None


def gap_names_the_argument(score):
    name = score.__name__
    with pytest.raises(ValueError, match=rf"{name}: codes must be finite, got nan at \[0, 0\]"):
        score([[math.nan], [1.0]], [[0], [1]])
    with pytest.raises(ValueError, match=f"{name}: factors must have a row for each of the 2 rows.*got 3"):
        score([[0.0], [1.0]], [[0], [1], [2]])
    with pytest.raises(ValueError, match=f"{name}: factors must hold a column with two values or more, got 1"):
        score([[0.0]], [[0, 1]])
    with pytest.raises(ValueError, match=f"{name}: num_bins must be .* at least 2, got 1"):
        score([[0.0], [1.0]], [[0], [1]], num_bins=1)


OF_GAPS = [
    gap_skips_constant_factors,
    gap_is_one_for_a_perfect_code_and_at_its_floor_for_noise,
    gap_takes_one_code_and_one_factor,
    gap_takes_labels_that_tell_classes_apart,
    gap_has_an_interval_and_a_plot,
    gap_names_the_argument,
]

# Metrics of codes alone: active_units, gaussian_total_correlation, mutual_information_score, wasserstein_correlation.


def codes_alone_score_zero_where_they_are_dead(score):
    assert score(np.full((40, 3), 2.5)).score == 0
    json.dumps(score(np.full((40, 3), 2.5)).as_dict(), allow_nan=False)


def codes_alone_may_be_tensors_and_have_a_plot(score):
    table = np.random.default_rng(1).normal(size=(200, 3)) @ [[1, 0.5, 0], [0, 1, 0.5], [0, 0, 1]]
    result = score(torch.from_numpy(table))
    assert result.score == score(table).score
    assert result.settings["num_points"] == 200
    pytest.importorskip("matplotlib").use("Agg")
    assert result.title in result.plot().get_title(loc="left")


def codes_alone_name_the_argument(score):
    name = score.__name__
    with pytest.raises(ValueError, match=rf"{name}: codes must be finite, got nan at \[0, 1\]"):
        score([[0.0, math.nan], [1.0, 2.0]])
    with pytest.raises(ValueError, match=rf"{name}: codes must be \[N, D\].*got \[2\]"):
        score([0.0, 1.0])
    with pytest.raises(TypeError, match=f"{name}: codes must be real"):
        score([[1j], [2]])


OF_CODES_ALONE = [
    codes_alone_score_zero_where_they_are_dead,
    codes_alone_may_be_tensors_and_have_a_plot,
    codes_alone_name_the_argument,
]

# Metrics of cyclic factors: independence, linear_symmetry, lsbd.


def symmetry_is_one_for_the_exact_code_of_a_torus(score):
    for factors, classes in ((2, 2), (2, 3), (2, 32), (3, 12), (4, 5)):
        codes, labels = torus(factors, classes)
        result = score(torch.from_numpy(codes), torch.from_numpy(labels))
        assert result.score == pytest.approx(1, abs=1e-9), (factors, classes)
        assert len(result.by_factor) == factors


def symmetry_does_not_mind_a_rotation(score):
    codes, labels = torus()
    rotation = np.linalg.qr(np.random.default_rng(1).normal(size=(4, 4)))[0]
    assert score(codes @ rotation, labels).score == pytest.approx(1, abs=1e-9)


def symmetry_of_a_code_that_never_moves_is_zero_and_of_one_factor_in_two_half(score):
    codes, labels = torus()
    assert score(np.full((len(labels), 3), 1.7), labels).score == 0
    half = score(codes[:, :2], labels)
    assert half.score == pytest.approx(0.5, abs=1e-9)
    value = 1 - half.by_factor if score.__name__ == "lsbd" else half.by_factor  # LSBD's is a dispersion
    np.testing.assert_allclose(value, [1, 0], atol=1e-9)


def symmetry_does_not_mind_scale_offset_order_and_names_of_classes(score):
    codes, labels = torus(classes=8)
    codes = codes + 0.3 * np.random.default_rng(0).normal(size=codes.shape)
    expected = score(codes, labels).score
    for scale in (1e-290, 1e290):
        with np.errstate(over="raise", invalid="raise"):
            assert score(codes * scale, labels).score == pytest.approx(expected, rel=1e-9)
    order = np.random.default_rng(1).permutation(len(codes))
    assert score(codes[order] + 5, labels[order] * 3 - 40).score == pytest.approx(expected, rel=1e-9)


def symmetry_leaves_out_constant_factors_and_counts_repeated_rows_once(score):
    codes, labels = torus()
    expected = score(codes, labels).score
    wider = np.insert(labels, 1, 4, axis=1)
    result = score(codes, wider, factor_names=["x", "constant", "y"])
    assert result.factor_names == ("x", "y")
    assert result.score == pytest.approx(expected, abs=1e-12)
    twice = score(np.vstack([codes, codes * 0]), np.vstack([labels, labels]))
    assert twice.score == pytest.approx(expected, abs=1e-12)
    json.dumps(twice.as_dict(), allow_nan=False)


def symmetry_has_a_plot(score):
    pytest.importorskip("matplotlib").use("Agg")
    result = score(*torus())
    assert result.title in result.plot().get_title(loc="left")
    assert "factor_0" in str(result)


def symmetry_names_the_argument(score):
    name = score.__name__
    codes, labels = torus(classes=4)
    for options, error, message in (
        ({"codes": np.where(labels == 0, math.nan, 1)}, ValueError, "codes must be finite"),
        ({"factors": labels[:3]}, ValueError, "factors must have a row for each of the 16 rows"),
        ({"factors": labels * 0}, ValueError, "factors must hold a column with two values or more"),
        ({"sizes": [4]}, ValueError, "sizes must hold a number for each of the 2 factors"),
        ({"sizes": [3, 4]}, ValueError, "factors must hold classes 0 to n - 1"),
        ({"factors": labels - 1, "sizes": [5, 5]}, ValueError, "factors must hold classes 0 to n - 1"),
        ({"factor_names": ["a", "a"]}, ValueError, "factor_names must be 2 distinct names"),
    ):
        with pytest.raises(error, match=f"{name}: {message}"):
            score(**{"codes": codes, "factors": labels, **options})


OF_SYMMETRIES = [
    symmetry_is_one_for_the_exact_code_of_a_torus,
    symmetry_does_not_mind_a_rotation,
    symmetry_of_a_code_that_never_moves_is_zero_and_of_one_factor_in_two_half,
    symmetry_does_not_mind_scale_offset_order_and_names_of_classes,
    symmetry_leaves_out_constant_factors_and_counts_repeated_rows_once,
    symmetry_has_a_plot,
    symmetry_names_the_argument,
]
