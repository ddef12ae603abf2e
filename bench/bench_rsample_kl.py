"""Reparameterised sampling with the KL divergence."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from bench.cuda_harness import BOTH, FORWARD, CudaCase, Tensors
from bench.harness import OURS, PLAIN, Case
from bench.rates import Work
from disentangle_ext import ops


def plain_pair(mu: Tensor, logvar: Tensor) -> tuple[Tensor, Tensor]:
    z = mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)
    return z, 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum(-1)


def plain(mu: Tensor, logvar: Tensor) -> Tensor:
    z, kl = plain_pair(mu, logvar)
    return z.sum() + kl.sum()


def ours(mu: Tensor, logvar: Tensor) -> Tensor:
    z, kl = ops.rsample_kl(mu, logvar)
    return z.sum() + kl.sum()


def cases() -> Iterator[Case]:
    for batch in (64, 4096, 1 << 18):
        inputs = tuple((0.7 * torch.randn(batch, 10)).requires_grad_() for _ in range(2))
        yield Case("rsample_kl", f"{batch} x 10", inputs, {PLAIN: plain, OURS: ours}, tolerance=None)


def posterior(batch: int, D: int, device: str) -> Tensors:
    return 0.7 * torch.randn(batch, D, device=device), 0.7 * torch.randn(batch, D, device=device)


def without_noise(results: Tensors) -> Tensors:
    """KL and, where there are gradients, that of mu."""
    return (results[1], *results[2:3])


def cuda_cases(device: str, sizes: tuple[tuple[int, int], ...] = ((64, 10), (1 << 20, 16))) -> Iterator[CudaCase]:
    for batch, D in sizes:
        # mu, logvar, z and kl once each; then mu, logvar and what arrives at z and kl, for two gradients.
        forward, backward = 4 * batch * (3 * D + 1), 4 * batch * (5 * D + 1)
        for passes, moved in ((FORWARD, forward), (BOTH, forward + backward)):
            yield CudaCase(
                "rsample_kl",
                f"{batch} x {D}",
                passes,
                partial(posterior, batch, D, device),
                plain_pair,
                ops.rsample_kl,
                Work(bytes=moved, exponentials=batch * D),
                comparable=without_noise,
                modes=("default", "reduce-overhead") if batch < 1 << 16 else ("default",),
            )
