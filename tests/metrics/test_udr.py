"""UDR on models whose agreement is known."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

from disentangle_ext.metrics import UDR, udr

pytest.importorskip("sklearn")


def independent(rows=1000, dims=4, seed=0):
    """Columns of zero mean and unit variance, uncorrelated."""
    table = np.random.default_rng(seed).normal(size=(rows, dims))
    return np.linalg.qr(table - table.mean(0))[0] * math.sqrt(rows)


def shuffled(table, seed):
    rng = np.random.default_rng(seed)
    dims = table.shape[1]
    scale = rng.choice([-1, 1], dims) * rng.uniform(0.5, 2, dims)
    return table[:, rng.permutation(dims)] * scale + rng.normal(size=dims)


def test_models_that_differ_in_order_sign_and_scale_agree_but_for_the_penalty():
    models = [shuffled(independent(), seed) for seed in range(4)]
    for alpha in (0.1, 0.3):
        result = udr(models, alpha=alpha)
        np.testing.assert_allclose(result.models, 1 - alpha, atol=1e-9)
        assert result.score == pytest.approx(1 - alpha, abs=1e-9)
    ranked = udr(models, similarity="spearman")
    assert 0.85 < ranked.score <= 1


def test_ranks_do_not_mind_a_monotone_change():
    models = [shuffled(independent(), seed) for seed in range(2)]
    bent = [models[0], np.exp(models[1])]
    assert udr(bent, similarity="spearman").score == pytest.approx(udr(models, similarity="spearman").score, abs=1e-12)


def test_agreement_is_the_mean_of_two_means_or_all_sums_divided_once():
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(0)
    a = np.round(rng.normal(size=(60, 3)), 1)
    b = np.round(a @ rng.normal(size=(3, 2)) + rng.normal(size=(60, 2)), 1)
    matrix = np.abs([[stats.spearmanr(x, y).statistic for y in b.T] for x in a.T])
    columns = [max(column) ** 2 / sum(column) for column in matrix.T.tolist()]
    rows = [max(row) ** 2 / sum(row) for row in matrix.tolist()]
    expected = (sum(columns) / 2 + sum(rows) / 3) / 2
    result = udr([a, b], similarity="spearman")
    assert result.pairs[0, 1] == pytest.approx(expected, abs=1e-12)
    assert result.pairs[1, 0] == pytest.approx(expected, abs=1e-12)
    assert math.isnan(result.pairs[0, 0])
    expected = (sum(columns) + sum(rows)) / 5
    assert abs(expected - result.pairs[0, 1]) > 1e-3
    once = udr([a, b], similarity="spearman", average="latents")
    assert once.pairs[0, 1] == pytest.approx(expected, abs=1e-12)
    assert once.settings["average"] == "latents"


def test_the_two_averages_differ_where_one_model_has_more_informative_latents_alone():
    models = [shuffled(independent(), seed) for seed in range(2)]
    for similarity in ("lasso", "spearman"):
        same = [udr(models, similarity=similarity, average=average).score for average in ("sides", "latents")]
        assert same[0] == pytest.approx(same[1], abs=1e-12)
    fewer = [models[0], models[1][:, :2]]
    kl = [[1, 1, 0, 1], [1, 1]]
    sides, latents = (udr(fewer, kl=kl, average=average).pairs[0, 1] for average in ("sides", "latents"))
    assert sides != pytest.approx(latents, abs=1e-3)


def test_a_rotated_model_agrees_least_and_unrelated_ones_do_not():
    table = independent()
    rotation = np.linalg.qr(np.random.default_rng(5).normal(size=(4, 4)))[0]
    result = udr([shuffled(table, 0), shuffled(table, 1), shuffled(table, 2), table @ rotation])
    others = [np.delete(result.pairs[:, m], m) for m in range(4)]
    np.testing.assert_allclose(result.models, [sorted(each)[1] for each in others], atol=1e-12)
    assert max(others[0]) - min(others[0]) > 0.01
    assert result.models.argmin() == 3
    assert result.best != 3
    assert udr([independent(seed=seed) for seed in range(3)]).score == 0
    assert udr([independent(seed=seed) for seed in range(3)], similarity="spearman").score < 0.1


def test_latents_with_little_kl_do_not_count():
    table = independent()
    noise = independent(seed=9)
    models = [np.hstack([shuffled(table, seed), 0.01 * noise[:, [seed]]]) for seed in range(3)]
    kl = [[1.0, 2.0, 0.5, 0.2, 0.001]] * 3
    assert udr(models, kl=kl).score == pytest.approx(0.9, abs=1e-6)
    assert udr(models).score < 0.8
    assert udr(models, kl=kl).informative[0].tolist() == [True] * 4 + [False]
    assert udr(models, kl=kl, kl_threshold=5.0).score == 0


@pytest.mark.parametrize("similarity", ["lasso", "spearman"])
def test_dead_latents_and_other_widths(similarity):
    table = independent()
    models = [shuffled(table, 0), np.hstack([shuffled(table, 1), np.full((1000, 2), 3.0)]), table[:, :2]]
    result = udr(models, similarity=similarity)
    assert result.pairs[0, 1] == pytest.approx(udr([models[0], models[1][:, :4]], similarity=similarity).pairs[0, 1])
    assert 0 < result.models[2] < result.models[0]
    dead = udr([np.ones((20, 2)), np.ones((20, 3))], similarity=similarity)
    assert dead.score == 0
    json.dumps(dead.as_dict(), allow_nan=False)
    assert udr([table[:, :1], -table[:, :1]], similarity=similarity).score > 0.89


def test_batches_give_what_all_rows_give():
    models = [shuffled(independent(), seed)[:, : 3 + seed] for seed in range(2)]
    metric = UDR(alpha=0.2)
    for rows in np.array_split(np.arange(1000), 3):
        metric.update([torch.from_numpy(table[rows]) for table in models])
    result = metric.compute()
    # Rows in another layout are summed in another order.
    np.testing.assert_allclose(result.models, udr(models, alpha=0.2).models, rtol=1e-12)
    assert result.settings == {
        "similarity": "lasso",
        "alpha": 0.2,
        "average": "sides",
        "kl_threshold": None,
        "num_points": 1000,
        "seed": None,
    }
    with pytest.raises(ValueError, match=r"UDR.update: codes must have rows of shapes \[\[3\], \[4\]\] as before"):
        metric.update([np.zeros((2, 4)), np.zeros((2, 4))])
    with pytest.raises(ValueError, match=r"UDR.update: codes must have the same number of rows .* got \[2, 3\]"):
        metric.update([np.zeros((2, 3)), np.zeros((3, 4))])
    metric.reset()
    with pytest.raises(ValueError, match=r"UDR.compute: no batch"):
        metric.compute()


def test_interval_and_plot():
    models = [shuffled(independent(rows=200), seed) for seed in range(3)]
    noisy = [table + 0.5 * np.random.default_rng(9).normal(size=table.shape) for table in models]
    result = udr(noisy, bootstrap=20, seed=1)
    assert result.interval.low < result.score < result.interval.high
    pytest.importorskip("matplotlib").use("Agg")
    assert "UDR" in result.plot().get_title(loc="left")


TWO = [np.eye(3), np.eye(3)]


@pytest.mark.parametrize(
    ("codes", "options", "message"),
    [
        (TWO[:1], {}, "udr: codes must hold the tables of at least 2 models, got 1"),
        ([np.eye(3), np.eye(2)], {}, r"udr: codes must have the same number of rows for each model, got \[3, 2\]"),
        ([np.eye(3), np.diag([1, math.nan, 1])], {}, r"udr, model 1: codes must be finite, got nan at \[1, 1\]"),
        (TWO, {"similarity": "pearson"}, "udr: unknown similarity 'pearson'"),
        (TWO, {"average": "latent"}, "udr: unknown average 'latent': did you mean 'latents'"),
        (TWO, {"alpha": 0}, "udr: alpha must be a number greater than 0.0, got 0"),
        (TWO, {"kl": [[1, 1, 1]]}, r"udr: kl must have shapes \[\[3\], \[3\]\].*got \[\[3\]\]"),
        (TWO, {"kl": [[1, 1, 1], [1, 1, math.nan]]}, "udr: kl must be finite"),
    ],
)
def test_errors_name_the_argument(codes, options, message):
    with pytest.raises(ValueError, match=message):
        udr(codes, **options)
