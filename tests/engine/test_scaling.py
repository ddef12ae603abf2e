"""Float16: the scale of the gradients, steps that are left out, and a scale that finds no finite gradient."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from disentangle_ext.data import load_data
from disentangle_ext.engine.build import build_trainer
from disentangle_ext.engine.descent import SMALLEST, Descent
from disentangle_ext.engine.meter import NonFiniteLossError
from disentangle_ext.engine.trainer import Trainer
from disentangle_ext.runs.config import resolve

DATA = load_data("dsprites_like", variant="quick")


def make(**settings: Any) -> Trainer:
    small = {"model": "beta_vae", "data": "dsprites_like", "data_variant": "quick", "base_channels": 2, "batch_size": 8}
    width = {"discriminator_width": 4} if settings.get("model") == "factor_vae" else {}
    return build_trainer(resolve({**small, "latent_dim": 3, "lr": 1e-3, **width, **settings}), DATA)


def weights(trainer: Trainer) -> list[Tensor]:
    return [each.detach().clone() for each in (*trainer.model.parameters(), *trainer.objective.parameters())]


@pytest.mark.parametrize("model", ["beta_vae", "factor_vae"])
def test_networks_in_float16_train_as_in_float32(model: str) -> None:
    half, single = (make(model=model, precision=each) for each in ("fp16", "fp32"))
    for trainer in (half, single):
        # With the 2^16 that a scaler begins with, the gradients of a sum over pixels overflow for some steps.
        for descent in filter(None, (trainer.descent, trainer.adversary)):
            if descent.scaler is not None:
                descent.scaler.load_state_dict({**descent.scaler.state_dict(), "scale": 16.0})
        for _ in range(30):
            output = trainer.update()
    assert output.reconstruction.dtype == torch.float32
    assert half.update().reconstruction.dtype == torch.float16
    single.update()
    assert {each.dtype for each in half.model.parameters()} == {torch.float32}
    a, b = half.meter.read(), single.meter.read()
    assert a["loss"] == pytest.approx(b["loss"], rel=5e-3)
    assert a["loss"] != b["loss"]


@pytest.mark.parametrize("optimizer", ["adam", "adagrad", "rmsprop"])
def test_a_scaled_step_is_the_step(optimizer: str) -> None:
    """Powers of two are exact in float32: a step with a scale is the step without, to the last bit."""

    def step(scaler: torch.amp.GradScaler | None) -> Tensor:
        torch.manual_seed(0)
        layer = torch.nn.Linear(4, 3)
        kinds = {"adam": torch.optim.Adam, "adagrad": torch.optim.Adagrad, "rmsprop": torch.optim.RMSprop}
        descent = Descent(kinds[optimizer](layer.parameters()), lambda step: 1e-2, scaler)
        for place in range(3):
            descent.set_rate(place)
            descent.update(layer(torch.ones(2, 4)).square().sum())
        return layer.weight.detach()

    assert torch.equal(step(None), step(torch.amp.GradScaler("cpu", init_scale=1024.0)))


@pytest.mark.parametrize("optimizer", ["adam", "adagrad", "rmsprop"])
@pytest.mark.parametrize("model", ["beta_vae", "factor_vae"])
def test_a_step_whose_gradients_overflow_is_left_out_and_no_error(model: str, optimizer: str) -> None:
    trainer = make(model=model, precision="fp16", optimizer=optimizer)
    scalers = [each.scaler for each in (trainer.descent, trainer.adversary) if each is not None]
    assert len(scalers) == len({id(each) for each in scalers}) == (2 if model == "factor_vae" else 1)
    for scaler in scalers:
        assert scaler is not None
        scaler.load_state_dict({**scaler.state_dict(), "scale": 2.0**60})
    before = weights(trainer)
    row = trainer.read(trainer.update())
    assert row["loss"] > 0
    assert all(torch.equal(a, b) for a, b in zip(before, weights(trainer)))
    assert [scaler.get_scale() for scaler in scalers if scaler] == [2.0**59] * len(scalers)
    while scalers[0].get_scale() == 2.0 ** (60 - trainer.step):  # type: ignore[union-attr]
        trainer.checkpoint()
        trainer.update()
        assert trainer.step < 80
    assert not all(torch.equal(a, b) for a, b in zip(before, weights(trainer)))


def test_a_scale_that_finds_no_finite_gradient_is_an_error() -> None:
    trainer = make(precision="fp16")
    trainer.model.decoder.hidden[0].weight.register_hook(lambda gradient: gradient * torch.inf)
    before = weights(trainer)
    for _ in range(40):
        trainer.read(trainer.update())
    output = trainer.update()
    with pytest.raises(NonFiniteLossError, match="train: gradient at any scale is inf at step 40"):
        trainer.read(output)
    assert 2.0 ** (16 - trainer.step) < SMALLEST <= 2.0 ** (17 - trainer.step)
    assert all(torch.equal(a, b) for a, b in zip(before, weights(trainer)))
    with pytest.raises(NonFiniteLossError):
        trainer.checkpoint()
