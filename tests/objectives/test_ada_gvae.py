"""Posteriors shared by pairs, written out here latent by latent."""

from __future__ import annotations

import inspect
import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from disentangle_ext.models import VAE, build_vae
from disentangle_ext.objectives import MLVAE, AdaGVAE, ada_gvae, beta_vae, ml_vae, share_posteriors

P, D = 5, 4
KEY = torch.tensor([1, 2])


def posteriors() -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    mu, logvar = torch.randn(2 * P, D, dtype=torch.float64), torch.randn(2 * P, D, dtype=torch.float64) - 1
    return mu.requires_grad_(), logvar.requires_grad_()


def written_out(mu: Tensor, logvar: Tensor, average: str) -> tuple[Tensor, Tensor, int]:
    means, logvars, count = list(mu.flatten()), list(logvar.flatten()), 0
    for pair in range(P):
        one, two = [pair * D + d for d in range(D)], [(P + pair) * D + d for d in range(D)]
        deltas = [
            kl_divergence(Normal(means[i], (logvars[i] / 2).exp()), Normal(means[j], (logvars[j] / 2).exp())).item()
            for i, j in zip(one, two)
        ]
        for i, j, delta in zip(one, two, deltas):
            if delta >= 0.5 * (max(deltas) + min(deltas)):
                continue
            count += 1
            v1, v2 = logvars[i].exp(), logvars[j].exp()
            if average == "arithmetic":
                mean, variance = (means[i] + means[j]) / 2, (v1 + v2) / 2
            else:
                product = 1 / (1 / v1 + 1 / v2)
                mean = product * (means[i] / v1 + means[j] / v2)
                variance = product if average == "product" else 2 * v1 * v2 / (v1 + v2)
            means[i] = means[j] = mean
            logvars[i] = logvars[j] = variance.log()
    return torch.stack(means).view(2 * P, D), torch.stack(logvars).view(2 * P, D), count


@pytest.mark.parametrize("average", ["arithmetic", "product", "geometric"])
def test_shared_posteriors_and_their_gradients(average: str) -> None:
    leaves = posteriors()
    ours = share_posteriors(*leaves, average=average)
    *theirs, count = written_out(*leaves, average)
    assert P <= count < P * D
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-10, atol=1e-12)
        weight = torch.arange(2.0 * P * D, dtype=torch.float64).view(2 * P, D)
        for a, b in zip(
            torch.autograd.grad((mine * weight).sum(), leaves, retain_graph=True, allow_unused=True),
            torch.autograd.grad((other * weight).sum(), leaves, retain_graph=True, allow_unused=True),
            strict=True,
        ):
            assert (a is None or not a.any()) == (b is None or not b.any())
            if a is not None and b is not None:
                torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_the_pair_is_first_half_and_second_half() -> None:
    mu = torch.tensor([[0.0, 0.0], [5.0, 1.0], [0.1, 3.0], [5.0, 4.0]])
    shared, _ = share_posteriors(mu, torch.zeros_like(mu))
    torch.testing.assert_close(shared, torch.tensor([[0.05, 0.0], [5.0, 1.0], [0.05, 3.0], [5.0, 4.0]]))


def test_equal_images_share_nothing_and_lose_nothing() -> None:
    mu = torch.randn(3, 4).repeat(2, 1)
    assert torch.equal(share_posteriors(mu, torch.zeros_like(mu))[0], mu)


def model() -> VAE:
    torch.manual_seed(0)
    return build_vae("mlp", (1, 4, 4), D, width=8).double()


@pytest.mark.parametrize(("module", "average"), [(AdaGVAE, "arithmetic"), (MLVAE, "product")])
@pytest.mark.parametrize("likelihood", ["bernoulli", "laplace"])
def test_loss_and_the_gradient_of_every_weight(module: Any, average: str, likelihood: str) -> None:
    vae, images = model(), torch.rand(2 * P, 1, 4, 4, dtype=torch.float64)
    output, (total, terms) = module(beta=3.0, likelihood=likelihood).evaluate(vae, images, key=KEY)
    mu, logvar, _ = written_out(*vae.encoder(images).chunk(2, 1), average)
    noise = ((output.z - output.mu) / (output.logvar / 2).exp()).detach()
    decoded = vae.decoder(mu + (logvar / 2).exp() * noise)
    if likelihood == "bernoulli":
        log_p = images * decoded.sigmoid().log() + (1 - images) * (1 - decoded.sigmoid()).log()
    else:
        log_p = -(images - decoded).abs() - math.log(2)
    recon = -log_p.sum() / (2 * P)
    kl = (0.5 * (mu**2 + logvar.exp() - 1 - logvar)).sum() / (2 * P)
    assert list(terms) == ["reconstruction", "kl"]
    weights = list(vae.parameters())
    for mine, other in ((total, recon + 3 * kl), (terms["reconstruction"], recon), (terms["kl"], kl)):
        torch.testing.assert_close(mine, other, rtol=1e-10, atol=1e-12)
        for a, b in zip(
            torch.autograd.grad(mine, weights, retain_graph=True, allow_unused=True),
            torch.autograd.grad(other, weights, retain_graph=True, allow_unused=True),
            strict=True,
        ):
            assert (a is None) == (b is None)
            if a is not None:
                torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-12)


def test_options() -> None:
    assert AdaGVAE().average == "arithmetic"
    assert MLVAE().average == "product"
    assert MLVAE(changes="random").changes == "random"
    assert inspect.signature(AdaGVAE).parameters.keys() == inspect.signature(MLVAE).parameters.keys()
    vae, images = model(), torch.rand(2 * P, 1, 4, 4, dtype=torch.float64)
    output, loss = AdaGVAE(beta=2.0).evaluate(vae, images, key=KEY)
    assert loss == beta_vae(output, images, beta=2.0)


def test_function_and_module_agree() -> None:
    vae, images = model(), torch.rand(2 * P, 1, 4, 4, dtype=torch.float64)
    options: dict[str, Any] = {"beta": 2.0, "likelihood": "laplace", "scale": 0.7}
    for function, module in ((ada_gvae, AdaGVAE), (ml_vae, MLVAE)):
        assert module(**options).evaluate(vae, images, key=KEY)[1] == function(vae, images, key=KEY, **options)[1]
    product = ada_gvae(vae, images, average="product", key=KEY)[1]
    assert ml_vae(vae, images, key=KEY)[1] == product != ada_gvae(vae, images, key=KEY)[1]
    geometric = ml_vae(vae, images, average="geometric", key=KEY)[1]
    assert MLVAE(average="geometric").evaluate(vae, images, key=KEY)[1] == geometric != product
    first, again = (ml_vae(vae, images, generator=torch.Generator().manual_seed(3))[1] for _ in range(2))
    assert first == again != product


def test_errors() -> None:
    z = torch.zeros(3, 2)
    with pytest.raises(ValueError, match=r"mu and logvar must both be \[2 P, D\], got \(3, 2\) and \(3, 2\)"):
        share_posteriors(z, z)
    with pytest.raises(ValueError, match="unknown average 'products': did you mean 'product'"):
        share_posteriors(z, z, average="products")
    for make in (MLVAE, lambda average: ml_vae(model(), torch.rand(2, 1, 4, 4), average=average)):
        with pytest.raises(ValueError, match="unknown average 'arithmetic': known: geometric, product"):
            make(average="arithmetic")
    with pytest.raises(ValueError, match="AdaGVAE: unknown changes 'rnd'"):
        AdaGVAE(changes="rnd")
