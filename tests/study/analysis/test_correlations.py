"""Rank correlations of columns whose order is known, against SciPy, and how often their intervals hold the truth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from disentangle_ext._errors import MistakeError
from disentangle_ext.study.analysis import rank_correlations
from tests.study.analysis.tables import flat, grid, rows, same, shuffled


def correlate(scores, **options):
    return rows(rank_correlations(flat(scores), **options), "metric_a", "metric_b")


def test_monotone_columns_correlate_by_one_and_the_interval_has_no_width():
    up = np.random.default_rng(0).normal(size=40)
    found = correlate({"up": up, "exp": np.exp(up), "down": -(up**3)}, resamples=200)
    for pair, sign in {("up", "exp"): 1, ("up", "down"): -1, ("down", "down"): 1}.items():
        assert [found[pair][name] for name in ("correlation", "low", "high")] == [sign] * 3
        assert found[pair]["models"] == 40


def test_all_pairs_are_there_in_both_orders_and_for_each_data_set():
    rng = np.random.default_rng(0)
    table = rank_correlations(
        grid({m: rng.normal(size=(2, 1, 3, 4)) for m in "xyz"}, data_sets=("b", "a")), resamples=50
    )
    assert table.column_names == ["data_set", "metric_a", "metric_b", "models", "correlation", "low", "high"]
    found = rows(table, "data_set", "metric_a", "metric_b")
    assert list(found) == [(d, a, b) for d in "ab" for a in "xyz" for b in "xyz"]
    for (d, a, b), row in found.items():
        other = found[d, b, a]
        assert [row[name] for name in ("correlation", "low", "high")] == [
            other[name] for name in ("correlation", "low", "high")
        ]


def test_rows_and_columns_choose_a_part_of_the_square():
    scores = {m: np.random.default_rng(i).normal(size=20) for i, m in enumerate(("elbo", "mig", "sap", "udr"))}
    every = correlate(scores, resamples=30)
    part = correlate(scores, rows=["udr", "elbo"], columns=["sap", "udr"], resamples=30)
    assert list(part) == [("udr", "sap"), ("udr", "udr"), ("elbo", "sap"), ("elbo", "udr")]
    assert {pair: row["correlation"] for pair, row in part.items()} == {
        pair: every[pair]["correlation"] for pair in part
    }


@given(st.integers(2, 30), st.integers(0, 10_000), st.sampled_from([2, 5, 1000]), st.floats(0, 0.5))
@settings(max_examples=60, deadline=None)
def test_ties_and_missing_pairs_are_as_in_scipy(count, seed, levels, missing):
    rng = np.random.default_rng(seed)
    x, y = rng.integers(levels, size=(2, count)).astype(float)
    x[rng.random(count) < missing] = np.nan
    y[rng.random(count) < missing] = np.nan
    both = np.isfinite(x) & np.isfinite(y)
    row = correlate({"x": x, "y": y}, resamples=0)["x", "y"]
    assert row["models"] == both.sum()
    x, y = x[both], y[both]
    if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        assert math.isnan(row["correlation"])
    else:
        assert row["correlation"] == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)
    assert math.isnan(row["low"])


def test_resamples_are_ranked_anew():
    rng = np.random.default_rng(3)
    x = rng.integers(6, size=25).astype(float)
    y = x + rng.normal(size=25)
    row = correlate({"x": x, "y": y}, resamples=4000)["x", "y"]
    draws = rng.integers(25, size=(4000, 25))
    plain = [np.corrcoef(stats.rankdata(x[each]), stats.rankdata(y[each]))[0, 1] for each in draws]
    low, high = np.quantile(plain, [0.025, 0.975])
    deviation = np.std(plain)
    assert row["low"] == pytest.approx(low, abs=0.25 * deviation)  # four times the two Monte Carlo errors, see below
    assert row["high"] == pytest.approx(high, abs=0.25 * deviation)


def test_a_metric_with_missing_scores_leaves_the_others_as_they_are():
    rng = np.random.default_rng(0)
    x, y, z = rng.normal(size=(3, 30))
    z[[2, 7]] = np.nan
    full, part = correlate({"x": x, "y": y}, resamples=50), correlate({"x": x, "y": y, "z": z}, resamples=50)
    assert part["x", "y"] == full["x", "y"]
    kept = np.isfinite(z)
    again = correlate({"x": x[kept], "z": z[kept]}, resamples=50)
    assert part["x", "z"] == part["z", "x"] | {"metric_a": "x", "metric_b": "z"}
    assert part["x", "z"]["correlation"] == again["x", "z"]["correlation"]
    assert {pair: row["models"] for pair, row in part.items() if "z" in pair} == dict.fromkeys(
        [("x", "z"), ("y", "z"), ("z", "x"), ("z", "y"), ("z", "z")], 28
    )


def test_neither_the_order_of_rows_nor_a_monotone_transform_changes_anything():
    rng = np.random.default_rng(0)
    scores = {m: rng.normal(size=(2, 2, 3, 3)).round(1) for m in "xy"}
    table = grid(scores, data_sets=("a", "b"))
    expected = rank_correlations(table, resamples=50)
    assert same(rank_correlations(shuffled(table), resamples=50), expected)
    bent = grid({"x": np.exp(scores["x"]), "y": scores["y"] * 3 - 8}, data_sets=("a", "b"))
    assert same(rank_correlations(bent, resamples=50), expected)
    assert not same(rank_correlations(table, resamples=50, seed=1), expected)


@pytest.mark.parametrize("models", [2, 3, 4])
def test_fewer_than_four_models_have_no_interval(models):
    row = correlate({"x": range(models), "y": range(models)}, resamples=50)["x", "y"]
    assert row["correlation"] == 1
    assert [math.isnan(row[end]) for end in ("low", "high")] == [models < 4] * 2


def test_one_model_or_a_constant_metric_has_no_correlation():
    row = correlate({"x": [1.0], "y": [2.0]}, resamples=20)["x", "y"]
    assert row["models"] == 1
    assert all(math.isnan(row[name]) for name in ("correlation", "low", "high"))
    found = correlate({"x": [1.0, 2.0, 3.0], "y": [5.0, 5.0, 5.0], "z": [math.nan] * 3}, resamples=20)
    assert math.isnan(found["x", "y"]["correlation"])
    assert math.isnan(found["y", "y"]["correlation"])
    assert found["x", "x"]["correlation"] == 1
    assert found["x", "z"]["models"] == 0


@pytest.mark.parametrize(("true", "models"), [(0.0, 36), (0.7, 36), (0.7, 300)])
def test_intervals_hold_the_correlation_of_the_population(true, models):
    """Two normal metrics; docs/study/analysis.md has more cases, by studies/analysis_coverage.py."""
    rng = np.random.default_rng(7)
    repetitions, spearman = 120, 6 / math.pi * math.asin(true / 2)
    held = 0
    for i in range(repetitions):
        x, y = rng.multivariate_normal([0, 0], [[1, true], [true, 1]], size=models).T
        row = correlate({"x": x, "y": y}, rows=["x"], columns=["y"], resamples=200, seed=i)["x", "y"]
        held += row["low"] <= spearman <= row["high"]
    assert held / repetitions > 0.93 - 3 * math.sqrt(0.05 * 0.95 / repetitions)
    assert held < repetitions


def test_the_ends_are_as_precise_as_the_docstring_says():
    x, y = np.random.default_rng(0).multivariate_normal([0, 0], [[1, 0.5], [0.5, 1]], size=100).T
    lows = [correlate({"x": x, "y": y}, resamples=1000, seed=i)["x", "y"]["low"] for i in range(40)]
    widths = [correlate({"x": x, "y": y}, resamples=1000, seed=0)["x", "y"][end] for end in ("high", "low")]
    assert np.std(lows) / (widths[0] - widths[1]) == pytest.approx(0.02, abs=0.01)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rows": ["mog"]}, "rank_correlations: unknown metric of rows 'mog': did you mean 'mig'? known: mig, sap"),
        ({"columns": "mig"}, "rank_correlations: columns must be a list of metrics, got str 'mig'"),
        ({"resamples": -1}, "rank_correlations: resamples must be a whole number of at least 0, got int -1"),
        ({"level": 95}, "rank_correlations: level must be greater than 0 and less than 1, got int 95"),
        ({"seed": 0.5}, "rank_correlations: seed must be a whole number of at least 0, got float 0.5"),
    ],
)
def test_wrong_arguments(options, message):
    with pytest.raises(MistakeError) as caught:
        rank_correlations(flat({"mig": [1, 2], "sap": [2, 1]}), **options)
    assert str(caught.value) == message
