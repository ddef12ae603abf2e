"""The discriminator of FactorVAE."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

from disentangle_ext._errors import MistakeError
from disentangle_ext.models._initialise import glorot_

_SLOPE = 0.2


class Discriminator(nn.Module):
    """Tells codes of q(z) from codes of the product of its marginals (Kim & Mnih 2018, "Disentangling by factorising").

    D-1000-1000-1000-1000-1000-1000-2, leaky ReLU with slope .2 between, two logits at the end: of q(z) first.
    Weights are Glorot-uniform and biases zero, as in the study of Locatello et al. (2019).

    Args:
        latent_dim: number of latents D.
        layers: hidden layers; a popular port has 5.
        width: units of each.

    Shapes: codes [B, D] -> logits [B, 2].

    Raises:
        ValueError: for fewer than one layer or unit.
    """

    def __init__(self, latent_dim: int, *, layers: int = 6, width: int = 1000) -> None:
        super().__init__()
        for name, value in (("layers", layers), ("width", width)):
            if value < 1:
                raise MistakeError(f"Discriminator: {name} must be at least 1, got {value}")
        sizes = [latent_dim, *[width] * layers, 2]
        self.latent_dim = latent_dim
        self.layers = nn.ModuleList(nn.Linear(inputs, outputs) for inputs, outputs in pairwise(sizes))
        glorot_(self)

    def forward(self, z: Tensor, *, frozen: bool = False) -> Tensor:
        """Logits of the two classes.

        Args:
            z: codes [B, D].
            frozen: the weights are constants: the gradient reaches ``z`` alone.

        Raises:
            ValueError: for another number of latents.
        """
        if z.ndim != 2 or z.shape[1] != self.latent_dim:
            raise MistakeError(f"Discriminator: z must be [B, {self.latent_dim}], got {tuple(z.shape)}")
        for place, layer in enumerate(self.layers):
            assert isinstance(layer, nn.Linear)
            weight, bias = layer.weight, layer.bias
            z = F.linear(z, *(weight.detach(), bias.detach()) if frozen else (weight, bias))
            if place < len(self.layers) - 1:
                z = F.leaky_relu(z, _SLOPE)
        return z
