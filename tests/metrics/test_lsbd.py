"""LSBD against the procedure of its paper, and on codes whose frequencies are known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from disentangle_ext.metrics import lsbd
from tests.metrics.checks import OF_SYMMETRIES
from tests.metrics.problems import angles, circle, torus


@pytest.mark.parametrize("check", OF_SYMMETRIES, ids=lambda check: check.__name__)
def test_as_every_score_of_symmetries(check):
    check(lsbd)


def test_any_basis_is_as_good_as_another():
    codes, labels = torus()
    mixed = codes @ np.random.default_rng(1).normal(size=(4, 7))
    assert lsbd(mixed, labels).score == pytest.approx(1, abs=1e-9)


def test_noise_and_class_numbers_do_not_turn():
    labels = torus(classes=32)[1]
    assert lsbd(np.random.default_rng(0).normal(size=(len(labels), 40)), labels).score < 0.01
    assert lsbd(labels, labels).score < 0.4


def test_turning_with_the_sum_of_factors_is_not_disentangled_and_two_rotations_in_one_plane_are():
    labels = torus()[1]
    assert lsbd(circle(angles(labels).sum(1)), labels).score == pytest.approx(0, abs=1e-9)
    assert lsbd(circle(angles(labels)).sum(1), labels).score == pytest.approx(1, abs=1e-9)


def test_it_equals_the_dispersion_of_codes_turned_back():
    codes, labels = torus(classes=7)
    codes = np.tanh(codes @ np.random.default_rng(0).normal(size=(4, 3)))
    result = lsbd(codes, labels)
    # By the procedure of the paper, in words: subtract, project, whiten, turn back, and look at what is left.
    for k in range(2):
        moved = codes.copy()
        for other in range(7):
            some = labels[:, 1 - k] == other
            moved[some] -= codes[some].mean(0)
        widths, axes = np.linalg.eigh(moved.T @ moved / len(moved))
        plane = moved @ axes[:, -2:] / np.sqrt(widths[-2:]) / math.sqrt(2)
        left = []
        for omega in range(-10, 11):
            angle = -omega * angles(labels)[:, k]
            turned = np.stack(
                [
                    np.cos(angle) * plane[:, 0] - np.sin(angle) * plane[:, 1],
                    np.sin(angle) * plane[:, 0] + np.cos(angle) * plane[:, 1],
                ],
                1,
            )
            left.append(np.square(turned - turned.mean(0)).sum(1).mean())
        assert result.by_factor[k] == pytest.approx(min(left), abs=1e-10)
    assert result.score == 1 - result.dispersion


def test_frequencies_are_found_up_to_the_one_it_is_given():
    labels = torus(classes=32)[1]
    codes = np.hstack([circle(3 * angles(labels)[:, 0]), circle(angles(labels)[:, 1])])
    assert np.abs(lsbd(codes, labels).frequency).tolist() == [3, 1]
    assert lsbd(codes, labels).score == pytest.approx(1, abs=1e-9)
    assert lsbd(codes, labels, max_frequency=3).score == pytest.approx(1, abs=1e-9)
    assert lsbd(codes, labels, max_frequency=2).score == pytest.approx(0.5, abs=1e-9)


def test_a_cosine_alone_is_half():
    labels = torus(classes=32)[1]
    assert lsbd(np.cos(angles(labels)), labels).score == pytest.approx(0.5, abs=1e-9)


def test_errors_name_the_argument():
    codes, labels = torus(classes=16)
    some = labels[:, 0] < 9
    with pytest.raises(ValueError, match="lsbd: factors must form a whole grid, got 144 of .* 16 x 16"):
        lsbd(codes[some], labels[some], sizes=(16, 16))
    with pytest.raises(ValueError, match="lsbd: max_frequency must be an integer of at least 1, got 0"):
        lsbd(codes, labels, max_frequency=0)
