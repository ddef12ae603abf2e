"""``--vary`` without ``--stack``: runs that differ in anything, one after the other in one call."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from disentangle_ext import train as train_module
from disentangle_ext.engine.trainer import Trainer
from disentangle_ext.runs import folder as folder_module
from disentangle_ext.training import fit


def test_runs_in_turn_may_differ_in_anything(
    tmp_path: Path, small_run: Callable[..., int], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs may differ in the model or the network, too, whose options are then each run's own."""
    monkeypatch.setattr(fit, "fastest_precision", lambda device: "bf16")
    assert small_run(tmp_path / "a", "--vary", "latent_dim=4,6") == 0
    printed = capsys.readouterr().out
    assert "latent-dim-6:\nstep 2/12" in printed
    assert printed.count("Networks are fastest with --precision bf16") == 1
    quick = ["--data", "dsprites_like", "--quick", "--batch-size", "16", "--device", "cpu", "--max-steps", "12"]
    call = ["--model", "vae", *quick, "--vary", "model=beta_vae,vae", "network=mlp,conv"]
    small = ["--network", "mlp", "--width", "8"]
    assert train_module.main([*call, *small, "--output-dir", str(tmp_path / "b")]) == 2
    assert "train: --vary model=beta_vae network=conv: unknown option 'width'" in capsys.readouterr().err
    assert not (tmp_path / "b").exists()
    assert train_module.main([*call, "--output-dir", str(tmp_path / "b")]) == 0
    beta = yaml.safe_load((tmp_path / "b" / "model-beta_vae-network-conv" / "config.yaml").read_text())
    assert (beta["model"], beta["beta"], beta["base_channels"]) == ("beta_vae", 8.0, 16)  # --quick of that model
    plain = yaml.safe_load((tmp_path / "b" / "model-vae-network-mlp" / "config.yaml").read_text())
    assert plain["width"] == 256
    assert "beta" not in plain
    assert train_module.main(["--resume", "--output-dir", str(tmp_path / "b")]) == 0
    assert capsys.readouterr().out.count("is finished: there is nothing to go on with") == 4


def send_during(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, at: int, *, after: bool = False) -> None:
    """SIGTERM in the call of ``name`` that comes after ``at`` others."""
    function, calls = getattr(owner, name), []

    def sending(*arguments: Any, **options: Any) -> Any:
        calls.append(name)
        result = function(*arguments, **options) if after else None
        if len(calls) == at + 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return result if after else function(*arguments, **options)

    monkeypatch.setattr(owner, name, sending)


IN_TURN = ["--vary", "seed=0,1"]


@pytest.fixture
def no_death() -> Any:
    """A signal that nobody handles does not end the tests."""
    before = signal.signal(signal.SIGTERM, lambda number, frame: None)
    yield
    signal.signal(signal.SIGTERM, before)


def test_a_signal_between_two_runs(
    tmp_path: Path,
    small_run: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    no_death: None,
) -> None:
    with monkeypatch.context() as patch:
        send_during(patch, fit, "finish", 0, after=True)
        assert small_run(tmp_path / "a", *IN_TURN) == 75
    assert "To go on: python -m disentangle_ext.train --resume" in capsys.readouterr().err
    assert not (tmp_path / "a" / "seed-1" / "DONE").exists()
    assert train_module.main(["--resume", "--output-dir", str(tmp_path / "a")]) == 0


def test_the_second_of_two_runs_in_turn_is_stopped(
    tmp_path: Path, small_run: Callable[..., int], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        send_during(patch, Trainer, "update", 12 + 4)
        assert small_run(tmp_path / "a", *IN_TURN) == 75
    assert "Stopped after step 5 of 12 by SIGTERM" in capsys.readouterr().out


def test_runs_in_turn_that_replace_others_are_not_advised_to_begin_again(
    tmp_path: Path, small_run: Callable[..., int], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        send_during(patch, fit, "finish", 0)
        assert small_run(tmp_path / "a", *IN_TURN, "--overwrite") == 75
    assert "To go on: python -m disentangle_ext.train --resume" in capsys.readouterr().err


def test_deterministic_before_anything_that_starts_a_device(
    tmp_path: Path, small_run: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    enabled: list[bool] = []

    def spy(owner: Any, name: str) -> None:
        function = getattr(owner, name)

        def spying(*arguments: Any, **options: Any) -> Any:
            enabled.append(torch.are_deterministic_algorithms_enabled())
            return function(*arguments, **options)

        monkeypatch.setattr(owner, name, spying)

    spy(folder_module, "environment")
    spy(fit, "load_data")
    assert small_run(tmp_path / "a", *IN_TURN, "--deterministic") == 0
    assert enabled
    assert all(enabled)
