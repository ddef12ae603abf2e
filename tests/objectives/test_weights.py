"""Weights of terms: at least 0 and finite, by the module and by the function behind it."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from disentangle_ext import objectives
from disentangle_ext.models import Discriminator, VAEOutput
from disentangle_ext.objectives import OBJECTIVES

OF_THE_RUN: dict[str, dict[str, Any]] = {
    "beta_tcvae": {"dataset_size": 100, "kl": "decomposed"},
    "factor_vae": {"latent_dim": 2, "discriminator_width": 4},
    "dcign": {"latent_dim": 3, "factor_names": ("x", "y")},
}
WEIGHTS = [
    *(("beta_vae", "beta"), ("annealed_vae", "c_max"), ("annealed_vae", "gamma")),
    *(("beta_tcvae", "beta"), ("beta_tcvae", "alpha"), ("beta_tcvae", "gamma"), ("factor_vae", "gamma")),
    *(("info_vae", "lambda_mmd"), ("wae_mmd", "lambda_mmd"), ("ada_gvae", "beta"), ("ml_vae", "beta")),
    *(("dip_vae_i", "lambda_od"), ("dip_vae_i", "lambda_d"), ("dip_vae_ii", "lambda_od"), ("dip_vae_ii", "lambda_d")),
    ("dcign", "strength"),
]
FUNCTIONS: dict[str, dict[str, Any]] = {
    "annealed_vae": {"step": 0},
    "beta_tcvae": {"dataset_size": 100, "kl": "decomposed"},
    "dip_vae_i": {"kind": "i"},
    "dip_vae_ii": {"kind": "ii"},
    "factor_vae": {"discriminator": Discriminator(2, layers=1, width=4)},
    "dcign": {"active": torch.tensor([True, False])},
}


@pytest.mark.parametrize(("model", "name"), WEIGHTS)
@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf])
def test_of_a_module(model: str, name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} must be at least 0 and finite, got {value}"):
        OBJECTIVES[model](**OF_THE_RUN.get(model, {}), **{name: value})
    OBJECTIVES[model](**OF_THE_RUN.get(model, {}), **{name: 0})


@pytest.mark.parametrize(("model", "name"), [each for each in WEIGHTS if each[0] not in ("ada_gvae", "ml_vae")])
def test_of_a_function(model: str, name: str) -> None:
    function = getattr(objectives, "dip_vae" if model.startswith("dip") else model)
    output = VAEOutput(torch.zeros(3, 1, 2, 2), *(torch.zeros(3, 2) for _ in range(3)), torch.zeros(3))
    images = torch.full((3, 1, 2, 2), 0.5)
    with pytest.raises(ValueError, match=f"{name} must be at least 0 and finite, got -0.5"):
        function(output, images, **FUNCTIONS.get(model, {}), **{name: -0.5})
    with pytest.raises(TypeError, match=f"{name} must be a number or a scalar tensor, got str '1'"):
        function(output, images, **FUNCTIONS.get(model, {}), **{name: "1"})
    assert function(output, images, **FUNCTIONS.get(model, {}), **{name: torch.tensor(0.5)}).total.isfinite()
