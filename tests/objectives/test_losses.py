"""Objectives against losses written out here in plain PyTorch, in float64, with the gradient of every term."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from disentangle_ext.models import VAEOutput
from disentangle_ext.objectives import (
    OBJECTIVES,
    BetaTCVAE,
    BetaVAE,
    beta_tcvae,
    beta_vae,
)

B, N = 7, 1000


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


def mss_legacy() -> Tensor:
    """The indices of public programs, which step through the flattened matrix by its row length."""
    m = B - 1
    weights = torch.full((B, B), 1 / m, dtype=torch.float64)
    weights.view(-1)[:: m + 1] = 1 / N
    weights.view(-1)[1 :: m + 1] = (N - m) / (N * m)
    weights[m - 1, 0] = (N - m) / (N * m)
    return weights.log()


WEIGHTS = {"mws": mws, "mss": mss, "mss_legacy": mss_legacy}


@pytest.mark.parametrize("beta", [1.0, 4.0, 16.0])
def test_beta_vae(case: Any, beta: float) -> None:
    total, terms = beta_vae(case.output, case.images, beta=beta)
    case.assert_same(total, case.recon() + beta * case.kl())
    assert list(terms) == ["reconstruction", "kl"]
    case.assert_same(terms["reconstruction"], case.recon())
    case.assert_same(terms["kl"], case.kl())


@pytest.mark.parametrize("beta", [1.0, 6.0])
@pytest.mark.parametrize("estimator", WEIGHTS)
def test_beta_tcvae_analytic(case: Any, beta: float, estimator: str) -> None:
    total, terms = beta_tcvae(case.output, case.images, dataset_size=N, beta=beta, estimator=estimator)
    _, tc, _ = case.parts(WEIGHTS[estimator]())
    case.assert_same(total, case.recon() + case.kl() + (beta - 1) * tc)
    assert list(terms) == ["reconstruction", "kl", f"tc_{estimator}"]
    case.assert_same(terms["reconstruction"], case.recon())
    case.assert_same(terms["kl"], case.kl())
    case.assert_same(terms[f"tc_{estimator}"], tc)


@pytest.mark.parametrize(("alpha", "beta", "gamma"), [(1.0, 6.0, 1.0), (0.0, 2.0, 3.0)])
@pytest.mark.parametrize("estimator", WEIGHTS)
def test_beta_tcvae_decomposed(case: Any, alpha: float, beta: float, gamma: float, estimator: str) -> None:
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
    mi, tc, dwkl = case.parts(WEIGHTS[estimator]())
    case.assert_same(total, case.recon() + alpha * mi + beta * tc + gamma * dwkl)
    assert list(terms) == ["reconstruction", f"mi_{estimator}", f"tc_{estimator}", f"dwkl_{estimator}"]
    for name, want in zip(terms, (case.recon(), mi, tc, dwkl), strict=True):
        case.assert_same(terms[name], want)


@pytest.mark.parametrize(("function", "module"), [(beta_vae, BetaVAE), (beta_tcvae, BetaTCVAE)])
def test_function_and_module_agree(case: Any, function: object, module: type) -> None:
    options = {"dataset_size": N} if module is BetaTCVAE else {}
    want = function(case.output, case.images, beta=3.0, scale=0.7, likelihood="laplace", **options)
    got = module(beta=3.0, scale=0.7, likelihood="laplace", **options)(case.output, case.images)
    assert got.total == want.total
    assert got.terms == want.terms


def test_every_option_reaches_the_module(case: Any) -> None:
    options = {"alpha": 0.5, "beta": 3.0, "gamma": 2.0, "kl": "decomposed", "estimator": "mss"}
    got = BetaTCVAE(dataset_size=N, **options)(case.output, case.images)
    assert got.total == beta_tcvae(case.output, case.images, dataset_size=N, **options).total


def test_measures_by_mss_whatever_it_trains_on(case: Any) -> None:
    measured = BetaTCVAE(dataset_size=N, estimator="mws").measure(case.output)
    assert list(measured) == ["mutual_information", "total_correlation", "dimwise_kl"]
    for value, want in zip(measured.values(), case.parts(mss()), strict=True):
        torch.testing.assert_close(value, want.detach(), rtol=1e-10, atol=1e-10)
        assert not value.requires_grad


def test_errors(case: Any) -> None:
    with pytest.raises(ValueError, match=r"alpha and gamma must be 1 with kl='analytic', got 2.0 and 1.0"):
        BetaTCVAE(dataset_size=N, alpha=2.0)
    with pytest.raises(ValueError, match="unknown kl 'decompose': did you mean 'decomposed'"):
        beta_tcvae(case.output, case.images, dataset_size=N, kl="decompose")
    one = VAEOutput(*(each[:1] for each in case.output))
    with pytest.raises(ValueError, match="beta_tcvae: output must be of at least 2 images, got 1"):
        beta_tcvae(one, case.images[:1], dataset_size=N)
    with pytest.raises(ValueError, match="estimator"):
        beta_tcvae(case.output, case.images, dataset_size=N, estimator="mvs")
    with pytest.raises(ValueError, match="dataset_size"):
        beta_tcvae(case.output, case.images, dataset_size=B - 1)


def test_registry_holds_what_the_readme_lists() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    table = readme.partition("| objective | loss |")[2].partition("\n\n")[0]
    listed = re.findall(r"`(\w+)`", "".join(line.split("|")[1] for line in table.splitlines()[2:]))
    assert sorted(listed) == sorted(OBJECTIVES)
