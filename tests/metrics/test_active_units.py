"""Active units: which variances count, and at which scales."""

from __future__ import annotations

import numpy as np
import pytest

from disentangle_ext.metrics import active_units
from tests.metrics.checks import OF_CODES_ALONE
from tests.metrics.parity import data
from tests.metrics.problems import correlated


@pytest.mark.parametrize("check", OF_CODES_ALONE, ids=lambda check: check.__name__)
def test_as_every_score_of_codes_alone(check):
    check(active_units)


def test_variances_above_the_threshold_count():
    alternating = np.array([[-1.0], [1.0]] * 10)
    table = alternating * [1, 0.11, 0.1 - 1e-9, 0]
    result = active_units(table)
    assert result.score == 2
    np.testing.assert_allclose(result.std, [1, 0.11, 0.1 - 1e-9, 0], atol=1e-15)
    assert active_units(table, threshold=0).score == 3
    assert active_units(table, threshold=1).score == 0
    assert active_units(np.zeros((5, 2)), threshold=0).score == 0


def test_dead_dimensions_are_not_active():
    assert active_units(data("c06_dead_dims_exact")[0]).active.tolist() == [d in (0, 2, 5, 6) for d in range(8)]
    assert active_units(np.random.default_rng(0).normal(size=(40, 1))).score == 1


@pytest.mark.parametrize("scale", [1e-300, 1e-20, 1e20, 1e140])
def test_squares_that_float64_cannot_hold_are_compared_all_the_same(scale):
    with np.errstate(over="raise", invalid="raise"):
        assert active_units(correlated(0.5, rows=50) * scale).score == (2 if scale > 1 else 0)


def test_errors_name_the_argument():
    with pytest.raises(ValueError, match="active_units: threshold must be .* got -1"):
        active_units([[0.0], [1.0]], threshold=-1)
