"""SIGKILL at steps that a seed chooses, again and again: the run that is over in the end is the one never killed."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from disentangle_ext import train as train_module
from tests.processes import Program

pytestmark = pytest.mark.forks

STEPS = ["--max-steps", "400", "--log-every", "1", "--checkpoint-every", "7"]


def kill_after(call: list[str], output: Path, metrics: Path, lines: int) -> None:
    """Start a run and kill it when metrics.jsonl has so many lines."""
    program = Program(output, *call)
    while program.process.is_alive():
        if metrics.is_file() and metrics.read_bytes().count(b"\n") >= lines:
            program.process.kill()
        time.sleep(0.002)
    assert program.code() == -9, "the run was over before it could be killed"


@pytest.mark.parametrize("model", ["beta_tcvae", "factor_vae", "dcign"])
def test_a_run_that_is_killed_three_times(
    tmp_path: Path, small_run: Callable[..., int], left: Callable[[Path], Any], model: str
) -> None:
    width = ["--discriminator-width", "8"] if model == "factor_vae" else []
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert small_run(whole, *STEPS, *width, model=model) == 0
    points = sorted(random.Random(model).sample(range(2, 200), 3))
    quick = ["--data", "dsprites_like", "--quick", "--network", "mlp", "--width", "8", "--latent-dim", "3"]
    start = ["--model", model, *quick, "--batch-size", "8", *STEPS, *width]
    for call, point in zip((start, ["--resume"], ["--resume"]), points):
        call = [*call, "--device", "cpu", "--output-dir", str(killed)]
        kill_after(call, tmp_path / "printed", killed / "metrics.jsonl", point)
        assert not (killed / "DONE").exists()
    assert train_module.main(["--resume", "--output-dir", str(killed), "--device", "cpu"]) == 0
    assert left(killed) == left(whole)
