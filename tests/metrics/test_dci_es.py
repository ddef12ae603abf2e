"""Explicitness on codes that are read off by lines, by curves, or not at all."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from disentangle_ext.metrics import dci_es

SMALL = (0, 16, 64, 256)


def problem(rows=900, seed=0):
    rng = np.random.default_rng(seed)
    return rng, rng.integers(0, 8, (rows, 2))


def test_a_linear_mix_scores_one_and_noise_minus_one():
    rng, factors = problem()
    for codes in (factors, factors @ rng.normal(size=(2, 5)) + 3):
        result = dci_es(codes, factors, features=SMALL)
        assert result.score == pytest.approx(1, abs=1e-6)
        np.testing.assert_allclose(result.informativeness, 1, atol=1e-6)
        assert result.size == 2 / codes.shape[1]
    noise = dci_es(rng.normal(size=(900, 4)), factors, features=SMALL)
    assert -1 <= noise.score < -0.95
    assert (noise.informativeness < 0.03).all()


def test_the_authors_area_is_above_the_lowest_loss():
    rng, factors = problem()
    noise = rng.normal(size=(900, 4))
    assert dci_es(noise, factors, features=SMALL, lowest="attained").score > 0.95
    bent = np.sin(factors * 1.3) @ rng.normal(size=(2, 4))
    ours, theirs = (dci_es(bent, factors, features=SMALL, lowest=lowest) for lowest in ("zero", "attained"))
    np.testing.assert_allclose(theirs.explicitness - ours.explicitness, 2 * ours.curve[-1], atol=1e-12)


def test_explicitness_is_the_area_under_the_curve():
    rng, factors = problem()
    angle = factors[:, 0] * 2 * math.pi / 8
    codes = np.stack([np.cos(angle), np.sin(angle), 0.3 * rng.normal(size=900)], 1)
    result = dci_es(codes, factors, features=SMALL)
    loss, capacity = result.curve[:, 0], result.capacity
    np.testing.assert_allclose(capacity, np.log2([4, 20, 68, 260]))
    assert (np.diff(loss) <= 0).all()
    assert loss[0] > 0.3
    assert loss[-1] < 0.05
    area = sum((loss[t] + loss[t + 1]) / 2 * (capacity[t + 1] - capacity[t]) for t in range(3))
    assert result.explicitness[0] == pytest.approx(1 - 2 * area / (capacity[-1] - capacity[0]), abs=1e-12)
    assert result.explicitness[1] < -0.9


def test_the_linear_probe_is_least_squares():
    rng, factors = problem(rows=60)
    codes = factors + rng.normal(size=(60, 2))
    result = dci_es(codes, factors, features=(0, 1), shuffle=False, test_share=0.5)
    design = np.hstack([codes, np.ones((60, 1))])
    weights = np.linalg.lstsq(design[:30], factors[:30], rcond=None)[0]
    left = np.square(factors[30:] - design[30:] @ weights).sum(0)
    total = np.square(factors[30:] - factors[:30].mean(0)).sum(0)
    np.testing.assert_allclose(result.curve[0], left / total, rtol=1e-6)


def test_classes_need_no_order():
    rng, factors = problem()
    shuffled = rng.permutation(8)[factors]
    codes = np.hstack([np.eye(8)[factors[:, 0]], np.eye(8)[factors[:, 1]]])
    assert dci_es(codes, shuffled, targets="classes", features=SMALL).score == pytest.approx(1, abs=1e-5)
    by_class = dci_es(factors, factors, targets="classes", features=SMALL).score
    assert by_class == pytest.approx(dci_es(factors, shuffled, targets="classes", features=SMALL).score, abs=1e-9)
    assert by_class < 0.9


def test_dead_codes_constant_factors_scales_and_few_rows():
    _, factors = problem()
    assert dci_es(np.ones((900, 2)), factors, features=SMALL).score == -1
    result = dci_es(np.insert(factors, 1, 4, axis=1) * 1e300, factors * [1, 0], features=SMALL)
    assert result.skipped == (1,)
    assert result.score == pytest.approx(1, abs=1e-6)
    assert math.isnan(result.explicitness[1])
    assert result.size == 1 / 3
    json.dumps(result.as_dict(), allow_nan=False)
    for rows in (2, 3, 5):
        few = dci_es(np.arange(rows)[:, None], np.arange(rows)[:, None], features=(0, 4))
        assert -1 <= few.score <= 1


def test_the_seed_interval_and_plot():
    rng, factors = problem()
    codes = np.tanh(factors - 3.5) + 0.3 * rng.normal(size=(900, 2))
    first, again = (dci_es(codes, factors, features=SMALL, bootstrap=30, seed=1) for _ in range(2))
    assert first.as_dict() == again.as_dict()
    assert first.score != dci_es(codes, factors, features=SMALL, seed=2).score
    assert first.interval.low < first.score < first.interval.high
    pytest.importorskip("matplotlib").use("Agg")
    assert "DCI-ES explicitness" in first.plot().get_title(loc="left")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"features": (0,)}, r"dci_es: features must be two or more increasing numbers, got \[0\]"),
        ({"features": (16, 0)}, "dci_es: features must be two or more increasing"),
        ({"features": (-1, 4)}, "dci_es: features must be an integer of at least 0, got -1"),
        ({"targets": "value"}, "dci_es: unknown targets 'value'"),
        ({"lowest": "none"}, "dci_es: unknown lowest 'none'"),
        ({"test_share": 0}, "dci_es: test_share must be"),
        ({"factors": np.ones((900, 1))}, "dci_es: factors must hold a column with two values or more"),
    ],
)
def test_errors_name_the_argument(options, message):
    _, factors = problem()
    with pytest.raises(ValueError, match=message):
        dci_es(**{"codes": factors, "factors": factors, **options})
