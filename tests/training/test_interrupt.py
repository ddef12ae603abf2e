"""Signals: a checkpoint and an exit code while training, an end at once before and after, and never a lost run."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from disentangle_ext import train as train_module
from disentangle_ext.engine.trainer import Trainer
from disentangle_ext.report import PICTURES
from disentangle_ext.training import finish, fit, loop
from disentangle_ext.training.interrupt import SIGNALS, Interrupt, Interrupted
from tests.processes import Program

CODES = {signal.SIGINT: 130, signal.SIGTERM: 75, signal.SIGUSR1: 75}


def send(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


@pytest.fixture(autouse=True)
def handlers() -> Any:
    """No signal is left with a handler of ours."""
    before = [signal.getsignal(each) for each in SIGNALS]
    yield
    assert [signal.getsignal(each) for each in SIGNALS] == before


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_raises_or_is_noted(number: signal.Signals) -> None:
    with pytest.raises(Interrupted, match=number.name) as error, Interrupt() as interrupt:
        send(number)
    assert error.value.number == interrupt.requested == number
    with Interrupt() as interrupt:
        with interrupt.deferred():
            assert interrupt.requested is None
            send(number)
        assert interrupt.requested == number
        with pytest.raises(Interrupted):
            interrupt.check()


def test_after_the_first_the_handlers_of_before_are_back() -> None:
    before = [signal.getsignal(each) for each in SIGNALS]
    with Interrupt() as interrupt, interrupt.deferred():
        assert signal.getsignal(signal.SIGTERM) != before[1]
        send(signal.SIGUSR1)
        assert [signal.getsignal(each) for each in SIGNALS] == before


def during(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, number: signal.Signals, at: int = 0) -> None:
    """Have the signal come in the call ``at`` of a function."""
    function, calls = getattr(owner, name), []

    def call(*args: Any, **kwargs: Any) -> Any:
        calls.append(None)
        if len(calls) == at + 1:
            send(number)
        return function(*args, **kwargs)

    monkeypatch.setattr(owner, name, call)


@pytest.mark.parametrize("at", [0, 4, 11])
@pytest.mark.parametrize("number", SIGNALS)
def test_in_training_the_step_is_finished_and_saved(
    tmp_path: Path,
    small_run: Callable[..., int],
    left: Callable[[Path], Any],
    capsys: pytest.CaptureFixture[str],
    number: signal.Signals,
    at: int,
) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    assert small_run(whole) == 0
    with pytest.MonkeyPatch.context() as patch:
        during(patch, Trainer, "update", number, at)
        assert small_run(stopped) == CODES[number]
    *_, said, command = capsys.readouterr().out.splitlines()
    assert said == f"Stopped after step {at + 1} of 12 by {number.name}. To go on:"
    assert command == f"  python -m disentangle_ext.train --resume --output-dir {stopped} --device cpu"
    newest = sorted((stopped / "checkpoints").iterdir())[-1]
    assert newest.name == f"step-{at + 1:010d}.safetensors"
    assert train_module.main(command.split()[3:]) == 0
    assert left(stopped) == left(whole)


def test_before_the_first_step_nothing_is_written(
    tmp_path: Path, small_run: Callable[..., int], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    during(monkeypatch, fit, "load_data", signal.SIGTERM)
    assert small_run(tmp_path / "run") == 75
    said = "Stopped by SIGTERM while loading data: nothing is lost. To start again: the same command\n"
    assert capsys.readouterr().err == said
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_was_to_be_replaced_is_not_advised_to_go_on(
    tmp_path: Path, small_run: Callable[..., int], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert small_run(tmp_path / "run") == 0
    during(monkeypatch, fit, "load_data", signal.SIGTERM)
    assert small_run(tmp_path / "run", "--overwrite") == 75
    assert capsys.readouterr().err.endswith("To start again: the same command\n")
    assert (tmp_path / "run" / "DONE").exists()


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("where", ["save_tensors", "encode_scored", "write_json", "samples"])
def test_after_the_last_step_a_run_goes_on_into_its_scores(
    tmp_path: Path,
    small_run: Callable[..., int],
    left: Callable[[Path], Any],
    capsys: pytest.CaptureFixture[str],
    where: str,
    number: signal.Signals,
) -> None:
    """A signal stops the run also where whatever Exception a picture raises is taken for a picture that failed."""
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    assert small_run(whole) == 0
    with pytest.MonkeyPatch.context() as patch:
        if where == "samples":
            draw = PICTURES["samples"].draw
            patch.setitem(
                PICTURES, "samples", PICTURES["samples"]._replace(draw=lambda *args: (send(number), draw(*args)))
            )
        else:
            owner = {"save_tensors": finish, "encode_scored": finish, "write_json": fit.RunFolder}[where]
            during(patch, owner, where, number, at=1 if where == "write_json" else 0)
        assert small_run(stopped) == CODES[number]
    assert capsys.readouterr().err.startswith(
        f"Stopped by {number.name} while scoring and drawing: the model is trained and saved, scores and pictures are "
        "made anew. To go on: python -m disentangle_ext.train --resume "
    )
    assert not (stopped / "DONE").exists()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "update", lambda trainer: pytest.fail("a step was done again"))
        assert train_module.main(["--resume", "--output-dir", str(stopped), "--device", "cpu"]) == 0
    assert left(stopped) == left(whole)


def test_a_signal_that_a_picture_swallows_still_ends_the_run(
    tmp_path: Path, small_run: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def swallow(*args: Any) -> None:
        try:
            send(signal.SIGTERM)
        except BaseException:
            return

    monkeypatch.setitem(PICTURES, "samples", PICTURES["samples"]._replace(draw=swallow))
    assert small_run(tmp_path / "run") == 75
    assert not (tmp_path / "run" / "DONE").exists()


CALL = ["--model", "beta_vae", "--data", "dsprites_like", "--quick", "--network", "mlp", "--log-every", "1"]


def save_slowly() -> None:
    def save(*args: Any) -> None:
        print("saving", flush=True)
        time.sleep(100)

    loop.save_checkpoint = save  # type: ignore[assignment]


@pytest.mark.forks
def test_a_second_signal_kills_at_once(tmp_path: Path) -> None:
    program = Program(tmp_path / "printed", *CALL, "--output-dir", str(tmp_path / "run"), prepare=save_slowly)
    for wanted in ("step 3/", "saving"):
        program.wait_for(wanted)
        program.send(signal.SIGTERM)
    assert program.code() == -signal.SIGTERM


@pytest.mark.forks
def test_a_signal_to_the_process_gives_its_exit_code(tmp_path: Path) -> None:
    program = Program(tmp_path / "printed", *CALL, "--output-dir", str(tmp_path / "run"))
    program.wait_for("step 3/")
    program.send(signal.SIGUSR1)
    assert program.code() == 75
    assert "by SIGUSR1. To go on:" in program.printed()
