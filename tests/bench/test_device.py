"""bench/device.sh where there is no GPU."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.forks


def device(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = ["bash", str(ROOT / "bench" / "device.sh"), *arguments]
    environment = {**os.environ, "PYTHON": sys.executable, **variables}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device, on which everything would be run")
def test_device_sh_skips_without_a_device_and_says_so(tmp_path):
    result = device("--logs", str(tmp_path / "logs"))
    assert result.returncode == 3
    assert "skipped, nothing was built, tested or measured: torch " in result.stdout
    assert not (tmp_path / "logs").exists()


@pytest.mark.parametrize("steps", [("test",), ("build", "bench")])
def test_device_sh_skips_the_steps_that_are_named(steps, tmp_path):
    """With an interpreter that says what is missing, and agrees to everything else."""
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\n[ "$1" = - ] && echo no device\nexit 0\n')
    python.chmod(0o755)
    result = device("--logs", str(tmp_path / "logs"), *steps, PYTHON=str(python))
    assert (result.returncode, result.stdout) == (
        3,
        "device.sh: skipped, nothing was built, tested or measured: no device\n",
    )
    assert not (tmp_path / "logs").exists()


def test_device_sh_refuses_what_it_does_not_know():
    assert device("tests").returncode == 2
    assert device("--logs").returncode == 2


def test_device_sh_needs_an_interpreter_with_torch(tmp_path):
    assert device(PYTHON=str(tmp_path / "no-python")).returncode == 3


@pytest.mark.parametrize(("tool", "code"), [(None, 4), ("exit 0", 0), ("exit 9", 1)])
def test_device_sh_does_not_pass_what_it_could_not_run(tool, code, tmp_path):
    """With an interpreter that agrees to everything, as one on a machine with a GPU would."""
    (tmp_path / "tools").mkdir()
    for name, text in {"python": "exit 0", "compute-sanitizer": tool}.items():
        if text is not None:
            (tmp_path / "tools" / name).write_text(f"#!/bin/sh\n{text}\n")
            (tmp_path / "tools" / name).chmod(0o755)
    path = f"{tmp_path / 'tools'}:/usr/bin:/bin"
    if tool is None and shutil.which("compute-sanitizer", path=path):
        pytest.skip("compute-sanitizer is installed")
    result = device("sanitize", "--logs", str(tmp_path / "logs"), PYTHON=str(tmp_path / "tools" / "python"), PATH=path)
    assert result.returncode == code, result.stdout
    assert ("NOT RUN: compute-sanitizer is not installed" in result.stdout) == (tool is None)
