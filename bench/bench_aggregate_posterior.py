"""Log-densities of a batch under the mixture of its own posteriors, joint and per dimension."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from bench.cuda_harness import BACKWARD, FORWARD, CudaCase, Tensors
from bench.rates import Work
from disentangle_ext import ops

D = 10


def posterior(batch: int, device: str) -> Tensors:
    mu, logvar = torch.randn(batch, D, device=device), 0.5 * torch.randn(batch, D, device=device) - 1
    return mu + torch.exp(0.5 * logvar) * torch.randn_like(mu), mu, logvar


def log_density(z: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    """All pairs at once, [B, B, D]."""
    squares = (z[:, None] - mu[None]) ** 2
    return -0.5 * (math.log(2 * math.pi) + logvar[None] + squares * torch.exp(-logvar)[None])


def plain(z: Tensor, mu: Tensor, logvar: Tensor) -> tuple[Tensor, Tensor]:
    density, log_count = log_density(z, mu, logvar), math.log(len(mu))
    return torch.logsumexp(density.sum(2), 1) - log_count, torch.logsumexp(density, 1) - log_count


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


def cuda_cases(device: str, batches: tuple[int, ...] = (1024, 8192)) -> Iterator[CudaCase]:
    for batch in batches:
        for passes in (FORWARD, BACKWARD):
            yield CudaCase(
                "aggregate_posterior",
                f"{batch} x {D}",
                passes,
                partial(posterior, batch, device),
                plain,
                ops.aggregate_posterior,
                work(batch, 1),
                # A graph of torch.compile is overwritten by its next run, and backward alone needs the last one.
                modes=("default", "reduce-overhead") if passes == FORWARD and batch <= 1024 else ("default",),
            )
