"""InfoVAE and WAE-MMD against losses written out here, with every pair in a matrix."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from disentangle_ext.models import build_vae
from disentangle_ext.objectives import WAEMMD, InfoVAE, info_vae, wae_mmd
from disentangle_ext.ops import rsample_kl

KEY = torch.tensor([5, 9])
WAE_SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


def prior(like: Tensor) -> Tensor:
    return rsample_kl(torch.zeros_like(like), torch.zeros_like(like), key=KEY)[0].detach()


def kernel(x: Tensor, y: Tensor, convention: str) -> Tensor:
    dims = x.shape[1]
    squared = (x[:, None, :] - y[None, :, :]).square().sum(2)
    if convention == "infovae":
        return (-squared / dims**2).exp()
    if convention == "wae_rbf":
        return (-squared / (2 * dims)).exp()
    # The authors' constants: C / (C + d2) with C = 2 D s.
    return sum(2 * dims * s / (2 * dims * s + squared) for s in WAE_SCALES)


def written_out(z: Tensor, convention: str) -> Tensor:
    draws = prior(z)
    zz, pp, zp = kernel(z, z, convention), kernel(draws, draws, convention), kernel(z, draws, convention)
    count = len(z)
    if convention == "infovae":
        return zz.mean() + pp.mean() - 2 * zp.mean()
    others = count * (count - 1)
    return (zz.sum() - zz.trace()) / others + (pp.sum() - pp.trace()) / others - 2 * zp.mean()


@pytest.mark.parametrize("convention", ["infovae", "wae", "wae_rbf"])
@pytest.mark.parametrize(("alpha", "weight"), [(1.0, 50.0), (0.0, 50.0), (0.3, 4.0)])
def test_info_vae(case: Any, alpha: float, weight: float, convention: str) -> None:
    options = {"alpha": alpha, "lambda_mmd": weight, "convention": convention}
    total, terms = info_vae(case.output, case.images, key=KEY, **options)
    mmd = written_out(case.z, convention)
    case.assert_same(total, case.recon() + (1 - alpha) * case.kl() + (alpha + weight - 1) * mmd)
    assert list(terms) == ["reconstruction", "kl", "mmd"]
    for name, want in zip(terms, (case.recon(), case.kl(), mmd), strict=True):
        case.assert_same(terms[name], want)


@pytest.mark.parametrize("convention", ["wae", "wae_rbf", "infovae"])
@pytest.mark.parametrize("sampled", [True, False])
def test_wae_mmd(case: Any, convention: str, sampled: bool) -> None:
    output = case.output if sampled else case.output._replace(z=case.mu)
    total, terms = wae_mmd(output, case.images, lambda_mmd=3.0, convention=convention, key=KEY)
    mmd = written_out(case.z if sampled else case.mu, convention)
    case.assert_same(total, case.recon() + 3 * mmd)
    assert list(terms) == ["reconstruction", "mmd"]
    for name, want in zip(terms, (case.recon(), mmd), strict=True):
        case.assert_same(terms[name], want)


@pytest.mark.parametrize(("function", "module"), [(info_vae, InfoVAE), (wae_mmd, WAEMMD)])
def test_function_and_module_agree(case: Any, function: Any, module: Any) -> None:
    options = {"lambda_mmd": 3.0, "convention": "wae_rbf", "likelihood": "laplace", "scale": 0.7}
    if function is info_vae:
        options["alpha"] = 0.25
    assert module(**options)(case.output, case.images, key=KEY) == function(
        case.output, case.images, key=KEY, **options
    )


def test_the_key_decides_the_draws_and_the_generator_without_it(case: Any) -> None:
    objective = InfoVAE()

    def loss(key: Tensor | None) -> float:
        return objective(case.output, case.images, key=key).total.item()

    assert loss(KEY) == loss(KEY.clone()) != loss(KEY + 1)
    torch.manual_seed(1)
    first, second = loss(None), loss(None)
    torch.manual_seed(1)
    assert loss(None) == first != second


def test_the_encoding_of_wae() -> None:
    assert WAEMMD().deterministic
    assert not WAEMMD(encoding="gaussian").deterministic
    with pytest.raises(ValueError, match="wae_mmd: unknown encoding 'gausian': did you mean 'gaussian'"):
        WAEMMD(encoding="gausian")


def test_minimising_it_brings_codes_to_the_prior() -> None:
    """Codes far from the prior, and a weight that makes the reconstruction unimportant."""
    torch.manual_seed(0)
    model, images = build_vae("mlp", (1, 4, 4), 2, width=16), torch.rand(128, 1, 4, 4)
    with torch.no_grad():
        model.encoder.layers[-1].bias.add_(3)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    objective = WAEMMD(lambda_mmd=1000.0)
    for step in range(150):
        output = model(images, sample=False)
        loss = objective(output, images, key=torch.tensor([0, step]))
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
    mean, spread = output.z.mean(0), output.z.std(0)
    assert mean.abs().max() < 0.4
    assert 0.5 < spread.min() <= spread.max() < 1.6


@pytest.mark.parametrize("module", [InfoVAE, WAEMMD])
def test_errors(module: Any) -> None:
    with pytest.raises(ValueError, match="_(vae|mmd): unknown convention 'waw': did you mean 'wae'"):
        module(convention="waw")
