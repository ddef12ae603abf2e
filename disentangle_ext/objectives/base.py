"""What every objective has in common."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from disentangle_ext.models.vae import VAEOutput


class Loss(NamedTuple):
    """A loss and what it consists of, in nats, averaged over the batch."""

    total: Tensor
    """The scalar to minimise."""
    terms: dict[str, Tensor]
    """Its terms without their weights, scalars."""


class Objective(nn.Module):
    """Base of the objectives: ``forward(output, images, *, step=0, key=None) -> Loss``.

    ``step`` counts the updates from 0, for objectives whose weights follow a schedule. ``key``, int64 [2], decides
    what an objective draws itself, a sample of the prior for example; without one it is drawn from torch's generator.
    """

    deterministic: bool = False
    """Whether the decoder gets the posterior means, and no sample: ``model(images, sample=False)``."""

    def forward(self, output: VAEOutput, images: Tensor, *, step: int = 0, key: Tensor | None = None) -> Loss:
        raise NotImplementedError

    def measure(self, output: VAEOutput) -> dict[str, Tensor]:
        """Quantities worth logging that are not terms of the loss, scalars in nats; called without gradients."""
        return {}
