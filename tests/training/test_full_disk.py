"""A full disk, at every write of a run: nothing that was there is lost, and the run goes on when there is room."""

from __future__ import annotations

import errno
import os
import re
import resource
import shlex
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from disentangle_ext import _files, evaluate
from disentangle_ext import train as train_module
from disentangle_ext._files import WriteError, append_line, write_atomically
from disentangle_ext.report import __main__ as report_module
from disentangle_ext.runs.checkpoint import checkpoints_in, read_tensors
from disentangle_ext.training import loop

RESUME = "To go on: python -m disentangle_ext.train --resume --output-dir "


class Disk:
    """Takes so many writes and synchronisations, and from then on none: of the one that fails, half the bytes."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.refused = False
        self._write, self._fsync = os.write, os.fsync

    def _take(self) -> None:
        self.room -= 1
        if self.room < 0:
            self.refused = True
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def write(self, descriptor: int, content: Any) -> int:
        if self.room == 0 and len(content) > 1:
            self._write(descriptor, content[: len(content) // 2])
        self._take()
        return self._write(descriptor, content)

    def fsync(self, descriptor: int) -> None:
        self._take()
        self._fsync(descriptor)

    def fill(self, patch: pytest.MonkeyPatch) -> None:
        patch.setattr(_files.os, "write", self.write)
        patch.setattr(_files.os, "fsync", self.fsync)


def assert_nothing_is_half_written(folder: Path) -> None:
    assert not [path for path in folder.rglob("*") if path.name.endswith(".partial")]
    for path in folder.rglob("*.safetensors"):
        read_tensors(path)
    rows = folder / "metrics.jsonl"
    assert not rows.exists() or rows.read_text() == "" or rows.read_text().endswith("}\n")


def go_on(line: str, again: Callable[[], int]) -> int:
    """Do what the line on stderr says."""
    if line.endswith("To start again: the same command"):
        return again()
    return train_module.main(shlex.split(line[line.index(RESUME) :])[6:])


def test_a_full_disk_at_every_write_in_turn(
    tmp_path: Path, small_run: Callable[..., int], left: Callable[[Path], Any], capsys: pytest.CaptureFixture[str]
) -> None:
    few = ["--max-steps", "4", "--checkpoint-every", "2"]
    assert small_run(tmp_path / "whole", *few) == 0
    failed = set()
    for room in range(100):
        folder = tmp_path / f"after {room}"
        capsys.readouterr()
        disk = Disk(room)
        with pytest.MonkeyPatch.context() as patch:
            disk.fill(patch)
            code = small_run(folder, *few)
        if not disk.refused:
            assert code == 0
            break
        (line,) = capsys.readouterr().err.splitlines()
        assert code == 74, line
        assert line.startswith(f"train: cannot write {folder}")
        assert "No space left on device" in line
        failed.add(Path(line.split(": ")[1].removeprefix("cannot write ")).name)
        assert_nothing_is_half_written(folder)
        assert go_on(line, lambda folder=folder: small_run(folder, *few)) == 0
        assert left(folder) == left(tmp_path / "whole")
    steps = {f"step-{step:010d}.safetensors" for step in (2, 4)}
    rest = {"config.yaml", "env.json", "metrics.jsonl", "model.safetensors", "scores.json", "samples.png", "DONE"}
    assert failed == steps | rest


def test_a_limit_on_the_size_of_files(
    tmp_path: Path, small_run: Callable[..., int], left: Callable[[Path], Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """The kernel's own refusal, in the middle of a file: EFBIG, as SIGXFSZ is ignored."""
    assert small_run(tmp_path / "whole") == 0
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, before[1]))
    try:
        code = small_run(tmp_path / "run")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    (line,) = capsys.readouterr().err.splitlines()
    assert code == 74
    assert "step-0000000003.safetensors: File too large. To go on: " in line
    assert_nothing_is_half_written(tmp_path / "run")
    assert go_on(line, lambda: 1) == 0
    assert left(tmp_path / "run") == left(tmp_path / "whole")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    where = tmp_path / "disk"
    where.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(where)]
    try:
        mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("needs the right to mount")
    yield where
    subprocess.run(["umount", "--lazy", str(where)], check=True)


@pytest.mark.parametrize("at", [0, 1, 3])
def test_a_disk_that_is_full(
    tmp_path: Path,
    disk: Path,
    small_run: Callable[..., int],
    left: Callable[[Path], Any],
    capsys: pytest.CaptureFixture[str],
    at: int,
) -> None:
    assert small_run(tmp_path / "whole") == 0
    save, saved, filler = loop.save_checkpoint, [], disk / "filler"

    def fill_and_save(folder: Path, checkpoint: Any) -> None:
        if len(saved) == at:
            with suppress(OSError), open(filler, "wb", buffering=0) as file:
                while True:
                    file.write(bytes(512))
        saved.append(save(folder, checkpoint))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "save_checkpoint", fill_and_save)
        assert small_run(disk / "run") == 74
    (line,) = capsys.readouterr().err.splitlines()
    assert f"step-{3 * (at + 1):010d}.safetensors: No space left on device. To go on: " in line
    assert_nothing_is_half_written(disk / "run")
    assert checkpoints_in(disk / "run" / "checkpoints") == saved[-2:]
    assert train_module.main(["--resume", "--output-dir", str(disk / "run")]) == 74  # there is still no room
    assert checkpoints_in(disk / "run" / "checkpoints") == saved[-2:]
    filler.unlink()
    assert go_on(line, lambda: 1) == 0
    assert left(disk / "run") == left(tmp_path / "whole")


def test_a_folder_that_cannot_be_written_exits_74(
    tmp_path: Path, small_run: Callable[..., int], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, *args: Any, **kwargs: Any) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)
    assert small_run(tmp_path / "run") == 74
    said = f"train: {tmp_path / 'run'}: Permission denied. To start again: the same command\n"
    assert capsys.readouterr().err == said


def test_evaluate_and_report_say_the_same(
    tmp_path: Path, small_run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert small_run(run) == 0
    picture = (run / "samples.png").read_bytes()
    calls: list[tuple[Callable[[list[str]], int], list[str], str]] = [
        (evaluate.main, [str(run), "--metrics", "mig"], "evaluate: cannot write"),
        (report_module.main, [str(run)], "report: cannot write"),
    ]
    for main, arguments, message in calls:
        with pytest.MonkeyPatch.context() as patch:
            Disk(0).fill(patch)
            assert main(arguments) == 74
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"{message} {run}")
    assert (run / "samples.png").read_bytes() == picture
    assert_nothing_is_half_written(run)


def test_a_file_that_cannot_even_be_removed_hides_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a full file system that copies on write, where cutting the file short first makes room."""
    write_atomically(tmp_path / "a", b"old")
    unlink, cut = Path.unlink, []
    monkeypatch.setattr(_files.os, "truncate", lambda path, size: cut.append(path))

    def refuse_first(path: Path, *args: Any) -> None:
        if path not in cut:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        unlink(path)

    monkeypatch.setattr(Path, "unlink", refuse_first)
    Disk(0).fill(monkeypatch)
    with pytest.raises(WriteError, match="cannot write .*a: No space left on device") as error:
        write_atomically(tmp_path / "a", b"new")
    assert (error.value.path, error.value.errno) == (tmp_path / "a", errno.ENOSPC)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_bytes() == b"old"


def test_a_line_is_added_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    append_line(tmp_path / "a", "one")
    Disk(0).fill(monkeypatch)
    with pytest.raises(WriteError):
        append_line(tmp_path / "a", "two")
    assert (tmp_path / "a").read_text() == "one\n"


def test_the_folder_is_synchronised_after_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def note(descriptor: int) -> None:
        seen.append((os.readlink(f"/proc/self/fd/{descriptor}"), (tmp_path / "a").exists()))

    monkeypatch.setattr(_files.os, "fsync", note)
    write_atomically(tmp_path / "a", b"x")
    (temporary, before), after = seen
    assert re.fullmatch(r"\.a\.[0-9a-f]{16}\.partial", Path(temporary).name)
    assert (before, after) == (False, (str(tmp_path), True))
