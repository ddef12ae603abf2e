"""Log-densities of a batch under the mixture of its own posteriors, joint and per dimension."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from bench.harness import BACKWARD, BEST, BOTH, FORWARD, KEOPS, TOLERANCE, Case, Step, Tensors
from bench.rates import Work
from disentangle_ext import ops
from disentangle_ext.ops import reference

D = 10
LOG_2PI = math.log(2 * math.pi)
SIZES = {"cpu": (1024, 2048), "cuda": (1024, 8192)}
# Elements of a temporary: 1 MiB, which the second cache of most cores holds.
BLOCK = 1 << 18


def posterior(batch: int, device: str) -> Tensors:
    mu, logvar = torch.randn(batch, D, device=device), 0.5 * torch.randn(batch, D, device=device) - 1
    return mu + torch.exp(0.5 * logvar) * torch.randn_like(mu), mu, logvar


def log_density(z: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    """All pairs at once, [B, B, D]."""
    squares = (z[:, None] - mu[None]) ** 2
    return -0.5 * (LOG_2PI + logvar[None] + squares * torch.exp(-logvar)[None])


def plain(z: Tensor, mu: Tensor, logvar: Tensor) -> Tensors:
    density, log_count = log_density(z, mu, logvar), math.log(len(mu))
    return torch.logsumexp(density.sum(2), 1) - log_count, torch.logsumexp(density, 1) - log_count


def in_blocks(z: Tensor, mu: Tensor, logvar: Tensor) -> Tensors:
    """Blocks of rows that stay in the cache, one dimension at a time, in place."""
    z, mu, logvar = (t.T.contiguous() for t in (z, mu, logvar))
    scale, constant = torch.exp(-0.5 * logvar) * math.sqrt(0.5), -0.5 * (LOG_2PI + logvar) - math.log(mu.shape[1])
    queries, components = z.shape[1], mu.shape[1]
    log_qz, marginals = z.new_empty(queries), torch.empty_like(z)
    height = min(queries, max(1, BLOCK // components))
    u, density, joint = (z.new_empty(height, components) for _ in range(3))
    for first in range(0, queries, height):
        rows = slice(first, min(first + height, queries))
        height = rows.stop - first
        for d in range(len(z)):
            torch.sub(z[d, rows, None], mu[d], out=u[:height]).mul_(scale[d])
            own = density if d else joint
            torch.addcmul(constant[d], u[:height], u[:height], value=-1, out=own[:height])
            torch.logsumexp(own[:height], 1, out=marginals[d, rows])
            if d:
                joint[:height].add_(density[:height])
        # Every dimension brought the weight of a component along, and the joint density needs it once.
        log_qz[rows] = torch.logsumexp(joint[:height], 1) + (len(z) - 1) * math.log(components)
    return log_qz, marginals.T


def by_dimension(z: Tensor, mu: Tensor, logvar: Tensor) -> Tensors:
    """A matrix of pairs for each dimension: what torch.compile turns into the fastest code on a CPU."""
    joint, marginals, log_count = torch.zeros(()), [], math.log(len(mu))
    scale, constant = torch.exp(-0.5 * logvar) * math.sqrt(0.5), -0.5 * (LOG_2PI + logvar)
    for d in range(z.shape[1]):
        u = (z[:, d, None] - mu[:, d]) * scale[:, d]
        density = constant[:, d] - u * u
        marginals.append(torch.logsumexp(density, 1) - log_count)
        joint = joint + density
    return torch.logsumexp(joint, 1) - log_count, torch.stack(marginals, 1)


def by_keops(z: Tensor, mu: Tensor, logvar: Tensor) -> Tensors:
    """The joint density of vectors; the marginals with the dimension as a batch, which is faster than a loop."""
    # The variables of queries, [.., B, 1, D], and of components, [.., 1, B, D].
    log_count = math.log(len(mu))
    log_qz = keops_log_density(z[:, None], mu[None], logvar[None])[:, 0] - log_count
    z, mu, logvar = (t.T[..., None] for t in (z, mu, logvar))
    marginals = keops_log_density(z[:, :, None], mu[:, None], logvar[:, None])[..., 0] - log_count
    return log_qz, marginals.T


def keops_log_density(z: Tensor, mu: Tensor, logvar: Tensor) -> Any:
    from pykeops.torch import LazyTensor

    constant = -0.5 * (LOG_2PI + logvar).sum(-1, keepdim=True)
    query, mean, precision, constant = (LazyTensor(t.contiguous()) for t in (z, mu, torch.exp(-logvar), constant))
    density = constant - 0.5 * (precision * (query - mean) ** 2).sum(-1)
    return density.logsumexp(z.dim() - 2)


def work(batch: int, passes: int) -> Work:
    """An exponential for each pair and dimension and one for each pair, in every pass over the pairs.

    Forward, a pair and dimension also takes two multiply-adds for the density and one for each of the two sums;
    backward three more, for three gradients.
    """
    pairs = batch * batch
    return Work(
        bytes=4 * batch * (4 * D + 1) * passes,
        exponentials=pairs * (D + 1) * passes,
        multiply_adds=pairs * D * (4 if passes == 1 else 11),
    )


def raw(inputs: Tensors, upstream: Tensors) -> Step:
    forward = torch.ops.disentangle_ext.aggregate_posterior.default
    backward = torch.ops.disentangle_ext.aggregate_posterior_backward.default
    settings = (reference.ESTIMATORS.index("uniform"), 0, 0)

    def step() -> Tensors:
        outputs = forward(*inputs, None, *settings)
        return (*outputs, *backward(*upstream, *inputs, None, *outputs, *settings)[:3])

    return step


def case(device: str, batch: int, passes: str) -> Case:
    on_cpu = device == "cpu"
    # A graph of torch.compile is overwritten by its next run, and backward alone needs the last one.
    in_graph = not on_cpu and passes == FORWARD and batch <= 1024
    return Case(
        "aggregate_posterior",
        f"{batch} x {D}",
        passes,
        partial(posterior, batch, device),
        plain,
        ops.aggregate_posterior,
        work(batch, 2 if passes == BOTH else 1),
        TOLERANCE[device],
        modes=("default", "reduce-overhead") if in_graph else ("default",),
        others={BEST: in_blocks, KEOPS: by_keops} if on_cpu and passes == FORWARD else {},
        to_compile=(lambda compiler: compiler(by_dimension)) if on_cpu else None,
        raw=raw,
    )


def cases(device: str, sizes: Sequence[int] | None = None) -> Iterator[Case]:
    for batch in sizes or SIZES[device]:
        for passes in (FORWARD,) if device == "cpu" else (FORWARD, BACKWARD):
            yield case(device, batch, passes)
