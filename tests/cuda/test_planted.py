"""Tests of the tests: a mistake planted into a kernel must make the host runs of its op fail."""

from __future__ import annotations

import pytest

from tests.cuda import harness
from tests.cuda.planted import MISSED, PLANTS, SHORTEST_FOREVER, Plant, control, copies, outcome, verdicts

UNAVAILABLE = harness.unavailable()
pytestmark = pytest.mark.skipif(UNAVAILABLE is not None, reason=UNAVAILABLE or "")


@pytest.mark.parametrize("run_mode", ["plain", "check"])
@pytest.mark.parametrize("op", sorted({plant.op for plant in PLANTS}))
def test_kernels_without_a_mistake_pass(op: str, run_mode: str) -> None:
    """Otherwise every mistake would seem to be caught."""
    result = control(op, run_mode)
    assert not result.caught, result.how


@pytest.mark.parametrize("plant", PLANTS, ids=[f"{plant.op}: {plant.name}" for plant in PLANTS])
def test_planted_mistake_is_caught(plant: Plant) -> None:
    csrc = copies.of(plant)
    for mode in plant.modes:
        result = outcome(plant.op, mode, csrc, max(SHORTEST_FOREVER, 10 * control(plant.op, mode).seconds))
        if result.caught:
            verdicts.append((plant, mode, result.how))
            return
    verdicts.append((plant, MISSED, ""))
    pytest.fail(f"{plant.name} in {plant.file}: no mode noticed")
