"""FactorVAE against losses written out here; who gets a gradient from what; and what its discriminator learns."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from disentangle_ext.models import Discriminator, build_vae
from disentangle_ext.objectives import FactorVAE, discriminator_loss, factor_vae
from disentangle_ext.ops import permute_dims

KEY = torch.tensor([3, 4])


def discriminator(dims: int = 3) -> Discriminator:
    torch.manual_seed(2)
    made = Discriminator(dims, layers=2, width=8).double()
    with torch.no_grad():
        for layer in made.layers:
            layer.bias.normal_()
    return made


def logits_of(made: Discriminator, z: Tensor) -> Tensor:
    for place, layer in enumerate(made.layers):
        z = z @ layer.weight.T + layer.bias
        if place < len(made.layers) - 1:
            z = torch.where(z > 0, z, 0.2 * z)
    return z


def entropy(logits: Tensor, label: int) -> Tensor:
    return nn.functional.cross_entropy(logits, torch.full((len(logits),), label))


def test_loss_and_the_gradient_of_every_term(case: Any) -> None:
    made = discriminator()
    total, terms = factor_vae(case.output, case.images, discriminator=made, gamma=7.0)
    logits = logits_of(made, case.z)
    tc = (logits[:, 0] - logits[:, 1]).mean()
    case.assert_same(total, case.recon() + case.kl() + 7 * tc)
    assert list(terms) == ["reconstruction", "kl", "tc_discriminator"]
    for name, want in zip(terms, (case.recon(), case.kl(), tc), strict=True):
        case.assert_same(terms[name], want)


@pytest.mark.parametrize("others", [None, 5])
def test_loss_of_the_discriminator(case: Any, others: int | None) -> None:
    made = discriminator()
    second = case.z if others is None else torch.randn(others, 3, dtype=torch.float64)
    ours = discriminator_loss(case.z, second, discriminator=made, key=KEY)
    permuted = permute_dims(second.detach(), key=KEY)
    assert not torch.equal(permuted, second)
    theirs = 0.5 * entropy(logits_of(made, case.z.detach()), 0) + 0.5 * entropy(logits_of(made, permuted), 1)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    weights = list(made.parameters())
    for mine, other in zip(torch.autograd.grad(ours, weights), torch.autograd.grad(theirs, weights), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-10, atol=1e-12)


def test_neither_loss_reaches_the_other_side() -> None:
    """Exactly: no gradient at all, not a small one."""
    torch.manual_seed(0)
    model, images = build_vae("mlp", (1, 4, 4), 3, width=8), torch.rand(6, 1, 4, 4)
    options = {"likelihood": "gaussian", "scale": "learned"}
    objective = FactorVAE(latent_dim=3, discriminator_layers=2, discriminator_width=8, **options)
    of_the_model = [*model.parameters(), *objective.likelihood_parameters()]
    assert {*of_the_model, *objective.adversary_parameters()} == {*model.parameters(), *objective.parameters()}
    output = model(images)
    objective(output, images).total.backward(retain_graph=True)
    assert [parameter for parameter in objective.adversary_parameters() if parameter.grad is not None] == []
    assert all(parameter.grad is not None for parameter in of_the_model)

    model.zero_grad()
    objective.zero_grad()
    others = model(images).z
    objective.adversary(output.z, others).backward()
    assert [parameter for parameter in of_the_model if parameter.grad is not None] == []
    assert all(parameter.grad is not None for parameter in objective.adversary_parameters())


def test_the_total_correlation_does_reach_the_encoder(case: Any) -> None:
    tc = factor_vae(case.output, case.images, discriminator=discriminator()).terms["tc_discriminator"]
    by_mu, by_logvar, by_logits = case.gradients(tc)
    assert by_mu.all()
    assert by_logvar.all()
    assert not by_logits.any()


def test_a_trained_discriminator_measures_total_correlation() -> None:
    """Two normal variables with correlation r have total correlation -log(1 - r^2) / 2."""
    torch.manual_seed(0)
    r = 0.9
    objective = FactorVAE(latent_dim=2, discriminator_layers=2, discriminator_width=64)
    optimizer = torch.optim.Adam(objective.parameters(), 3e-3)

    def draw(count: int) -> Tensor:
        first, second = torch.randn(2, count)
        return torch.stack([first, r * first + (1 - r * r) ** 0.5 * second], 1)

    for _ in range(600):
        codes = draw(512)
        loss = objective.adversary(codes, codes)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    logits = objective.discriminator(draw(20_000)).detach()
    assert (logits[:, 0] - logits[:, 1]).mean().item() == pytest.approx(-0.5 * math.log(1 - r * r), abs=0.1)


def test_the_published_discriminator() -> None:
    made = Discriminator(10)
    shapes = [(layer.in_features, layer.out_features) for layer in made.layers]
    assert shapes == [(10, 1000), *[(1000, 1000)] * 5, (1000, 2)]
    z = torch.randn(5, 10)
    assert torch.equal(made(z), made(z, frozen=True))


@pytest.mark.parametrize("dtype", [torch.bfloat16])
def test_the_losses_are_float32_under_autocast(dtype: torch.dtype) -> None:
    objective = FactorVAE(latent_dim=3, discriminator_layers=1, discriminator_width=8)
    z = torch.randn(6, 3)
    with torch.autocast("cpu", dtype=dtype):
        assert objective.discriminator(z).dtype == dtype
        assert objective.adversary(z, z).dtype == torch.float32


def test_the_module(case: Any) -> None:
    options = {"gamma": 3.0, "likelihood": "laplace", "scale": 0.7}
    module = FactorVAE(latent_dim=3, discriminator_layers=1, discriminator_width=4, **options).double()
    want = factor_vae(case.output, case.images, discriminator=module.discriminator, **options)
    assert module(case.output, case.images) == want
    loss = discriminator_loss(case.z, case.z, discriminator=module.discriminator, key=KEY)
    assert module.adversary(case.z, case.z, key=KEY) == loss


def test_codes_of_another_size(case: Any) -> None:
    other = discriminator(4)
    with pytest.raises(ValueError, match=r"Discriminator: z must be \[B, 4\], got \(7, 3\)"):
        factor_vae(case.output, case.images, discriminator=other)
    with pytest.raises(ValueError, match=r"Discriminator: z must be \[B, 4\], got \(7, 3\)"):
        discriminator_loss(case.z, case.z, discriminator=other)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"discriminator_layers": 0}, "Discriminator: layers must be at least 1, got 0"),
        ({"discriminator_width": 0}, "Discriminator: width must be at least 1, got 0"),
        ({"discriminator_lr": 0.0}, "FactorVAE: the discriminator's lr must be greater than 0 and finite, got 0.0"),
        ({"discriminator_betas": (0.5, 1.0)}, "FactorVAE: the discriminator's betas must be in .*, got (0.5, 1.0)"),
    ],
)
def test_errors(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("(", r"\(").replace(")", r"\)")):
        FactorVAE(latent_dim=3, **options)
