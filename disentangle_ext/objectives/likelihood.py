"""Reconstruction terms: negative log-likelihoods of images under what a decoder puts out.

Each is in nats, summed over the pixels of an image: [B, C, H, W] twice -> [B]. Half-precision decoder outputs are
evaluated in float32. A sum, not a mean: only then do the reconstruction and the KL add up to the evidence lower bound,
and only then does a published beta mean the same thing here.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from disentangle_ext._names import choose


def _prepare(name: str, reconstruction: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
    if reconstruction.shape != images.shape:
        raise ValueError(
            f"{name}: reconstruction must have the shape of images {tuple(images.shape)}, "
            f"got {tuple(reconstruction.shape)}"
        )
    if reconstruction.dtype in (torch.float16, torch.bfloat16):
        reconstruction = reconstruction.float()
    return reconstruction, images.to(reconstruction.dtype)


def _scale(name: str, scale: float) -> float:
    if not scale > 0:
        raise ValueError(f"{name}: scale must be greater than 0, got {scale}")
    return scale


def bernoulli(reconstruction: Tensor, images: Tensor) -> Tensor:
    """-log p(x|z) = sum over pixels of log(1 + exp(l)) - x l, with the decoder's logits l; the field's default.

    For pixels between 0 and 1 it is the binary cross-entropy, which is no likelihood and whose minimum is above 0.

    Args:
        reconstruction: logits [B, C, H, W].
        images: [B, C, H, W] in [0, 1].

    Returns:
        [B], in nats.

    Raises:
        ValueError: if the shapes differ.
    """
    logits, images = _prepare("bernoulli", reconstruction, images)
    return F.binary_cross_entropy_with_logits(logits, images, reduction="none").flatten(1).sum(1)


def gaussian(reconstruction: Tensor, images: Tensor, *, scale: float = 1.0) -> Tensor:
    """-log p(x|z) = sum over pixels of (x - m)^2 / (2 s^2) + log s + log(2 pi) / 2.

    Args:
        reconstruction: means m [B, C, H, W].
        images: [B, C, H, W].
        scale: standard deviation s of a pixel.

    Returns:
        [B], in nats.

    Raises:
        ValueError: if the shapes differ or ``scale`` is not positive.
    """
    means, images = _prepare("gaussian", reconstruction, images)
    s = _scale("gaussian", scale)
    squares = ((images - means) ** 2).flatten(1)
    return squares.sum(1) / (2 * s * s) + squares.shape[1] * (math.log(s) + 0.5 * math.log(2 * math.pi))


def laplace(reconstruction: Tensor, images: Tensor, *, scale: float = 1.0) -> Tensor:
    """-log p(x|z) = sum over pixels of abs(x - m) / s + log(2 s).

    Args:
        reconstruction: means m [B, C, H, W].
        images: [B, C, H, W].
        scale: mean absolute deviation s of a pixel.

    Returns:
        [B], in nats.

    Raises:
        ValueError: if the shapes differ or ``scale`` is not positive.
    """
    means, images = _prepare("laplace", reconstruction, images)
    s = _scale("laplace", scale)
    deviations = (images - means).abs().flatten(1)
    return deviations.sum(1) / s + deviations.shape[1] * math.log(2 * s)


LIKELIHOODS: dict[str, Callable[..., Tensor]] = {
    "bernoulli": bernoulli,
    "gaussian": gaussian,
    "laplace": laplace,
}
"""The likelihoods by name."""


def negative_log_likelihood(
    reconstruction: Tensor, images: Tensor, *, likelihood: str = "bernoulli", scale: float = 1.0
) -> Tensor:
    """The likelihood of that name; ``scale`` is for those that have one.

    Args:
        reconstruction: the decoder's output [B, C, H, W].
        images: [B, C, H, W].
        likelihood: a name in :data:`LIKELIHOODS`.
        scale: see :func:`gaussian` and :func:`laplace`; must stay 1 for "bernoulli".

    Returns:
        [B], in nats.

    Raises:
        ValueError: for an unknown name, or a scale that means nothing.
    """
    function = LIKELIHOODS[choose("negative_log_likelihood: likelihood", likelihood, LIKELIHOODS)]
    if likelihood != "bernoulli":
        return function(reconstruction, images, scale=scale)
    if scale != 1.0:
        raise ValueError(f"negative_log_likelihood: scale must be 1 for likelihood 'bernoulli', got {scale}")
    return function(reconstruction, images)
