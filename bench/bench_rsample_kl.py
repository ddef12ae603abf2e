"""Reparameterised sampling with the KL divergence, forward and backward."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from bench.harness import OURS, PLAIN, Case
from disentangle_ext import ops


def plain(mu: Tensor, logvar: Tensor) -> Tensor:
    z = mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)
    kl = 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum(-1)
    return z.sum() + kl.sum()


def ours(mu: Tensor, logvar: Tensor) -> Tensor:
    z, kl = ops.rsample_kl(mu, logvar)
    return z.sum() + kl.sum()


def cases() -> Iterator[Case]:
    for batch in (64, 4096, 1 << 18):
        inputs = tuple((0.7 * torch.randn(batch, 10)).requires_grad_() for _ in range(2))
        yield Case("rsample_kl", f"{batch} x 10", inputs, {PLAIN: plain, OURS: ours}, tolerance=None)
