"""Independent permutations of the latent dimensions, as FactorVAE needs them for its discriminator."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from bench.harness import BEST, FORWARD, TOLERANCE, Case, Step, Tensors
from bench.rates import Work
from disentangle_ext import ops

D = 10
SIZES = {"cpu": (64, 4096), "cuda": (64, 4096)}


def plain(z: Tensor) -> Tensors:
    return (torch.stack([z[torch.randperm(len(z), device=z.device), d] for d in range(z.shape[1])], 1),)


def by_sorting(z: Tensor) -> Tensors:
    """All dimensions at once: the order of random numbers. Ties, which bias it, are rare in float32."""
    return (z.gather(0, torch.rand_like(z).argsort(0)),)


def best(z: Tensor) -> Tensors:
    """The order of 64-bit random numbers where that costs less than as many calls; else columns along memory."""
    batch, D = z.shape
    if batch <= 512:
        return (z.gather(0, torch.randint(-(2**63), 2**63 - 1, z.shape).argsort(0)),)
    columns = z.T.contiguous()
    out = torch.empty_like(columns)
    for d in range(D):
        torch.index_select(columns[d], 0, torch.randperm(batch), out=out[d])
    return (out.T,)


def normal(batch: int, device: str) -> Tensors:
    return (torch.randn(batch, D, device=device),)


def columns_sorted(results: Tensors, inputs: Tensors, upstream: Tensors) -> Tensors:
    """What every permutation of a column shares."""
    return (results[0].sort(0).values,)


def raw(inputs: Tensors, upstream: Tensors) -> Step:
    ops = torch.ops.disentangle_ext
    forward, backward = ops.permute_dims.default, ops.permute_dims_backward.default
    key = torch.zeros(2, dtype=torch.int64, device=inputs[0].device)
    return lambda: (forward(*inputs, key), backward(*upstream, key))


def case(device: str, batch: int, passes: str = FORWARD) -> Case:
    return Case(
        "permute_dims",
        f"{batch} x {D}",
        passes,
        partial(normal, batch, device),
        plain,
        lambda z: (ops.permute_dims(z),),
        Work(bytes=2 * 4 * batch * D),
        TOLERANCE[device],
        comparable=columns_sorted,
        modes=(),
        others={BEST: best} if device == "cpu" else {"rand().argsort": by_sorting},
        raw=raw,
    )


def cases(device: str, sizes: Sequence[int] | None = None) -> Iterator[Case]:
    for batch in sizes or SIZES[device]:
        yield case(device, batch)
