"""What a study will cost, from a short run of each kind."""

from __future__ import annotations

from pathlib import Path

import pytest

from disentangle_ext._exit_codes import ExitCode
from disentangle_ext.study.__main__ import main
from disentangle_ext.study.grid import read_grid
from disentangle_ext.study.measure import Cost, kinds_of, measure, total
from disentangle_ext.study.work import Task

GRID = """
base: {data: digits, quick: true, network: mlp, width: 16, max_steps: 600}
grid: [{model: beta_vae, beta: [1, 4], lr: [1e-3, 1e-4]}, {model: vae, batch_size: [32, 64]}]
seeds: 2
metrics: [mig]
"""


@pytest.fixture
def grid(tmp_path: Path) -> str:
    (tmp_path / "grid.yaml").write_text(GRID)
    return str(tmp_path / "grid.yaml")


def test_runs_that_differ_in_seed_and_real_numbers_are_of_one_kind(grid: str) -> None:
    kinds = kinds_of(read_grid(grid).runs)
    assert [(kind.name, kind.runs, kind.example.batch_size) for kind in kinds] == [
        ("beta_vae on digits", 8, 64),
        ("vae on digits", 2, 32),
        ("vae on digits", 2, 64),
    ]


def test_a_kind_is_weighed_by_a_run_that_is_finished_and_scored(grid: str) -> None:
    kinds = kinds_of(read_grid(grid).runs)[:1]
    (cost,) = measure(kinds, ("mig",), device="cpu")
    assert isinstance(cost, Cost)
    assert 0 < cost.step < 1 < cost.seconds(kinds[0].example) < 600
    assert 5_000 < cost.size < 5_000_000
    assert cost.files > 10
    assert total(kinds, [cost]).startswith("8 runs: ")
    assert f"{8 * cost.files:,} files" in total(kinds, [cost])


def test_a_kind_that_cannot_be_trained_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISENTANGLE_EXT_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "grid.yaml"
    path.write_text("grid: [{model: vae, data: cars3d}]\n")
    (cost,) = measure(kinds_of(read_grid(str(path)).runs), ("mig",))
    assert str(cost).startswith("Cars3D: there is no ")


def test_a_signal_stops_the_measurement_and_not_one_kind_alone(grid: str, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[Task] = []

    def is_stopped(task: Task) -> int:
        begun.append(task)
        return ExitCode.STOPPED

    monkeypatch.setattr("disentangle_ext.study.measure.work", is_stopped)
    with pytest.raises(KeyboardInterrupt):
        measure(kinds_of(read_grid(grid).runs), ("mig",))
    assert len(begun) == 1


def test_a_device_is_refused_where_nothing_is_measured(
    grid: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", grid, "--output-dir", str(tmp_path / "study"), "--device", "cpu"]) == 2
    assert capsys.readouterr().err == "study: --device belongs to --measure, got --device cpu alone\n"
    assert not (tmp_path / "study").exists()


def test_plan_says_that_the_hours_are_unknown_unless_it_measures(
    grid: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", grid, "--output-dir", str(tmp_path / "study")]) == 0
    printed = capsys.readouterr().out
    assert "12 runs of 3 kinds, scored by mig" in printed
    (tmp_path / "one.yaml").write_text("grid: [{model: vae, data: digits}]\nmetrics: [mig]\n")
    assert main(["plan", str(tmp_path / "one.yaml"), "--output-dir", str(tmp_path / "one")]) == 0
    assert capsys.readouterr().out.startswith("1 run of 1 kind, scored by mig\n")
    assert "Hours and disk: unknown" in printed
