"""JEMMIG where several code dimensions know equally much of a factor."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from disentangle_ext.metrics import jemmig


def test_of_dimensions_that_know_equally_much_the_one_with_the_smallest_joint_entropy_counts():
    factor = np.repeat(np.arange(4), 6)
    wide = np.stack([3 * factor + np.tile(np.arange(3), 8), factor], 1)
    for codes, best in ((wide, 1), (wide[:, ::-1], 0)):
        result = jemmig(codes, factor[:, None])
        assert result.best.tolist() == [best]
        assert result.jemmig[0] == pytest.approx(math.log(4), abs=1e-12)


@pytest.mark.parametrize("seed", range(8))
def test_the_order_and_the_sign_of_code_dimensions_change_nothing(seed):
    rng = np.random.default_rng(seed)
    factors = np.stack([rng.integers(0, 5, 60), rng.integers(0, 3, 60)], 1)
    # Three dimensions know the whole first factor, one of them more than that; their sums differ in the last bit.
    known = factors[:, 0]
    codes = np.stack([2 * known + rng.integers(0, 2, 60), known, 4 - known, rng.normal(size=60)], 1)
    expected = jemmig(codes, factors)
    for order in itertools.permutations(range(4)):
        signs = rng.choice([-1, 1], 4)
        result = jemmig((codes * signs)[:, order], factors)
        np.testing.assert_allclose(result.normalized, expected.normalized, rtol=0, atol=1e-12)
        chosen = [result.joint_entropy[d, k] for k, d in enumerate(result.best)]
        np.testing.assert_allclose(chosen, [expected.joint_entropy[d, k] for k, d in enumerate(expected.best)])
