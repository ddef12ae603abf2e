"""--fast: what it chooses, that measuring leaves no trace, and that a run keeps its choice."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from disentangle_ext import train as train_module
from disentangle_ext.data import load_data
from disentangle_ext.training import fast, session
from disentangle_ext.training.checkpoint import read_tensors
from disentangle_ext.training.command_line import parse
from disentangle_ext.training.config import TrainConfig, read_yaml, resolve
from disentangle_ext.training.fast import CHOICES, WORTH_COMPILING, choose_fastest, describe
from disentangle_ext.training.loop import Trainer
from disentangle_ext.training.session import build_trainer

QUICK = ["--model", "beta_tcvae", "--data", "dsprites_like", "--quick", "--base-channels", "4", "--batch-size", "16"]
CONFIG = resolve({"model": "beta_tcvae", "data": "dsprites_like", "max_steps": 300_000})
Times = dict[str, float]


def weights(folder: Path) -> dict[str, Tensor]:
    return read_tensors(folder / "model.safetensors")[0]


def assert_same_model(a: Path, b: Path) -> None:
    first, second = weights(a), weights(b)
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[Times], Callable[[TrainConfig], Any]]:
    """Trainers whose steps take what a table says, in seconds."""
    monkeypatch.setattr(fast, "_timed_step", lambda trainer: trainer.seconds)
    monkeypatch.setattr(fast, "missing_compiler", lambda: "")
    return lambda times, device="cpu": (
        lambda config: SimpleNamespace(seconds=times.get(describe(config), 1.0), device=torch.device(device))
    )


@pytest.mark.parametrize(
    ("free", "times", "chosen"),
    [
        (CHOICES, {}, "fp32 channels_last eager"),
        (CHOICES, {"bf16 contiguous eager": 0.5}, "bf16 contiguous eager"),
        (CHOICES, {"bf16 contiguous eager": 0.5, "bf16 contiguous inductor": 0.4}, "bf16 contiguous inductor"),
        (CHOICES, {"bf16 channels_last eager": 0.98}, "fp32 channels_last eager"),  # noise lowers no precision
        (["memory_format"], {"bf16 contiguous eager": 0.5, "fp32 contiguous eager": 0.6}, "fp32 contiguous eager"),
        (["precision"], {"bf16 contiguous eager": 0.5, "bf16 channels_last eager": 0.6}, "bf16 channels_last eager"),
        (["compilation"], {"fp32 channels_last inductor": 0.9}, "fp32 channels_last inductor"),
        (["compilation"], {"fp32 channels_last inductor": 1.1}, "fp32 channels_last eager"),
    ],
)
def test_choice(clock: Any, free: Any, times: Times, chosen: str) -> None:
    config, line = choose_fastest(CONFIG, free, clock(times))
    assert describe(config) == chosen
    assert config == replace(CONFIG, **{name: getattr(config, name) for name in free})
    assert line.count("\n") == 0
    assert f"images/s; chosen: {chosen}" in line
    assert f"{chosen} {64 / times.get(chosen, 1.0):,.0f}" in line


def test_stated_compilation_stays(clock: Any) -> None:
    stated = replace(CONFIG, compilation="inductor")
    config, line = choose_fastest(stated, ["precision", "memory_format"], clock({"bf16 channels_last eager": 0.5}))
    assert describe(config) == "bf16 channels_last inductor"
    assert line.endswith("chosen: bf16 channels_last inductor")


def test_a_short_run_is_not_compiled(clock: Any) -> None:
    steps = int(WORTH_COMPILING / 0.25) - 1
    build = clock({f"fp32 channels_last {each}": 0.25 for each in CHOICES["compilation"]})
    config, line = choose_fastest(replace(CONFIG, max_steps=steps), ["compilation"], build)
    assert config.compilation == "eager"
    assert line.endswith("(not compiled: the run takes about 100 s, too short to win it back)")


def test_compilation_that_costs_more_than_it_saves(clock: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    build = clock({"fp32 channels_last inductor": 0.9})
    now = iter(range(0, 10_000_000, 50))  # every look at the clock costs 50 s
    monkeypatch.setattr(fast.time, "perf_counter", lambda: float(next(now)))
    config, line = choose_fastest(replace(CONFIG, max_steps=400), ["compilation"], build)
    assert config.compilation == "eager"
    assert line.endswith("(not compiled: it saves 40 s in 400 steps and takes 50 s)")


def test_without_a_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Any) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    monkeypatch.setattr(fast, "_timed_step", lambda trainer: 1.0)
    fake = SimpleNamespace(device=torch.device("cpu"))
    config, line = choose_fastest(CONFIG, ["compilation"], lambda config: fake)  # type: ignore[arg-type,return-value]
    assert config == CONFIG
    assert "(not compiled: there is no C++ compiler no-such-compiler" in line
    assert train_module.main([*QUICK, "--compilation", "inductor", "--output-dir", str(tmp_path / "run")]) == 2
    assert "train: compilation 'inductor': there is no C++ compiler no-such-compiler" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_compilation_that_fails_is_skipped(clock: Any) -> None:
    def build(config: TrainConfig) -> Any:
        if config.compilation == "inductor":
            raise RuntimeError("no Python.h\nand a long story")
        return SimpleNamespace(seconds=1.0, device=torch.device("cpu"))

    clock({})
    config, line = choose_fastest(CONFIG, CHOICES, build)
    assert describe(config) == "fp32 channels_last eager"
    assert line.endswith("(not compiled: no Python.h)")


@pytest.mark.parametrize(
    ("times", "chosen", "note"),
    [
        ({"graph": 0.5}, "graph", " (not compiled: it is not faster)"),
        ({"graph": 0.5, "inductor": 0.4}, "inductor", ""),
        ({}, "eager", " (no graph: it is not faster) (not compiled: it is not faster)"),
    ],
)
def test_graphs_are_measured_on_cuda_alone(clock: Any, times: Times, chosen: str, note: str) -> None:
    named = {f"fp32 channels_last {name}": seconds for name, seconds in times.items()}
    config, line = choose_fastest(CONFIG, ["compilation"], clock(named, "cuda"))
    assert config.compilation == chosen
    assert line.endswith(f"chosen: fp32 channels_last {chosen}{note}")
    config, line = choose_fastest(CONFIG, ["compilation"], clock({"fp32 channels_last graph": 0.1}))
    assert config.compilation == "eager"
    assert "graph" not in line


def test_a_graph_that_cannot_be_captured_is_skipped(clock: Any) -> None:
    def build(config: TrainConfig) -> Any:
        if config.compilation == "graph":
            raise ValueError("train: compilation 'graph' needs optimizer 'adam', got 'rmsprop'")
        return SimpleNamespace(seconds=1e-6, device=torch.device("cuda"))

    clock({})
    config, line = choose_fastest(CONFIG, ["compilation"], build)
    assert config.compilation == "eager"
    assert " (no graph: train: compilation 'graph' needs optimizer 'adam', got 'rmsprop')" in line


def test_measuring_leaves_no_trace(tmp_path: Path, capsys: Any) -> None:
    """What was chosen by measuring is trained as if it had been stated."""
    arguments = [*QUICK, "--max-steps", "12", "--log-every", "4"]
    assert train_module.main([*arguments, "--output-dir", str(tmp_path / "stated")]) == 0
    capsys.readouterr()
    torch.manual_seed(3)
    state = torch.get_rng_state()
    stated = ["--precision", "fp32", "--memory-format", "channels_last"]
    assert train_module.main([*arguments, "--fast", *stated, "--output-dir", str(tmp_path / "fast")]) == 0
    assert torch.equal(torch.get_rng_state(), state)
    first, *rest = capsys.readouterr().out.splitlines()
    assert first.startswith("fast: fp32 channels_last eager ")
    assert not [line for line in rest if line.startswith("fast:")]
    assert_same_model(tmp_path / "stated", tmp_path / "fast")
    assert read_yaml(tmp_path / "stated" / "config.yaml") == read_yaml(tmp_path / "fast" / "config.yaml")


def test_a_run_that_goes_on_keeps_its_choice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    arguments = [*QUICK, "--max-steps", "12", "--checkpoint-every", "4"]
    stated = ["--precision", "bf16", "--memory-format", "contiguous"]
    assert train_module.main([*arguments, *stated, "--output-dir", str(whole)]) == 0

    def choose(config: TrainConfig, free: Any, build: Any) -> tuple[TrainConfig, str]:
        assert set(free) == set(CHOICES)
        return replace(config, precision="bf16", memory_format="contiguous"), "fast: chosen"

    update = Trainer.update

    def break_off(trainer: Trainer) -> Any:
        if trainer.step == 6:
            raise KeyboardInterrupt
        return update(trainer)

    with monkeypatch.context() as patch:
        patch.setattr(session, "choose_fastest", choose)
        patch.setattr(Trainer, "update", break_off)
        assert train_module.main([*arguments, "--fast", "--output-dir", str(stopped)]) == 130
    stored = read_yaml(stopped / "config.yaml")
    assert (stored["precision"], stored["memory_format"], stored["compilation"]) == ("bf16", "contiguous", "eager")

    def refuse(*arguments: Any) -> Any:
        pytest.fail("measured again")

    monkeypatch.setattr(session, "choose_fastest", refuse)
    request = parse([*arguments, "--fast", "--resume", "--output-dir", str(stopped)])
    assert request.config.precision == "bf16"
    # Also for a caller whose configuration is not the folder's.
    outcome = session.train(replace(request.config, precision="fp32"), stopped, resume=True, fast=request.fast)
    assert outcome.step == 12
    assert_same_model(whole, stopped)


def test_a_folder_in_the_way_is_found_before_measuring(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "note.txt").touch()
    assert train_module.main([*QUICK, "--fast", "--output-dir", str(tmp_path)]) == 2
    captured = capsys.readouterr()
    assert "must be a new or empty folder" in captured.err
    assert "fast:" not in captured.out


def test_what_is_stated_is_not_chosen(tmp_path: Path) -> None:
    def free(*more: str) -> tuple[str, ...]:
        return parse([*QUICK, "--output-dir", "x", *more]).fast

    assert free() == ()
    assert free("--fast") == ("precision", "memory_format", "compilation")
    assert free("--fast", "--precision", "fp32") == ("memory_format", "compilation")
    assert free("--fast", "--memory_format=contiguous", "--compilation", "eager") == ("precision",)
    file = tmp_path / "a.yaml"
    file.write_text("fast: true\nmemory-format: contiguous\n")
    assert free("--config", str(file)) == ("precision", "compilation")
    assert free("--config", str(file), "--fast", "--precision", "bf16") == ("compilation",)


def test_nothing_left_to_choose(tmp_path: Path) -> None:
    stated = ["--precision", "fp32", "--memory-format", "contiguous", "--compilation", "eager"]
    with pytest.raises(ValueError, match="--fast has nothing to choose: precision, memory_format, compilation are"):
        parse([*QUICK, "--output-dir", "x", "--fast", *stated])


def test_unknown_setting_to_choose(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="train: unknown setting to choose by measuring 'precison': did you mean"):
        session.train(CONFIG, tmp_path / "run", fast=["precison"])


def test_an_interrupt_while_measuring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    def interrupt(*arguments: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(session, "choose_fastest", interrupt)
    assert train_module.main([*QUICK, "--fast", "--output-dir", str(tmp_path / "run")]) == 130
    said = "Stopped by SIGINT while measuring: what was measured is lost. To start again: the same command\n"
    assert capsys.readouterr().err == said
    assert list(tmp_path.iterdir()) == []


def small(**settings: Any) -> Trainer:
    values = {"model": "beta_tcvae", "data": "dsprites_like", "data_variant": "quick", "network": "mlp"}
    config = resolve({**values, "width": 8, "latent_dim": 3, "batch_size": 8, **settings})
    return build_trainer(config, load_data("dsprites_like", variant="quick"))


def train_compiled(**settings: Any) -> None:
    """A compiled run agrees with the eager one, and goes on bit for bit."""

    def compiled() -> Trainer:
        return small(compilation="inductor", **settings)

    whole, stopped, eager = compiled(), compiled(), small(**settings)
    for _ in range(3):
        stopped.update()
    resumed = compiled()
    resumed.load(stopped.checkpoint())
    for _ in range(6):
        output, plain = whole.update(), eager.update()
    while resumed.step < 6:
        again = resumed.update()
    assert whole.read(output)["loss"] == pytest.approx(eager.read(plain)["loss"], rel=1e-5)
    assert torch.equal(again.reconstruction, output.reconstruction)
    for module in ("model", "objective"):
        for a, b in zip(getattr(whole, module).parameters(), getattr(resumed, module).parameters(), strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"model": "annealed_vae", "threshold": 4},
        {"model": "vae", "likelihood": "gaussian", "scale": "learned", "optimizer": "adagrad"},
        {"model": "factor_vae", "discriminator_layers": 2, "discriminator_width": 16},
        {"model": "factor_vae", "discriminator_layers": 2, "discriminator_width": 16, "second_batch": True},
        {"model": "ada_gvae"},
        {"model": "dcign"},
        {"model": "info_vae"},
        {"model": "wae_mmd"},
        {"model": "dip_vae_ii"},
    ],
    ids=lambda settings: settings.get("model", "beta_tcvae"),
)
def test_compiled_run(monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any]) -> None:
    """Without the compiler: what torch.compile captures, run op by op."""
    torch.compiler.reset()
    compile_ = torch.compile
    monkeypatch.setattr(torch, "compile", lambda function: compile_(function, backend="aot_eager", fullgraph=True))
    train_compiled(**settings)


@pytest.mark.slow
@pytest.mark.skipif(bool(fast.missing_compiler()), reason="no C++ compiler")
def test_compiled_run_by_inductor() -> None:
    torch.compiler.reset()
    train_compiled()


# 48 MB: what is larger than 32 MB glibc maps and unmaps every time, wherever the top of its heap is.
FAULTS = """
import resource, torch
from disentangle_ext.training.memory import keep_freed_memory
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(12 << 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
without = [faults() for _ in range(5)]
print(keep_freed_memory(), min(without), [faults() for _ in range(5)][-1])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a setting of glibc")
def test_freed_memory_is_kept() -> None:
    done = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True, timeout=60)
    known, before, after = done.stdout.split()
    if known == "False":
        pytest.skip("not glibc")
    assert int(before) > 4000  # in pages of 4 KB it is 12,288
    assert int(after) < 100
