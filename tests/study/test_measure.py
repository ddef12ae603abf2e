"""What a study will cost, from a short run of each kind."""

from __future__ import annotations

from pathlib import Path

import pytest

from disentangle_ext.study.__main__ import main
from disentangle_ext.study.grid import read_grid
from disentangle_ext.study.measure import Cost, kinds_of, measure, total

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


def test_plan_says_that_the_hours_are_unknown_unless_it_measures(
    grid: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", grid, "--output-dir", str(tmp_path / "study")]) == 0
    printed = capsys.readouterr().out
    assert "12 runs of 3 kinds, scored by mig" in printed
    assert "Hours and disk: unknown" in printed
