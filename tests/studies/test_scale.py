"""The tables of docs/scale.md: sums of measured runs, and what grows beyond its limit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pytest

from bench.rows import ABSENT, Row, read
from disentangle_ext.runs.config import TrainConfig, resolve
from disentangle_ext.runs.presets import SWEEPS
from disentangle_ext.study.grid import read_grid
from studies import scale, scale_costs
from studies.scale_tables import (
    COMMANDS,
    MILLION,
    PARTS,
    SABOTAGE,
    commands_table,
    disturbed,
    grow,
    kinds,
    limits_of,
    million,
    runs_table,
    study_table,
    whole,
)


def cost(data_set: str, objective: str, **changes: str) -> Row:
    row = {
        **dict.fromkeys(scale_costs.COLUMNS, ""),
        "data_set": data_set,
        "objective": objective,
        "max_steps": "1000",
        "step_cpu_seconds": "3.5",
        "rest_cpu_seconds": "100",
        "files": "12",
        "bytes": "1000",
        "disk_bytes": "4000",
        "picture_files": "6",
        "picture_bytes": "300",
        "log_bytes": "10",
        "machine": "a CPU",
        "commit": "1234abc",
    }
    if (data_set, objective) == scale_costs.SCORED:
        row |= {"scoring_cpu_seconds": "36", "scoring_files": "1", "scoring_bytes": "50", "scoring_disk_bytes": "50"}
    return {**row, **changes}


COSTS = [cost(*kind) for kind in scale_costs.wanted()]
COMMAND = {"file_system": "tmpfs", "machine": "a CPU", "commit": "1234abc"}
SMALL = [
    {"command": name, "runs": "100", "seconds": "9", "cpu_seconds": "1", "megabytes": "200", **COMMAND}
    for name in ("plan", "status")
]
LARGE = [{**row, "runs": "1100", "cpu_seconds": "3", "megabytes": "300"} for row in SMALL]


def test_the_kinds_of_runs_are_those_of_the_grid() -> None:
    grid = read_grid("locatello")
    assert sum(runs for _, _, runs in kinds()) == len(grid.runs) == 12_600
    assert {objective for _, objective, _ in kinds()} == set(SWEEPS) == {run.config.model for run in grid.runs}
    assert len(kinds()) == 42
    gray = sum(runs for like, _, runs in kinds() if like == "dsprites_like")
    assert gray == 2 * 6 * 6 * 50  # dSprites as they are, and SmallNORB


def test_a_study_is_the_sum_of_its_runs() -> None:
    study = whole(COSTS)
    assert study.runs == 12_600
    assert study.cpu_hours == pytest.approx(12_600 * (3500 + 100 + 36) / 3600)
    assert (study.files, study.bytes, study.disk_bytes) == (12_600 * 13, 12_600 * 1050, 12_600 * 4050)
    lines = study_table(study).splitlines()
    assert "| days of a P100, by the published 1.75 hours a model | 919 |" in lines
    assert f"| inodes: the files, and a folder for each run | {12_600 * 14:,} |" in lines
    assert f"| inodes with the pictures of a run in one file | {12_600 * 9:,} |" in lines


def test_a_command_grows_along_the_line_through_two_studies() -> None:
    rows = [*LARGE, *SMALL]
    assert grow(rows, "plan", "cpu_seconds", 2100) == pytest.approx(5)
    assert grow(rows, "plan", "megabytes", 100) == 200
    assert commands_table(rows).splitlines()[2] == "| `plan` | 1,100 | 9 | 3 | 300 |"


def test_what_is_furthest_beyond_its_limit_comes_first() -> None:
    names = ("disk_bytes", "disk_inodes", "plan_bytes", "scores_bytes", "page_bytes", "list_seconds", "tasks_bytes")
    parts = [{"part": name, "runs": "100", "amount": "1000"} for name in (*names, "journal_seconds")]
    limits = {each.what: each for each in limits_of(whole(COSTS), [*SMALL, *LARGE], parts)}
    assert limits["inodes"].need == pytest.approx(14 * MILLION / 1e6)
    assert limits["tasks of the driver, in memory"].need == pytest.approx(1000 / 100 * MILLION / 1e9)
    assert limits["`plan`, seconds"].need == pytest.approx(1 + (MILLION - 100) * 2 / 1000)
    lines = million(whole(COSTS), [*SMALL, *LARGE], parts).splitlines()
    shares = [float(line.split("|")[-2].replace(",", "")) for line in lines[2:]]
    assert shares == sorted(shares, reverse=True)
    assert not any(math.isnan(share) for share in shares)


def test_nothing_is_made_up_for_what_was_not_measured() -> None:
    assert disturbed([]) == commands_table([]) == runs_table([]) == ABSENT


def test_what_an_update_and_scores_cost_are_differences_of_short_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    def short_run(config: TrainConfig, steps: int, metrics: Sequence[str] = ()) -> scale_costs.Ran:
        sizes = {"metrics.jsonl": (300, 4096), "samples.png": (5000, 8192), "model.safetensors": (9, 4096)}
        scores = {"codes.safetensors": (700, 4096), "evaluation.json": (70, 4096)} if metrics else {}
        return scale_costs.Ran(4 + 0.25 * steps + (50 if metrics else 0), {**sizes, **scores})

    monkeypatch.setattr(scale_costs, "short_run", short_run)
    row = scale_costs.measure(*scale_costs.SCORED, ("mig",))
    log = 100 * 300_000 // TrainConfig(model="beta_vae", data="digits").log_every
    assert {name: value for name, value in row.items() if name not in scale_costs.IDENTITY} == {
        "max_steps": "300000",
        "step_cpu_seconds": "0.2500",
        "rest_cpu_seconds": "4.0",
        "scoring_cpu_seconds": "50.0",
        "files": "3",
        "bytes": str(5009 + log),
        "disk_bytes": str(8192 + 4096 + -(-log // 4096) * 4096),
        "picture_files": "1",
        "picture_bytes": "5000",
        "log_bytes": str(log),
        "scoring_files": "2",
        "scoring_bytes": "770",
        "scoring_disk_bytes": "8192",
    }
    other = scale_costs.measure("shapes3d_like", "beta_vae", ("mig",))
    assert "scoring_cpu_seconds" not in other


def test_a_short_run_leaves_the_files_of_a_run() -> None:
    tiny = {"model": "beta_vae", "data": "digits", "network": "mlp", "width": 16, "batch_size": 8, "latent_dim": 3}
    ran = scale_costs.short_run(resolve({**tiny, "threads": 1}), 3, ("mig",))
    assert ran.cpu_seconds > 0
    assert {"samples.png", "model.safetensors", "codes.safetensors", "evaluation.json"} < set(ran.sizes)
    assert all(size > 0 for name, (size, _) in ran.sizes.items() if name != "DONE")


def test_the_commands_are_measured_on_a_study_that_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[str] = []

    def cost_of(command: list[str]) -> scale.Cost:
        called.append(command[3])
        return scale.Cost(2.0, 1.0, 300.0)

    monkeypatch.setattr(scale, "cost_of", cost_of)
    (tmp_path / "grid.yaml").write_text("grid: [{model: vae, data: digits}]\nseeds: 2\n")
    folder = tmp_path / "study"
    scale.write_plan(folder, read_grid(str(tmp_path / "grid.yaml")))
    rows = scale.measure_commands(folder)
    assert called == [row["command"] for row in rows] == ["plan", "status", "collect", "report"]
    assert rows[0] == {**rows[0], "runs": "2", "seconds": "2.0", "cpu_seconds": "1.0", "megabytes": "300.0"}


def test_what_was_measured() -> None:
    for row in read(SABOTAGE):
        assert (row["runs"], row["done"], row["torn"], row["trained_twice"]) == ("12600", "12600", "0", "0")
        assert int(row["kills"]) + int(row["stopped_kills"]) >= 30
        assert int(row["calls_killed"]) >= 3
    assert {int(row["runs"]) for row in read(COMMANDS)} == {36, 12_600}
    assert {row["part"] for row in read(PARTS)} >= {"plan_bytes", "tasks_bytes", "journal_seconds"}
    assert {(row["data_set"], row["objective"]) for row in read(scale_costs.RESULTS)} <= set(scale_costs.wanted())
    for row in read(COMMANDS):
        if row["command"] != "report":
            assert float(row["cpu_seconds"]) < 10
        assert float(row["megabytes"]) < 1000
