"""Runs over seeds: what is finished is kept, what is of another recipe is not; and the table of DC-IGN."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench import dcign_faces, seed_runs
from bench.harness import read
from bench.seed_runs import IDENTITY, Run, collect, write

QUICK = ("--model", "vae", "--data", "dsprites_like", "--quick", "--max-steps", "2")


def test_a_row_is_found_by_seed_recipe_and_versions(tmp_path: Path) -> None:
    run = Run((*QUICK, "--seed", "3"), tmp_path / "a")
    assert (run.identity["seed"], run.identity["steps"]) == ("3", "2")
    other_seed, other_recipe = (replace(run, arguments=(*QUICK, *more)) for more in (("--seed", "4"), ("--lr", "1")))
    assert run.identity["recipe"] == other_seed.identity["recipe"] != other_recipe.identity["recipe"]
    rows = [{**each.identity, "score": str(k)} for k, each in enumerate((run, other_seed, other_recipe))]
    write(tmp_path / "rows.csv", (*IDENTITY, "score"), rows)
    assert read(tmp_path / "rows.csv") == rows
    assert collect(tmp_path / "rows.csv", [run.identity, other_seed.identity]) == rows[:2]
    assert collect(tmp_path / "none.csv", [run.identity]) == []


def test_a_run_goes_on_is_kept_and_begins_anew_with_another_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[list[str]] = []
    exit_code = 0

    def call(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        calls.append(command)
        monkeypatch.setattr(seed_runs, "_children", lambda: 5.0 * len(calls))
        return subprocess.CompletedProcess(command, exit_code)

    monkeypatch.setattr(subprocess, "run", call)
    monkeypatch.setattr(seed_runs, "_children", lambda: 0.0)
    run = Run(QUICK, tmp_path / "a")
    run.folder.mkdir()
    exit_code = 130
    with pytest.raises(KeyboardInterrupt):
        run.train()
    assert calls[-1][-2:] == ["--output-dir", str(run.folder)]
    (run.folder / "config.yaml").write_text(seed_runs.to_yaml(run.config))
    exit_code = 0
    run.train()
    assert calls[-1][-1] == "--resume"
    assert run.cpu_seconds == 10, "of both calls"
    other = replace(run, arguments=(*QUICK, "--lr", "0.5"))
    other.train()
    assert calls[-1][-1] == "--overwrite"
    assert other.cpu_seconds == 5
    exit_code = 2
    with pytest.raises(SystemExit, match="ended with exit code 2"):
        run.train()


def test_measures_of_dcign_are_those_of_held_out_heads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(QUICK, tmp_path)
    monkeypatch.setattr(Run, "train", lambda self: None)
    names = ("identity", *dcign_faces.FACTORS)
    scores = {
        "held_out": True,
        "correlations": dict(zip(names, (None, 0.9, 0.8, 0.7), strict=True)),
        "latents": dict(zip(names, (-1, 0, 1, 2), strict=True)),
        "matrix": [[0.1, 0.9, 0.2, 0.3], [0.1, 0.4, 0.8, 0.2], [0.3, 0.1, 0.2, 0.7], [0.2, 0.1, 0.85, 0.1]],
    }
    (tmp_path / "scores.json").write_text(json.dumps({"correlation": scores}))
    row = dcign_faces.measure(run)
    assert row == {
        **{"azimuth": "0.9000", "elevation": "0.8000", "light": "0.7000"},
        **{"azimuth_other": "0.4000", "elevation_other": "0.8500", "light_other": "0.3000", "cpu_seconds": "0"},
    }
    rows = [{**row, "seed": str(k), "azimuth": azimuth, "steps": "9", "torch": "2"} for k, azimuth in enumerate("010")]
    lines = dcign_faces.table([*rows]).splitlines()
    assert lines[2] == "| 0 | 0.00 | 0.80 | 0.70 | 0.40, 0.85, 0.30 | 0 |"
    assert lines[5].startswith("| median | 0.00 |")
    scores["held_out"] = False
    (tmp_path / "scores.json").write_text(json.dumps({"correlation": scores}))
    with pytest.raises(SystemExit, match="was not scored on held-out identities"):
        dcign_faces.measure(run)
