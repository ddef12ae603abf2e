"""Independence of symmetries on codes in which they are, or are not, orthogonal."""

from __future__ import annotations

import numpy as np
import pytest

from disentangle_ext.metrics import independence
from tests.metrics.checks import OF_SYMMETRIES
from tests.metrics.problems import angles, circle, torus


@pytest.mark.parametrize("check", OF_SYMMETRIES, ids=lambda check: check.__name__)
def test_as_every_score_of_symmetries(check):
    check(independence)


def test_a_basis_that_is_not_orthogonal_costs():
    codes, labels = torus()
    rng = np.random.default_rng(1)
    rng.normal(size=(4, 4))
    assert 0.2 < independence(codes @ rng.normal(size=(4, 7)), labels).score < 0.95


def test_noise_scores_about_a_half():
    labels = torus(classes=32)[1]
    noise = np.random.default_rng(0).normal(size=(len(labels), 40))
    assert independence(noise, labels).score == pytest.approx(0.5, abs=0.01)


def test_turning_with_the_sum_of_factors_and_two_rotations_in_one_plane_are_not_independent():
    labels = torus()[1]
    assert independence(circle(angles(labels).sum(1)), labels).score == pytest.approx(0, abs=1e-9)
    assert independence(circle(angles(labels)).sum(1), labels).score < 0.5


def test_class_numbers_are_independent():
    labels = torus(classes=32)[1]
    assert independence(labels, labels).score == pytest.approx(1, abs=1e-9)


def test_a_part_of_the_grid_is_enough_where_neighbours_are_in_it():
    codes, labels = torus(classes=16)
    some = labels[:, 0] < 9
    assert independence(codes[some], labels[some], sizes=[16, 16]).score == pytest.approx(1, abs=1e-9)


def test_the_interval_holds_the_score():
    codes, labels = torus()
    noisy = codes + np.random.default_rng(0).normal(0, 0.1, codes.shape)
    result = independence(noisy, labels, bootstrap=50, seed=2)
    assert result.interval.low < result.score < result.interval.high
    assert result.interval.high - result.interval.low < 0.2


def test_errors_name_the_argument():
    codes, labels = torus(classes=4)
    with pytest.raises(ValueError, match="independence: factors must hold two columns or more that vary, got 1"):
        independence(codes, labels * [1, 0])
    diagonal = np.repeat(np.arange(4), 2).reshape(4, 2)
    with pytest.raises(ValueError, match="independence: factors must have a row whose next rows"):
        independence(codes[:4], diagonal)
