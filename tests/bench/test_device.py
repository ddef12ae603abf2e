"""bench/device.sh where there is no GPU."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]


def device(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = ["bash", str(ROOT / "bench" / "device.sh"), *arguments]
    environment = {**os.environ, "PYTHON": sys.executable, **variables}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device, on which everything would be run")
@pytest.mark.parametrize("steps", [(), ("test",), ("build", "bench")])
def test_device_sh_skips_without_a_device_and_says_so(steps, tmp_path):
    result = device("--logs", str(tmp_path / "logs"), *steps)
    assert result.returncode == 3
    assert "skipped, nothing was built, tested or measured: torch " in result.stdout
    assert not (tmp_path / "logs").exists()


def test_device_sh_refuses_what_it_does_not_know():
    assert device("tests").returncode == 2
    assert device("--logs").returncode == 2


def test_device_sh_needs_an_interpreter_with_torch(tmp_path):
    assert device(PYTHON=str(tmp_path / "no-python")).returncode == 3
