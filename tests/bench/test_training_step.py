"""Whole steps: the loops that are compared compute the same, and the README says what was measured."""

from __future__ import annotations

from bench import pages
from bench.bench_training_step import PRECISION_RESULTS, RESULTS, compare, table
from bench.rows import read


def test_our_float32_steps_have_the_losses_of_the_plain_loop() -> None:
    assert 0 < compare(3) < 1e-5


def test_the_readme_holds_the_measurements() -> None:
    _, content, _ = pages.parts("README.md", "training-step")
    assert content == table(read(RESULTS), read(PRECISION_RESULTS))
