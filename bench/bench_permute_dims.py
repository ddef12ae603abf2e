"""Independent permutations of the latent dimensions, as FactorVAE needs them for its discriminator."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from bench.cuda_harness import FORWARD, CudaCase, Tensors
from bench.harness import OURS, PLAIN, Case
from bench.rates import Work
from disentangle_ext import ops


def plain(z: Tensor) -> Tensor:
    return torch.stack([z[torch.randperm(len(z), device=z.device), d] for d in range(z.shape[1])], 1)


def cases() -> Iterator[Case]:
    for batch in (64, 4096):
        yield Case(
            "permute_dims", f"{batch} x 10", (torch.randn(batch, 10),), {PLAIN: plain, OURS: ops.permute_dims}, None
        )


def normal(batch: int, D: int, device: str) -> Tensors:
    return (torch.randn(batch, D, device=device),)


def by_sorting(z: Tensor) -> Tensors:
    """All dimensions at once: the order of random numbers. Ties, which bias it, are rare in float32."""
    return (z.gather(0, torch.rand_like(z).argsort(0)),)


def columns_sorted(results: Tensors) -> Tensors:
    """What every permutation of a column shares."""
    return (results[0].sort(0).values,)


def cuda_cases(device: str, batches: tuple[int, ...] = (64, 4096), D: int = 10) -> Iterator[CudaCase]:
    for batch in batches:
        yield CudaCase(
            "permute_dims",
            f"{batch} x {D}",
            FORWARD,
            partial(normal, batch, D, device),
            lambda z: (plain(z),),
            lambda z: (ops.permute_dims(z),),
            Work(bytes=2 * 4 * batch * D),
            comparable=columns_sorted,
            modes=(),
            others={"rand().argsort": by_sorting},
        )
