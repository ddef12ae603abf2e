"""Autoencoder, VAE and the VAE with growing capacity against losses written out here."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from disentangle_ext.models import build_vae
from disentangle_ext.objectives import AnnealedVAE, PlainAE, PlainVAE, ae, annealed_vae, beta_vae, vae


def test_ae(case: Any) -> None:
    total, terms = ae(case.output, case.images)
    case.assert_same(total, case.recon())
    assert list(terms) == ["reconstruction"]
    case.assert_same(terms["reconstruction"], case.recon())


def test_vae(case: Any) -> None:
    total, terms = vae(case.output, case.images)
    case.assert_same(total, case.recon() + case.kl())
    assert list(terms) == ["reconstruction", "kl"]
    case.assert_same(terms["reconstruction"], case.recon())
    case.assert_same(terms["kl"], case.kl())
    assert total == beta_vae(case.output, case.images, beta=1.0).total


@pytest.mark.parametrize(
    ("step", "capacity"), [(0, 0.0), (1, 0.5), (5, 2.5), (20, 10.0), (199, 99.5), (200, 100.0), (10**9, 100.0)]
)
def test_annealed_vae(case: Any, step: int, capacity: float) -> None:
    """The KL of this batch lies between the capacities, so both signs of the difference are met."""
    assert 0.5 < case.kl() < 2.5
    total, terms = annealed_vae(case.output, case.images, step=step, c_max=100.0, gamma=7.0, threshold=200)
    sign = 1.0 if case.kl() > capacity else -1.0
    case.assert_same(total, case.recon() + 7 * sign * (case.kl() - capacity))
    assert list(terms) == ["reconstruction", "kl", "capacity_gap"]
    case.assert_same(terms["reconstruction"], case.recon())
    case.assert_same(terms["kl"], case.kl())
    case.assert_same(terms["capacity_gap"], sign * (case.kl() - capacity))


def test_the_absolute_value_is_of_the_mean(case: Any) -> None:
    """Images on both sides of the capacity cancel: a mean of absolute values would be larger."""
    kl = case.output.kl
    capacity = kl.mean().item()
    assert kl.min() < capacity < kl.max()
    gap = annealed_vae(case.output, case.images, step=1, c_max=capacity, threshold=1).terms["capacity_gap"]
    assert gap < 1e-12


def test_the_modules(case: Any) -> None:
    options = {"likelihood": "laplace", "scale": 0.7}
    for function, module in ((ae, PlainAE), (vae, PlainVAE)):
        assert module(**options)(case.output, case.images) == function(case.output, case.images, **options)
    options |= {"c_max": 9.0, "gamma": 2.0, "threshold": 10}
    got = AnnealedVAE(**options)(case.output, case.images, step=3)
    assert got == annealed_vae(case.output, case.images, step=3, **options)


def test_an_autoencoder_has_no_noise() -> None:
    assert PlainAE.deterministic
    assert not PlainVAE.deterministic
    torch.manual_seed(0)
    model, images = build_vae("mlp", (1, 4, 5), 3, width=8), torch.rand(6, 1, 4, 5)
    output = model(images, sample=False)
    assert torch.equal(output.z, output.mu)
    assert torch.equal(output.reconstruction, model.decoder(output.mu))
    ae(output, images).total.backward()
    means, logvars = model.encoder.layers[-1].weight.grad.chunk(2)
    assert means.any()
    assert not logvars.any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"c_max": -1.0}, "annealed_vae: c_max must be at least 0 and finite, got -1.0"),
        ({"gamma": float("nan")}, "annealed_vae: gamma must be at least 0 and finite, got nan"),
        ({"threshold": 0}, "annealed_vae: threshold must be at least 1, got 0"),
    ],
)
def test_errors(case: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AnnealedVAE(**options)
    with pytest.raises(ValueError, match=message):
        annealed_vae(case.output, case.images, step=0, **options)
