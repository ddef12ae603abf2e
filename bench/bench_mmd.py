"""MMD with a Gaussian kernel, forward and backward; the biased estimator, which GeomLoss has too."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from bench.harness import BEST, BOTH, GEOMLOSS, KEOPS, TOLERANCE, Case, Step, Tensors
from bench.rates import Work
from disentangle_ext import ops
from disentangle_ext.ops import reference

D = 10
SIZES = {"cpu": (64, 1024, 4096), "cuda": (1024, 8192)}
# Elements of a temporary: 1 MiB, which the second cache of most cores holds.
BLOCK = 1 << 18


def plain(x: Tensor, y: Tensor) -> Tensors:
    """Squared distances by the expansion into a matrix product, which is what makes plain PyTorch fast."""

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        squares = a.pow(2).sum(1)[:, None] + b.pow(2).sum(1)[None] - 2 * a @ b.T
        return torch.exp(-squares / 2)

    return (kernel(x, x).mean() + kernel(y, y).mean() - 2 * kernel(x, y).mean(),)


def ours(x: Tensor, y: Tensor) -> Tensors:
    return (ops.mmd(x, y, estimator="biased"),)


class InBlocks(torch.autograd.Function):
    """The pooled sample with weights 1/m and -1/n, every pair once, in blocks of rows that stay in the cache.

    The gradient is taken beside the value, by matrix products with the same kernel values.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor) -> Tensor:
        pooled = torch.cat([x, y])
        weight = torch.cat([x.new_full((len(x), 1), 1 / len(x)), x.new_full((len(y), 1), -1 / len(y))])
        columns = torch.cat([pooled * weight, weight], 1)
        norm = pooled.square().sum(1).mul_(-0.5)
        sums = torch.zeros_like(columns)
        height = max(1, BLOCK // len(pooled))
        for first in range(0, len(pooled), height):
            rows, after = slice(first, first + height), first + height
            k = torch.addmm(norm[rows, None] + norm[first:], pooled[rows], pooled[first:].T).exp_()
            sums[rows] += k @ columns[first:]
            sums[after:] += k[:, height:].T @ columns[rows]
        ctx.rows = len(x)
        ctx.save_for_backward((sums[:, :-1] - pooled * sums[:, -1:]).mul_(2 * weight))
        return weight[:, 0] @ sums[:, -1]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        both = ctx.saved_tensors[0] * grad
        return both[: ctx.rows], both[ctx.rows :]


def by_cdist(x: Tensor, y: Tensor) -> Tensors:
    """What torch.compile turns into the fastest code on a CPU."""

    def mean(a: Tensor, b: Tensor) -> Tensor:
        return torch.exp(-0.5 * torch.cdist(a, b).square()).mean()

    return (mean(x, x) + mean(y, y) - 2 * mean(x, y),)


def by_keops(x: Tensor, y: Tensor) -> Tensors:
    from pykeops.torch import LazyTensor

    def mean(a: Tensor, b: Tensor) -> Tensor:
        squares = ((LazyTensor(a[:, None]) - LazyTensor(b[None])) ** 2).sum(-1)
        return (-squares / 2).exp().sum(1).mean() / len(b)

    return (mean(x, x) + mean(y, y) - 2 * mean(x, y),)


def by_geomloss(x: Tensor, y: Tensor) -> Tensors:
    """Its tensorized backend is the faster one on a CPU at these sizes; it returns half of the square."""
    from geomloss import SamplesLoss

    return (2 * SamplesLoss("gaussian", blur=1.0, backend="tensorized")(x, y),)


def samples(batch: int, device: str) -> Tensors:
    return torch.randn(batch, D, device=device), torch.randn(batch, D, device=device) + 0.5


def raw(inputs: Tensors, upstream: Tensors) -> Step:
    forward, backward = torch.ops.disentangle_ext.mmd.default, torch.ops.disentangle_ext.mmd_backward.default
    bandwidth = torch.ones(1, dtype=torch.float64, device=inputs[0].device)
    kernel = reference.KERNELS.index("rbf")

    def step() -> Tensors:
        value, *grads = forward(*inputs, bandwidth, kernel, 1.0, True, True)
        return (value, *backward(*upstream, *inputs, *grads))

    return step


def case(device: str, batch: int, passes: str = BOTH) -> Case:
    on_cpu = device == "cpu"
    pairs = 2 * batch * batch  # half of each of the squares, and the rectangle
    return Case(
        "mmd",
        f"{batch} x {D}",
        passes,
        partial(samples, batch, device),
        plain,
        ours,
        # A pair takes one for each dimension of the distance and of both gradients.
        Work(bytes=4 * 4 * batch * D, exponentials=pairs, multiply_adds=3 * D * pairs),
        TOLERANCE[device],
        modes=("default", "reduce-overhead") if not on_cpu and batch <= 1024 else ("default",),
        others={BEST: lambda *t: (InBlocks.apply(*t),), KEOPS: by_keops, GEOMLOSS: by_geomloss} if on_cpu else {},
        to_compile=(lambda compiler: compiler(by_cdist)) if on_cpu else None,
        raw=raw,
    )


def cases(device: str, sizes: Sequence[int] | None = None) -> Iterator[Case]:
    for batch in sizes or SIZES[device]:
        yield case(device, batch)
