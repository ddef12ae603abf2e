"""Cases of every op at sizes that take no time."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT))  # at the end: an installed copy of the package comes first

from bench import harness, registry  # noqa: E402
from bench.harness import Case  # noqa: E402


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture
def eager(monkeypatch) -> None:
    """Without torch.compile, which would take most of a minute."""
    monkeypatch.setattr(harness, "compiled", lambda function, mode: function)


def small_cases(device: str) -> list[Case]:
    """What is measured on a kind of device, at 33 rows and on the CPU."""

    def cases(device: str) -> list[Case]:
        rsample = registry.bench_rsample_kl
        return [c for b in registry.BENCHES for c in b.cases(device, [(33, 10)] if b is rsample else [33])]

    inputs = {case.op: case.make for case in cases("cpu")}
    return [replace(case, make=inputs[case.op]) for case in cases(device)]


@pytest.fixture(params=[*small_cases("cpu"), *small_cases("cuda")], ids=str)
def case(request) -> Case:
    return request.param


@pytest.fixture
def mmd() -> Case:
    return next(case for case in small_cases("cpu") if case.op == "mmd")
