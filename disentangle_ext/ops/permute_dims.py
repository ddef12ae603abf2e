"""Independent permutations of every latent dimension along the batch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from disentangle_ext._extension import available
from disentangle_ext.ops import _checks, _collectives, _library, reference
from disentangle_ext.ops.rng import make_key


def permute_dims(
    z: Tensor,
    *,
    generator: torch.Generator | None = None,
    key: Tensor | None = None,
    process_group: ProcessGroup | None = None,
) -> Tensor:
    """Shuffles each latent dimension along the batch: samples of q(z) become samples of prod_d q(z_d).

    ``out[.., i, d] = z[.., perm_d(i), d]`` with independent permutations, each uniform over all B!. Values are moved,
    never changed, so any dtype will do.

    Args:
        z: [.., B, D].
        generator: where the key is drawn from; the default generator if None.
        key: int64 [2] = (seed, offset) instead of a generator, or [.., 2] with leading dimensions of ``z``.
        process_group: ranks that each hold an equal shard of the batch. The whole batch is permuted, as one process
            does with the same ``key``, which must be given and be the same on every rank; each gets its own rows back.

    Returns:
        A tensor like z. The gradient is moved back by the inverse permutations.

    Raises:
        ValueError, TypeError: ``z`` has fewer than two dimensions; ``key`` does not fit; both ``generator`` and
            ``key``; a generator under torch.compile; no ``key`` with a ``process_group``, or
            ranks whose shapes, dtypes or keys differ (raised on each of them).

    Kim and Mnih 2018, "Disentangling by factorising", algorithm 1.
    """
    op = "permute_dims"
    if process_group is None and (permuted := _library.eager(op, z, generator, key)) is not None:
        return permuted
    if (group := _collectives.parallel(op, process_group)) is not None:
        _collectives.agree(op, group, z=z, key=key)
        _collectives.need_key(op, key)
    _checks.dense(op, "z", z)
    if z.dim() < 2:
        raise ValueError(f"{op}: z must have the shape [.., B, D], got {_checks.shape(z)}")
    key = make_key(op, "z", z, z.shape[:-2], generator, key)
    if group is not None:
        (whole,) = _collectives.gather(group, z)
        rows = z.shape[-2]
        return permute_dims(whole, key=key).narrow(-2, _collectives.first_row(group, rows), rows)
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
