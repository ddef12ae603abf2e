"""Host runs of the CUDA kernels: a test that takes `mode` or `order` runs in all of them that tell something new."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.cuda import harness, planted

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
    combinations = _selected(names)
    if "mode" in names and "order" in names:
        metafunc.parametrize(("mode", "order"), combinations, indirect=True)
    elif "mode" in names:
        metafunc.parametrize("mode", [mode for mode, _ in combinations], indirect=True)
    elif "order" in names:
        metafunc.parametrize("order", [order for _, order in combinations], indirect=True)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tensors are small here, and beside a compiler the threads of OpenMP mostly wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def mode(request: pytest.FixtureRequest) -> str:
    reason = harness.unavailable()
    if reason:
        pytest.skip(reason)
    return request.param


@pytest.fixture
def order(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The order in which threads and blocks take their turns."""
    monkeypatch.setenv("DX_ORDER", SEED if request.param == "seed" else request.param)
    return request.param


def pytest_collection_finish(session: pytest.Session) -> None:
    """Builds what the selected tests will ask for while the first of them run."""
    if harness.unavailable() or session.config.option.collectonly:
        return
    harness.forget_old_builds()
    for item in session.items:
        call = getattr(item, "callspec", None)
        if call is None or item.path.parent != Path(__file__).parent:
            continue
        op = item.path.stem.removeprefix("test_")
        if "mode" in call.params and (harness.sources() / "testing" / f"run_{op}.cpp").exists():
            harness.builder.start(op, call.params["mode"])
        if "run_mode" in call.params:
            harness.builder.start(call.params["op"], call.params["run_mode"], planted.copies.of(None))
        if isinstance(call.params.get("plant"), planted.Plant):
            planted.copies.prepare(call.params["plant"])


def pytest_sessionfinish() -> None:
    harness.builder.abandon()
    planted.copies.remove()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not planted.verdicts:
        return
    terminalreporter.section("mistakes planted into the CUDA kernels")
    for plant, mode, how in planted.verdicts:
        terminalreporter.write_line(f"{plant.op:22} {plant.name:44} {mode:8} {' '.join(how.split())[:120]}")
    caught = sum(mode != planted.MISSED for _, mode, _ in planted.verdicts)
    terminalreporter.write_line(f"{caught} of {len(planted.verdicts)} caught")
