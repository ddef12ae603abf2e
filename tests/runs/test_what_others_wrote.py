"""Run folders that something else has written in: one line that says what is wrong, and nothing is lost."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import disentangle_ext
from disentangle_ext import train as train_module
from disentangle_ext.engine.trainer import Trainer
from disentangle_ext.runs.checkpoint import (
    Checkpoint,
    checkpoints_in,
    read_checkpoint,
    save_checkpoint,
    save_tensors,
)
from disentangle_ext.runs.folder import RunFolder

STOP = 7


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, small_run_once: Callable[..., int]) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert small_run_once(folder) == 0
    return folder


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory, small_run_once: Callable[..., int]) -> Path:
    """A run that was interrupted after step 7, with checkpoints of steps 6 and 7."""
    folder, update = tmp_path_factory.mktemp("begun") / "run", Trainer.update

    def interrupted(trainer: Trainer) -> Any:
        if trainer.step == STOP - 1:
            import os
            import signal

            os.kill(os.getpid(), signal.SIGTERM)
        return update(trainer)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "update", interrupted)
        assert small_run_once(folder) == 75
    assert [path.name for path in checkpoints_in(folder / "checkpoints")] == [
        f"step-{step:010d}.safetensors" for step in (6, 7)
    ]
    return folder


@pytest.fixture
def run(begun: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(begun, tmp_path / "run"))


def resume(run: Path, *arguments: str) -> int:
    return train_module.main(["--resume", "--output-dir", str(run), "--device", "cpu", *arguments])


def newest(run: Path) -> Path:
    return checkpoints_in(run / "checkpoints")[-1]


def flip(path: Path, place: float) -> None:
    """Flip one bit at a part of the file, counted in its tensors."""
    content = bytearray(path.read_bytes())
    header = 8 + int.from_bytes(content[:8], "little")
    content[header + int(place * (len(content) - header - 1))] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("place", [0, 0.37, 1])
def test_a_flipped_bit_in_the_newest_checkpoint(
    run: Path, whole: Path, left: Callable[[Path], Any], capsys: pytest.CaptureFixture[str], place: float
) -> None:
    path = newest(run)
    flip(path, place)
    assert resume(run) == 0
    damaged = f"train: {path} is damaged: its contents do not match its checksum"
    assert capsys.readouterr().err.startswith(f"{damaged}; going on from step-0000000006.safetensors")
    assert left(run) == left(whole)


def test_load_refuses_a_flipped_bit(whole: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes((whole / "model.safetensors").read_bytes())
    disentangle_ext.load(path)
    flip(path, 0.5)
    with pytest.raises(
        ValueError, match=r"load: .*model.safetensors is damaged: its contents do not match its checksum"
    ):
        disentangle_ext.load(path)


@pytest.mark.parametrize(("name", "value", "was"), [("seed", 5, 0), ("latent_dim", 4, 3), ("beta", 2.0, 8.0)])
def test_a_configuration_that_was_edited(
    run: Path, capsys: pytest.CaptureFixture[str], name: str, value: float, was: float
) -> None:
    path = run / "config.yaml"
    before = {file: file.read_bytes() for file in run.rglob("*") if file.is_file() and file != path}
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), name: value}))
    assert resume(run) == 2
    said = f"train: --resume: {name} is {value} in {path}, and was {was} at the checkpoint of step 7: put it back"
    assert capsys.readouterr().err.startswith(said)
    assert {file: file.read_bytes() for file in run.rglob("*") if file.is_file() and file != path} == before


def not_a_record(run: Path) -> None:
    (run / "env.json").write_text("[1, 2]")


def no_records_of_resuming(run: Path) -> None:
    (run / "env.json").write_text('{"resumed": "once"}')


def rows_without_a_step(run: Path) -> None:
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"loss": 1.0}\n"a word"\n')


def a_folder_named_like_a_checkpoint(run: Path) -> None:
    (run / "checkpoints" / "step-0000000011.safetensors").mkdir()
    (run / "checkpoints" / "step-x.safetensors").touch()


@pytest.mark.parametrize(
    "spoil", [not_a_record, no_records_of_resuming, rows_without_a_step, a_folder_named_like_a_checkpoint]
)
def test_what_a_run_does_without(
    run: Path, whole: Path, left: Callable[[Path], Any], spoil: Callable[[Path], None]
) -> None:
    spoil(run)
    assert resume(run) == 0
    ours, theirs = left(run), left(whole)
    for each in (ours, theirs):  # the folder that somebody has put there stays
        each["files"] = [name for name in each["files"] if name != "checkpoints"]
    assert ours == theirs


def without_a_state(path: Path) -> None:
    save_tensors(path, {"a": torch.zeros(1)}, {"format": 2, "step": 7})


def with_a_step_that_is_none(path: Path) -> None:
    save_tensors(path, {"a": torch.zeros(1)}, {"format": 2, "step": "x", "state": {}})


def without_a_header(path: Path) -> None:
    import safetensors.torch

    safetensors.torch.save_file({"a": torch.zeros(1)}, path)


@pytest.mark.parametrize("spoil", [without_a_state, with_a_step_that_is_none, without_a_header])
def test_a_checkpoint_that_is_none(
    run: Path, capsys: pytest.CaptureFixture[str], spoil: Callable[[Path], None]
) -> None:
    for path in checkpoints_in(run / "checkpoints"):
        spoil(path)
    assert resume(run) == 2
    error = capsys.readouterr().err
    assert str(newest(run)) in error
    assert error.count("\n") == 1


def with_no_state(checkpoint: Checkpoint) -> Checkpoint:
    return checkpoint._replace(state={})


def with_a_configuration_alone(checkpoint: Checkpoint) -> Checkpoint:
    return checkpoint._replace(state={"config": checkpoint.state["config"]})


def without_a_meter(checkpoint: Checkpoint) -> Checkpoint:
    return checkpoint._replace(tensors={name: each for name, each in checkpoint.tensors.items() if name != "meter"})


def without_a_weight(checkpoint: Checkpoint) -> Checkpoint:
    first = next(name for name in checkpoint.tensors if name.startswith("model."))
    return checkpoint._replace(tensors={name: each for name, each in checkpoint.tensors.items() if name != first})


def with_a_weight_of_another_network(checkpoint: Checkpoint) -> Checkpoint:
    return checkpoint._replace(tensors={**checkpoint.tensors, "model.encoder.another": torch.zeros(1)})


def with_short_moments(checkpoint: Checkpoint) -> Checkpoint:
    """The fused step would read past their end."""
    cut = {name: each[:1] for name, each in checkpoint.tensors.items() if name.startswith("optimizer.") and each.ndim}
    return checkpoint._replace(tensors={**checkpoint.tensors, **cut})


def with_moments_of_no_parameter(checkpoint: Checkpoint) -> Checkpoint:
    return checkpoint._replace(tensors={**checkpoint.tensors, "optimizer.99.exp_avg": torch.zeros(1)})


FOREIGN: list[tuple[Callable[[Checkpoint], Checkpoint], str]] = [
    (with_no_state, "train: --resume: the checkpoint of step 7 in "),
    (with_a_configuration_alone, "Trainer.load: the checkpoint of step 7 has no optimizer"),
    (without_a_meter, "Trainer.load: the checkpoint of step 7 has no meter"),
    (without_a_weight, "as in this run, got absent"),
    (with_a_weight_of_another_network, "model.encoder.another must be absent as in this run, got [1]"),
    (with_short_moments, "optimizer: exp_avg of parameter 0 must have its shape "),
    (with_moments_of_no_parameter, "optimizer: there are 14 parameters, got exp_avg of parameter 99"),
]


@pytest.mark.parametrize(("change", "message"), FOREIGN, ids=lambda each: getattr(each, "__name__", None))
def test_a_checkpoint_of_another_run(
    run: Path, capsys: pytest.CaptureFixture[str], change: Callable[[Checkpoint], Checkpoint], message: str
) -> None:
    for path in checkpoints_in(run / "checkpoints"):
        save_checkpoint(path.parent, change(read_checkpoint(path)))
    assert resume(run) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (run / "DONE").exists()


def test_a_checkpoint_from_after_the_last_step(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = newest(run)
    save_checkpoint(path.parent, read_checkpoint(path)._replace(step=10**9))
    assert resume(run) == 2
    assert "has a checkpoint of step 1000000000, after max_steps 12" in capsys.readouterr().err
    assert not (run / "DONE").exists()


def test_a_configuration_nested_too_deeply(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "config.yaml").write_text("[" * 5000)
    assert resume(run) == 2
    error = capsys.readouterr().err
    assert "config.yaml is no YAML: " in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("arguments", [["--latent-dim", str(10**18)], ["--threads", "1000000"]])
def test_numbers_beyond_every_machine(
    tmp_path: Path, small_run: Callable[..., int], capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    assert small_run(tmp_path / "run", *arguments) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_folder_that_vanishes(
    tmp_path: Path, small_run: Callable[..., int], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    append = RunFolder.append_metrics

    def vanish(folder: RunFolder, row: dict[str, Any]) -> None:
        shutil.rmtree(folder.path)
        append(folder, row)

    monkeypatch.setattr(RunFolder, "append_metrics", vanish)
    assert small_run(tmp_path / "run") == 74
    assert capsys.readouterr().err.startswith(f"train: cannot write {tmp_path / 'run' / 'metrics.jsonl'}: No such file")


def test_a_link_in_the_place_of_a_temporary_file(run: Path, tmp_path: Path) -> None:
    target = tmp_path / "precious"
    target.write_text("mine")
    for name in ("metrics.jsonl", "env.json", "model.safetensors"):
        (run / f".{name}.partial").symlink_to(target)
    assert resume(run) == 0
    assert target.read_text() == "mine"
    assert json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])["step"] == 12
