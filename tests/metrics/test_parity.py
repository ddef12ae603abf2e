"""Our metrics against what public codes return, as ``make parity`` prints them."""

from __future__ import annotations

import os

import pytest

from tests.metrics.parity import SLOW, comparisons, largest

SKIPPED = () if os.environ.get("PARITY_SLOW") else SLOW

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.mark.parametrize("comparison", comparisons(SKIPPED), ids=lambda each: each.metric)
def test_equals_the_peer(comparison):
    count, worst, where = largest(comparison)
    assert count >= 8
    assert worst <= comparison.tolerance, where
