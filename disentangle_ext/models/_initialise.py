"""Initial weights."""

from __future__ import annotations

from typing import Literal

from torch import nn

Initial = Literal["glorot", "torch"]


def glorot_(module: nn.Module) -> None:
    """Glorot-uniform weights and zero biases in every linear and convolutional layer of ``module``.

    This is TensorFlow's default, so what the networks of the study of Locatello et al. (2019) started from.
    """
    for layer in module.modules():
        if isinstance(layer, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def glorot_heads_(layer: nn.Linear, heads: int) -> None:
    """Initialise one linear layer as ``heads`` separate ones of equal width: the fan-out is that of one head."""
    for head in layer.weight.detach().chunk(heads):
        nn.init.xavier_uniform_(head)
