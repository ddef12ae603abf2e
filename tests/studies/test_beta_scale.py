"""The statements of docs/beta.md, each as a number."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from disentangle_ext import ops
from disentangle_ext.models import VAE
from disentangle_ext.objectives import annealed_vae, beta_vae
from studies.beta_scale import CONVENTIONS, FUNCTIONS, SIZES, Convention, Size, beta_norm, linear_kl

SIZE = Size(channels=2, side=4, latents=3, batch=5)


def small_vae(likelihood: str, size: Size = SIZE) -> VAE:
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(size.pixels, 2 * size.latents))
    decoder = nn.Sequential(
        nn.Linear(size.latents, size.pixels), nn.Unflatten(1, (size.channels, size.side, size.side))
    )
    return VAE(encoder, decoder, size.latents, likelihood=likelihood).double()


def images(size: Size = SIZE) -> Tensor:
    return torch.rand(
        size.batch, size.channels, size.side, size.side, generator=torch.Generator().manual_seed(1)
    ).double()


def gradient(loss: Tensor, model: nn.Module) -> Tensor:
    """The gradient of all weights, as one vector of length 1: a constant before the loss does not show."""
    parts = torch.autograd.grad(loss, list(model.parameters()), retain_graph=True)
    whole = torch.cat([part.flatten() for part in parts])
    return whole / whole.norm()


def ours(model: VAE, x: Tensor, beta: float, **options: Any) -> Tensor:
    output = model(x, key=torch.tensor([3, 4]))
    return gradient(beta_vae(output, x, beta=beta, likelihood=model.likelihood, **options).total, model)


@pytest.mark.parametrize("convention", CONVENTIONS, ids=lambda each: f"{each.reconstruction} {each.kl}")
def test_the_code_in_the_table_has_the_gradient_of_our_beta(convention: Convention) -> None:
    model, x, w = small_vae(convention.likelihood), images(), 0.7
    output = model(x, key=torch.tensor([3, 4]))
    _, kl = ops.rsample_kl(output.mu, output.logvar, per_dimension=True, key=torch.tensor([3, 4]))
    names = {**FUNCTIONS, "logits": output.reconstruction, "means": output.reconstruction, "x": x, "kl": kl}
    names |= {"B": SIZE.batch, "N": SIZE.pixels, "D": SIZE.latents}
    foreign = gradient(eval(convention.reconstruction, names) + w * eval(convention.kl, names), model)
    beta = w * convention.factor(SIZE)
    torch.testing.assert_close(foreign, ours(model, x, beta))
    assert (foreign - ours(model, x, 1.1 * beta)).norm() > 1e-4, "the gradient says nothing about beta"
    for size in (SIZE, *SIZES):  # the formula that is shown is the number that is shown
        assert eval(convention.beta, {"B": size.batch, "N": size.pixels, "D": size.latents}) == convention.factor(size)


def test_only_beta_times_the_squared_scale_matters_to_a_gaussian_and_beta_times_the_scale_to_a_laplace() -> None:
    x = images()
    for likelihood, power in (("gaussian", 2), ("laplace", 1)):
        model = small_vae(likelihood)
        torch.testing.assert_close(ours(model, x, 4.0, scale=0.1), ours(model, x, 4 * 0.1**power))


def test_a_learned_variance_is_a_beta_that_follows_the_error_and_does_not_know_the_unit() -> None:
    model, x, beta = small_vae("gaussian"), images(), 0.8
    output = model(x, key=torch.tensor([3, 4]))
    error = F.mse_loss(output.reconstruction, x)
    value = float(error.detach())
    learned = gradient(SIZE.pixels / 2 * error.log() + beta * output.kl.mean(), model)
    torch.testing.assert_close(learned, ours(model, x, beta, scale=math.sqrt(value)))
    torch.testing.assert_close(learned, ours(model, x, beta * value))
    unit = 12  # from 0 to 255 they are refused
    in_units = F.mse_loss(unit * output.reconstruction, unit * x)
    torch.testing.assert_close(learned, gradient(SIZE.pixels / 2 * in_units.log() + beta * output.kl.mean(), model))
    other = output._replace(reconstruction=unit * output.reconstruction)
    fixed = beta_vae(other, unit * x, beta=beta * unit**2, likelihood="gaussian")
    torch.testing.assert_close(gradient(fixed.total, model), ours(model, x, beta))


class Enlarged(nn.Module):
    """Every pixel of a decoder r x r times, and every channel c times."""

    def __init__(self, decoder: nn.Module, r: int, c: int) -> None:
        super().__init__()
        self.decoder, self.r, self.c = decoder, r, c

    def forward(self, z: Tensor) -> Tensor:
        return enlarge(self.decoder(z), self.r, self.c)


def enlarge(x: Tensor, r: int, c: int) -> Tensor:
    return F.interpolate(x, scale_factor=r).repeat(1, c, 1, 1)


@pytest.mark.parametrize(("r", "c"), [(2, 1), (3, 1), (1, 3)])
@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian", "laplace"])
def test_an_enlarged_image_wants_its_beta_enlarged(likelihood: str, r: int, c: int) -> None:
    model, x, beta = small_vae(likelihood), images(), 2.0
    output = model(x, key=torch.tensor([3, 4]))
    large = output._replace(reconstruction=enlarge(output.reconstruction, r, c))
    loss = beta_vae(large, enlarge(x, r, c), beta=beta * r * r * c, likelihood=likelihood)
    torch.testing.assert_close(gradient(loss.total, model), ours(model, x, beta))
    enlarged = Size(SIZE.channels * c, SIZE.side * r, SIZE.latents)
    assert beta_norm(beta * r * r * c, enlarged) == pytest.approx(beta_norm(beta, SIZE))


def test_a_latent_that_is_not_used_costs_nothing() -> None:
    model, x = small_vae("bernoulli"), images()
    output = model(x, key=torch.tensor([3, 4]))
    prior = torch.zeros(SIZE.batch, 2, dtype=torch.float64)
    mu, logvar = (torch.cat([tensor, prior], 1) for tensor in (output.mu, output.logvar))
    _, kl = ops.rsample_kl(mu, logvar, key=torch.tensor([3, 4]))
    torch.testing.assert_close(kl, output.kl)


def test_gamma_of_the_capacity_is_a_beta_of_either_sign() -> None:
    model, x, gamma = small_vae("bernoulli"), images(), 6.0
    output = model(x, key=torch.tensor([3, 4]))
    kl = float(output.kl.detach().mean())
    for capacity, beta in ((kl - 0.1, gamma), (kl + 0.1, -gamma)):
        loss = annealed_vae(output, x, step=9, c_max=capacity, gamma=gamma, threshold=1)
        terms = annealed_vae(model(x, key=torch.tensor([3, 4])), x, step=9, threshold=1).terms
        expected = gradient(terms["reconstruction"] + beta * terms["kl"], model)
        torch.testing.assert_close(gradient(loss.total, model), expected)


class AllPixels(nn.Module):
    """One number as an image of equal pixels."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.shape = (size.channels, size.side, size.side)
        self.linear = nn.Linear(1, 1)

    def forward(self, z: Tensor) -> Tensor:
        return self.linear(z)[:, :, None, None].expand(-1, *self.shape)


def trained_kl(size: Size, beta: float, amplitude: float, steps: int = 500) -> float:
    """KL of a linear VAE on images whose one factor, a standard normal, moves every pixel by ``amplitude``."""
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 2))
    model = VAE(encoder, AllPixels(size), 1, likelihood="gaussian").double()
    quantiles = (torch.arange(size.batch, dtype=torch.float64) + 0.5) / size.batch
    factor = torch.special.ndtri(quantiles)
    factor /= factor.square().mean().sqrt()
    x = (amplitude * factor)[:, None, None, None].expand(-1, size.channels, size.side, size.side)
    adam = torch.optim.Adam(model.parameters())
    for step in range(steps):
        adam.param_groups[0]["lr"] = 0.05 * (1 - step / steps)
        output = model(x, key=torch.tensor([5, step]))
        adam.zero_grad()
        beta_vae(output, x, beta=beta, likelihood="gaussian").total.backward()
        adam.step()
    return float(output.kl.detach().mean())


@pytest.mark.parametrize(("side", "beta"), [(4, 1.0), (8, 1.0), (16, 1.0), (8, 4.0), (16, 16.0), (4, 4.5)])
def test_a_linear_vae_spends_what_the_page_says(side: int, beta: float) -> None:
    expected = linear_kl(0.5**2 * side**2, beta)
    assert trained_kl(Size(1, side, 1, batch=256), beta, 0.5) == pytest.approx(expected, abs=0.04)
