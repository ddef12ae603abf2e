"""Tests of the tests: a mistake planted into a kernel must make a host run of its op fail."""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cuda import switches
from tests.cuda.planted import PLANTS
from tests.cuda.stand import Outcome, Stand, Trial, TrialError, Verdict

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


def meant(op: str, mode: str) -> set[str]:
    """The tests of an op, as its file has them; mode check concerns those that take a mode."""
    module = vars(importlib.import_module(f"tests.cuda.test_{op}"))
    tests = {name: test for name, test in module.items() if name.startswith("test_")}
    return {name for name, test in tests.items() if mode == "plain" or "mode" in inspect.signature(test).parameters}


@pytest.mark.parametrize("mode", list(switches.FLAGS))
@pytest.mark.parametrize("op", list(PLANTS))
def test_kernels_without_a_mistake_pass(op: str, mode: str, stand: Stand) -> None:
    """All that a mistake may be noticed by, in the library that has the mistakes."""
    outcome = stand.run(Trial(op, mode, library(op, mode), 0))
    assert outcome.verdict is Verdict.PASSED, f"{outcome.test}: {outcome.how}"
    assert {test.rpartition("::")[2].partition("[")[0] for test in outcome.passed} == meant(op, mode)


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
    test = outcome.test.rpartition("::")[2]
    record_property("planted", (op, name, plant.mode, test, f"{outcome.verdict.value}: {outcome.how}"))
    enough = {Verdict.FAILED, Verdict.CRASHED} if plant.crashes else {Verdict.FAILED}
    assert outcome.verdict in enough, f"{outcome.verdict.value} in {outcome.test or 'no test'}: {outcome.how}"
    without = control(Trial(op, plant.mode, path, 0, tests=(outcome.test,)))
    assert without == Outcome(Verdict.PASSED, (outcome.test,))


SHAPE = "test_equals_the_reference[plain-fwd-((), 1, 3, 0)]"
FILE = "tests/cuda/test_permute_dims.py"


@pytest.mark.parametrize(
    ("run_mode", "tests"),
    [
        ("plain", (f"{FILE}::test_that_is_not_there",)),
        ("plain", (SHAPE,)),
        ("plain", (f"{FILE}::{SHAPE}", f"{FILE}::{SHAPE}[0]")),
        ("check", (f"{FILE}::{SHAPE}",)),
    ],
    ids=["unknown", "without a file", "one of two", "of another mode"],
)
def test_a_trial_that_selects_other_tests_than_it_names_is_refused(
    run_mode: str, tests: tuple[str, ...], stand: Stand
) -> None:
    with pytest.raises(TrialError, match=rf"selects {len(tests) - 1} of the {len(tests)} tests "):
        stand.run(Trial("permute_dims", run_mode, library("permute_dims", run_mode), 0, tests=tests))


def test_a_trial_runs_the_tests_it_names_alone(stand: Stand) -> None:
    trial = Trial("permute_dims", "plain", library("permute_dims", "plain"), 0, tests=(f"{FILE}::{SHAPE}",))
    assert stand.run(trial) == Outcome(Verdict.PASSED, trial.tests)


def test_a_mistake_whose_first_tests_are_not_there_is_refused(stand: Stand) -> None:
    with pytest.raises(TrialError, match="no test has 'gone' in its name"):
        stand.run(Trial("permute_dims", "plain", library("permute_dims", "plain"), 0, first="gone"))
