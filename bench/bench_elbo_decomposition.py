"""Total correlation of beta-TCVAE by minibatch weighted sampling, forward and backward."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from bench.bench_aggregate_posterior import BLOCK, LOG_2PI, D, by_keops, log_density, posterior, work
from bench.harness import BEST, BOTH, KEOPS, TOLERANCE, Case, Step, Tensors
from disentangle_ext import ops
from disentangle_ext.ops import reference

DATASET_SIZE = 737_280
ESTIMATOR = "mws"
SIZES = {"cpu": (64, 256, 1024, 2048), "cuda": (1024, 8192, 64, 256)}


def plain(z: Tensor, mu: Tensor, logvar: Tensor) -> Tensors:
    """The op as public beta-TCVAE codes write it: all pairs at once."""
    density = log_density(z, mu, logvar)
    log_weight = math.log(DATASET_SIZE * len(z))
    log_qz = torch.logsumexp(density.sum(2), 1) - log_weight
    log_prod_qz = (torch.logsumexp(density, 1) - log_weight).sum(1)
    return ((log_qz - log_prod_qz).mean(),)


def ours(z: Tensor, mu: Tensor, logvar: Tensor) -> Tensors:
    return (ops.total_correlation(z, mu, logvar, dataset_size=DATASET_SIZE, estimator=ESTIMATOR),)


class InBlocks(torch.autograd.Function):
    """Blocks of rows that stay in the cache. The gradient is taken beside the value, from the same exponentials."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
        batch, D = z.shape
        z, mu, logvar = (t.T.contiguous() for t in (z, mu, logvar))
        scale, constant = torch.exp(-0.5 * logvar), -0.5 * (LOG_2PI + logvar)
        grad_z, grad_mu, grad_logvar = torch.empty_like(z), torch.zeros_like(z), torch.zeros_like(z)
        value = z.new_zeros(())
        height = max(1, BLOCK // (D * batch))
        for first in range(0, batch, height):
            rows = slice(first, first + height)
            u = (z[:, rows, None] - mu[:, None]).mul_(scale[:, None])
            density = torch.addcmul(constant[:, None], u, u, value=-0.5)
            joint = density.sum(0)
            log_qz, responsibility = softmax_(joint)
            log_marginals, own = softmax_(density)
            value += log_qz.sum() - log_marginals.sum()
            weight = own.neg_().add_(responsibility)
            grad_logvar -= weight.sum(1)
            weight.mul_(u)
            grad_z[:, rows] = torch.bmm(weight, scale[:, :, None])[..., 0]
            grad_mu += weight.sum(1)
            grad_logvar += weight.mul_(u).sum(1)
        ctx.save_for_backward(grad_z.neg_(), grad_mu.mul_(scale), grad_logvar.mul_(0.5))
        return value / batch + (D - 1) * math.log(DATASET_SIZE * batch)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        return tuple((t * (grad / t.shape[1])).T for t in ctx.saved_tensors)


def softmax_(x: Tensor) -> tuple[Tensor, Tensor]:
    """logsumexp and softmax over the last dimension, in place of x."""
    top = x.amax(-1, keepdim=True)
    total = x.sub_(top).exp_().sum(-1, keepdim=True)
    return total.log().add_(top), x.mul_(1 / total)


def transposed(z: Tensor, mu: Tensor, logvar: Tensor) -> Tensors:
    """All pairs at once, [D, B, B]: sums go along memory, which torch.compile turns into faster code on a CPU."""
    z, mu, logvar = (t.T for t in (z, mu, logvar))
    u = (z[:, :, None] - mu[:, None]) * torch.exp(-0.5 * logvar)[:, None]
    density = (-0.5 * (LOG_2PI + logvar))[:, None] - 0.5 * u**2
    total_correlation = (torch.logsumexp(density.sum(0), 1) - torch.logsumexp(density, 2).sum(0)).mean()
    return (total_correlation + (len(z) - 1) * math.log(DATASET_SIZE * z.shape[1]),)


def total_correlation_by_keops(z: Tensor, mu: Tensor, logvar: Tensor) -> Tensors:
    log_qz, marginals = by_keops(z, mu, logvar)
    return ((log_qz - marginals.sum(1)).mean() + (z.shape[1] - 1) * math.log(DATASET_SIZE),)


def raw(inputs: Tensors, upstream: Tensors) -> Step:
    forward = torch.ops.disentangle_ext.elbo_decomposition.default
    backward = torch.ops.disentangle_ext.elbo_decomposition_backward.default
    settings = (reference.ESTIMATORS.index(ESTIMATOR), DATASET_SIZE, 0, 1)
    grads = [None, upstream[0], *[None] * 5]

    def step() -> Tensors:
        outputs = forward(*inputs, None, None, *settings)
        return (outputs[1], *backward(grads, *inputs, None, None, *outputs[7:], *settings)[:3])

    return step


def case(device: str, batch: int, passes: str = BOTH) -> Case:
    on_cpu = device == "cpu"
    return Case(
        "elbo_decomposition",
        f"{batch} x {D}",
        passes,
        partial(posterior, batch, device),
        plain,
        ours,
        work(batch, 2),
        TOLERANCE[device],
        modes=("default", "reduce-overhead") if not on_cpu and batch in (64, 1024) else ("default",),
        others={BEST: lambda *t: (InBlocks.apply(*t),), KEOPS: total_correlation_by_keops} if on_cpu else {},
        to_compile=(lambda compiler: compiler(transposed)) if on_cpu else None,
        raw=raw,
    )


def cases(device: str, sizes: Sequence[int] | None = None) -> Iterator[Case]:
    for batch in sizes or SIZES[device]:
        yield case(device, batch)
