"""What happens to run folders between two calls, or while a call loads its data, decides what is trained."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from disentangle_ext import train as train_module
from disentangle_ext.engine.stack import Stack
from disentangle_ext.engine.trainer import Trainer
from disentangle_ext.runs.folder import RunFolder
from disentangle_ext.training import fit

BOTH = ["--vary", "seed=0,1"]


def resume(folder: Path, *arguments: str) -> int:
    return train_module.main(["--resume", "--device", "cpu", "--output-dir", str(folder), *arguments])


def stopped(monkeypatch: pytest.MonkeyPatch, call: Callable[[], int], *, at: int, kind: type = Trainer) -> None:
    """Make a call that SIGTERM stops in an update of that step."""
    update = kind.update

    def interrupted(self: Any) -> Any:
        if self.step == at:
            os.kill(os.getpid(), signal.SIGTERM)
        return update(self)

    with monkeypatch.context() as patch:
        patch.setattr(kind, "update", interrupted)
        assert call() == 75


def while_loading(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    load = fit.load_data

    def loading(*arguments: Any, **options: Any) -> Any:
        monkeypatch.setattr(fit, "load_data", load)
        act()
        return load(*arguments, **options)

    monkeypatch.setattr(fit, "load_data", loading)


def max_steps(folder: Path) -> int:
    return yaml.safe_load((folder / "config.yaml").read_text())["max_steps"]


@pytest.mark.parametrize("several", [[], BOTH])
def test_a_run_that_another_process_finishes_meanwhile_stays_as_it_is(
    tmp_path: Path, small_run: Callable[..., int], monkeypatch: pytest.MonkeyPatch, several: list[str]
) -> None:
    folder = tmp_path / "run"
    run = folder / "seed-0" if several else folder
    stopped(monkeypatch, lambda: small_run(folder, *several), at=4)
    finished = []

    def finish() -> None:
        assert resume(run) == 0
        finished.append((run / "metrics.jsonl").read_bytes())

    while_loading(monkeypatch, finish)
    assert resume(folder) == 0
    assert [(run / "metrics.jsonl").read_bytes()] == finished


def test_runs_that_were_to_be_overwritten_are_not_taken_for_the_new_ones(
    tmp_path: Path, small_run: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "runs"
    assert small_run(folder, *BOTH, "--max-steps", "6") == 0
    stopped(monkeypatch, lambda: small_run(folder, *BOTH, "--overwrite"), at=4)
    assert not RunFolder(folder / "seed-1").is_done
    assert resume(folder) == 0
    for name in ("seed-0", "seed-1"):
        assert RunFolder(folder / name).read_metrics()[-1]["step"] == max_steps(folder / name) == 12


@pytest.mark.parametrize("how", [["--stack", "2"], BOTH])
def test_runs_of_which_another_process_trains_one_are_refused_before_anything_is_written(
    tmp_path: Path, small_run: Callable[..., int], capsys: pytest.CaptureFixture[str], how: list[str]
) -> None:
    folder = tmp_path / "runs"
    assert small_run(folder, *how, "--max-steps", "3") == 0
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with RunFolder(folder / "seed-1").lock():
        assert small_run(folder, *how, "--overwrite") == 2
        assert (folder / "seed-1" / ".lock").exists()
    assert capsys.readouterr().err == f"train: --output-dir {folder / 'seed-1'}: another process is training there\n"
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_the_lock_of_another_process_is_left_to_it(tmp_path: Path, small_run: Callable[..., int]) -> None:
    assert small_run(tmp_path / "run") == 0
    with RunFolder(tmp_path / "run").lock():
        assert resume(tmp_path / "run") == 2
        assert (tmp_path / "run" / ".lock").exists()
    assert resume(tmp_path / "run") == 0
    assert not (tmp_path / "run" / ".lock").exists()


def test_a_run_that_was_trained_with_other_settings_is_not_one_of_these(
    tmp_path: Path, small_run: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "runs"
    stopped(monkeypatch, lambda: small_run(folder, *BOTH), at=4)
    assert small_run(folder / "seed-0", "--max-steps", "6", "--overwrite") == 0
    capsys.readouterr()
    assert resume(folder) == 2
    config = folder / "seed-0" / "config.yaml"
    message = f"train: --resume: max_steps is 6 in {config}, and must be 12: the folder holds another run\n"
    assert capsys.readouterr().err == message


def test_a_run_that_was_given_up_and_goes_on_is_not_given_up_any_more(
    tmp_path: Path, small_run: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "runs"
    stopped(monkeypatch, lambda: small_run(folder, *BOTH), at=4)
    run = RunFolder(folder / "seed-0")
    run.fail("loss is nan at step 5")
    stopped(monkeypatch, lambda: resume(run.path), at=8)
    assert run.failure is None
    assert "given up" not in capsys.readouterr().err
    assert resume(folder) == 0
    assert run.is_done


@pytest.mark.parametrize("resumed", [False, True])
def test_a_folder_that_vanishes_before_a_checkpoint_is_not_made_again(
    resumed: bool,
    tmp_path: Path,
    small_run: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder, update = tmp_path / "run", Trainer.update
    if resumed:
        stopped(monkeypatch, lambda: small_run(folder), at=1)

    def vanish(trainer: Trainer) -> Any:
        if trainer.step == 4:
            shutil.rmtree(folder)
        return update(trainer)

    monkeypatch.setattr(Trainer, "update", vanish)
    capsys.readouterr()
    assert (resume(folder) if resumed else small_run(folder, "--checkpoint-every", "5", "--log-every", "100")) == 74
    error = capsys.readouterr().err
    assert error.startswith(f"train: cannot write {folder / ('metrics.jsonl' if resumed else 'checkpoints')}: No such")
    advice = "Nothing is left to go on with" if resumed else "To start again: the same command"
    assert error.endswith(f"No such file or directory. {advice}\n")
    assert not folder.exists()


def test_checkpoints_that_cannot_be_read_are_kept(
    tmp_path: Path, small_run: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "runs"
    stopped(monkeypatch, lambda: small_run(folder, "--stack", "2", "--checkpoint-every", "3"), at=5, kind=Stack)
    files = sorted(folder.glob("*/checkpoints/*"))
    assert len(files) == 2 * 2
    for path in files:
        path.write_bytes(b"damaged")
    assert resume(folder) == 2
    assert "have no readable checkpoint of the same step" in capsys.readouterr().err
    assert sorted(folder.glob("*/checkpoints/*")) == files


def test_a_run_of_a_stack_that_is_gone_does_not_set_the_others_back(
    tmp_path: Path, small_run: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "runs"
    stopped(monkeypatch, lambda: small_run(folder, "--stack", "2", "--checkpoint-every", "3"), at=5, kind=Stack)
    shutil.rmtree(folder / "seed-1")
    files = sorted(folder.glob("*/checkpoints/*"))
    assert resume(folder) == 2
    assert "no readable checkpoint of the same step (seed-0 [3, 6]; seed-1 [])" in capsys.readouterr().err
    assert sorted(folder.glob("*/checkpoints/*")) == files
