"""Reparameterised sampling fused with the KL divergence from the prior."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from disentangle_ext._extension import available
from disentangle_ext.ops import _checks, _library, reference
from disentangle_ext.ops.rng import make_key


def rsample_kl(
    mu: Tensor,
    logvar: Tensor,
    *,
    per_dimension: bool = False,
    generator: torch.Generator | None = None,
    key: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    r"""Draws z from q(z|x) = N(mu, exp(logvar)) and returns the KL divergence from N(0, I), in nats.

    .. math::
        z = \mu + e^{\text{logvar} / 2} \epsilon, \qquad
        \mathrm{KL} = \tfrac12 \left( \mu^2 + e^{\text{logvar}} - 1 - \text{logvar} \right)

    The noise is a pure function of (key, element index): it is made again in backward, not stored, and does not depend
    on the number of threads or the device.

    Args:
        mu, logvar: [.., B, D], mean and log-variance of the posterior.
        per_dimension: return the KL of every latent dimension instead of the sum over D.
        generator: where the key is drawn from; the default generator, which ``torch.manual_seed`` governs, if None.
        key: int64 [2] = (seed, offset) instead of a generator, or [.., 2] with leading dimensions of ``mu``: then each
            problem has a key of its own, and a stack equals its members run alone.

    Returns:
        z [.., B, D] in the dtype of ``mu`` (float32 under autocast), and the KL [.., B], or [.., B, D] with
        ``per_dimension``, in float32 for half inputs.

    Raises:
        ValueError, TypeError: shape, dtype or device of ``logvar`` or ``key`` do not fit; both ``generator`` and
            ``key``; a generator under torch.compile.

    Kingma and Welling 2014, "Auto-encoding variational Bayes"; Salmon et al. 2011 for the generator (Philox4x32-10).
    """
    if (drawn := _library.eager("rsample_kl", mu, logvar, per_dimension, generator, key)) is not None:
        return drawn
    _checks.floating("rsample_kl", "mu", mu, 1)
    mu, logvar = _library.under_autocast(mu, logvar)
    _checks.same("rsample_kl", "logvar", logvar, "mu", mu)
    key = make_key("rsample_kl", "mu", mu, mu.shape[:-1], generator, key)
    if not available(mu.device.type):
        return reference.rsample_kl(mu, logvar, key, per_dimension)
    return _RsampleKL.call(mu, logvar, key, per_dimension)


class _RsampleKL(_library.Op):
    @staticmethod
    def forward(mu: Tensor, logvar: Tensor, key: Tensor, per_dimension: bool) -> tuple[Tensor, Tensor]:
        return _library.raw("rsample_kl")(mu, logvar, key, per_dimension)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        mu, logvar, key, ctx.per_dimension = inputs
        ctx.save_for_backward(mu, logvar, key)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, grad_z: Tensor | None, grad_kl: Tensor | None) -> tuple[Tensor | None, ...]:
        if grad_z is None and grad_kl is None:
            return None, None, None, None
        mu, logvar, key = ctx.saved_tensors
        return *_library.raw("rsample_kl_backward")(grad_z, grad_kl, mu, logvar, key, ctx.per_dimension), None, None



_library.register_vmap("rsample_kl")
_library.register_vmap("rsample_kl_backward")


@_library.register_fake("rsample_kl")
def _(mu: Tensor, logvar: Tensor, key: Tensor, per_dimension: bool) -> tuple[Tensor, Tensor]:
    kl_shape = mu.shape if per_dimension else mu.shape[:-1]
    return mu.new_empty(mu.shape), mu.new_empty(kl_shape, dtype=_library.compute_dtype(mu))


@_library.register_fake("rsample_kl_backward")
def _(
    grad_z: Tensor | None, grad_kl: Tensor | None, mu: Tensor, logvar: Tensor, key: Tensor, per_dimension: bool
) -> tuple[Tensor, Tensor]:
    return mu.new_empty(mu.shape), mu.new_empty(mu.shape)
