"""A batch in float64 that objectives and the losses written out in the tests both see."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from disentangle_ext import ops
from disentangle_ext.models import VAEOutput

B, D = 7, 3
PIXELS = (1, 4, 5)


class Case:
    """Random posteriors, logits and images; the same sample seen by the library and by the losses below."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.mu = torch.randn(B, D, dtype=torch.float64).requires_grad_()
        self.logvar = (torch.randn(B, D, dtype=torch.float64) - 1).requires_grad_()
        self.logits = (2 * torch.randn(B, *PIXELS, dtype=torch.float64)).requires_grad_()
        self.images = torch.rand(B, *PIXELS, dtype=torch.float64)
        z, kl = ops.rsample_kl(self.mu, self.logvar, key=torch.tensor([1, 2]))
        self.output = VAEOutput(self.logits, z, self.mu, self.logvar, kl)
        noise = ((z - self.mu) / (self.logvar / 2).exp()).detach()
        self.z = self.mu + (self.logvar / 2).exp() * noise
        self.leaves = (self.mu, self.logvar, self.logits)

    def gradients(self, value: Tensor) -> list[Tensor]:
        found = torch.autograd.grad(value, self.leaves, retain_graph=True, allow_unused=True)
        return [torch.zeros_like(leaf) if g is None else g for leaf, g in zip(self.leaves, found, strict=True)]

    def assert_same(self, ours: Tensor, theirs: Tensor) -> None:
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)
        for a, b in zip(self.gradients(ours), self.gradients(theirs), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)

    def recon(self) -> Tensor:
        p = torch.sigmoid(self.logits)
        return -(self.images * p.log() + (1 - self.images) * (1 - p).log()).sum() / B

    def kl(self) -> Tensor:
        return (0.5 * (self.mu**2 + self.logvar.exp() - 1 - self.logvar)).sum() / B

    def parts(self, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """MI, TC and dwKL by explicit [B, B, D] densities and log-weights [B, B]."""
        density = torch.stack(
            [torch.distributions.Normal(m, (v / 2).exp()).log_prob(self.z) for m, v in zip(self.mu, self.logvar)], 1
        )
        log_qz = torch.logsumexp(weights + density.sum(2), 1)
        log_prod = torch.logsumexp(weights[:, :, None] + density, 1).sum(1)
        log_qzx = density.sum(2).diagonal()
        log_pz = torch.distributions.Normal(0.0, 1.0).log_prob(self.z).sum(1)
        return (log_qzx - log_qz).mean(), (log_qz - log_prod).mean(), (log_prod - log_pz).mean()


@pytest.fixture
def case() -> Case:
    return Case()
