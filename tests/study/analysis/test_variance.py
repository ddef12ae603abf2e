"""Shares of variance of tables that are made of known effects."""

from __future__ import annotations

import math

import numpy as np
import pytest

from disentangle_ext.study.analysis import variance_explained
from tests.study.analysis.tables import flat, grid, rows, same, shuffled

SOURCES = ("objective", "objective and hyperparameter", "seed")


def explain(scores, **options):
    return rows(variance_explained(grid({"m": scores}), **options), "source")


def effects(objectives: float, values: float, seeds: float, shape: tuple[int, int, int] = (3, 4, 3)) -> np.ndarray:
    """Scores whose sums of squares by source are n times the squares of three numbers, exactly."""

    def contrast(size: int) -> np.ndarray:
        steps = np.linspace(-1, 1, size)
        return steps / steps.std()

    a, b, c = (contrast(size) for size in shape)
    return (objectives * a[:, None, None] + values * b[None, :, None] + seeds * c[None, None, :])[None]


def test_shares_of_known_effects_are_exact():
    found = explain(effects(3, 2, 1), resamples=0)
    assert [found[source]["share"] for source in SOURCES] == pytest.approx([9 / 14, 13 / 14, 1 / 14])
    total, noise = 36 * 14, 36 / (36 - 12)
    omega = [(36 * 9 - 2 * noise) / (total + noise), (36 * 13 - 11 * noise) / (total + noise)]
    assert [found[source]["unbiased"] for source in SOURCES] == pytest.approx([*omega, 1 - omega[1]])
    assert found["seed"]["n"] == 36
    assert all(math.isnan(row["low"]) for row in found.values())


@pytest.mark.parametrize(("size", "shares"), [((1, 0, 0), (1, 1, 0)), ((0, 1, 0), (0, 1, 0)), ((0, 0, 1), (0, 0, 1))])
def test_one_effect_alone_explains_all(size, shares):
    found = explain(effects(*size), resamples=0)
    assert [found[source]["share"] for source in SOURCES] == pytest.approx(shares, abs=1e-12)


def test_the_share_is_the_r_squared_of_a_regression_on_one_hot_variables():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(1, 3, 2, 4)) + rng.normal(size=(1, 3, 2, 1))
    y, (objective, value, _) = scores.ravel(), np.indices(scores.shape[1:]).reshape(3, -1)
    for source, code in {"objective": objective, "objective and hyperparameter": 2 * objective + value}.items():
        one_hot = np.eye(code.max() + 1)[code]
        left = y - one_hot @ np.linalg.lstsq(one_hot, y, rcond=None)[0]
        expected = 1 - (left**2).sum() / ((y - y.mean()) ** 2).sum()
        assert explain(scores, resamples=0)[source]["share"] == pytest.approx(expected)


def test_omega_squared_is_less_biased_than_the_share():
    """3 objectives x 4 values x 3 seeds; variances of the true means 1/4 and 1/4, of the seed 1/2."""
    rng, mean = np.random.default_rng(0), effects(0.5, 0.5, 0)
    scores = {f"m{i}": mean + math.sqrt(0.5) * rng.normal(size=mean.shape) for i in range(400)}
    table = rows(variance_explained(grid(scores), resamples=0), "metric", "source")
    for source, true in zip(SOURCES, (0.25, 0.5, 0.5)):
        share, omega = (np.mean([table[m, source][name] for m in scores]) for name in ("share", "unbiased"))
        error = np.std([table[m, source]["unbiased"] for m in scores]) / 20
        assert abs(omega - true) < 3 * error + 0.01
        assert abs(share - true) > 3 * abs(omega - true)


@pytest.mark.parametrize(("objective", "value", "seeds"), [(0.6, 0.5, 3), (0.6, 0.5, 10), (0.0, 0.0, 3)])
def test_intervals_hold_the_true_share(objective, value, seeds):
    """docs/study/analysis.md has more cases, by studies/analysis_coverage.py."""
    rng, mean = np.random.default_rng(1), effects(objective, value, 0, (3, 4, seeds))
    noise = 1 - objective**2 - value**2
    scores = {f"m{i}": mean + math.sqrt(noise) * rng.normal(size=mean.shape) for i in range(150)}
    table = rows(variance_explained(grid(scores), resamples=200), "metric", "source")
    for source, true in zip(SOURCES, (objective**2, 1 - noise, noise)):
        held = np.mean([table[m, source]["low"] <= true <= table[m, source]["high"] for m in scores])
        assert held > 0.93 - 3 * math.sqrt(0.05 * 0.95 / 150), (source, held)
        # Where there is no effect, the ends move about the truth together: all intervals may hold it.
        assert held < 1 or noise == 1


def test_neither_the_order_of_rows_nor_shift_and_scale_change_anything():
    rng = np.random.default_rng(0)
    scores = {m: rng.normal(size=(2, 2, 3, 3)) for m in "xy"}
    table = grid(scores, data_sets=("a", "b"))
    expected = variance_explained(table, resamples=50)
    assert expected.column_names == ["data_set", "metric", "source", "share", "low", "high", "unbiased", "n"]
    assert list(rows(expected, "data_set", "metric", "source")) == [
        (d, m, source) for d in "ab" for m in "xy" for source in SOURCES
    ]
    assert same(variance_explained(shuffled(table), resamples=50), expected)
    moved = variance_explained(
        grid({m: 4 * each - 3 for m, each in scores.items()}, data_sets=("a", "b")), resamples=50
    )
    for name in ("share", "low", "high", "unbiased"):
        np.testing.assert_allclose(moved[name].to_numpy(), expected[name].to_numpy(), rtol=1e-9, atol=1e-12)


def test_missing_scores_are_left_out():
    scores = np.random.default_rng(0).normal(size=(1, 2, 3, 4))
    gaps = scores.copy()
    gaps[0, :, :, 3] = math.nan
    found = rows(variance_explained(grid({"x": scores, "y": gaps}), resamples=40), "metric", "source")
    alone = explain(scores[..., :3], resamples=40)
    for source in SOURCES:
        assert found["y", source] == {**alone[source], "metric": "y"}
        assert found["y", source]["n"] == 18
        assert found["x", source]["n"] == 24


def test_what_cannot_be_told_is_nan():
    one_seed = explain(np.random.default_rng(0).normal(size=(1, 2, 3, 1)), resamples=20)
    assert one_seed["objective and hyperparameter"]["share"] == 1
    assert math.isnan(one_seed["objective"]["unbiased"])
    assert math.isnan(one_seed["objective"]["low"])
    constant = explain(np.full((1, 2, 3, 2), 0.1), resamples=20)
    assert all(math.isnan(constant[source][name]) for source in SOURCES for name in ("share", "unbiased", "low"))
    for settings in (1, 3):
        alone = explain(np.random.default_rng(0).normal(size=(1, 1, settings, 5)), resamples=20)
        for place, source in enumerate(SOURCES):
            unknown = place == 0 or settings == 1
            assert [math.isnan(alone[source][name]) for name in ("share", "low", "high", "unbiased")] == [unknown] * 4
    few = explain(np.array([0.1, 0.2, math.nan, 0.5]).reshape(1, 2, 1, 2), resamples=20)
    assert few["seed"]["n"] == 3
    assert 0 < few["objective"]["share"] < 1
    assert all(math.isnan(few[source][end]) for source in SOURCES for end in ("low", "high"))
    single = rows(variance_explained(flat({"m": [1.0], "none": [math.nan]})), "metric", "source")
    assert single["m", "seed"]["n"] == 1
    assert math.isnan(single["m", "seed"]["share"])
    assert single["none", "seed"]["n"] == 0
    assert math.isnan(single["none", "seed"]["share"])
