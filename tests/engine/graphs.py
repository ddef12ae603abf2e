"""Trainers whose updates become graphs: one for each objective, small, on 40 images."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch

from disentangle_ext.data import ArrayData, GroundTruthData
from disentangle_ext.engine.build import build_trainer
from disentangle_ext.engine.descent import Schedule
from disentangle_ext.engine.trainer import Trainer
from disentangle_ext.objectives import OBJECTIVES
from disentangle_ext.runs.config import resolve

STEPS = 13
"""With 40 images, 8 in a batch: past two epochs, and with windows of 4 steps past three of them."""

SMALL_DISCRIMINATOR = {"discriminator_layers": 2, "discriminator_width": 16}
CASES: dict[str, dict[str, Any]] = {
    **{name: {"model": name} for name in OBJECTIVES},
    "annealed_vae": {"model": "annealed_vae", "threshold": 7},
    "factor_vae": {"model": "factor_vae", **SMALL_DISCRIMINATOR},
    "factor_vae of two batches": {"model": "factor_vae", "second_batch": True, **SMALL_DISCRIMINATOR},
    "vae with a learned scale": {"model": "vae", "likelihood": "gaussian", "scale": "learned"},
    "conv": {"model": "beta_tcvae", "network": "conv", "base_channels": 4},
}
objectives = pytest.mark.parametrize("case", CASES)
precisions = pytest.mark.parametrize("precision", ["fp32", "bf16"])


class Float32(Schedule):
    """Learning rates that lose nothing on their way to the device."""

    def __call__(self, step: int) -> float:
        return float(torch.tensor(super().__call__(step), dtype=torch.float32))


def make_data() -> ArrayData:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (40, 1, 32, 32), dtype=torch.uint8, generator=generator)
    return ArrayData(pixels, list(product(range(2), range(4), range(5))))


def make(
    case: str, precision: str = "fp32", compilation: str = "eager", data: GroundTruthData | None = None
) -> Trainer:
    settings = {"network": "mlp", **CASES[case]}
    size = {"width": 8} if settings["network"] == "mlp" else {}
    config = resolve(
        {
            **{"data": "dsprites_like", "latent_dim": 4, "batch_size": 8, "max_steps": STEPS, "lr": 1e-3},
            **{"lr_schedule": "cosine", "lr_warmup": 3, "precision": precision, "compilation": compilation},
            **size,
            **settings,
        }
    )
    return build_trainer(config, data or make_data())
