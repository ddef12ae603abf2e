"""Reparameterised sampling with the KL divergence."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from bench.harness import BEST, BOTH, FORWARD, TOLERANCE, Case, Function, Step, Tensors
from bench.rates import Work
from disentangle_ext import ops

SIZES = {"cpu": ((64, 10), (4096, 10), (1 << 20, 10)), "cuda": ((64, 10), (1 << 20, 16))}


def plain(mu: Tensor, logvar: Tensor) -> Tensors:
    z = mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)
    return z, 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum(-1)


class ByHand(torch.autograd.Function):
    """One exponential for both results, and a backward pass without temporaries that are not needed."""

    @staticmethod
    def forward(ctx: Any, mu: Tensor, logvar: Tensor) -> Any:
        std, noise = torch.exp(0.5 * logvar), torch.randn_like(mu)
        kl = torch.addcmul(logvar, mu, mu, value=-1).addcmul_(std, std, value=-1).sum(-1)
        ctx.save_for_backward(mu, std, noise)
        return torch.addcmul(mu, std, noise), kl.add_(mu.shape[-1]).mul_(-0.5)

    @staticmethod
    def backward(ctx: Any, grad_z: Tensor, grad_kl: Tensor) -> Any:
        mu, std, noise = ctx.saved_tensors
        grad_kl = grad_kl[..., None]
        grad_logvar = (std * std).sub_(1).mul_(grad_kl).addcmul_(grad_z * noise, std).mul_(0.5)
        return torch.addcmul(grad_z, grad_kl, mu), grad_logvar


def with_noise(mu: Tensor, logvar: Tensor, noise: Tensor) -> Tensors:
    return mu + torch.exp(0.5 * logvar) * noise, 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum(-1)


def noise_outside(compiler: Callable[[Function], Function]) -> Function:
    """Compiled, PyTorch makes its noise more slowly on a CPU."""
    inner = compiler(with_noise)
    return lambda mu, logvar: inner(mu, logvar, torch.randn_like(mu))


def posterior(batch: int, D: int, device: str) -> Tensors:
    return 0.7 * torch.randn(batch, D, device=device), 0.7 * torch.randn(batch, D, device=device)


def without_noise(results: Tensors, inputs: Tensors, upstream: Tensors) -> Tensors:
    """What must agree: that the noise looks normal, KL, the gradient of mu, and what is not noise in logvar's."""
    (mu, logvar), (z, kl, *grads) = inputs, results
    noise = (z - mu) * torch.exp(-0.5 * logvar)
    normal = (noise.mean().abs() < 0.3) & ((noise.std() - 1).abs() < 0.3)
    if not grads:
        return normal.to(kl), kl
    grad_mu, grad_logvar = grads
    return normal.to(kl), kl, grad_mu, grad_logvar - 0.5 * upstream[0] * (z - mu)


def raw(inputs: Tensors, upstream: Tensors) -> Step:
    ops = torch.ops.disentangle_ext
    forward, backward = ops.rsample_kl.default, ops.rsample_kl_backward.default
    key = torch.zeros(2, dtype=torch.int64, device=inputs[0].device)
    return lambda: (*forward(*inputs, key, False), *backward(*upstream, *inputs, key, False))


def case(device: str, batch: int, passes: str = BOTH, D: int = 10) -> Case:
    on_cpu = device == "cpu"
    # mu, logvar, z and kl once each; then mu, logvar and what arrives at z and kl, for two gradients.
    forward, backward = 4 * batch * (3 * D + 1), 4 * batch * (5 * D + 1)
    return Case(
        "rsample_kl",
        f"{batch} x {D}",
        passes,
        partial(posterior, batch, D, device),
        plain,
        ops.rsample_kl,
        Work(bytes=forward if passes == FORWARD else forward + backward, exponentials=batch * D),
        TOLERANCE[device],
        comparable=without_noise,
        modes=("default", "reduce-overhead") if not on_cpu and batch < 1 << 16 else ("default",),
        others={BEST: ByHand.apply} if on_cpu else {},
        to_compile=noise_outside if on_cpu else None,
        raw=raw,
    )


def cases(device: str, sizes: Sequence[tuple[int, int]] | None = None) -> Iterator[Case]:
    for batch, D in sizes or SIZES[device]:
        for passes in (BOTH,) if device == "cpu" else (FORWARD, BOTH):
            yield case(device, batch, passes, D)
