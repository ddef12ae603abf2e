"""Total correlation of beta-TCVAE, forward and backward."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from bench.bench_aggregate_posterior import log_density, posterior, work
from bench.cuda_harness import BOTH, CudaCase
from bench.harness import OURS, PLAIN, Case
from disentangle_ext import ops
from disentangle_ext.ops import reference

DATASET_SIZE = 737_280


def plain(z: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    """As public beta-TCVAE codes write it: all pairs at once."""
    density = log_density(z, mu, logvar)
    log_weight = math.log(DATASET_SIZE * len(z))
    log_qz = torch.logsumexp(density.sum(2), 1) - log_weight
    log_prod_qz = (torch.logsumexp(density, 1) - log_weight).sum(1)
    return (log_qz - log_prod_qz).mean()


def ours(z: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    return ops.elbo_decomposition(z, mu, logvar, dataset_size=DATASET_SIZE, estimator="mws").total_correlation


def cases() -> Iterator[Case]:
    for batch in (64, 256, 1024, 2048):
        mu, logvar = torch.randn(batch, 10), 0.5 * torch.randn(batch, 10) - 1
        z = mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)
        inputs = tuple(t.requires_grad_() for t in (z, mu, logvar))
        yield Case("elbo_decomposition", f"{batch} x 10", inputs, {PLAIN: plain, OURS: ours})


def plain_mss(z: Tensor, mu: Tensor, logvar: Tensor) -> tuple[Tensor]:
    """By minibatch stratified sampling, whose weights are a matrix."""
    density = log_density(z, mu, logvar)
    weight = reference.log_weights("mss", len(z), len(z), DATASET_SIZE, 0, z)
    log_qz = torch.logsumexp(weight + density.sum(2), 1)
    log_prod_qz = torch.logsumexp(weight[..., None] + density, 1).sum(1)
    return ((log_qz - log_prod_qz).mean(),)


def ours_mss(z: Tensor, mu: Tensor, logvar: Tensor) -> tuple[Tensor]:
    parts = ops.elbo_decomposition(z, mu, logvar, dataset_size=DATASET_SIZE, estimator="mss")
    return (parts.total_correlation,)


def cuda_cases(device: str, batches: tuple[int, ...] = (1024, 8192, 64, 256)) -> Iterator[CudaCase]:
    for batch in batches:
        yield CudaCase(
            "elbo_decomposition",
            f"{batch} x 10",
            BOTH,
            partial(posterior, batch, device),
            plain_mss,
            ours_mss,
            work(batch, 2),
            modes=("default", "reduce-overhead") if batch in (64, 1024) else ("default",),
        )
