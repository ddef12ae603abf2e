"""Total correlation of beta-TCVAE by minibatch weighted sampling, forward and backward."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from bench.harness import OURS, PLAIN, Case
from disentangle_ext import ops

DATASET_SIZE = 737_280


def plain(z: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    """As public beta-TCVAE codes write it: all pairs at once."""
    log_density = -0.5 * (
        math.log(2 * math.pi) + logvar[None] + (z[:, None] - mu[None]) ** 2 * torch.exp(-logvar)[None]
    )
    log_weight = math.log(DATASET_SIZE * len(z))
    log_qz = torch.logsumexp(log_density.sum(2), 1) - log_weight
    log_prod_qz = (torch.logsumexp(log_density, 1) - log_weight).sum(1)
    return (log_qz - log_prod_qz).mean()


def ours(z: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    return ops.elbo_decomposition(z, mu, logvar, dataset_size=DATASET_SIZE, estimator="mws").total_correlation


def cases() -> Iterator[Case]:
    for batch in (64, 256, 1024, 2048):
        mu, logvar = torch.randn(batch, 10), 0.5 * torch.randn(batch, 10) - 1
        z = mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)
        inputs = tuple(t.requires_grad_() for t in (z, mu, logvar))
        yield Case("elbo_decomposition", f"{batch} x 10", inputs, {PLAIN: plain, OURS: ours})
