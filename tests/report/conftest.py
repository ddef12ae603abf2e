"""A model whose images say what was decoded, and the subject around it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from disentangle_ext.data import load_data
from disentangle_ext.models import VAE
from disentangle_ext.report import Subject

USE = (0.5, 0.0, 2.0)


class Means(nn.Module):
    """The posterior mean of latent d is d + the mean of the image."""

    def __init__(self, size: int, channels: int) -> None:
        super().__init__()
        self.layer = nn.Linear(channels * size * size, 2 * len(USE))
        with torch.no_grad():
            self.layer.weight.fill_(1 / self.layer.in_features)
            self.layer.bias.copy_(torch.arange(2.0 * len(USE)))

    def forward(self, images: Tensor) -> Tensor:
        return self.layer(images.flatten(1))


class Bars(nn.Module):
    """Latent d is the grey of the d-th third of an image: -8 is black, 8 white."""

    def __init__(self, size: int, channels: int) -> None:
        super().__init__()
        self.shape = channels, size, size

    def forward(self, z: Tensor) -> Tensor:
        columns = torch.arange(self.shape[-1]) * len(USE) // self.shape[-1]
        return (z[:, columns] / 16 + 0.5)[:, None, None, :].expand(-1, *self.shape)


@pytest.fixture
def make_subject() -> Callable[..., Subject]:
    def make(data: Any = None, **options: Any) -> Subject:
        data = load_data("dsprites_like", variant="quick") if data is None else data
        channels, size, _ = data.image_shape
        model = VAE(Means(size, channels), Bars(size, channels), len(USE), likelihood="gaussian")
        model.eval()
        stated = {"use": torch.tensor(USE), "points": 9, **options}
        return Subject(model, data, "vae on a set, step 7, seed 0", **stated)

    return make
