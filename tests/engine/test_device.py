"""Which device a run computes on, what the folder says of it, and deterministic algorithms."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from disentangle_ext import train as train_module
from disentangle_ext.engine.device import choose_device, deterministic
from disentangle_ext.engine.trainer import Trainer
from disentangle_ext.runs.environment import environment
from disentangle_ext.runs.folder import RunFolder
from disentangle_ext.training import fit
from disentangle_ext.training.command_line import parse

CPU = torch.device("cpu")


def gpus(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)


def test_the_name_of_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus(monkeypatch, 2)
    assert choose_device("cpu") == CPU
    for name, index in (("auto", 0), ("cuda", 0), ("cuda:0", 0), ("cuda:1", 1)):
        assert choose_device(name) == torch.device("cuda", index)
    gpus(monkeypatch, 0)
    assert choose_device("auto") == CPU


@pytest.mark.parametrize("name", ["mps", "xpu", "cuda:", "cuda:-1", "cuda:x", "cpu:0", "gpu", ""])
def test_other_devices_are_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    gpus(monkeypatch, 2)
    with pytest.raises(ValueError, match=f"train: --device must be auto, cpu, cuda or cuda:N, got '{name}'"):
        choose_device(name)


def test_a_gpu_that_is_not_there_exits_2(
    tmp_path: Path, small_run: Callable[..., int], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    gpus(monkeypatch, 2)
    assert small_run(tmp_path / "run", "--device", "cuda:2") == 2
    assert capsys.readouterr().err == "train: --device cuda:2: there are 2 GPUs, cuda:0 to cuda:1\n"
    gpus(monkeypatch, 0)
    assert small_run(tmp_path / "run", "--device", "cuda") == 2
    assert capsys.readouterr().err.startswith("train: --device cuda: ")
    assert list(tmp_path.iterdir()) == []


def test_the_device_is_no_setting_and_the_environment_says_it(tmp_path: Path, small_run: Callable[..., int]) -> None:
    folder = tmp_path / "run"
    assert small_run(folder) == 0
    assert "device" not in (folder / "config.yaml").read_text()
    assert json.loads((folder / "env.json").read_text())["device"] == "cpu"
    file = tmp_path / "a.yaml"
    file.write_text("model: vae\ndata: digits\ndevice: cuda:1\n")
    assert parse(["--config", str(file), "--output-dir", "x"]).device == "cuda:1"
    assert parse(["--config", str(file), "--output-dir", "x", "--device", "cpu"]).device == "cpu"


def test_a_run_that_goes_on_elsewhere_says_so_and_keeps_it(
    tmp_path: Path, small_run: Callable[..., int], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    update = Trainer.update

    def break_off(trainer: Trainer) -> Any:
        if trainer.step == 7:
            raise KeyboardInterrupt
        return update(trainer)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "update", break_off)
        assert small_run(folder) == 130
    first = json.loads((folder / "env.json").read_text())
    elsewhere = {**first, "device": "cuda (X)", "build_info": {**first["build_info"], "simd": "none"}}
    (folder / "env.json").write_text(json.dumps(elsewhere))
    capsys.readouterr()
    with monkeypatch.context() as patch:
        patch.setattr(fit, "finish", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
        assert train_module.main(["--resume", "--output-dir", str(folder), "--device", "cpu"]) == 130
    simd = first["build_info"]["simd"]
    assert capsys.readouterr().err.splitlines()[0] == (
        f"train: simd was none and is {simd}, device was cuda (X) and is cpu: the run goes on, but not bit for bit as "
        "it would have"
    )
    kept = json.loads((folder / "env.json").read_text())
    assert kept == {**elsewhere, "resumed": [{"step": 6, "build_info": first["build_info"], "device": "cpu"}]}
    assert train_module.main(["--resume", "--output-dir", str(folder), "--device", "cpu"]) == 0
    assert capsys.readouterr().err == ""  # as it was when it was last at work
    assert json.loads((folder / "env.json").read_text()) == kept


def test_a_folder_without_its_environment_gets_one(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.start("model: x\n")
    (folder.path / "env.json").write_text("{")
    assert folder.note_environment(3) == []
    assert json.loads((folder.path / "env.json").read_text()) == json.loads(json.dumps(environment()))


def test_deterministic_algorithms_in_the_block_and_as_before_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "mine")
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    with deterministic(False, CPU):
        assert not torch.are_deterministic_algorithms_enabled()
    with deterministic(True, CPU):
        assert torch.are_deterministic_algorithms_enabled()
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
        assert not torch.backends.cudnn.benchmark
    assert not torch.are_deterministic_algorithms_enabled()
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == "mine"
    assert torch.backends.cudnn.benchmark
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    with pytest.raises(KeyError), deterministic(True, CPU):
        raise KeyError
    assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ
    assert not torch.are_deterministic_algorithms_enabled()


def test_cuda_that_has_started_without_its_workspaces_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    message = "train: --deterministic: set CUBLAS_WORKSPACE_CONFIG=:4096:8 before CUDA is first used, got None"
    with pytest.raises(ValueError, match=message), deterministic(True, torch.device("cuda")):
        pass
    assert not torch.are_deterministic_algorithms_enabled()


def test_an_operation_without_a_deterministic_form_exits_2(
    tmp_path: Path, small_run: Callable[..., int], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def nondeterministic(trainer: Trainer) -> None:
        assert torch.are_deterministic_algorithms_enabled()
        torch.zeros(2).put_(torch.tensor([0, 0]), torch.ones(2), accumulate=False)

    monkeypatch.setattr(Trainer, "update", nondeterministic)
    assert small_run(tmp_path / "run", "--deterministic") == 2
    assert capsys.readouterr().err == "train: --deterministic: put_ has no deterministic form on cpu\n"


def test_a_deterministic_run_is_the_same_on_the_cpu_and_stays_deterministic(
    tmp_path: Path, small_run: Callable[..., int], left: Callable[[Path], Any]
) -> None:
    assert small_run(tmp_path / "a") == 0
    assert small_run(tmp_path / "b", "--deterministic") == 0
    assert left(tmp_path / "a") == left(tmp_path / "b")
    assert "deterministic: true" in (tmp_path / "b" / "config.yaml").read_text()
    for flags in ([], ["--deterministic"]):
        plan = parse(["--resume", "--output-dir", str(tmp_path / "b"), *flags])
        assert plan.jobs[0].config.deterministic


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (torch.OutOfMemoryError("It is full.\nmore"), "out of memory: a smaller --batch-size needs less: It is full."),
        (
            RuntimeError("Storage size calculation overflowed"),
            "out of memory: no machine has room for a tensor of this ",
        ),
        (RuntimeError("x: its kernels are not compiled for this GPU; run\nC++"), "x: its kernels are not compiled for"),
    ],
)
def test_what_the_device_is_to_blame_for_exits_2(
    tmp_path: Path,
    small_run: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    error: RuntimeError,
    said: str,
) -> None:
    def fail(trainer: Trainer) -> None:
        raise error

    monkeypatch.setattr(Trainer, "update", fail)
    assert small_run(tmp_path / "run") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"train: {said}")


def test_what_no_device_is_to_blame_for_is_not_hidden(
    tmp_path: Path, small_run: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(trainer: Trainer) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(Trainer, "update", fail)
    with pytest.raises(RuntimeError, match="a bug"):
        small_run(tmp_path / "run")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("model", ["beta_tcvae", "factor_vae", "dcign"])
def test_a_run_on_a_gpu(
    tmp_path: Path, small_run: Callable[..., int], left: Callable[[Path], Any], model: str, precision: str
) -> None:
    """It is finished, equals itself after a break, and is close to the run on the CPU."""
    call = ["--model", model, "--precision", precision, "--likelihood", "gaussian", "--scale", "learned"]
    whole, broken, cpu = (tmp_path / name for name in ("whole", "broken", "cpu"))
    assert small_run(whole, *call, "--device", "cuda") == 0
    assert json.loads((whole / "env.json").read_text())["device"].startswith("cuda (")
    update = Trainer.update

    def break_off(trainer: Trainer) -> Any:
        assert trainer.data.device.type == trainer.device.type == "cuda"
        if trainer.step == 7:
            raise KeyboardInterrupt
        return update(trainer)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "update", break_off)
        assert small_run(broken, *call, "--device", "cuda") == 130
    assert train_module.main(["--resume", "--output-dir", str(broken), "--device", "cuda"]) == 0
    assert left(broken) == left(whole)
    assert small_run(cpu, *call) == 0
    close = left(whole)["rows"][-1]["loss"]
    assert close == pytest.approx(left(cpu)["rows"][-1]["loss"], rel=2e-2)
