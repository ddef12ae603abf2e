"""Means, quartiles and the interval of the median, against NumPy and the binomial distribution."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from disentangle_ext._errors import MistakeError
from disentangle_ext.study.analysis import by_hyperparameter, distributions
from disentangle_ext.study.analysis.distributions import median_interval
from tests.study.analysis.tables import flat, grid, rows, same, shuffled


@given(st.integers(1, 40), st.integers(0, 10_000), st.booleans(), st.floats(0, 0.9))
@settings(max_examples=60, deadline=None)
def test_columns_are_as_in_numpy(count, seed, ties, missing):
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=count).round(0 if ties else 9)
    scores[rng.random(count) < missing] = math.nan
    table = distributions(flat({"m": scores}))
    kept = scores[np.isfinite(scores)]
    if not len(kept):
        assert table.num_rows == 0
        return
    (row,) = table.to_pylist()
    assert (row["data_set"], row["objective"], row["metric"], row["n"]) == ("a", "vae0", "m", len(kept))
    quantiles = np.quantile(kept, [0, 0.25, 0.5, 0.75, 1])
    assert [row[name] for name in ("min", "q25", "median", "q75", "max")] == pytest.approx(quantiles, abs=1e-12)
    assert row["mean"] == pytest.approx(kept.mean(), abs=1e-12)
    if len(kept) == 1:
        assert all(math.isnan(row[name]) for name in ("sd", "low", "high"))
    else:
        assert row["sd"] == pytest.approx(kept.std(ddof=1), abs=1e-12)
        assert row["low"] <= row["median"] <= row["high"]


def test_objectives_and_data_sets_are_kept_apart():
    scores = np.arange(24.0).reshape(2, 3, 2, 2)
    table = distributions(grid({"y": scores, "x": -scores}, data_sets=("b", "a")))
    assert table.column_names == [
        *("data_set", "objective", "metric", "n", "mean", "sd", "min", "q25", "median", "q75", "max", "low", "high")
    ]
    found = rows(table, "data_set", "objective", "metric")
    assert list(found) == [(d, f"vae{o}", m) for d in "ab" for o in range(3) for m in "xy"]
    assert found["b", "vae1", "y"]["mean"] == scores[0, 1].mean()
    assert found["a", "vae2", "x"]["min"] == -23


def test_values_of_the_hyperparameter_are_in_their_order_and_kept_apart():
    scores = np.random.default_rng(0).normal(size=(1, 2, 5, 7))
    table = by_hyperparameter(shuffled(grid({"m": scores})))
    assert table.column_names == [
        *("data_set", "objective", "hyperparameter", "value", "metric"),
        *("n", "mean", "sd", "q25", "median", "q75", "low", "high"),
    ]
    assert table["value"].to_pylist() == ["1", "2", "4", "8", "16"] * 2
    for row, own in zip(table.to_pylist(), scores.reshape(-1, 7)):
        assert row["median"] == np.median(own)
        assert (row["low"], row["high"]) == (own.min(), own.max())
        assert row["n"] == 7


def test_neither_the_order_of_rows_nor_a_monotone_transform_changes_the_places():
    scores = np.random.default_rng(0).normal(size=(1, 2, 3, 9))
    table = grid({"m": scores})
    for function in (distributions, by_hyperparameter):
        assert same(function(shuffled(table)), function(table))
        bent = function(grid({"m": np.exp(scores)}))
        for name in ("low", "high"):
            np.testing.assert_allclose(bent[name].to_numpy(), np.exp(function(table)[name].to_numpy()))


@pytest.mark.parametrize("level", [0.5, 0.95, 0.999])
@pytest.mark.parametrize("count", [1, 2, 3, 5, 6, 7, 50, 301, 12_600])
def test_the_interval_of_the_median_has_the_probability_of_the_binomial(count, level):
    k = median_interval(count, level)
    assert 1 <= k <= (count + 1) // 2
    inside = 1 - 2 * stats.binom.cdf(k - 1, count, 0.5)
    assert inside >= level or k == 1
    assert 1 - 2 * stats.binom.cdf(k, count, 0.5) < level  # the next one is too short


def test_the_median_of_50_lies_between_the_18th_and_the_33rd():
    (row,) = distributions(flat({"m": np.random.default_rng(0).permutation(50) + 1.0})).to_pylist()
    assert (row["low"], row["high"]) == (18, 33)


@pytest.mark.parametrize(("seeds", "probability"), [(3, 0.75), (5, 0.9375), (10, 0.9785), (50, 0.9672)])
def test_intervals_hold_the_median_as_often_as_the_docstring_says(seeds, probability):
    scores = np.random.default_rng(0).exponential(size=(1, 1, 500, seeds))
    table = by_hyperparameter(grid({"m": scores}))
    held = (table["low"].to_numpy() <= math.log(2)) & (math.log(2) <= table["high"].to_numpy())
    assert held.mean() == pytest.approx(probability, abs=3 * math.sqrt(probability * (1 - probability) / 500))


@pytest.mark.parametrize("function", [distributions, by_hyperparameter])
def test_a_wrong_level_is_named(function):
    with pytest.raises(
        MistakeError, match=f"^{function.__name__}: level must be greater than 0 and less than 1, got .*1$"
    ):
        function(flat({"m": [1.0]}), level=1)
