"""Reparameterised sampling fused with the KL divergence from the prior."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributed import ProcessGroup
from torch.nn import functional as F

from disentangle_ext._extension import available
from disentangle_ext.ops import _checks, _collectives, _library, reference
from disentangle_ext.ops.rng import make_key


def rsample_kl(
    mu: Tensor,
    logvar: Tensor,
    *,
    per_dimension: bool = False,
    generator: torch.Generator | None = None,
    key: Tensor | None = None,
    process_group: ProcessGroup | None = None,
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
        process_group: ranks that each hold an equal shard of the batch. The noise is what one process with the same
            ``key`` draws for these rows of the whole batch, bit for bit; ``key`` must be given, the same on every rank.

    Returns:
        z [.., B, D] in the dtype of ``mu`` (float32 under autocast), and the KL [.., B], or [.., B, D] with
        ``per_dimension``, in float32 for half inputs.

    Raises:
        ValueError, TypeError: shape, dtype or device of ``logvar`` or ``key`` do not fit; both ``generator`` and
            ``key``; a generator under torch.compile; no ``key`` with a ``process_group``, or
            ranks whose shapes, dtypes or keys differ (raised on each of them).

    Kingma and Welling 2014, "Auto-encoding variational Bayes"; Salmon et al. 2011 for the generator (Philox4x32-10).
    """
    op = "rsample_kl"
    if process_group is None and (drawn := _library.eager(op, mu, logvar, per_dimension, generator, key)) is not None:
        return drawn
    if (group := _collectives.parallel(op, process_group)) is not None:
        _collectives.agree(op, group, mu=mu, logvar=logvar, key=key)
        _collectives.need_key(op, key)
    _checks.floating(op, "mu", mu, 1 if group is None else 2)
    mu, logvar = _library.under_autocast(mu, logvar)
    _checks.same(op, "logvar", logvar, "mu", mu)
    _checks.boolean(op, "per_dimension", per_dimension)
    key = make_key(op, "mu", mu, mu.shape[:-1], generator, key)
    if group is not None:
        return _in_place(group, mu, logvar, key, per_dimension)
    if not available(mu.device.type):
        return reference.rsample_kl(mu, logvar, key, per_dimension)
    return _RsampleKL.call(mu, logvar, key, per_dimension)


def _in_place(
    group: ProcessGroup, mu: Tensor, logvar: Tensor, key: Tensor, per_dimension: bool
) -> tuple[Tensor, Tensor]:
    """The rows at their place in the whole batch, where the noise is that of one process; the others are zeros."""
    rows = mu.shape[-2]
    before, after = _collectives.other_rows(group, rows)
    padding = (0, 0, before, after)
    z, kl = rsample_kl(F.pad(mu, padding), F.pad(logvar, padding), per_dimension=per_dimension, key=key)
    return z.narrow(-2, before, rows), kl.narrow(-2 if per_dimension else -1, before, rows)


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
