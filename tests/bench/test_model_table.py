"""The table of models: it is measured run by run, goes on after a kill, and is what the page shows."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench import harness, model_table
from bench.model_table import COLUMNS, Run, measure_all, table
from disentangle_ext.objectives import OBJECTIVES

TINY = {"base_channels": 4, "batch_size": 8, "max_steps": 60, "log_every": 1, "checkpoint_every": 10}
PROGRAM = """
import sys
from pathlib import Path
from bench.model_table import Run, measure_all
runs = [Run("beta_vae", seed, {tiny}) for seed in (0, 1)]
measure_all(runs, Path(sys.argv[1]) / "rows.csv", Path(sys.argv[1]) / "runs")
"""


def start(folder: Path, root: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(root), "PYTHONUNBUFFERED": "1"}
    program = PROGRAM.replace("{tiny}", repr(TINY))
    return subprocess.Popen(
        [sys.executable, "-c", program, str(folder)], cwd=root, env=environment, stdout=subprocess.PIPE, text=True
    )


def wait_for_checkpoint(run: Path, process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 120
    while not any((run / "checkpoints").glob("step-*.safetensors")):
        assert process.poll() is None, "it ended"
        assert time.monotonic() < end
        time.sleep(0.001)


def test_a_killed_command_goes_on_where_it_stopped(tmp_path: Path, root: Path) -> None:
    second = tmp_path / "runs" / f"beta_vae-{Run('beta_vae', 1, TINY).identity()['recipe']}-1"
    process = start(tmp_path, root)
    wait_for_checkpoint(second, process)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    (first,) = harness.read(tmp_path / "rows.csv")
    assert first["seed"] == "0"
    spent = float(second.with_suffix(".cpu").read_text())
    lines = len((second / "metrics.jsonl").read_text().splitlines())
    assert 10 <= lines < 60

    process = start(tmp_path, root)
    said = process.communicate(timeout=120)[0]
    assert process.returncode == 0
    assert "seed 0" not in said, "a run that was finished was made again"
    rows = harness.read(tmp_path / "rows.csv")
    assert rows[0] == first
    assert float(rows[1]["cpu_seconds"]) > spent, "the time before the kill is not counted"
    whole = Run("beta_vae", 1, TINY)
    measure_all([whole], tmp_path / "whole.csv", tmp_path / "whole")
    assert harness.read(tmp_path / "whole.csv")[0]["mig"] == rows[1]["mig"]
    steps = [line.split(",")[0] for line in (second / "metrics.jsonl").read_text().splitlines()]
    assert steps == [f'{{"step": {step}' for step in range(1, 61)]


def test_a_changed_recipe_is_measured_anew_and_the_rest_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    measured = []

    def measure(run: Run, runs: Path) -> dict[str, str]:
        measured.append(run)
        return {**dict.fromkeys(COLUMNS, "0"), **run.identity()}

    monkeypatch.setattr(model_table, "measure", measure)
    vae, tcvae = Run("beta_vae", 0), Run("beta_tcvae", 0)
    measure_all([vae, tcvae], tmp_path / "rows.csv", tmp_path)
    measure_all([vae, tcvae], tmp_path / "rows.csv", tmp_path)
    assert measured == [vae, tcvae]
    changed = Run("beta_vae", 0, {"lr": 1e-4})
    assert changed.identity()["settings"] == vae.identity()["settings"]
    measure_all([changed, tcvae], tmp_path / "rows.csv", tmp_path)
    assert measured == [vae, tcvae, changed]
    assert [row["recipe"] for row in harness.read(tmp_path / "rows.csv")] == [
        run.identity()["recipe"] for run in (changed, tcvae)
    ]
    assert "of another recipe or version, and dropped from rows.csv: 1 rows" in capsys.readouterr().out


def test_an_unfinished_run_of_other_settings_is_not_gone_on_with(tmp_path: Path) -> None:
    run = Run("beta_vae", 0, {**TINY, "max_steps": 2})
    folder = tmp_path / f"beta_vae-{run.identity()['recipe']}-0"
    folder.mkdir()
    (folder / "config.yaml").write_text("model: beta_vae\n")
    folder.with_suffix(".cpu").write_text("1000000")
    row = model_table.measure(run, tmp_path)
    assert float(row["cpu_seconds"]) < 1000


def test_the_table_has_a_line_for_each_model_with_median_and_range() -> None:
    row = {**dict.fromkeys(COLUMNS, "0"), "machine": "a CPU", "torch": "2.13", "commit": "1234abc"}
    row |= {"model": "beta_vae", "settings": "beta 1"}
    rows = [
        {**row, "seed": str(seed), "mig": mig, "cpu_seconds": s}
        for seed, mig, s in ((2, "0.5", "30"), (1, "0.12", "50"), (10, "0.1", "40"))
    ]
    lines = table([*rows, {**rows[0], "settings": "beta 8", "mig": "0.7"}]).splitlines()
    assert lines[2] == "| `beta_vae` | beta 1 | 0.12 | 0.10 to 0.50 | 40 |"
    assert lines[3] == "| `beta_vae` | beta 8 | 0.70 | 0.70 to 0.70 | 30 |"
    assert lines[-1] == "Seeds 1, 2, 10; medians of a run's CPU time; a CPU, torch 2.13, 1234abc."
    assert table([]) == "Not measured yet.\n"


def test_what_was_measured() -> None:
    rows = harness.read(model_table.RESULTS)
    assert len(rows) == len(model_table.VARIANTS) * len(model_table.SEEDS)
    assert {row["model"] for row in rows} == {model for model, _ in model_table.VARIANTS} <= set(OBJECTIVES)
    assert max(float(row["cpu_seconds"]) for row in rows) <= 240
