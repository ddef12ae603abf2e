"""The BetaVAE score on codes whose differences are known."""

from __future__ import annotations

import numpy as np
import pytest

from disentangle_ext.metrics import beta_vae_score
from tests.metrics.parity import read
from tests.metrics.problems import GRID, standard

pytest.importorskip("sklearn")

FEW = {"num_train": 300, "num_test": 200}


def test_a_perfect_code_and_a_linear_mix_score_one():
    rng = np.random.default_rng(0)
    for codes in (standard(GRID), standard(GRID) @ rng.normal(size=(3, 4))):
        result = beta_vae_score(codes, GRID, **FEW)
        assert result.score > 0.98
        assert result.confusion.sum() == 200


def test_noise_scores_about_one_in_as_many_factors():
    rng = np.random.default_rng(0)
    result = beta_vae_score(rng.normal(size=(2000, 4)), rng.integers(0, 4, (2000, 3)), num_train=600, num_test=2000)
    assert result.score == pytest.approx(1 / 3, abs=0.06)


def test_the_accuracies_are_those_of_the_confusion():
    rng = np.random.default_rng(1)
    codes = standard(GRID) + 3 * rng.normal(size=(120, 3))
    result = beta_vae_score(codes, GRID, batch_size=4, **FEW)
    assert 1 / 3 < result.score < 1
    assert result.score == pytest.approx(result.confusion.trace() / 200)
    np.testing.assert_allclose(result.accuracy, result.confusion.diagonal() / result.confusion.sum(1))


def test_the_points_are_mean_differences_of_pairs_that_share_a_factor(monkeypatch):
    seen = []

    class Recorder:
        def fit(self, x, y):
            seen.append((x, y))
            return self

        def predict(self, x):
            seen.append((x, None))
            return np.zeros(len(x), int)

    monkeypatch.setattr("sklearn.linear_model.LogisticRegression", Recorder)
    beta_vae_score(GRID.astype(float), GRID, batch_size=8, num_train=600, num_test=10)
    points, held = seen[0]
    for k, size in enumerate((4, 5, 6)):
        mine = points[held == k]
        assert (mine[:, k] == 0).all()
        # Two draws from 0, ..., n - 1 are (n^2 - 1) / 3n apart on average.
        others = points[held != k][:, k]
        assert others.mean() == pytest.approx((size**2 - 1) / (3 * size), rel=0.05)
        np.testing.assert_allclose(points * 8, np.round(points * 8), atol=1e-9)
    np.testing.assert_allclose(np.bincount(held) / 600, 1 / 3, atol=0.06)


def test_an_exactly_dead_dimension_does_no_harm():
    codes, sizes = read("sampled.npz")["S1__perfect_plus_exactly_dead"], read("sampled.json")["sizes"]["S1"]
    factors = np.stack(np.unravel_index(np.arange(len(codes)), sizes), 1)
    assert beta_vae_score(codes, factors, num_train=500, num_test=200).score == 1


def test_constant_factors_are_not_held_and_the_seed_decides_the_draws():
    codes = standard(GRID) + np.random.default_rng(0).normal(size=(120, 3))
    factors = GRID * [1, 0, 1]
    first, again, other = (beta_vae_score(codes, factors, batch_size=2, seed=seed, **FEW) for seed in (0, 0, 1))
    assert first.skipped == (1,)
    assert first.confusion[1].sum() == 0
    assert np.isnan(first.accuracy[1])
    assert first.as_dict() == again.as_dict()
    assert first.confusion.tolist() != other.confusion.tolist()


def test_plot():
    pytest.importorskip("matplotlib").use("Agg")
    assert "BetaVAE score" in beta_vae_score(standard(GRID), GRID, **FEW).plot().get_title(loc="left")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "beta_vae_score: batch_size must be an integer of at least 1, got 0"),
        ({"factors": GRID * 0}, "beta_vae_score: factors must hold a column with two values or more"),
        ({"factors": None}, "beta_vae_score: factors must be given with a table of codes"),
    ],
)
def test_errors_name_the_argument(options, message):
    with pytest.raises(ValueError, match=message):
        beta_vae_score(**{"codes": standard(GRID), "factors": GRID, **options})
