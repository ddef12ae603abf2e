"""Lines of metrics.jsonl as scalars of TensorBoard."""

from __future__ import annotations

import errno
import json
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from disentangle_ext import train as train_module
from disentangle_ext.engine.trainer import Trainer


def test_without_the_extra_a_run_says_so_before_it_begins(
    tmp_path: Path, small_run: Callable[..., int], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    assert small_run(tmp_path / "run", "--tensorboard") == 2
    assert capsys.readouterr().err == '--tensorboard needs tensorboard: pip install "disentangle_ext[tensorboard]"\n'
    assert list(tmp_path.iterdir()) == []


def test_every_line_once_also_of_a_run_that_went_on(
    tmp_path: Path, small_run: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    folder, update = tmp_path / "run", Trainer.update

    def break_off(trainer: Trainer) -> Any:
        if trainer.step == 8:  # after the line of step 8, before the checkpoint of step 9
            raise KeyboardInterrupt
        return update(trainer)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "update", break_off)
        assert small_run(folder, "--tensorboard") == 130
    call = ["--resume", "--output-dir", str(folder), "--device", "cpu", "--tensorboard"]
    assert train_module.main(call) == 0
    events = module.EventAccumulator(str(folder / "tensorboard")).Reload()
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert set(events.Tags()["scalars"]) == set(rows[0]) - {"step"}
    for name in events.Tags()["scalars"]:
        seen = [(event.step, event.value) for event in events.Scalars(name)]
        assert seen == [(row["step"], pytest.approx(row[name], rel=1e-6)) for row in rows]
    assert small_run(folder, "--overwrite") == 0
    assert list((folder / "tensorboard").iterdir()) == []


@pytest.mark.parametrize("several", [[], ["--stack", "2"]])
@pytest.mark.parametrize("room", [0, 4])
def test_a_full_disk_is_one_line(
    tmp_path: Path, small_run: Callable[..., int], capsys: pytest.CaptureFixture[str], several: list[str], room: int
) -> None:
    writer = pytest.importorskip("tensorboard.summary.writer.record_writer")
    write, written = writer.RecordWriter.write, []

    def refuse(self: Any, data: bytes) -> None:
        written.append(data)
        if len(written) > room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(self, data)

    printed: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading, "excepthook", printed.append)
        patch.setattr(writer.RecordWriter, "write", refuse)
        assert small_run(tmp_path / "run", "--tensorboard", *several) == 74
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"train: cannot write {tmp_path / 'run'}")
    assert "tensorboard: No space left on device. To go on: " in line
    assert not printed
    assert train_module.main(["--resume", "--tensorboard", "--output-dir", str(tmp_path / "run")]) == 0
