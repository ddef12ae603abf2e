"""Whole steps: the loops that are compared compute the same, and the README says what was measured."""

from __future__ import annotations

from bench.bench_training_step import MARKS, PRECISION_RESULTS, README, RESULTS, compare, read, table


def test_our_float32_steps_have_the_losses_of_the_plain_loop() -> None:
    assert 0 < compare(3) < 1e-5


def test_the_readme_holds_the_measurements() -> None:
    _, _, rest = README.read_text(encoding="utf-8").partition(MARKS[0])
    assert rest.partition(MARKS[1])[0] == table(read(RESULTS), read(PRECISION_RESULTS))
