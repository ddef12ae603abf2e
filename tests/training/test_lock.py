"""Two processes in one run folder: the second says so in one line, and the first is not disturbed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from disentangle_ext import train as train_module
from disentangle_ext.engine.trainer import Trainer
from tests.conftest import SMALL
from tests.processes import Program


@pytest.mark.forks
@pytest.mark.parametrize(
    ("how", "several"),
    [("--resume", False), ("--overwrite", False), ("--overwrite", True), ("a run of the stack", True)],
)
def test_the_second_process_is_refused(
    tmp_path: Path,
    small_run: Callable[..., int],
    left: Callable[[Path], Any],
    monkeypatch: pytest.MonkeyPatch,
    how: str,
    several: bool,
) -> None:
    run, update, seen = tmp_path / "run", Trainer.update, []
    stack = ["--stack", "1"] if several else []
    start = ["--model", "beta_vae", *SMALL, *stack, "--overwrite", "--output-dir", str(run)]
    alone = ["--resume", "--device", "cpu", "--output-dir", str(run / "seed-0")]
    call = {"--resume": ["--resume", "--output-dir", str(run)], "--overwrite": start, "a run of the stack": alone}[how]

    def meanwhile(trainer: Trainer) -> Any:
        if trainer.step == 5:
            second = Program(tmp_path / "printed", *call)
            seen.append((second.code(), second.printed().splitlines()[-1]))
        return update(trainer)

    assert small_run(tmp_path / "whole", *stack) == 0
    monkeypatch.setattr(Trainer, "update", meanwhile)
    assert small_run(run, *stack) == 0
    folder = run / "seed-0" if how == "a run of the stack" else run
    assert seen == [(2, f"train: --output-dir {folder}: another process is training there")]
    name = "seed-0" if several else ""
    assert left(run / name) == left(tmp_path / "whole" / name)
    assert not (run / ".lock").exists()


def test_a_lock_that_a_killed_process_has_left_is_none(tmp_path: Path, small_run: Callable[..., int]) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".lock").touch()
    (tmp_path / "run" / ".config.yaml.0123456789abcdef.partial").touch()
    assert small_run(tmp_path / "run") == 0
    assert not [path for path in (tmp_path / "run").iterdir() if path.name.startswith(".")]


def test_an_exception_of_ours_is_no_mistake_of_the_caller(
    tmp_path: Path, small_run: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(trainer: Trainer) -> Any:
        raise ValueError("a bug")

    monkeypatch.setattr(Trainer, "update", wrong)
    with pytest.raises(ValueError, match="a bug"):
        small_run(tmp_path / "run")
    monkeypatch.undo()
    assert train_module.main(["--resume", "--output-dir", str(tmp_path / "run"), "--device", "cpu"]) == 0


@pytest.mark.parametrize("flag", ["--stack=2", "--vary=seed=0,1"])
def test_data_options_that_are_refused_leave_no_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flag: str
) -> None:
    data = ["--data", "torus_like", "--data-classes", "1"]
    call = ["--model", "vae", *data, flag, "--output-dir", str(tmp_path / "run")]
    assert train_module.main(call) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "run").exists()
