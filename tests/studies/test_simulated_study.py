"""Fake runs: as safe as real ones, and with scores that depend on what a run is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from disentangle_ext.runs.config import resolve
from disentangle_ext.runs.folder import RunFolder
from disentangle_ext.study.execute import tasks_of
from disentangle_ext.study.run_scores import read_run_scores
from disentangle_ext.study.status import State, state_of
from disentangle_ext.study.work import LOCKED
from studies.simulated_study import cost_of, fake_work, quality
from tests.study.faked import study


def test_a_fake_run_is_as_safe_as_a_real_one(tmp_path: Path) -> None:
    planned = study(tmp_path / "a", finished=0)
    task, other = tasks_of(planned)[:2]
    folder = RunFolder(task.folder)
    with folder.lock():
        assert fake_work(task) == LOCKED
    assert fake_work(task) == 0
    assert state_of(folder) is State.DONE
    assert not Path(task.log).exists()
    before = {path.name: path.read_bytes() for path in folder.path.iterdir()}
    assert fake_work(task) == 0
    assert {path.name: path.read_bytes() for path in folder.path.iterdir()} == before
    assert fake_work(other) == 0
    one, two = (read_run_scores(Path(each.folder))["mig"]["score"] for each in (task, other))
    assert one != two


def test_a_fake_run_that_was_cut_off_is_begun_again(tmp_path: Path) -> None:
    task = tasks_of(study(tmp_path / "a", finished=0))[0]
    assert fake_work(task) == 0
    folder = Path(task.folder)
    whole = (folder / "metrics.jsonl").read_bytes()
    (folder / "DONE").unlink()
    (folder / "evaluation.json").unlink()
    assert fake_work(task) == 0
    assert (folder / "metrics.jsonl").read_bytes() == whole
    assert state_of(RunFolder(folder)) is State.DONE


def test_fake_quality_depends_on_objective_strength_and_seed() -> None:
    def mean(model: str, **options: float) -> float:
        config = resolve({"model": model, "data": "digits", **options})
        return float(np.mean([quality(config, f"{model}-{options}-{seed}") for seed in range(100)]))

    # Standard errors of the means are 0.05.
    assert mean("beta_vae", beta=8) > mean("beta_vae", beta=1) + 0.5
    assert mean("beta_tcvae", beta=6) > mean("beta_vae", beta=6) + 0.5


def test_what_a_command_costs() -> None:
    cost = cost_of([sys.executable, "-c", "block = bytearray(200 << 20); block[::4096] = b'1' * len(block[::4096])"])
    assert 200 < cost.megabytes < 230
    assert 0 < cost.cpu_seconds < 60
    with pytest.raises(subprocess.CalledProcessError):
        cost_of([sys.executable, "-c", "raise SystemExit(3)"])
