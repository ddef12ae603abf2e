"""Tests of the tests: a mistake planted into a kernel must make a host run of its op fail."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cuda import switches
from tests.cuda.planted import PLANTS
from tests.cuda.stand import Outcome, Stand, Trial

pytestmark = [pytest.mark.builds, pytest.mark.forks]


@pytest.fixture(scope="module")
def stand() -> Iterator[Stand]:
    with Stand(list(PLANTS)) as stand:
        yield stand


@functools.cache
def library(op: str, mode: str) -> Path:
    """The library with every mistake that this mode has to notice."""
    edits = [switches.find(op, plant.text, plant.new) for plant in PLANTS[op] if plant.mode == mode]
    return switches.build(op, mode, edits)


@pytest.fixture(scope="module")
def control(stand: Stand) -> Callable[[Trial], Outcome]:
    """What the kernels of the library do without a mistake."""
    return functools.cache(stand.run)


@pytest.mark.parametrize(
    ("op", "name"), [(op, plant.name) for op, plants in PLANTS.items() for plant in plants], ids=lambda name: name
)
def test_planted_mistake_is_caught(
    op: str,
    name: str,
    stand: Stand,
    control: Callable[[Trial], Outcome],
    record_property: Callable[[str, object], None],
) -> None:
    """By a test that passes without it, in the same library."""
    (plant,) = (plant for plant in PLANTS[op] if plant.name == name)
    number = [other.name for other in PLANTS[op] if other.mode == plant.mode].index(name) + 1
    path = library(op, plant.mode)
    outcome = stand.run(Trial(op, plant.mode, path, number, first=plant.noticed))
    record_property("planted", (op, name, plant.mode, outcome.test, outcome.how))
    assert outcome.test, "no test noticed"
    assert control(Trial(op, plant.mode, path, 0, first=outcome.test, alone=True)) == Outcome("", "")
