"""Downstream accuracy on codes whose factors are easy, hard, or impossible to read."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from disentangle_ext.metrics import downstream

pytest.importorskip("sklearn")


def one_hot_problem(rows=600, seed=0):
    rng = np.random.default_rng(seed)
    factors = np.stack([rng.integers(0, size, rows) for size in (3, 4)], 1)
    return np.hstack([np.eye(3)[factors[:, 0]], np.eye(4)[factors[:, 1]]]), factors


@pytest.mark.parametrize("predictor", ["logistic", "boosted_trees", "histogram_boosting"])
def test_a_perfect_code_scores_one_and_noise_chance(predictor):
    codes, factors = one_hot_problem()
    result = downstream(codes, factors, predictor=predictor, train_sizes=(10, 300))
    assert result.score == 1
    assert result.train_sizes == (10, 300)
    assert result.curve.shape == (2, 2)
    noise = np.random.default_rng(1).normal(size=(600, 3))
    floor = downstream(noise, factors, predictor=predictor, train_sizes=(300,))
    assert floor.score == pytest.approx(np.mean([1 / 3, 1 / 4]), abs=0.08)
    np.testing.assert_allclose(floor.chance, [1 / 3, 1 / 4], atol=0.08)


def test_trees_read_what_a_line_does_not():
    codes = np.random.default_rng(0).integers(0, 6, (900, 1))
    assert downstream(codes, codes, train_sizes=(500,)).score > 0.99
    assert downstream(codes, codes % 2, train_sizes=(500,)).score < 0.8
    assert downstream(codes, codes % 2, train_sizes=(500,), predictor="boosted_trees").score == 1


def test_sample_efficiency_is_the_ratio_of_mean_accuracies():
    codes, factors = one_hot_problem()
    result = downstream(codes + np.random.default_rng(0).normal(size=codes.shape), factors, train_sizes=(10, 50, 400))
    means = result.curve.mean(1)
    assert result.efficiency == {10: means[0] / means[2], 50: means[1] / means[2]}
    assert result.score == means[2]
    assert result.accuracies.tolist() == result.curve[2].tolist()


def test_sizes_that_do_not_fit_are_left_out():
    codes, factors = one_hot_problem()
    assert downstream(codes, factors).train_sizes == (10, 100)
    assert downstream(codes, factors, test_share=0.1).settings["num_points"] == 600
    with pytest.raises(ValueError, match="downstream: train_sizes must hold a number of at most the 400 training rows"):
        downstream(codes, factors, train_sizes=(401,))


def test_the_split_is_drawn_from_the_seed():
    codes, factors = one_hot_problem()
    codes = codes + np.random.default_rng(0).normal(size=codes.shape)
    first, again, other = (downstream(codes, factors, seed=seed) for seed in (0, 0, 1))
    assert first.as_dict() == again.as_dict()
    assert first.score != other.score
    as_given = downstream(codes, factors, shuffle=False)
    assert as_given.score == downstream(codes, factors, shuffle=False, seed=5).score


def test_one_class_among_the_labels_constant_factors_and_dead_codes():
    codes, factors = one_hot_problem()
    first = np.where(np.arange(600) < 10, 1, factors[:, 0])
    result = downstream(codes, first[:, None], train_sizes=(10, 300), shuffle=False)
    assert result.curve[0, 0] == pytest.approx((first[400:] == 1).mean())
    skipped = downstream(codes, factors * [1, 0], factor_names=["a", "b"])
    assert skipped.skipped == (1,)
    assert math.isnan(skipped.accuracies[1])
    assert skipped.score == pytest.approx(skipped.accuracies[0])
    json.dumps(skipped.as_dict(), allow_nan=False)
    dead = downstream(np.zeros((600, 2)), factors, train_sizes=(300,))
    assert 0.1 < dead.score < 0.45
    with np.errstate(over="raise", invalid="raise"):
        assert downstream(codes * 1e300, factors, train_sizes=(300,)).score == 1


def test_interval_and_plot():
    codes, factors = one_hot_problem()
    noisy = codes + np.random.default_rng(0).normal(size=codes.shape)
    result = downstream(noisy, factors, bootstrap=50)
    assert result.interval.low < result.score < result.interval.high
    pytest.importorskip("matplotlib").use("Agg")
    assert "Downstream accuracy" in result.plot().get_title(loc="left")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"predictor": "svm"}, "downstream: unknown predictor 'svm'"),
        ({"train_sizes": (100, 10)}, r"downstream: train_sizes must be increasing numbers, got \[100, 10\]"),
        ({"train_sizes": ()}, "downstream: train_sizes must be increasing"),
        ({"train_sizes": (0, 10)}, "downstream: train_sizes must be an integer of at least 1, got 0"),
        ({"test_share": 0.0}, "downstream: test_share must be"),
        ({"factors": np.zeros((600, 2))}, "downstream: factors must hold a column with two values or more"),
        ({"factors": np.arange(600)[:, None] // 100, "shuffle": False}, "downstream: factors must be in random order"),
    ],
)
def test_errors_name_the_argument(options, message):
    codes, factors = one_hot_problem()
    with pytest.raises(ValueError, match=message):
        downstream(**{"codes": codes, "factors": factors, **options})
