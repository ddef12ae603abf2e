"""Unbiased MMD with a Gaussian kernel, forward and backward."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from bench.harness import OURS, PLAIN, Case
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
