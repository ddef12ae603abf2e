"""Host runs of the CUDA kernels: a test that takes `mode` or `order` runs in all of them that tell something new."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch

from tests.cuda import harness

# What the check and the sanitizers find does not depend on the order.
ORDERS = ("fwd", "rev", "seed")
COMBINATIONS = [("plain", order) for order in ORDERS] + [(mode, "fwd") for mode in harness.MODES[1:]]
SEED = "7"


def _own_parameters(metafunc: pytest.Metafunc) -> set[str]:
    """Fixtures for which the test itself says which values it wants."""
    names = [mark.args[0] for mark in metafunc.definition.iter_markers("parametrize")]
    return {name for name in names if isinstance(name, str)}


def _selected(names: set[str]) -> list[tuple[str, str]]:
    """DX_MODES=plain,check leaves out the others."""
    modes = os.environ.get("DX_MODES", ",".join(harness.MODES)).split(",")
    combinations = COMBINATIONS
    if "mode" not in names:
        combinations = [(mode, order) for mode, order in combinations if mode == "plain"]
    if "order" not in names:
        combinations = [(mode, order) for mode, order in combinations if order == "fwd"]
    return [(mode, order) for mode, order in combinations if mode in modes]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    names = set(metafunc.fixturenames) - _own_parameters(metafunc)
    chosen = [name for name in ("mode", "order") if name in names]
    if chosen:
        sets = [{"mode": mode, "order": order} for mode, order in _selected(names)]
        metafunc.parametrize(chosen, [[values[name] for name in chosen] for values in sets], indirect=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Calls in mode asan are processes of their own."""
    for item in items:
        if getattr(item, "callspec", None) and item.callspec.params.get("mode") == "asan":
            item.add_marker(pytest.mark.forks)


@pytest.fixture(autouse=True)
def available() -> None:
    reason = harness.unavailable()
    if reason:
        pytest.skip(reason)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tensors are small here, and beside a compiler the threads of OpenMP mostly wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def mode(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def order(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The order in which threads and blocks take their turns."""
    monkeypatch.setenv("DX_ORDER", SEED if request.param == "seed" else request.param)
    return request.param


def pytest_sessionfinish() -> None:
    harness.forget_old_builds()
