"""What a run folder accepts and what it protects."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from disentangle_ext._files import write_atomically
from disentangle_ext.runs.folder import RunFolder


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "run")
    folder.start("model: x\n")
    folder.note_environment(0)
    return folder


def test_a_run_is_never_overwritten_silently(folder: RunFolder) -> None:
    with pytest.raises(FileExistsError, match=r"--output-dir .*run holds an unfinished run: give --resume"):
        folder.check()
    folder.finish()
    with pytest.raises(FileExistsError, match=r"--output-dir .*run holds a finished run: give another"):
        folder.check()


def test_overwrite_removes_the_old_run_and_nothing_else(folder: RunFolder) -> None:
    folder.append_metrics({"step": 1})
    folder.write_json("scores.json", {})
    (folder.checkpoints / "step-1.safetensors").touch()
    folder.finish()
    (folder.path / "notes.txt").write_text("mine")
    folder.check(overwrite=True)
    folder.clear()
    assert sorted(path.name for path in folder.path.iterdir()) == ["config.yaml", "notes.txt"]
    folder.start("model: y\n")
    folder.note_environment(0)
    assert sorted(path.name for path in folder.path.iterdir()) == [
        "checkpoints",
        "config.yaml",
        "env.json",
        "notes.txt",
    ]
    assert list(folder.checkpoints.iterdir()) == []
    assert (folder.path / "config.yaml").read_text() == "model: y\n"


@pytest.mark.parametrize("overwrite", [False, True])
def test_other_folders_are_left_alone(tmp_path: Path, overwrite: bool) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(FileExistsError, match="must be a new or empty folder"):
        RunFolder(tmp_path).check(overwrite=overwrite)
    with pytest.raises(FileExistsError, match="must be a new or empty folder"):
        RunFolder(tmp_path / "thesis.tex").check(overwrite=overwrite)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_an_empty_folder_is_fine(tmp_path: Path) -> None:
    RunFolder(tmp_path).check()
    RunFolder(tmp_path).start("model: x\n")
    assert RunFolder(tmp_path).is_run


def test_environment_names_versions_and_no_machine(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    content = json.loads((folder.path / "env.json").read_text())
    assert set(content) >= {"disentangle_ext", "torch", "python", "build_info", "threads"}
    assert os.uname().nodename not in json.dumps(content)


def test_metrics(folder: RunFolder) -> None:
    for step in (10, 20, 30):
        folder.append_metrics({"step": step, "loss": 0.1})
    with open(folder.path / "metrics.jsonl", "a") as file:
        file.write('{"step": 40, "lo')  # as a killed process leaves it
    assert [row["step"] for row in folder.read_metrics()] == [10, 20, 30]
    folder.go_back_to(20)
    folder.append_metrics({"step": 30, "loss": 0.2})
    assert [(row["step"], row["loss"]) for row in folder.read_metrics()] == [(10, 0.1), (20, 0.1), (30, 0.2)]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    write_atomically(path, b"old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [each.name for each in tmp_path.iterdir()] == ["a"]


def test_overwrite_and_finish_leave_other_files_among_the_checkpoints(folder: RunFolder) -> None:
    (folder.checkpoints / "step-1.safetensors").touch()
    (folder.checkpoints / ".step-2.safetensors.partial").touch()
    (folder.checkpoints / "mine").mkdir()
    folder.finish()
    assert [path.name for path in folder.checkpoints.iterdir()] == ["mine"]
    folder.clear()
    assert [path.name for path in folder.checkpoints.iterdir()] == ["mine"]
