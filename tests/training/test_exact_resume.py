"""A run that goes on equals the run that never stopped, bit for bit: every objective, optimiser and precision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from disentangle_ext.data import load_data
from disentangle_ext.engine.build import build_trainer
from disentangle_ext.engine.trainer import Trainer
from disentangle_ext.objectives import OBJECTIVES
from disentangle_ext.runs.checkpoint import last_checkpoint, save_checkpoint
from disentangle_ext.runs.config import resolve

DATA = load_data("dsprites_like", variant="quick")
STEPS = 12
NETWORKS = {"mlp": {"network": "mlp", "width": 8}, "conv": {"network": "conv", "base_channels": 2}}


def make(model: str, network: str = "mlp", **settings: Any) -> Trainer:
    width = {"discriminator_width": 4} if model == "factor_vae" else {}
    scale = {"likelihood": "laplace", "scale": "learned"}
    schedule = {"lr": 1e-3, "lr_schedule": "cosine", "lr_warmup": 3, "max_steps": STEPS}
    small = {"data": "dsprites_like", "data_variant": "quick", "latent_dim": 3, "batch_size": 8, **schedule}
    everything = {"model": model, **small, **NETWORKS[network], **width, **scale, **settings}
    return build_trainer(resolve(everything), DATA)


def assert_resumes_exactly(folder: Path, cuts: tuple[int, ...], *arguments: Any, **settings: Any) -> None:
    whole = make(*arguments, **settings)
    for step in range(STEPS):
        if step in cuts:
            save_checkpoint(folder / str(step), whole.checkpoint())
        output = whole.update()
    want, row = whole.checkpoint(), whole.read(output)
    for cut in cuts:
        resumed = make(*arguments, **settings)
        with torch.no_grad():
            for parameter in (*resumed.model.parameters(), *resumed.objective.parameters()):
                parameter.add_(1)  # what is not read from the checkpoint is wrong
        found = last_checkpoint(folder / str(cut))
        assert found is not None
        resumed.load(found)
        assert resumed.step == cut
        while resumed.step < STEPS:
            output = resumed.update()
        got = resumed.checkpoint()
        assert want.tensors.keys() == got.tensors.keys()
        assert [name for name in want.tensors if not torch.equal(want.tensors[name], got.tensors[name])] == []
        assert want.state == got.state
        assert resumed.read(output) == row


@pytest.mark.parametrize("optimizer", ["adam", "adagrad", "rmsprop"])
@pytest.mark.parametrize("model", sorted(OBJECTIVES))
def test_every_objective_with_every_optimizer(tmp_path: Path, model: str, optimizer: str) -> None:
    assert_resumes_exactly(tmp_path, (1, 5, STEPS - 1), model, optimizer=optimizer)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("model", sorted(OBJECTIVES))
def test_every_objective_in_half_precision(tmp_path: Path, model: str, precision: str) -> None:
    assert_resumes_exactly(tmp_path, (3, 8), model, "conv", precision=precision)


@pytest.mark.parametrize("optimizer", ["adam", "adagrad", "rmsprop"])
@pytest.mark.parametrize("model", ["beta_vae", "factor_vae"])
def test_a_scale_that_falls_and_grows(
    tmp_path: Path, model: str, optimizer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps that are left out before the checkpoint and after it, and a scale that grows between."""
    scaler = torch.amp.GradScaler
    options = {"init_scale": 2.0**40, "growth_interval": 2}
    monkeypatch.setattr(torch.amp, "GradScaler", lambda device: scaler(device, **options))
    assert_resumes_exactly(tmp_path, (1, 6), model, optimizer=optimizer, precision="fp16", deterministic=True)


def test_options_of_the_adversary(tmp_path: Path) -> None:
    assert_resumes_exactly(tmp_path, (4,), "factor_vae", second_batch=True)
