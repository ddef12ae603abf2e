"""Correlations against numpy and least squares, and at the edges of what they are defined for."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch

from disentangle_ext.metrics import Correlation, correlation

NAMES = ("azimuth", "elevation", "hue")


def problem(seed: int = 0, rows: int = 300) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    factors = np.stack([rng.integers(0, size, rows) for size in (15, 11, 8)], 1)
    codes = rng.normal(size=(rows, 5))
    codes[:, 0] -= factors[:, 0]
    codes[:, 1] += 0.4 * factors[:, 1]
    codes[:, 2] += 2 * np.sin(2 * np.pi * factors[:, 2] / 8 + 1)
    return codes, factors


def test_lines_are_pearsons_and_circles_the_fit_of_sine_and_cosine() -> None:
    codes, factors = problem()
    result = correlation(codes, factors, periods={"hue": 8}, factor_names=NAMES)
    pearson = np.abs(np.corrcoef(codes.T, factors.T)[:5, 5:])
    np.testing.assert_allclose(result.matrix[:, :2], pearson[:, :2], atol=1e-12)
    angle = 2 * np.pi * factors[:, 2] / 8
    table = np.stack([np.ones(len(angle)), np.cos(angle), np.sin(angle)], 1)
    for d, code in enumerate(codes.T):
        left = np.linalg.lstsq(table, code, rcond=None)[1][0]
        assert result.matrix[d, 2] == pytest.approx(np.sqrt(1 - left / (code.var() * len(code))), abs=1e-9)
    assert result.latents.tolist() == [0, 1, 2]
    np.testing.assert_allclose(result.correlations, result.matrix[[0, 1, 2], [0, 1, 2]])
    assert result.score == pytest.approx(result.correlations.mean())
    assert result.correlations[2] > pearson[2, 2] + 0.2


def test_where_a_circle_is_cut_and_the_unit_of_a_code_do_not_matter() -> None:
    codes, factors = problem()
    first = correlation(codes, factors, periods={"hue": 8}, factor_names=NAMES)
    turned = factors.copy()
    turned[:, 2] = (turned[:, 2] + 3) % 8
    moved = correlation(-1e6 * codes + 1e3, turned, periods={"hue": 8}, factor_names=NAMES)
    np.testing.assert_allclose(moved.matrix, first.matrix, atol=1e-9)
    other = correlation(torch.from_numpy(codes), factors, periods={"hue": 5}, factor_names=NAMES)
    assert np.abs(other.matrix[:, 2] - first.matrix[:, 2]).max() > 0.01


def test_latents_are_those_that_are_named_and_not_the_best() -> None:
    codes, factors = problem()
    result = correlation(codes, factors, latents={"elevation": 0, "azimuth": 1}, factor_names=NAMES)
    assert result.latents.tolist() == [1, 0, -1]
    assert result.correlations[0] == result.matrix[1, 0] < 0.3
    assert np.isnan(result.correlations[2])
    assert result.score == pytest.approx((result.matrix[1, 0] + result.matrix[0, 1]) / 2)
    plain = json.loads(json.dumps(result.as_dict()))
    assert plain["latents"] == {"azimuth": 1, "elevation": 0, "hue": -1}
    assert plain["correlations"]["hue"] is None
    assert np.shape(plain["matrix"]) == (5, 3)


def test_perfect_constant_and_skipped() -> None:
    factors = np.stack([np.arange(12), np.full(12, 3), np.arange(12) % 2], 1)
    codes = np.stack([5.0 - 0.1 * np.arange(12), np.full(12, 0.1), np.arange(12) % 2 * 2.0], 1).astype(np.float32)
    result = correlation(codes, factors, periods={"hue": 2}, factor_names=NAMES)
    assert result.matrix[0, 0] == pytest.approx(1, abs=1e-6)
    assert result.matrix[2, 2] == pytest.approx(1, abs=1e-6)
    assert (result.matrix <= 1)[:, [0, 2]].all()
    assert result.matrix[1, [0, 2]].tolist() == [0, 0]
    assert result.skipped == (1,)
    assert np.isnan(result.matrix[:, 1]).all()
    assert result.latents.tolist() == [0, -1, 2]
    assert "skipped, constant: elevation" in str(result)


def test_batches_and_bootstrap() -> None:
    codes, factors = problem()
    options: dict[str, Any] = {"periods": {"hue": 8}, "factor_names": NAMES, "bootstrap": 20, "latents": {"hue": 2}}
    metric = Correlation(**options)
    for part in np.array_split(np.arange(len(codes)), 3):
        metric.update(codes[part], factors[part])
    whole = correlation(codes, factors, **options)
    assert metric.compute().as_dict() == whole.as_dict()
    assert whole.interval is not None
    assert whole.interval.low < whole.score < whole.interval.high


def test_resamples_in_which_no_factor_with_a_latent_varies() -> None:
    codes, factors = problem()
    factors[:, 0] = np.arange(len(factors)) == 7
    with pytest.raises(ValueError, match="no score: correlation: latents must name a factor that varies, got {'azimut"):
        correlation(codes, factors, latents={"azimuth": 0}, bootstrap=20, factor_names=NAMES)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"latents": {"azimut": 0}}, "correlation: latents: unknown factor 'azimut'|correlation: latents: factor"),
        ({"latents": {"azimuth": 5}}, "correlation: latents must be below the 5 columns of codes"),
        ({"latents": {"azimuth": -1}}, r"correlation: latents\['azimuth'\] must be an integer of at least 0, got -1"),
        ({"latents": {}}, "correlation: latents must name a factor that varies"),
        ({"periods": {"hue": 0}}, "correlation: periods must be greater than 0 and finite, got 0 for hue"),
        ({"periods": {"hu": 8}}, "'hu': did you mean 'hue'"),
    ],
)
def test_errors(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        correlation(*problem(), factor_names=NAMES, **options)
