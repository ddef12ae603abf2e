"""What pictures are drawn of: a model, the data it was trained on, and how the training went."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from disentangle_ext.data import GroundTruthData
from disentangle_ext.models import VAE
from disentangle_ext.models.vae import TRAVERSAL

__all__ = ["Subject", "middle_row"]


@dataclass(frozen=True)
class Subject:
    """A trained model, in eval mode, with all that its pictures state.

    Args:
        model: the model.
        data: what it was trained on.
        name: model, data set, step and seed in words: the first line under every title.
        use: how much each latent is used [D]: its mean KL in nats, or, for an encoder without noise, whose KL means
            nothing, the variance of its codes.
        points: the number of images that ``use`` is the mean over.
        deterministic: whether the encoder is one without noise.
        seed: chooses images and codes.
        metrics: the lines of metrics.jsonl.
        capacity: C in nats at a step, for an objective that has one.
        limit: latents move from -limit to limit.
        own: the latent of each factor that has one of its own.
    """

    model: VAE
    data: GroundTruthData
    name: str
    use: Tensor
    points: int
    deterministic: bool = False
    seed: int = 0
    metrics: Sequence[dict[str, Any]] = field(default=(), repr=False)
    capacity: Callable[[int], float] | None = None
    limit: float = TRAVERSAL[1]
    own: Mapping[str, int] = field(default_factory=dict)

    @property
    def order(self) -> list[int]:
        """The latents, the most used first."""
        return [int(dim) for dim in self.use.argsort(descending=True, stable=True)]

    @property
    def labels(self) -> list[str]:
        """A label for each latent in :attr:`order`."""
        what, unit = ("variance", "") if self.deterministic else ("KL", " nats")
        return [f"z{dim}  {what} {abs(round(float(self.use[dim]), 2)):.2f}{unit}" for dim in self.order]

    @property
    def order_in_words(self) -> str:
        what = "variance of their codes" if self.deterministic else "mean KL"
        return f"rows by the {what} over {self.points:,} images"

    def random_rows(self, count: int) -> Tensor:
        """``count`` distinct rows of the data set, or all of a smaller one."""
        generator = torch.Generator().manual_seed(self.seed)
        return torch.randperm(len(self.data), generator=generator)[:count]

    def traverse(self, images: Tensor, values: Tensor) -> Tensor:
        """Pixel means [D, n, S, C, H, W]: every latent, in :attr:`order`, at S values, from n posterior means."""
        return torch.stack([self.model.traverse(images, dim, values=values) for dim in self.order])


def middle_row(data: GroundTruthData) -> Tensor:
    """The row [1] with every factor at its middle class: a traversal from there has room on both sides."""
    if not data.factor_names:
        return torch.tensor([len(data) // 2])
    try:
        return data.index(torch.tensor([[size // 2 for size in data.factor_sizes]]))
    except ValueError:  # rows of a user's own that form no full grid
        return torch.tensor([len(data) // 2])
