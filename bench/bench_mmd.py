"""Unbiased MMD with a Gaussian kernel, forward and backward."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from bench.cuda_harness import BOTH, CudaCase, Tensors
from bench.harness import OURS, PLAIN, Case
from bench.rates import Work
from disentangle_ext import ops


def plain(x: Tensor, y: Tensor) -> Tensor:
    """Squared distances by the expansion into a matrix product, which is what makes plain PyTorch fast."""

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        squares = a.pow(2).sum(1)[:, None] + b.pow(2).sum(1)[None] - 2 * a @ b.T
        return torch.exp(-squares / 2)

    n = len(x)
    xx, yy, xy = kernel(x, x), kernel(y, y), kernel(x, y)
    off_diagonal = (xx.sum() - xx.trace() + yy.sum() - yy.trace()) / (n * (n - 1))
    return off_diagonal - 2 * xy.mean()


def ours(x: Tensor, y: Tensor) -> Tensor:
    return ops.mmd(x, y)


def cases() -> Iterator[Case]:
    for batch in (64, 1024, 4096):
        inputs = torch.randn(batch, 10).requires_grad_(), (torch.randn(batch, 10) + 0.5).requires_grad_()
        yield Case("mmd", f"{batch} x 10", inputs, {PLAIN: plain, OURS: ours}, tolerance=1e-3)


def samples(batch: int, D: int, device: str) -> Tensors:
    return torch.randn(batch, D, device=device), torch.randn(batch, D, device=device) + 0.5


def cuda_cases(device: str, batches: tuple[int, ...] = (1024, 8192), D: int = 10) -> Iterator[CudaCase]:
    for batch in batches:
        pairs = 2 * batch * batch  # half of each of the squares, and the rectangle
        yield CudaCase(
            "mmd",
            f"{batch} x {D}",
            BOTH,
            partial(samples, batch, D, device),
            lambda x, y: (plain(x, y),),
            lambda x, y: (ops.mmd(x, y),),
            # A pair takes one for each dimension of the distance and of both gradients.
            Work(bytes=4 * 4 * batch * D, exponentials=pairs, multiply_adds=3 * D * pairs),
            modes=("default", "reduce-overhead") if batch <= 1024 else ("default",),
        )
