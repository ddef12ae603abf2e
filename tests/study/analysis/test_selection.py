"""The probability of a good choice, where it is known, and against the definition in plain Python."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable

import numpy as np
import pytest

from disentangle_ext._errors import MistakeError
from disentangle_ext.study.analysis import model_selection, model_selection_summary
from tests.study.analysis.tables import grid, rows, same, shuffled

KEY = ("criterion", "source_set", "metric", "target_set")


def select(scores, data_sets=("a",), **options):
    return rows(model_selection(grid(scores, data_sets=data_sets), **options), *KEY)


def by_definition(a: np.ndarray, b: np.ndarray, choosing: Iterable[int] | None = None) -> float:
    """How often the best by A beats a random one by B, over pairs of different seeds: a and b are [settings, seeds]."""
    seeds, trials = range(a.shape[1]), []
    for s, t in itertools.product(seeds if choosing is None else choosing, seeds):
        if s != t:
            best = [c for c in range(len(a)) if a[c, s] == a[:, s].max()]
            trials.append(np.mean([(b[c, t] > other) + 0.5 * (b[c, t] == other) for c in best for other in b[:, t]]))
    return float(np.mean(trials))


def test_orders_that_are_known_have_known_probabilities():
    order = np.repeat(np.arange(6.0).reshape(1, 2, 3, 1), 4, axis=3)
    found = select({"m": order, "bent": np.exp(order), "reverse": -order, "flat": np.zeros_like(order)})
    for metric, probability in {"m": 11 / 12, "bent": 11 / 12, "reverse": 1 / 12, "flat": 1 / 2}.items():
        row = found["m", "a", metric, "a"]
        assert row["probability"] == pytest.approx(probability)
        assert (row["low"], row["high"]) == pytest.approx((probability, probability))
        assert row["n"] == 4
    assert found["flat", "a", "m", "a"]["probability"] == pytest.approx(0.5)  # equal settings count in equal parts


@pytest.mark.parametrize("ties", [False, True])
def test_it_is_what_the_definition_says(ties):
    rng = np.random.default_rng(0)
    scores = {m: rng.normal(size=(2, 2, 3, 4)).round(0 if ties else 9) for m in "xy"}
    found = select(scores, ("a", "b"))
    assert list(found) == [(a, x, b, y) for a in "xy" for x in "ab" for b in "xy" for y in "ab"]
    for (a, x, b, y), row in found.items():
        first, second = (scores[m]["ab".index(d)].reshape(6, 4) for m, d in ((a, x), (b, y)))
        assert row["probability"] == pytest.approx(by_definition(first, second))
        without = [by_definition(*(np.delete(each, i, axis=1) for each in (first, second))) for i in range(4)]
        reach = 3.182446305284263 * math.sqrt(3 / 4 * np.sum((np.array(without) - np.mean(without)) ** 2))
        assert row["low"] == pytest.approx(max(0, row["probability"] - reach))
        assert row["high"] == pytest.approx(min(1, row["probability"] + reach))


def test_a_choice_does_not_profit_from_its_own_luck():
    scores = np.random.default_rng(0).normal(size=(1, 1, 200, 30))
    assert select({"m": scores})["m", "a", "m", "a"]["probability"] == pytest.approx(0.5, abs=0.03)


def test_unsupervised_scores_choose_and_do_not_judge_and_the_lowest_may_be_the_best():
    order = np.repeat(np.arange(4.0).reshape(1, 1, 4, 1), 3, axis=3)
    scores = {"mig": order, "tc": -order}
    found = select(scores, unsupervised=["tc"], lower_is_better=["tc"])
    assert list(found) == [("mig", "a", "mig", "a"), ("tc", "a", "mig", "a")]
    assert {row["probability"] for row in found.values()} == {7 / 8}
    assert select(scores, unsupervised=["tc"])["tc", "a", "mig", "a"]["probability"] == 1 / 8
    assert select(scores, unsupervised=["tc", "mig"]) == {}


def test_neither_the_order_of_rows_nor_a_monotone_transform_changes_anything():
    rng = np.random.default_rng(0)
    scores = {m: rng.normal(size=(2, 2, 3, 3)) for m in "xy"}
    for function in (model_selection, model_selection_summary):
        expected = function(grid(scores, data_sets=("a", "b")))
        assert same(function(shuffled(grid(scores, data_sets=("a", "b")))), expected)
        bent = {"x": np.exp(scores["x"]), "y": 3 * scores["y"] - 7}
        assert same(function(grid(bent, data_sets=("a", "b"))), expected)


def test_missing_models_neither_choose_nor_judge():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 1, 1, 5, 4))
    x[0, 0, 2, 0] = 9  # the best with the seed 0
    y[0, 0, 2] = math.nan  # so y cannot judge the setting 2, and a choice of it by x has to be another
    x[0, 0, :, 3] = math.nan  # so nothing is chosen with the seed 3
    found = select({"x": x, "y": y})
    kept = [0, 1, 3, 4]
    expected = by_definition(x[0, 0, kept], y[0, 0, kept], choosing=range(3))
    assert found["x", "a", "y", "a"]["probability"] == pytest.approx(expected)
    assert found["x", "a", "y", "a"]["n"] == 3
    assert found["y", "a", "x", "a"]["n"] == 4


def test_one_seed_has_no_probability_and_two_have_no_interval():
    scores = np.random.default_rng(0).normal(size=(1, 2, 3, 2))
    one, two = (select({"m": scores[..., :seeds]})["m", "a", "m", "a"] for seeds in (1, 2))
    assert all(math.isnan(one[name]) for name in ("probability", "low", "high"))
    assert one["n"] == 0
    assert two["probability"] == pytest.approx(by_definition(*[scores[0].reshape(6, 2)] * 2))
    assert math.isnan(two["low"])
    assert model_selection_summary(grid({"m": scores[..., :1]})).num_rows == 0


@pytest.mark.filterwarnings("error")
def test_an_unfinished_study_gives_no_warning():
    rng = np.random.default_rng(0)
    for _ in range(20):
        scores = {name: rng.random((1, 1, 4, 2)) for name in ("m", "n", "o")}
        for each in scores.values():
            each[0, 0, 1, 1] = each[0, 0, 3] = np.nan
        for row in select(scores).values():
            assert 0 <= row["probability"] <= 1
            assert math.isnan(row["low"])


def test_a_second_run_with_the_same_seed_is_one_more_seed():
    scores = np.random.default_rng(0).normal(size=(1, 1, 4, 4))
    table = grid({"m": scores})
    again = {**table, "run": [f"r{i}" for i in range(16)], "seed": [seed // 2 for seed in table["seed"]]}
    expected, found = (model_selection(each).to_pylist()[0] for each in (table, again))
    assert found["probability"] == expected["probability"]
    assert found["n"] == 4


@pytest.mark.parametrize("seeds", [3, 10])
def test_intervals_hold_the_probability_of_the_population(seeds):
    """docs/study/analysis.md has more cases, by studies/analysis_coverage.py."""
    rng, settings = np.random.default_rng(0), np.linspace(0, 2, 8)[:, None]
    draw = lambda count: settings + rng.normal(size=(8, count))  # noqa: E731
    a, b = draw(4000), draw(4000)
    wins = ((b[:, None] < b).sum(0) + 0.5) / 8
    true = wins[a.argmax(0)].mean()
    held = []
    for _ in range(150):
        scores = {m: draw(seeds)[None, None] for m in "ab"}
        row = select(scores)["a", "a", "b", "a"]
        held.append(row["low"] <= true <= row["high"])
    assert np.mean(held) > 0.93 - 3 * math.sqrt(0.05 * 0.95 / 150)
    assert np.mean(held) < 1


def test_the_summary_is_the_mean_over_metrics_and_data_sets():
    rng = np.random.default_rng(0)
    scores = {m: rng.normal(size=(3, 2, 3, 5)) for m in ("x", "y", "tc")}
    table = grid(scores, data_sets=("a", "b", "c"))
    every = model_selection(table, unsupervised=["tc"]).to_pylist()
    found = model_selection_summary(table, unsupervised=["tc"])
    assert found.column_names == ["metric", "data_set", "probability", "low", "high", "n"]
    counts = {("same", "same"): 6, ("same", "different"): 12, ("different", "same"): 6, ("different", "different"): 12}
    for key, row in rows(found, "metric", "data_set").items():
        kept = [
            each["probability"]
            for each in every
            if each["criterion"] != "tc"
            and (each["criterion"] == each["metric"]) == (key[0] == "same")
            and (each["source_set"] == each["target_set"]) == (key[1] == "same")
        ]
        assert row["n"] == len(kept) == counts[key]
        assert row["probability"] == pytest.approx(np.mean(kept))
        assert row["low"] < row["probability"] < row["high"]
    assert len(rows(model_selection_summary(grid({"x": scores["x"][:1]})), "metric")) == 1


def test_the_interval_of_the_summary_is_the_jackknife_of_its_mean():
    rng = np.random.default_rng(0)
    scores = {m: rng.normal(size=(2, 2, 3, 5)) for m in "xy"}
    found = rows(model_selection_summary(grid(scores, data_sets=("a", "b"))), "metric", "data_set")
    kept = [{m: np.delete(each, i, axis=3) for m, each in scores.items()} for i in range(5)]
    without = [rows(model_selection_summary(grid(each, data_sets=("a", "b"))), "metric", "data_set") for each in kept]
    for key, row in found.items():
        values = np.array([each[key]["probability"] for each in without])
        reach = 2.7764451051977987 * math.sqrt(4 / 5 * np.sum((values - values.mean()) ** 2))
        assert (row["low"], row["high"]) == pytest.approx((row["probability"] - reach, row["probability"] + reach))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"unsupervised": "m"}, "unsupervised must be a list of metrics, got str 'm'"),
        ({"lower_is_better": ["n"]}, "unknown metric of lower_is_better 'n': known: m"),
        ({"level": 0}, "level must be greater than 0 and less than 1, got int 0"),
    ],
)
def test_wrong_arguments(options, message):
    for function in (model_selection, model_selection_summary):
        with pytest.raises(MistakeError) as caught:
            function(grid({"m": np.zeros((1, 1, 2, 2))}), **options)
        assert str(caught.value) == f"{function.__name__}: {message}"
