"""Two samples, and their discrepancy written out."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.ops.cases import Shape, normal

KERNELS = ("rbf", "rq", "imq", "laplacian", "energy")
kernels = pytest.mark.parametrize("kernel", KERNELS)
estimators = pytest.mark.parametrize("estimator", ["unbiased", "biased", "linear"])


def samples(shape: Shape, device, *, equal: bool = False, more: int = 3) -> list[Tensor]:
    y = normal(*shape.leading, shape.batch + (0 if equal else more), shape.D, device=device, scale=0.7, shift=0.4)
    return [normal(*shape.leading, shape.batch, shape.D, device=device), y]


def exponent_of(kernel: str) -> dict[str, float]:
    """The argument, for the kernel that has one."""
    return {"exponent": 1.7} if kernel == "rq" else {}


def pair_means(x: Tensor, y: Tensor, k, *, diagonal: bool) -> float:
    """E k(x, x') + E k(y, y') - 2 E k(x, y) with k a function of the squared distance, written out."""

    def mean(a: Tensor, b: Tensor, *, own: bool) -> float:
        values = k((a[:, None] - b[None]).square().sum(-1))
        if own and not diagonal:
            n = len(a)
            return float(values[~torch.eye(n, dtype=torch.bool, device=a.device)].sum() / (n * (n - 1)))
        return float(values.mean())

    return mean(x, x, own=True) + mean(y, y, own=True) - 2 * mean(x, y, own=False)
