"""Objectives against losses written out here in plain PyTorch, in float64, with the gradient of every term."""

from __future__ import annotations

import inspect
import math

import pytest
import torch
from torch import Tensor

from disentangle_ext import ops
from disentangle_ext.models import VAEOutput
from disentangle_ext.objectives import (
    DIPVAEI,
    DIPVAEII,
    OBJECTIVES,
    BetaTCVAE,
    BetaVAE,
    beta_tcvae,
    beta_vae,
)

B, D, N = 7, 3, 1000
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


def mws() -> Tensor:
    return torch.full((B, B), -math.log(N * B), dtype=torch.float64)


def mss() -> Tensor:
    """Appendix C.2 of Chen et al.: importance weights of one's own row, one other, and the rest."""
    m = B - 1
    weights = torch.full((B, B), 1 / m, dtype=torch.float64)
    for i in range(B):
        weights[i, i] = 1 / N
        weights[i, (i + 1) % B] = (N - m) / (N * m)
    return weights.log()


@pytest.fixture
def case() -> Case:
    return Case()


@pytest.mark.parametrize("beta", [1.0, 4.0, 16.0])
def test_beta_vae(case: Case, beta: float) -> None:
    total, terms = beta_vae(case.output, case.images, beta=beta)
    case.assert_same(total, case.recon() + beta * case.kl())
    assert list(terms) == ["reconstruction", "kl"]
    case.assert_same(terms["reconstruction"], case.recon())
    case.assert_same(terms["kl"], case.kl())


@pytest.mark.parametrize("beta", [1.0, 6.0])
@pytest.mark.parametrize("estimator", ["mws", "mss"])
def test_beta_tcvae_analytic(case: Case, beta: float, estimator: str) -> None:
    total, terms = beta_tcvae(case.output, case.images, dataset_size=N, beta=beta, estimator=estimator)
    _, tc, _ = case.parts({"mws": mws, "mss": mss}[estimator]())
    case.assert_same(total, case.recon() + case.kl() + (beta - 1) * tc)
    assert list(terms) == ["reconstruction", "kl", f"tc_{estimator}"]
    case.assert_same(terms["reconstruction"], case.recon())
    case.assert_same(terms["kl"], case.kl())
    case.assert_same(terms[f"tc_{estimator}"], tc)


@pytest.mark.parametrize(("alpha", "beta", "gamma"), [(1.0, 6.0, 1.0), (0.0, 2.0, 3.0)])
@pytest.mark.parametrize("estimator", ["mws", "mss"])
def test_beta_tcvae_decomposed(case: Case, alpha: float, beta: float, gamma: float, estimator: str) -> None:
    total, terms = beta_tcvae(
        case.output,
        case.images,
        dataset_size=N,
        alpha=alpha,
        beta=beta,
        gamma=gamma,
        kl="decomposed",
        estimator=estimator,
    )
    mi, tc, dwkl = case.parts({"mws": mws, "mss": mss}[estimator]())
    case.assert_same(total, case.recon() + alpha * mi + beta * tc + gamma * dwkl)
    assert list(terms) == ["reconstruction", f"mi_{estimator}", f"tc_{estimator}", f"dwkl_{estimator}"]
    for name, want in zip(terms, (case.recon(), mi, tc, dwkl), strict=True):
        case.assert_same(terms[name], want)


@pytest.mark.parametrize("likelihood", ["gaussian", "laplace"])
@pytest.mark.parametrize("function", [beta_vae, beta_tcvae])
def test_likelihood_reaches_the_loss(case: Case, function: object, likelihood: str) -> None:
    options = {"dataset_size": N} if function is beta_tcvae else {}
    terms = function(case.output, case.images, likelihood=likelihood, scale=0.5, **options).terms
    peer = torch.distributions.Normal if likelihood == "gaussian" else torch.distributions.Laplace
    case.assert_same(terms["reconstruction"], -peer(case.logits, 0.5).log_prob(case.images).sum() / B)


@pytest.mark.parametrize(("function", "module"), [(beta_vae, BetaVAE), (beta_tcvae, BetaTCVAE)])
def test_function_and_module_agree(case: Case, function: object, module: type) -> None:
    def keywords(make: object) -> dict[str, object]:
        parameters = inspect.signature(make).parameters.values()
        return {each.name: each.default for each in parameters if each.kind is each.KEYWORD_ONLY}

    assert keywords(function) == keywords(module)
    options = {"dataset_size": N} if module is BetaTCVAE else {}
    want = function(case.output, case.images, beta=3.0, scale=0.7, likelihood="laplace", **options)
    got = module(beta=3.0, scale=0.7, likelihood="laplace", **options)(case.output, case.images)
    assert got.total == want.total
    assert got.terms == want.terms


def test_every_option_reaches_the_module(case: Case) -> None:
    options = {"alpha": 0.5, "beta": 3.0, "gamma": 2.0, "kl": "decomposed", "estimator": "mss"}
    got = BetaTCVAE(dataset_size=N, **options)(case.output, case.images)
    assert got.total == beta_tcvae(case.output, case.images, dataset_size=N, **options).total


def test_measures_by_mss_whatever_it_trains_on(case: Case) -> None:
    measured = BetaTCVAE(dataset_size=N, estimator="mws").measure(case.output)
    assert list(measured) == ["mutual_information", "total_correlation", "dimwise_kl"]
    for value, want in zip(measured.values(), case.parts(mss()), strict=True):
        torch.testing.assert_close(value, want.detach(), rtol=1e-10, atol=1e-10)
        assert not value.requires_grad


def test_errors(case: Case) -> None:
    with pytest.raises(ValueError, match=r"alpha and gamma must be 1 with kl='analytic', got 2.0 and 1.0"):
        BetaTCVAE(dataset_size=N, alpha=2.0)
    with pytest.raises(ValueError, match="unknown kl 'decompose': did you mean 'decomposed'"):
        beta_tcvae(case.output, case.images, dataset_size=N, kl="decompose")
    with pytest.raises(ValueError, match="estimator"):
        beta_tcvae(case.output, case.images, dataset_size=N, estimator="mvs")
    with pytest.raises(ValueError, match="dataset_size"):
        beta_tcvae(case.output, case.images, dataset_size=B - 1)


def test_registry_holds_modules_with_equal_names() -> None:
    expected = {"beta_vae": BetaVAE, "beta_tcvae": BetaTCVAE, "dip_vae_i": DIPVAEI, "dip_vae_ii": DIPVAEII}
    assert expected == OBJECTIVES
