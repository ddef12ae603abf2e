"""Runs over seeds: they are measured one by one, go on after a kill, and are measured anew for another recipe."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.rows import read
from disentangle_ext.training.command_line import parse
from studies import seed_runs
from studies.model_table import score
from studies.seed_runs import Run, columns, measure_all

DATA = "dsprites_like"
TINY = {"base_channels": 4, "batch_size": 8, "max_steps": 24, "log_every": 1, "checkpoint_every": 10}
DIES = """
import os, signal, sys
from pathlib import Path
from studies.model_table import score
from studies.seed_runs import Run, measure_all
from disentangle_ext.report import PICTURES
from disentangle_ext.training import loop

def save_and_die(folder, checkpoint):
    save(folder, checkpoint)
    if folder.parent.name.endswith("-1") and checkpoint.step == 20:  # the second run
        os.kill(os.getpid(), signal.SIGKILL)

save, loop.save_checkpoint = loop.save_checkpoint, save_and_die
PICTURES.clear()
runs = [Run("beta_vae", "dsprites_like", seed, {tiny}) for seed in (0, 1)]
measure_all(runs, Path(sys.argv[1]) / "rows.csv", Path(sys.argv[1]) / "runs", ("mig",), score)
"""


def measure_until_killed(folder: Path, root: Path) -> int:
    environment = {**os.environ, "PYTHONPATH": str(root)}
    command = [sys.executable, "-c", DIES.replace("{tiny}", repr(TINY)), str(folder)]
    return subprocess.run(command, cwd=root, env=environment, check=False).returncode


@pytest.mark.forks
def test_a_killed_command_goes_on_where_it_stopped(
    tmp_path: Path, root: Path, one_picture: None, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [Run("beta_vae", DATA, seed, TINY) for seed in (0, 1)]
    second = runs[1].folder(tmp_path / "runs")
    assert measure_until_killed(tmp_path, root) == -signal.SIGKILL
    (first,) = read(tmp_path / "rows.csv")
    assert first["seed"] == "0"
    assert 0 < float(second.with_suffix(".cpu").read_text()) < 600
    second.with_suffix(".cpu").write_text("1000")
    before = (second / "metrics.jsonl").read_text().splitlines()
    assert len(before) == 20

    rows = measure_all(runs, tmp_path / "rows.csv", tmp_path / "runs", ("mig",), score)
    assert read(tmp_path / "rows.csv") == rows
    assert "seed 0" not in capsys.readouterr().out, "a run that was finished was made again"
    assert rows[0] == first
    assert float(rows[1]["cpu_seconds"]) > 1000, "the time before the kill is not counted"
    after = (second / "metrics.jsonl").read_text().splitlines()
    assert after[:20] == before, "the run was begun again"
    assert [json.loads(line)["step"] for line in after] == list(range(1, 25))
    (whole,) = measure_all(runs[1:], tmp_path / "whole.csv", tmp_path / "whole", ("mig",), score)
    assert whole["mig"] == rows[1]["mig"]


def test_a_run_is_that_of_the_command_line(tmp_path: Path) -> None:
    call = ["--model", "factor_vae", "--data", DATA, "--quick", "--seed", "3", "--lr", "1e-4"]
    (job,) = parse([*call, "--output-dir", str(tmp_path)]).jobs
    assert Run("factor_vae", DATA, 3, {"lr": 1e-4}).config() == job.config


def test_a_changed_recipe_is_measured_anew_and_the_rest_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    measured = []

    def measure(run: Run, runs: Path, score: Any) -> dict[str, str]:
        measured.append(run)
        return {**dict.fromkeys(columns(("mig",)), "0"), **run.identity()}

    monkeypatch.setattr(seed_runs, "measure", measure)
    rest = tmp_path / "rows.csv", tmp_path, ("mig",), score
    vae, tcvae = Run("beta_vae", DATA, 0), Run("beta_tcvae", DATA, 0)
    measure_all([vae, tcvae], *rest)
    measure_all([vae, tcvae], *rest)
    assert measured == [vae, tcvae]
    changed = Run("beta_vae", DATA, 0, {"lr": 1e-4})
    assert changed.identity()["settings"] == vae.identity()["settings"]
    measure_all([changed, tcvae], *rest)
    assert measured == [vae, tcvae, changed]
    assert [row["recipe"] for row in read(tmp_path / "rows.csv")] == [
        run.identity()["recipe"] for run in (changed, tcvae)
    ]
    assert "of another recipe or version, and dropped from rows.csv: 1 rows" in capsys.readouterr().out


def test_an_unfinished_run_of_other_settings_is_not_gone_on_with(tmp_path: Path, one_picture: None) -> None:
    run = Run("beta_vae", DATA, 0, {**TINY, "max_steps": 2})
    folder = run.folder(tmp_path)
    folder.mkdir()
    (folder / "config.yaml").write_text("model: beta_vae\n")
    folder.with_suffix(".cpu").write_text("1000000")
    row = seed_runs.measure(run, tmp_path, score)
    assert float(row["cpu_seconds"]) < 1000


def test_settings_are_the_objective_s_own_and_seeds_share_a_recipe() -> None:
    first, second = (Run("dcign", "faces_like", seed, {"reference": "first"}).identity() for seed in (0, 1))
    assert first["settings"] == "reference first, scale 0.2"
    assert first == {**second, "seed": "0"}
    assert first["recipe"] != Run("dcign", "faces_like", 0).identity()["recipe"]
