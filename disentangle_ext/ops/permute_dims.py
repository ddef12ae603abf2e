"""Independent permutations of every latent dimension along the batch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from disentangle_ext._extension import available
from disentangle_ext.ops import _checks, _library, reference
from disentangle_ext.ops.rng import make_key


def permute_dims(z: Tensor, *, generator: torch.Generator | None = None, key: Tensor | None = None) -> Tensor:
    """Shuffles each latent dimension along the batch: samples of q(z) become samples of prod_d q(z_d).

    ``out[.., i, d] = z[.., perm_d(i), d]`` with independent permutations, each uniform over all B!. Values are moved,
    never changed, so any dtype will do.

    Args:
        z: [.., B, D].
        generator: where the key is drawn from; the default generator if None.
        key: int64 [2] = (seed, offset) instead of a generator, or [.., 2] with leading dimensions of ``z``.

    Returns:
        A tensor like z. The gradient is moved back by the inverse permutations.

    Raises:
        ValueError, TypeError: ``z`` has fewer than two dimensions; ``key`` does not fit; both ``generator`` and
            ``key``; a generator under torch.compile.

    Kim and Mnih 2018, "Disentangling by factorising", algorithm 1.
    """
    op = "permute_dims"
    if (permuted := _library.eager(op, z, generator, key)) is not None:
        return permuted
    if not isinstance(z, Tensor):
        raise TypeError(f"{op}: z must be a Tensor, got {type(z).__name__}")
    if z.dim() < 2:
        raise ValueError(f"{op}: z must have the shape [.., B, D], got {_checks.shape(z)}")
    key = make_key(op, "z", z, z.shape[:-2], generator, key)
    if not available(z.device.type):
        return reference.permute_dims(z, key)
    return _PermuteDims.call(z, key)


class _PermuteDims(_library.Op):
    @staticmethod
    def forward(z: Tensor, key: Tensor) -> Tensor:
        return _library.raw("permute_dims")(z, key)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(inputs[1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (key,) = ctx.saved_tensors
        return _library.raw("permute_dims_backward")(grad, key), None



_library.register_vmap("permute_dims")
_library.register_vmap("permute_dims_backward")


@_library.register_fake("permute_dims")
def _(z: Tensor, key: Tensor) -> Tensor:
    return z.new_empty(z.shape)


@_library.register_fake("permute_dims_backward")
def _(grad: Tensor, key: Tensor) -> Tensor:
    return grad.new_empty(grad.shape)
