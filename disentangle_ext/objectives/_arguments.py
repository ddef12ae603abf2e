"""Checks of what objectives are given: one line names the objective and the argument."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from disentangle_ext._errors import MistakeError, describe
from disentangle_ext.models.vae import VAEOutput
from disentangle_ext.ops import _checks


def check_number(owner: str, name: str, value: Any) -> None:
    """Refuse what is neither a finite number nor a scalar tensor.

    A tensor is not read back: it may lie on an accelerator, or be mapped over many runs and have no one value.
    """
    if isinstance(value, Tensor):
        _checks.dense(owner, name, value)
        if value.ndim != 0:
            shape = tuple(value.shape)
            raise MistakeError(f"{owner}: {name} must be a number or a scalar tensor, got shape {shape}")
    elif not _checks.real_number(value):
        raise TypeError(f"{owner}: {name} must be a number or a scalar tensor, got {describe(value)}")
    elif not -math.inf < value < math.inf:
        raise MistakeError(f"{owner}: {name} must be finite, got {value}")


def check_weights(owner: str, **weights: Any) -> None:
    """Refuse weights that turn a term into its opposite, or the loss into NaN.

    Raises:
        ValueError: "beta_vae: beta must be at least 0 and finite, got -1.0".
        TypeError: for what is no number.
    """
    for name, weight in weights.items():
        if _checks.real_number(weight) and not 0 <= weight < math.inf:
            raise MistakeError(f"{owner}: {name} must be at least 0 and finite, got {weight}")
        check_number(owner, name, weight)


def check_output(owner: str, output: Any) -> None:
    """Refuse what a model does not return."""
    if not all(hasattr(output, name) for name in VAEOutput._fields):
        raise TypeError(f"{owner}: output must be the VAEOutput of a model, got {describe(output)}")


def check_model(owner: str, model: Any) -> None:
    """Refuse what cannot encode and decode."""
    if not (hasattr(model, "encode") and hasattr(model, "decoder")):
        raise TypeError(f"{owner}: model must be a VAE, got {type(model).__name__}")


def check_discriminator(owner: str, discriminator: Any) -> None:
    """Refuse what is no module: a wrapped one need not be a Discriminator itself."""
    if not isinstance(discriminator, nn.Module):
        raise TypeError(f"{owner}: discriminator must be a Discriminator, got {describe(discriminator)}")


def check_codes(owner: str, **codes: Any) -> None:
    """Refuse what is no floating-point tensor of the dtype and device of the first."""
    (first_name, first), *others = codes.items()
    _checks.floating(owner, first_name, first, 0)
    for name, tensor in others:
        _checks.same_kind(owner, name, tensor, first_name, first)


def check_active(owner: str, active: Any, z: Tensor) -> None:
    """Refuse what does not say of each latent of ``z`` whether it is active."""
    if not isinstance(active, Tensor) or active.dtype != torch.bool or active.shape != z.shape[-1:]:
        got = f"{active.dtype} {tuple(active.shape)}" if isinstance(active, Tensor) else describe(active)
        raise TypeError(f"{owner}: active must be a bool tensor [{z.shape[-1]}], one for each latent, got {got}")
    if active.device != z.device:
        raise MistakeError(f"{owner}: active must be on the device of z ({z.device}), got {active.device}")
