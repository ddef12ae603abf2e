"""Reconstruction terms: negative log-likelihoods of images under what a decoder puts out.

Each is in nats, summed over the pixels of an image: [B, C, H, W] twice -> [B]. Half-precision decoder outputs are
evaluated in float32. A sum, not a mean: only then do the reconstruction and the KL add up to the evidence lower bound,
and only then does a published beta mean the same thing here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from disentangle_ext._errors import MistakeError, describe
from disentangle_ext._names import choose
from disentangle_ext.ops import _checks
from disentangle_ext.ops._library import transformed

# Pixels of no negative value that come to this much are bytes; the Gaussian and the Laplace take smaller units.
_LARGEST = 16
# How far resizing and half precision take a pixel beyond [0, 1].
_ROUNDING = 1e-3


def _prepare(name: str, reconstruction: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
    _checks.floating(name, "reconstruction", reconstruction, 1)
    _checks.dense(name, "images", images)
    if images.device != reconstruction.device:
        raise MistakeError(
            f"{name}: images must be on the device of reconstruction ({reconstruction.device}), got {images.device}"
        )
    if reconstruction.shape != images.shape:
        raise MistakeError(
            f"{name}: reconstruction must have the shape of images {tuple(images.shape)}, "
            f"got {tuple(reconstruction.shape)}"
        )
    if reconstruction.dtype in (torch.float16, torch.bfloat16):
        reconstruction = reconstruction.float()
    if images.dtype == torch.uint8:
        return reconstruction, images.to(reconstruction.dtype) / 255
    if images.is_floating_point():
        _check_range(name, images)
    elif images.dtype != torch.bool:
        raise TypeError(f"{name}: images must be floating point in [0, 1], bool or uint8, got {images.dtype}")
    return reconstruction, images.to(reconstruction.dtype)


def _check_range(name: str, images: Tensor) -> None:
    """Refuses bytes that were turned into floats: one pass over the batch, on the CPU alone.

    Elsewhere it would wait for the device, which breaks a CUDA graph; under compile or a transform there is no value.
    """
    if images.device.type != "cpu" or torch.compiler.is_compiling() or transformed() or images.numel() == 0:
        return
    low, high = (float(value) for value in images.detach().aminmax())
    if not math.isfinite(high - low):  # the loss is not finite either, which a training loop has its own word for
        return
    in_bytes = low >= 0 and high > _LARGEST
    if in_bytes or (name == "bernoulli" and (low < -_ROUNDING or high > 1 + _ROUNDING)):
        remedy = ": pass images / 255" if in_bytes else ""
        raise MistakeError(f"{name}: images must be in [0, 1], got values from {low:g} to {high:g}{remedy}")


def _log_scale(name: str, scale: float | Tensor) -> float | Tensor:
    """log s, after a check; the value of a tensor is not read back from its device for that."""
    if isinstance(scale, Tensor):
        if scale.ndim != 0:
            raise MistakeError(f"{name}: scale must be a number or a scalar tensor, got shape {tuple(scale.shape)}")
        return scale.log()
    if not _checks.real_number(scale):
        raise TypeError(f"{name}: scale must be a number or a scalar tensor, got {describe(scale)}")
    if not 0 < scale < math.inf:
        raise MistakeError(f"{name}: scale must be greater than 0 and finite, got {scale}")
    return math.log(scale)


def bernoulli(reconstruction: Tensor, images: Tensor) -> Tensor:
    """-log p(x|z) = sum over pixels of log(1 + exp(l)) - x l, with the decoder's logits l; the field's default.

    For pixels between 0 and 1 it is the binary cross-entropy, which is no likelihood and whose minimum is above 0.

    Args:
        reconstruction: logits [B, C, H, W].
        images: [B, C, H, W] in [0, 1], bool, or uint8 in 0..255.

    Returns:
        [B], in nats.

    Raises:
        ValueError: if the shapes differ, or pixels on the CPU are outside [0, 1]; elsewhere that would stall the
            device, so it is not looked at.
        TypeError: for other integers.
    """
    logits, images = _prepare("bernoulli", reconstruction, images)
    return F.binary_cross_entropy_with_logits(logits, images, reduction="none").flatten(1).sum(1)


def gaussian(reconstruction: Tensor, images: Tensor, *, scale: float | Tensor = 1.0) -> Tensor:
    """-log p(x|z) = sum over pixels of (x - m)^2 / (2 s^2) + log s + log(2 pi) / 2.

    Args:
        reconstruction: means m [B, C, H, W].
        images: [B, C, H, W] of any unit, bool, or uint8 in 0..255, which is divided by 255.
        scale: standard deviation s of a pixel: a number, or a scalar tensor, which then has a gradient. One for all
            pixels, learned with the model, is the sigma-VAE of Rybkin et al. 2021, "Simple and effective VAE training
            with calibrated decoders": at its best s^2 is the mean squared error.

    Returns:
        [B], in nats; negative where the density is above 1.

    Raises:
        ValueError: if the shapes differ, ``scale`` is a number that is not positive or a tensor that is no scalar, or
            floats on the CPU look like bytes.
        TypeError: for other integers.
    """
    means, images = _prepare("gaussian", reconstruction, images)
    log_s = _log_scale("gaussian", scale)
    squares = ((images - means) ** 2).flatten(1)
    return squares.sum(1) / (2 * scale * scale) + squares.shape[1] * (log_s + 0.5 * math.log(2 * math.pi))


def laplace(reconstruction: Tensor, images: Tensor, *, scale: float | Tensor = 1.0) -> Tensor:
    """-log p(x|z) = sum over pixels of abs(x - m) / s + log(2 s).

    Args:
        reconstruction: means m [B, C, H, W].
        images: as for :func:`gaussian`.
        scale: mean absolute deviation s of a pixel: a number, or a scalar tensor, which then has a gradient.

    Returns:
        [B], in nats; negative where the density is above 1.

    Raises:
        ValueError, TypeError: as for :func:`gaussian`.
    """
    means, images = _prepare("laplace", reconstruction, images)
    log_s = _log_scale("laplace", scale)
    deviations = (images - means).abs().flatten(1)
    return deviations.sum(1) / scale + deviations.shape[1] * (log_s + math.log(2))


LIKELIHOODS: dict[str, Callable[..., Tensor]] = {
    "bernoulli": bernoulli,
    "gaussian": gaussian,
    "laplace": laplace,
}
"""The likelihoods by name."""

Scale = float | Literal["learned"]
"""The scale of an objective's likelihood: a number, or "learned" with the model, starting at 1."""


def check_likelihood(owner: str, likelihood: str, scale: float | str) -> None:
    """Refuse what :func:`negative_log_likelihood` would refuse at the first batch.

    Raises:
        ValueError: for an unknown name, or a scale that means nothing.
    """
    choose(f"{owner}: likelihood", likelihood, LIKELIHOODS)
    if likelihood == "bernoulli":
        if scale != 1.0:
            raise MistakeError(f"{owner}: scale must be 1 for likelihood 'bernoulli', got {scale}")
    elif not isinstance(scale, str):
        _log_scale(owner, scale)
    elif scale != "learned":
        raise MistakeError(f"{owner}: scale must be a number or 'learned', got {scale!r}")


def negative_log_likelihood(
    reconstruction: Tensor, images: Tensor, *, likelihood: str = "bernoulli", scale: float | Tensor = 1.0
) -> Tensor:
    """The likelihood of that name; ``scale`` is for those that have one.

    Args:
        reconstruction: the decoder's output [B, C, H, W].
        images: [B, C, H, W], as the likelihood takes them.
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
    if not _checks.real_number(scale) or scale != 1.0:
        raise MistakeError(
            f"negative_log_likelihood: scale must be 1 for likelihood 'bernoulli', got {describe(scale)}"
        )
    return function(reconstruction, images)
