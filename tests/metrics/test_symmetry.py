"""Linear symmetry, independence and LSBD, on codes whose symmetries are known."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

from disentangle_ext.data import TorusLike
from disentangle_ext.metrics import independence, linear_symmetry, lsbd

SCORES = [linear_symmetry, independence, lsbd]


def torus(factors=2, classes=16):
    """The exact code and the factors of a whole torus, in random order."""
    data = TorusLike(factors=factors, classes=classes)
    rows = torch.from_numpy(np.random.default_rng(0).permutation(len(data)))
    return data.exact_code(rows).numpy(), data.factors(rows).numpy()


def angles(factors):
    return 2 * math.pi * factors / (factors.max(0) + 1)


def circle(angle):
    return np.stack([np.cos(angle), np.sin(angle)], -1)


@pytest.mark.parametrize(("factors", "classes"), [(2, 2), (2, 3), (2, 32), (3, 12), (4, 5)])
@pytest.mark.parametrize("score", SCORES)
def test_the_exact_code_of_a_torus_scores_one(score, factors, classes):
    codes, labels = torus(factors, classes)
    result = score(torch.from_numpy(codes), torch.from_numpy(labels))
    assert result.score == pytest.approx(1, abs=1e-9)
    assert len(result.by_factor) == factors


@pytest.mark.parametrize("score", SCORES)
def test_a_rotated_exact_code_scores_one_and_any_basis_where_the_definition_has_none(score):
    codes, labels = torus()
    rng = np.random.default_rng(1)
    rotation = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    assert score(codes @ rotation, labels).score == pytest.approx(1, abs=1e-9)
    mixed = score(codes @ rng.normal(size=(4, 7)), labels).score
    if score is independence:
        assert 0.2 < mixed < 0.95
    else:
        assert mixed == pytest.approx(1, abs=1e-9)


def test_noise_scores_the_floor():
    labels = torus(classes=32)[1]
    noise = np.random.default_rng(0).normal(size=(len(labels), 40))
    assert linear_symmetry(noise, labels).score == 0
    assert lsbd(noise, labels).score < 0.01
    assert independence(noise, labels).score == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("score", SCORES)
def test_a_code_that_never_moves_scores_zero_and_one_factor_of_two_half(score):
    codes, labels = torus()
    assert score(np.full((len(labels), 3), 1.7), labels).score == 0
    half = score(codes[:, :2], labels)
    assert half.score == pytest.approx(0.5, abs=1e-9)
    value = half.by_factor if score is not lsbd else 1 - half.by_factor
    np.testing.assert_allclose(value, [1, 0], atol=1e-9)


def test_turning_with_the_sum_of_factors_is_linear_but_not_disentangled():
    labels = torus()[1]
    codes = circle(angles(labels).sum(1))
    assert linear_symmetry(codes, labels).score == pytest.approx(1, abs=1e-9)
    assert independence(codes, labels).score == pytest.approx(0, abs=1e-9)
    assert lsbd(codes, labels).score == pytest.approx(0, abs=1e-9)


def test_independence_tells_apart_the_two_rotations_in_one_plane_that_lsbd_does_not():
    labels = torus()[1]
    codes = circle(angles(labels)).sum(1)
    assert lsbd(codes, labels).score == pytest.approx(1, abs=1e-9)
    assert independence(codes, labels).score < 0.5
    assert linear_symmetry(codes, labels).score < 0.6


def test_class_numbers_are_independent_but_not_linear():
    labels = torus(classes=32)[1]
    assert independence(labels, labels).score == pytest.approx(1, abs=1e-9)
    assert linear_symmetry(labels, labels).score < 0.2
    assert lsbd(labels, labels).score < 0.4


def test_lsbd_equals_the_dispersion_of_codes_turned_back():
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


def test_lsbd_finds_frequencies_up_to_the_one_it_is_given():
    labels = torus(classes=32)[1]
    codes = np.hstack([circle(3 * angles(labels)[:, 0]), circle(angles(labels)[:, 1])])
    assert np.abs(lsbd(codes, labels).frequency).tolist() == [3, 1]
    assert lsbd(codes, labels).score == pytest.approx(1, abs=1e-9)
    assert lsbd(codes, labels, max_frequency=2).score == pytest.approx(0.5, abs=1e-9)


def test_lsbd_of_a_cosine_alone_is_half():
    labels = torus(classes=32)[1]
    result = lsbd(np.cos(angles(labels)), labels)
    assert result.score == pytest.approx(0.5, abs=1e-9)


def test_linear_symmetry_gives_the_matrices_of_the_group():
    codes, labels = torus(classes=12)
    first = linear_symmetry(codes, labels).matrices[0]
    c, s = math.cos(math.pi / 6), math.sin(math.pi / 6)
    expected = np.eye(4)
    expected[:2, :2] = [[c, -s], [s, c]]
    np.testing.assert_allclose(first, expected, atol=1e-6)


@pytest.mark.parametrize("score", SCORES)
def test_scale_offset_order_and_names_of_classes_change_nothing(score):
    codes, labels = torus(classes=8)
    codes = codes + 0.3 * np.random.default_rng(0).normal(size=codes.shape)
    expected = score(codes, labels).score
    for scale in (1e-290, 1e290):
        with np.errstate(over="raise", invalid="raise"):
            assert score(codes * scale, labels).score == pytest.approx(expected, rel=1e-9)
    order = np.random.default_rng(1).permutation(len(codes))
    assert score(codes[order] + 5, labels[order] * 3 - 40).score == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("score", SCORES)
def test_constant_factors_are_left_out_and_repeated_rows_count_once(score):
    codes, labels = torus()
    expected = score(codes, labels).score
    wider = np.insert(labels, 1, 4, axis=1)
    result = score(codes, wider, factor_names=["x", "constant", "y"])
    assert result.factor_names == ("x", "y")
    assert result.score == pytest.approx(expected, abs=1e-12)
    twice = score(np.vstack([codes, codes * 0]), np.vstack([labels, labels]))
    assert twice.score == pytest.approx(expected, abs=1e-12)
    json.dumps(twice.as_dict(), allow_nan=False)


def test_a_part_of_the_grid_is_enough_where_neighbours_are_in_it():
    codes, labels = torus(classes=16)
    some = labels[:, 0] < 9
    for score in (independence, linear_symmetry):
        assert score(codes[some], labels[some], sizes=[16, 16]).score == pytest.approx(1, abs=1e-9)
    with pytest.raises(ValueError, match="lsbd: factors must form a whole grid, got 144 of .* 16 x 16"):
        lsbd(codes[some], labels[some], sizes=(16, 16))
    # Nine classes, of which the last leads to the first, are not what these codes turn by.
    assert linear_symmetry(codes[some], labels[some]).score < 0.99


@pytest.mark.parametrize("score", [linear_symmetry, independence])
def test_intervals_hold_the_score(score):
    codes, labels = torus()
    result = score(codes + np.random.default_rng(0).normal(0, 0.1, codes.shape), labels, bootstrap=50, seed=2)
    assert result.interval.low < result.score < result.interval.high
    assert result.interval.high - result.interval.low < 0.2


@pytest.mark.parametrize("score", SCORES)
def test_plots(score):
    pytest.importorskip("matplotlib").use("Agg")
    result = score(*torus())
    assert result.title in result.plot().get_title(loc="left")
    assert "factor_0" in str(result)


@pytest.mark.parametrize("score", SCORES)
def test_errors_name_the_argument(score):
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


def test_errors_of_single_scores():
    codes, labels = torus(classes=4)
    with pytest.raises(ValueError, match="independence: factors must hold two columns or more that vary, got 1"):
        independence(codes, labels * [1, 0])
    diagonal = np.repeat(np.arange(4), 2).reshape(4, 2)
    with pytest.raises(ValueError, match="independence: factors must have a row whose next rows"):
        independence(codes[:4], diagonal)
    with pytest.raises(ValueError, match="linear_symmetry: factors must have at least 2 rows whose next row along"):
        linear_symmetry(codes[:4], diagonal)
    with pytest.raises(ValueError, match="linear_symmetry: test_share must be"):
        linear_symmetry(codes, labels, test_share=1.0)
    with pytest.raises(ValueError, match="lsbd: max_frequency must be an integer of at least 1, got 0"):
        lsbd(codes, labels, max_frequency=0)
