"""Learning rates."""

from __future__ import annotations

import pytest

from disentangle_ext.engine.descent import Schedule


def test_constant() -> None:
    assert [Schedule(0.5, "constant", 0, 10)(step) for step in (0, 5, 9, 50)] == [0.5] * 4


def test_warmup_rises_to_the_full_rate() -> None:
    rates = [Schedule(1.0, "constant", 4, 10)(step) for step in range(6)]
    assert rates == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]


def test_cosine_falls_from_the_full_rate_to_a_twentieth() -> None:
    schedule = Schedule(2.0, "cosine", 0, 100)
    assert schedule(0) == pytest.approx(2.0)
    assert schedule(50) == pytest.approx(1.05)
    assert schedule(100) == pytest.approx(0.1)
    assert schedule(1000) == pytest.approx(0.1)
    rates = [schedule(step) for step in range(101)]
    assert rates == sorted(rates, reverse=True)
