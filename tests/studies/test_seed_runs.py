"""Runs over seeds: they are measured one by one, go on after a kill, and are measured anew for another recipe."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.rows import read
from studies import seed_runs
from studies.model_table import score
from studies.seed_runs import Run, columns, measure_all

DATA = "dsprites_like"
TINY = {"base_channels": 4, "batch_size": 8, "max_steps": 60, "log_every": 1, "checkpoint_every": 10}
PROGRAM = """
import os
import signal
import sys
from pathlib import Path
from studies.model_table import score
from studies.seed_runs import Run, measure_all
from disentangle_ext.training import loop

def save_and_die(folder, checkpoint):
    save(folder, checkpoint)
    if folder.parent.name.endswith("-1") and checkpoint.step == 20:  # the second run
        os.kill(os.getpid(), signal.SIGKILL)

save = loop.save_checkpoint
if sys.argv[2] == "dies":
    loop.save_checkpoint = save_and_die
runs = [Run("beta_vae", "dsprites_like", seed, {tiny}) for seed in (0, 1)]
measure_all(runs, Path(sys.argv[1]) / "rows.csv", Path(sys.argv[1]) / "runs", ("mig",), score)
"""


def call(folder: Path, root: Path, how: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(root), "PYTHONUNBUFFERED": "1"}
    program = PROGRAM.replace("{tiny}", repr(TINY))
    command = [sys.executable, "-c", program, str(folder), how]
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=240)


def test_a_killed_command_goes_on_where_it_stopped(tmp_path: Path, root: Path) -> None:
    run = Run("beta_vae", DATA, 1, TINY)
    second = run.folder(tmp_path / "runs")
    assert call(tmp_path, root, "dies").returncode == -signal.SIGKILL
    (first,) = read(tmp_path / "rows.csv")
    assert first["seed"] == "0"
    spent = float(second.with_suffix(".cpu").read_text())
    assert len((second / "metrics.jsonl").read_text().splitlines()) == 20

    done = call(tmp_path, root, "lives")
    assert done.returncode == 0, done.stderr
    assert "seed 0" not in done.stdout, "a run that was finished was made again"
    rows = read(tmp_path / "rows.csv")
    assert rows[0] == first
    assert float(rows[1]["cpu_seconds"]) > spent, "the time before the kill is not counted"
    whole = measure_all([run], tmp_path / "whole.csv", tmp_path / "whole", ("mig",), score)
    assert read(tmp_path / "whole.csv") == whole
    assert whole[0]["mig"] == rows[1]["mig"]
    steps = [line.split(",")[0] for line in (second / "metrics.jsonl").read_text().splitlines()]
    assert steps == [f'{{"step": {step}' for step in range(1, 61)]


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


def test_an_unfinished_run_of_other_settings_is_not_gone_on_with(tmp_path: Path) -> None:
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
