"""Explicitness by its three variants, each against scikit-learn, and what tells them apart."""

from __future__ import annotations

import numpy as np
import pytest

from disentangle_ext.metrics import explicitness
from tests.metrics.problems import random_problem

linear_model = pytest.importorskip("sklearn.linear_model")

VARIANTS = ("multinomial", "one_vs_rest", "auc")


def area(score, member):
    """The share of pairs of a member and another that are in the right order, pair by pair."""
    return np.mean([(a > b) + (a == b) / 2 for a in score[member] for b in score[~member]])


def test_multinomial_is_scored_on_test_rows():
    codes, factors = random_problem(rows=200)
    result = explicitness(codes, factors)
    mean, deviation = codes[:160].mean(0), codes[:160].std(0)
    for k, size in enumerate((3, 5, 4)):
        model = linear_model.LogisticRegression().fit((codes[:160] - mean) / deviation, factors[:160, k])
        probability = model.predict_proba((codes[160:] - mean) / deviation)
        areas = [area(probability[:, each], factors[160:, k] == each) for each in range(size)]
        assert result.auc[k] == pytest.approx(np.mean(areas), abs=1e-9)
    assert result.score == pytest.approx(result.auc.mean())
    assert result.train_score != result.score


@pytest.mark.parametrize(
    ("variant", "options"),
    [("one_vs_rest", {"class_weight": "balanced"}), ("auc", {"C": 1e10, "max_iter": 1000})],
)
def test_the_others_fit_each_class_against_the_rest_and_score_the_rows_they_saw(variant, options):
    codes, factors = random_problem(rows=120)
    unit = (codes - codes.min(0)) / (codes.max(0) - codes.min(0))
    result = explicitness(codes, factors, variant=variant)
    for k, size in enumerate((3, 5, 4)):
        areas = []
        for each in range(size):
            model = linear_model.LogisticRegression(**options).fit(unit, factors[:, k] == each)
            areas.append(area(model.decision_function(unit), factors[:, k] == each))
        expected = np.mean(areas)
        assert result.auc[k] == pytest.approx(expected if variant == "auc" else 2 * expected - 1, abs=1e-6)
    assert result.train_score == result.score == pytest.approx(result.auc.mean())
    assert result.settings["test_share"] == 0


def test_a_regression_without_penalty_does_not_mind_the_unit_of_a_code():
    codes, factors = random_problem()
    expected = explicitness(codes, factors, variant="auc").auc
    scaled = explicitness(codes * [1e-6, 1, 1e3, 1e200], factors, variant="auc").auc
    np.testing.assert_allclose(scaled, expected, atol=1e-4)


def test_perfect_codes_score_one_and_noise_chance():
    factors = np.random.default_rng(0).integers(0, 4, (1000, 1))
    perfect = np.eye(4)[factors[:, 0]]
    noise = np.random.default_rng(1).normal(size=(1000, 3))
    for variant, chance in zip(VARIANTS, (0.5, 0, 0.5)):
        assert explicitness(perfect, factors, variant=variant).score == pytest.approx(1)
        assert explicitness(noise, factors, variant=variant).score == pytest.approx(chance, abs=0.12)


def test_a_class_amid_others_on_a_line_is_seen_by_the_softmax_alone():
    line = np.tile(np.arange(3), 100)[:, None]
    assert explicitness(line, line).score == 1
    # A line cannot part the class in the middle from both others.
    assert explicitness(line, line, variant="auc").score < 0.9
    assert explicitness(line, line, variant="one_vs_rest").score < 0.8


def test_constant_factors_are_skipped():
    codes, factors = random_problem(rows=100)
    for variant in VARIANTS:
        result = explicitness(codes, factors * [1, 0, 1], variant=variant, factor_names=["a", "b", "c"])
        assert result.skipped == (1,)
        assert np.isnan(result.auc[1])
        assert result.score == pytest.approx(result.auc[[0, 2]].mean())


def test_plot():
    pytest.importorskip("matplotlib").use("Agg")
    assert "Explicitness" in explicitness(*random_problem(rows=60)).plot().get_title(loc="left")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"variant": "ovr"}, "explicitness: unknown variant 'ovr'"),
        ({"test_share": 1.5}, "explicitness: test_share must be"),
        ({"factors": np.zeros((400, 2))}, "explicitness: factors must hold a column with two values or more"),
    ],
)
def test_errors_name_the_argument(options, message):
    codes, factors = random_problem()
    with pytest.raises(ValueError, match=message):
        explicitness(**{"codes": codes, "factors": factors, **options})
