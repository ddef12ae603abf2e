"""The FactorVAE score on codes whose votes are known."""

from __future__ import annotations

import numpy as np
import pytest

from disentangle_ext.metrics import factor_vae_score
from tests.metrics.parity import read
from tests.metrics.problems import GRID, standard

FEW = {"num_train": 400, "num_test": 200, "num_variance": 500}


def test_a_perfect_code_scores_one_and_each_dimension_votes_for_its_factor():
    result = factor_vae_score(standard(GRID)[:, ::-1], GRID, **FEW)
    assert result.score == result.train_score == 1
    assert result.vote.tolist() == [2, 1, 0]
    assert (result.votes.sum(), result.test_votes.sum()) == (400, 200)
    np.testing.assert_array_equal(result.votes[::-1] > 0, np.eye(3, dtype=bool))


def test_noise_scores_about_one_in_as_many_factors():
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(5000, 5))
    result = factor_vae_score(noise, rng.integers(0, 4, (5000, 3)), **FEW | {"num_test": 2000})
    assert result.score == pytest.approx(1 / 3, abs=0.06)


def test_the_score_is_the_share_of_test_votes_that_the_training_votes_foretell():
    rng = np.random.default_rng(1)
    codes = standard(GRID) @ rng.normal(size=(3, 4)) + 0.5 * rng.normal(size=(120, 4))
    result = factor_vae_score(codes, GRID, **FEW)
    foretold = sum(result.test_votes[d, result.votes[d].argmax()] for d in range(4))
    assert result.score == foretold / 200
    assert 1 / 3 < result.score < 1


def test_dimensions_below_the_threshold_take_no_part():
    codes = np.hstack([standard(GRID), 0.04 * standard(GRID)[:, :1], np.ones((120, 1))])
    assert factor_vae_score(codes, GRID, **FEW).active == (0, 1, 2)
    assert factor_vae_score(codes, GRID, prune_threshold=0, **FEW).active == (0, 1, 2, 3)
    nothing = factor_vae_score(0.01 * codes, GRID, **FEW)
    assert (nothing.score, nothing.active) == (0, ())
    assert (nothing.vote == -1).all()


def test_an_exactly_dead_dimension_wins_no_vote():
    codes, sizes = read("sampled.npz")["S1__perfect_plus_exactly_dead"], read("sampled.json")["sizes"]["S1"]
    factors = np.stack(np.unravel_index(np.arange(len(codes)), sizes), 1)
    theirs = read("sampled.json")["results"]["S1__perfect_plus_exactly_dead"]["factor_vae_0"]["eval_accuracy"]["mean"]
    assert theirs == pytest.approx(0.25, abs=0.02)
    for threshold in (0, 0.05):
        result = factor_vae_score(codes, factors, num_train=500, num_test=200, prune_threshold=threshold)
        assert result.score == 1
        assert len(result.active) == 4


def test_constant_factors_are_not_held_and_the_seed_decides_the_draws():
    codes = standard(GRID) + 0.3 * np.random.default_rng(0).normal(size=(120, 3))
    factors = GRID * [1, 0, 1]
    first, again, other = (factor_vae_score(codes, factors, seed=seed, **FEW) for seed in (0, 0, 1))
    assert first.skipped == (1,)
    assert (first.votes[:, 1] == 0).all()
    assert first.as_dict() == again.as_dict()
    assert first.votes.tolist() != other.votes.tolist()


def test_plot():
    pytest.importorskip("matplotlib").use("Agg")
    assert "FactorVAE score" in factor_vae_score(standard(GRID), GRID, **FEW).plot().get_title(loc="left")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 1}, "factor_vae_score: batch_size must be an integer of at least 2, got 1"),
        ({"num_test": 0}, "factor_vae_score: num_test must be an integer of at least 1, got 0"),
        ({"prune_threshold": -1}, "factor_vae_score: prune_threshold must be at least 0 and finite, got -1"),
        ({"factors": GRID * 0}, "factor_vae_score: factors must hold a column with two values or more"),
        ({"factors": None}, "factor_vae_score: factors must be given with a table of codes"),
    ],
)
def test_errors_name_the_argument(options, message):
    with pytest.raises(ValueError, match=message):
        factor_vae_score(**{"codes": standard(GRID), "factors": GRID, **options})
