"""The estimators as measurements: the table of the documentation, on data whose total correlation is known."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from disentangle_ext import ops

N, D, B, BATCHES = 8192, 10, 64, 200
ESTIMATORS = ("mss", "mws", "mss_legacy", "uniform")


@dataclass
class Measured:
    """Values of every batch, [BATCHES], and the exact ones over the data set."""

    exact_tc: float
    exact_mi: float
    data: tuple[Tensor, Tensor]
    queries: tuple[Tensor, Tensor, Tensor]
    tc: dict[str, Tensor]
    mi: dict[str, Tensor]

    def mean(self, name: str) -> float:
        return self.tc[name].mean().item()

    def sd(self, name: str) -> float:
        return self.tc[name].std().item()

    def standard_error(self, name: str) -> float:
        return self.sd(name) / math.sqrt(BATCHES)


@pytest.fixture(scope="module")
def measured() -> Measured:
    generator = torch.Generator().manual_seed(3)
    mu = torch.randn(N, D, generator=generator, dtype=torch.float64)
    for i, j in ((1, 0), (3, 2)):  # two correlated pairs
        mu[:, i] = 0.95 * mu[:, j] + 0.3 * mu[:, i]
    logvar = torch.full_like(mu, 2 * math.log(0.3))

    def rows(count: int) -> tuple[Tensor, Tensor, Tensor]:
        i = torch.randperm(N, generator=generator)[:count]
        return mu[i] + 0.3 * torch.randn(count, D, generator=generator, dtype=torch.float64), mu[i], logvar[i]

    queries = rows(2048)
    exact = ops.elbo_decomposition(*queries, dataset_size=N, estimator="uniform", components=(mu, logvar))
    tc: dict[str, list[Tensor]] = {name: [] for name in ESTIMATORS}
    mi: dict[str, list[Tensor]] = {name: [] for name in ESTIMATORS}
    for _ in range(BATCHES):
        batch = rows(B)
        for name in ESTIMATORS:
            out = ops.elbo_decomposition(*batch, dataset_size=N, estimator=name)
            tc[name].append(out.total_correlation)
            mi[name].append(out.mutual_information)
    result = Measured(
        exact.total_correlation.item(),
        exact.mutual_information.item(),
        (mu, logvar),
        queries,
        {name: torch.stack(values) for name, values in tc.items()},
        {name: torch.stack(values) for name, values in mi.items()},
    )
    print(f"\nN {N}, D {D}, B {B}: exact TC {result.exact_tc:.2f} MI {result.exact_mi:.2f}")
    for name in ESTIMATORS:
        print(
            f"{name:10} TC {result.mean(name):6.2f} +- {result.standard_error(name):.2f}  "
            f"MI {result.mi[name].mean().item():5.2f}  sd of a batch {result.sd(name):.2f}"
        )
    return result


def test_the_exact_values_are_those_of_the_aggregate_posterior(measured):
    """Against torch.distributions, on a few of the queries."""
    z, own_mu, own_logvar = (t[:64] for t in measured.queries)
    mu, logvar = measured.data
    density = torch.distributions.Normal(mu, torch.exp(0.5 * logvar)).log_prob(z[:, None])  # [64, N, D]
    log_qz = density.sum(-1).logsumexp(1) - math.log(N)
    log_marginals = density.logsumexp(1) - math.log(N)
    out = ops.elbo_decomposition(
        z, own_mu, own_logvar, dataset_size=N, estimator="uniform", components=measured.data, reduction="none"
    )
    torch.testing.assert_close(out.total_correlation, log_qz - log_marginals.sum(-1), rtol=1e-9, atol=1e-9)
    own = torch.distributions.Normal(own_mu, torch.exp(0.5 * own_logvar)).log_prob(z).sum(-1)
    torch.testing.assert_close(out.mutual_information, own - log_qz, rtol=1e-9, atol=1e-9)


def test_stratified_sampling_measures_the_total_correlation(measured):
    assert abs(measured.mean("mss") - measured.exact_tc) <= 0.5
    assert measured.standard_error("mss") < 0.05


def test_weighted_sampling_is_too_high_by_about_log_n_per_further_dimension(measured):
    excess = measured.mean("mws") - measured.exact_tc
    assert excess > 75
    # (D - 1) log N = 81; what is missing or in excess is the bias of few components.
    assert excess == pytest.approx((D - 1) * math.log(N), abs=8)


def test_mutual_information_never_exceeds_log_n(measured):
    assert measured.mi["mss"].max().item() <= math.log(N) + 1e-9
    assert measured.mi["uniform"].max().item() <= math.log(B) + 1e-9


def test_weighted_sampling_exceeds_log_n(measured):
    """So the bound above is not one of all estimators."""
    assert measured.mi["mws"].min().item() > math.log(N)


def test_stratified_mutual_information_is_near_the_exact_one(measured):
    assert abs(measured.mi["mss"].mean().item() - measured.exact_mi) <= 0.5
