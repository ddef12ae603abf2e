"""Linear symmetry on codes whose symmetries are known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from disentangle_ext.metrics import linear_symmetry
from tests.metrics.checks import OF_SYMMETRIES
from tests.metrics.problems import angles, circle, torus


@pytest.mark.parametrize("check", OF_SYMMETRIES, ids=lambda check: check.__name__)
def test_as_every_score_of_symmetries(check):
    check(linear_symmetry)


def test_any_basis_is_as_good_as_another():
    codes, labels = torus()
    mixed = codes @ np.random.default_rng(1).normal(size=(4, 7))
    assert linear_symmetry(mixed, labels).score == pytest.approx(1, abs=1e-9)


def test_noise_and_class_numbers_are_not_linear():
    labels = torus(classes=32)[1]
    assert linear_symmetry(np.random.default_rng(0).normal(size=(len(labels), 40)), labels).score == 0
    assert linear_symmetry(labels, labels).score < 0.2


def test_turning_with_the_sum_of_factors_is_linear_and_two_rotations_in_one_plane_are_not():
    labels = torus()[1]
    assert linear_symmetry(circle(angles(labels).sum(1)), labels).score == pytest.approx(1, abs=1e-9)
    assert linear_symmetry(circle(angles(labels)).sum(1), labels).score < 0.6


def test_the_matrices_are_those_of_the_group():
    codes, labels = torus(classes=12)
    first = linear_symmetry(codes, labels).matrices[0]
    c, s = math.cos(math.pi / 6), math.sin(math.pi / 6)
    expected = np.eye(4)
    expected[:2, :2] = [[c, -s], [s, c]]
    np.testing.assert_allclose(first, expected, atol=1e-6)


def test_a_part_of_the_grid_is_enough_where_neighbours_are_in_it():
    codes, labels = torus(classes=16)
    some = labels[:, 0] < 9
    assert linear_symmetry(codes[some], labels[some], sizes=[16, 16]).score == pytest.approx(1, abs=1e-9)
    # Nine classes, of which the last leads to the first, are not what these codes turn by.
    assert linear_symmetry(codes[some], labels[some]).score < 0.99


def test_the_interval_holds_the_score():
    codes, labels = torus()
    noisy = codes + np.random.default_rng(0).normal(0, 0.1, codes.shape)
    result = linear_symmetry(noisy, labels, bootstrap=50, seed=2)
    assert result.interval.low < result.score < result.interval.high
    assert result.interval.high - result.interval.low < 0.2


def test_errors_name_the_argument():
    codes, labels = torus(classes=4)
    diagonal = np.repeat(np.arange(4), 2).reshape(4, 2)
    with pytest.raises(ValueError, match="linear_symmetry: factors must have at least 2 rows whose next row along"):
        linear_symmetry(codes[:4], diagonal)
    with pytest.raises(ValueError, match="linear_symmetry: test_share must be"):
        linear_symmetry(codes, labels, test_share=1.0)
