"""The optimiser of a run: which one it is, and its update written out."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from disentangle_ext.data import load_data
from disentangle_ext.engine.build import build_trainer
from disentangle_ext.engine.trainer import Trainer
from disentangle_ext.runs.config import resolve

DATA = load_data("dsprites_like", variant="quick")
LR = 1e-3


def make(**settings: Any) -> Trainer:
    small = {"model": "beta_vae", "data": "dsprites_like", "data_variant": "quick", "base_channels": 2, "batch_size": 8}
    return build_trainer(resolve({**small, "latent_dim": 3, "lr": LR, **settings}), DATA)


def written_out(name: str, betas: tuple[float, float], grads: list[Tensor]) -> Tensor:
    """What two updates add to a weight, from its two gradients: Duchi et al. 2011, Hinton 2012, Kingma & Ba 2015."""
    change, mean, square = torch.zeros_like(grads[0]), 0.0, 0.0
    for step, grad in enumerate(grads, 1):
        if name == "adagrad":
            square = square + grad**2
            change -= LR * grad / (square.sqrt() + 1e-10)
        elif name == "rmsprop":
            square = 0.99 * square + 0.01 * grad**2
            change -= LR * grad / (square.sqrt() + 1e-8)
        else:
            mean = betas[0] * mean + (1 - betas[0]) * grad
            square = betas[1] * square + (1 - betas[1]) * grad**2
            corrected = mean / (1 - betas[0] ** step), square / (1 - betas[1] ** step)
            change -= LR * corrected[0] / (corrected[1].sqrt() + 1e-8)
    return change


@pytest.mark.parametrize(
    ("name", "betas"),
    [("adam", (0.9, 0.999)), ("adam", (0.5, 0.9)), ("adagrad", (0.9, 0.999)), ("rmsprop", (0.9, 0.999))],
)
def test_two_updates_written_out(name: str, betas: tuple[float, float]) -> None:
    trainer = make(optimizer=name, betas=betas)
    weight = trainer.model.decoder.hidden[0].bias
    before, grads = weight.detach().clone(), []
    for _ in range(2):
        trainer.update()
        grads.append(weight.grad.clone())
    torch.testing.assert_close(weight.detach() - before, written_out(name, betas, grads), rtol=1e-3, atol=2e-7)
    assert grads[0].count_nonzero() > 10


@pytest.mark.parametrize("model", ["beta_tcvae", "factor_vae", "ada_gvae", "dcign"])
def test_a_learned_scale_is_trained_with_the_model_and_logged(model: str) -> None:
    width = {"discriminator_width": 4} if model == "factor_vae" else {}
    trainer = make(model=model, likelihood="gaussian", scale="learned", lr=1e-2, **width)
    for _ in range(12):
        output = trainer.update()
    scale = trainer.read(output)["scale"]
    assert scale == pytest.approx(trainer.objective.scale.item())
    assert scale < 0.95  # from 1 towards the error of a pixel, which is about .3
    if trainer.adversary is not None:
        (group,) = trainer.adversary.optimizer.param_groups
        assert all(parameter is not trainer.objective.log_scale for parameter in group["params"])
