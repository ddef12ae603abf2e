"""A loss or weights that are not finite: the run ends, says so in its folder, and is not advised to go on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from disentangle_ext import train as train_module
from disentangle_ext.engine.descent import Descent
from disentangle_ext.engine.trainer import Trainer
from disentangle_ext.report import __main__ as report
from disentangle_ext.runs.checkpoint import last_checkpoint


@pytest.mark.parametrize("spoilt", ["loss", "weights"])
def test_what_is_not_finite_exits_5_and_the_last_good_checkpoint_is_named(
    tmp_path: Path,
    small_run: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    spoilt: str,
) -> None:
    """A run that goes on from there, into the same step, ends the same way."""
    folder, update = tmp_path / "run", Trainer.update

    def spoil(trainer: Trainer) -> Any:
        if trainer.step == (12 if spoilt == "loss" else 14):
            with torch.no_grad():
                next(iter(trainer.model.decoder.parameters())).fill_(torch.nan)
        return update(trainer)

    monkeypatch.setattr(Trainer, "update", spoil)
    if spoilt == "weights":  # by the last update before a checkpoint, whose loss was still finite
        step = Descent.update

        def spoil_step(trainer: Trainer) -> Any:
            with monkeypatch.context() as patch:
                if trainer.step == 14:
                    patch.setattr(Descent, "update", lambda self, loss: step(self, loss * torch.nan))
                return update(trainer)

        monkeypatch.setattr(Trainer, "update", spoil_step)
    last = folder / "checkpoints" / "step-0000000010.safetensors"
    steps = ["--max-steps", "50", "--log-every", "3", "--checkpoint-every", "5"]
    for call in (
        lambda: small_run(folder, *steps),
        lambda: train_module.main(["--resume", "--output-dir", str(folder)]),
    ):
        assert call() == 5
        (line,) = capsys.readouterr().err.splitlines()
        what = "reconstruction is nan at step 12" if spoilt == "loss" else "is nan at step 14"
        assert what in line
        assert line.endswith(f"; the last checkpoint from before it is {last}. Try another run with a lower --lr")
        assert last_checkpoint(folder / "checkpoints").step == 10
        assert not (folder / "DONE").exists()
        assert what in (folder / "FAILED").read_text()
    assert report.main([str(folder)]) == 2
    error = capsys.readouterr().err
    assert "the run failed (train: " in error
    assert "--resume" not in error
    assert small_run(folder) == 2
    error = capsys.readouterr().err
    assert what in error
    assert "--resume" not in error


def test_a_loss_that_is_not_finite_from_the_start_has_no_checkpoint_to_name(
    tmp_path: Path, small_run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--max-steps", "50", "--log-every", "5", "--checkpoint-every", "5", "--lr", "1e20"]
    assert small_run(tmp_path / "run", *options) == 5
    message = capsys.readouterr().err
    assert 1 <= int(message.split(" at step ")[1].split(";")[0]) < 5
    assert "; there is no checkpoint from before it." in message
    assert list((tmp_path / "run" / "checkpoints").iterdir()) == []
