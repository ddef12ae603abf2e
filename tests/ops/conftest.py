"""Where the ops are tested: on every device that has compiled kernels, and on the CPU in any case."""

from __future__ import annotations

import pytest
import torch

from disentangle_ext import _extension

DEVICES = ["cpu"]
if torch.cuda.is_available() and _extension.available("cuda"):
    DEVICES.append("cuda")


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> torch.device:
    return torch.device(request.param)


@pytest.fixture
def compiled(device: torch.device) -> None:
    """For tests of what only the kernels promise: a pure-Python install runs the reference instead."""
    if not _extension.available(device.type):
        pytest.skip(f"no compiled kernels for {device}")


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)
