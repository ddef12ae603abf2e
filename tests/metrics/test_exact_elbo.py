"""The exact decomposition against its definition, against cases whose terms are known, and as a measurement."""

from __future__ import annotations

import json
import math
import sys

import numpy as np
import pytest
import torch
from torch import Tensor

from disentangle_ext import ops
from disentangle_ext.metrics import exact_elbo
from disentangle_ext.ops import reference

TERMS = ("mutual_information", "total_correlation", "dimwise_kl")


def posteriors(size: int = 300, dims: int = 3, *, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Two correlated latents, the others independent; widths that differ from image to image."""
    generator = torch.Generator().manual_seed(size + dims)
    mu = torch.randn(size, dims, generator=generator, dtype=torch.float64)
    mu[:, 1] = 0.9 * mu[:, 0] + 0.3 * mu[:, 1]
    logvar = 0.4 * torch.randn(size, dims, generator=generator, dtype=torch.float64) - 2
    return mu.to(dtype), logvar.to(dtype)


def by_definition(z: Tensor, index: Tensor, mu: Tensor, logvar: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """MI, TC and dwKL of each query in float64, with a density for each pair and dimension."""
    z, mu, logvar = z.double(), mu.double(), logvar.double()
    normal = torch.distributions.Normal
    pairs = normal(mu, (logvar / 2).exp()).log_prob(z[:, None])
    log_qz = pairs.sum(-1).logsumexp(1) - math.log(len(mu))
    log_prod_qz = (pairs.logsumexp(1) - math.log(len(mu))).sum(-1)
    log_qz_x = normal(mu[index], (logvar[index] / 2).exp()).log_prob(z).sum(-1)
    return log_qz_x - log_qz, log_qz - log_prod_qz, log_prod_qz - normal(0, 1).log_prob(z).sum(-1)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 2e-5)])
@pytest.mark.parametrize("queries", [10_000, 77])
def test_equals_the_definition(dtype: torch.dtype, tolerance: float, queries: int) -> None:
    mu, logvar = posteriors(dtype=dtype)
    result = exact_elbo(mu, logvar, queries=queries)
    assert len(result.index) == min(queries, 300)
    for name, expected in zip(TERMS, by_definition(result.z, result.index, mu, logvar), strict=True):
        torch.testing.assert_close(getattr(result.rows, name).double(), expected, rtol=0, atol=tolerance)
        term = result.exact[name]
        assert term.mean == pytest.approx(expected.mean().item(), abs=tolerance)
        assert term.sd == pytest.approx(expected.std().item(), abs=tolerance)
        assert term.standard_error == pytest.approx(expected.std().item() / math.sqrt(len(expected)), abs=tolerance)


def test_the_terms_add_up_to_the_kl() -> None:
    mu, logvar = posteriors(2000)
    result = exact_elbo(mu, logvar)
    terms = sum(getattr(result.rows, name) for name in TERMS)
    torch.testing.assert_close(terms, result.rows.log_qz_x - result.rows.log_pz, rtol=0, atol=1e-10)
    for measured in (result.exact, *result.estimates.values()):
        assert measured["kl"].mean == pytest.approx(sum(measured[name].mean for name in TERMS), abs=1e-10)
        # The KL in closed form is the expectation of the sum, by any estimator, if z is drawn from q(z|x).
        closed = reference.kl_standard_normal(mu, logvar).sum(-1).mean().item()
        assert measured["kl"].mean == pytest.approx(closed, abs=4 * measured["kl"].standard_error)
        assert measured["kl"].standard_error < 0.1


def test_posteriors_that_are_all_the_same_know_nothing() -> None:
    mu, logvar = (row[:1].expand(500, 3) for row in posteriors())
    result = exact_elbo(mu, logvar)
    assert abs(result.exact["mutual_information"].mean) < 1e-12
    assert abs(result.score) < 1e-12


def test_posteriors_that_do_not_overlap_know_the_image() -> None:
    size = 500
    line = torch.arange(size, dtype=torch.float64)[:, None]
    result = exact_elbo(torch.cat([line, line], 1), torch.full((size, 2), -8.0, dtype=torch.float64))
    assert result.exact["mutual_information"].mean == pytest.approx(math.log(size), abs=1e-9)
    assert result.score == pytest.approx(math.log(size), abs=1e-9)  # two latents of which each determines the other
    assert result.exact["mutual_information"].sd < 1e-9


def test_weighted_sampling_of_the_whole_set_is_exact_but_for_its_constant() -> None:
    size, dims = 400, 3
    mu, logvar = posteriors(size, dims)
    result = exact_elbo(mu, logvar, batch_size=size, batches=50)
    mws, excess = result.estimates["mws"], {"mutual_information": 1, "total_correlation": dims - 1, "dimwise_kl": -dims}
    for name, times in excess.items():
        spread = math.hypot(result.exact[name].standard_error, mws[name].standard_error)
        assert spread < 0.1
        assert mws[name].mean - times * math.log(size) == pytest.approx(result.exact[name].mean, abs=4 * spread)


def test_estimates_are_those_of_single_minibatches() -> None:
    mu, logvar = posteriors(300)
    result = exact_elbo(mu, logvar, batch_size=32, batches=20, seed=5)
    # The noise of the minibatches is that of one key, counted over all of them.
    generator = torch.Generator().manual_seed(5)
    index = torch.cat([torch.randperm(300, generator=generator)[: 9 * 32] for _ in range(3)])[: 20 * 32]
    z = ops.rsample_kl(mu[index], logvar[index], key=torch.tensor([5, 1]))[0]
    for name, terms in result.estimates.items():
        batches = [
            reference.elbo_decomposition(sample, mu[rows], logvar[rows], None, None, name, 300)[:3]
            for sample, rows in zip(z.split(32), index.split(32), strict=True)
        ]
        for term, values in zip(TERMS, np.array(batches).T, strict=True):
            assert terms[term].mean == pytest.approx(values.mean(), abs=1e-9)
            assert terms[term].sd == pytest.approx(values.std(ddof=1), abs=1e-9)
            assert terms[term].standard_error == pytest.approx(values.std(ddof=1) / math.sqrt(20), abs=1e-9)


def test_the_standard_error_is_the_spread_over_seeds() -> None:
    mu, logvar = posteriors(3000)
    results = [exact_elbo(mu, logvar, queries=100, batches=2, seed=seed).exact for seed in range(100)]
    for name in TERMS:
        spread = np.std([result[name].mean for result in results], ddof=1)
        stated = np.mean([result[name].standard_error for result in results])
        assert 0.75 < spread / stated < 1.35, name


def test_queries_are_distinct_images_that_the_seed_decides() -> None:
    mu, logvar = posteriors(1000)
    first, again, other = (exact_elbo(mu, logvar, queries=600, seed=seed) for seed in (3, 3, 4))
    assert len(first.index.unique()) == len(first.z) == 600
    assert torch.equal(first.index, again.index)
    assert torch.equal(first.z, again.z)
    assert first.as_dict() == again.as_dict()
    assert not torch.equal(first.index, other.index)
    assert first.score != other.score
    everything = exact_elbo(mu, logvar, queries=1000, seed=3)
    assert torch.equal(everything.index, torch.arange(1000))
    for noise in (everything.z - mu) / (logvar / 2).exp(), other.z - first.z:
        assert noise.std() > 0.9


def test_neither_chunks_nor_threads_change_a_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    mu, logvar = posteriors(500, dtype=torch.float32)
    expected = exact_elbo(mu, logvar).rows
    threads = torch.get_num_threads()
    monkeypatch.setattr(sys.modules[exact_elbo.__module__], "_CHUNK", 130)
    torch.set_num_threads(3 if threads == 1 else 1)
    calls: list[int] = []
    try:
        rows = exact_elbo(mu, logvar, progress=lambda done, total: calls.append(done)).rows
    finally:
        torch.set_num_threads(threads)
    assert calls == [130, 260, 390, 500]
    for field, same in zip(rows, expected, strict=True):
        assert torch.equal(field, same)


def test_progress_counts_the_queries_to_the_end() -> None:
    calls: list[tuple[int, int]] = []
    exact_elbo(*posteriors(3000), queries=2500, progress=lambda *counts: calls.append(counts))
    assert calls == [(1024, 2500), (2048, 2500), (2500, 2500)]


def test_progress_can_stop_it() -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        exact_elbo(*posteriors(100), progress=stop)


def test_arrays_views_and_half_types() -> None:
    mu, logvar = posteriors(dtype=torch.float32)
    expected = exact_elbo(mu, logvar).as_dict()
    assert exact_elbo(mu.numpy(), logvar.numpy()).as_dict() == expected
    views = exact_elbo(*torch.cat([mu, logvar], 1).requires_grad_().chunk(2, 1))
    assert views.as_dict() == expected
    assert not views.rows.log_qz.requires_grad
    for dtype in (torch.float16, torch.bfloat16):
        half = mu.to(dtype), logvar.to(dtype)
        result = exact_elbo(*half)
        assert result.z.dtype == torch.float32
        assert result.as_dict() == exact_elbo(*(each.float() for each in half)).as_dict()


def test_the_result_says_how_it_was_made() -> None:
    result = exact_elbo(*posteriors(), queries=np.int64(50), batch_size=10, batches=7, seed=2)
    stored = json.loads(json.dumps(result.as_dict(), allow_nan=False))
    assert stored["score"] == result.score == result.exact["total_correlation"].mean
    assert stored["mss"]["dimwise_kl"]["sd"] == result.estimates["mss"]["dimwise_kl"].sd
    assert stored["settings"] == {
        **{"num_points": 300, "latent_dim": 3, "queries": 50},
        **{"batch_size": 10, "batches": 7, "seed": 2},
    }
    assert f"total_correlation {result.score:.3f}" in str(result)


GOOD = torch.zeros(10, 3)
NAN, INF = GOOD.clone(), GOOD.clone()
NAN[4, 1], INF[9, 0] = math.nan, -math.inf


@pytest.mark.parametrize(
    ("mu", "logvar", "options", "error", "message"),
    [
        (NAN, GOOD, {}, ValueError, r"exact_elbo: mu must be finite, got nan at \[4, 1\]"),
        (GOOD, INF, {}, ValueError, r"exact_elbo: logvar must be finite, got -inf at \[9, 0\]"),
        (GOOD[0], GOOD, {}, ValueError, r"exact_elbo: mu must be \[N, D\].*got \[3\]"),
        (GOOD[:1], GOOD[:1], {}, ValueError, r"at least two rows.*got \[1, 3\]"),
        (GOOD[:, :0], GOOD[:, :0], {}, ValueError, r"one column, got \[10, 0\]"),
        (GOOD, GOOD[:9], {}, ValueError, r"logvar must have the shape of mu \[10, 3\], got \[9, 3\]"),
        (GOOD, GOOD.double(), {}, TypeError, r"logvar must have the dtype of mu \(torch.float32\), got torch.float64"),
        (GOOD.int(), GOOD, {}, TypeError, "mu must be floating point, got torch.int32"),
        (GOOD, GOOD - 300, {}, ValueError, "densities that are finite in torch.float32, got logvar from -300 to -300"),
        (GOOD, GOOD + 200, {}, ValueError, "densities that are finite in torch.float32, got logvar from 200 to 200"),
        (GOOD + 1e30, GOOD, {}, ValueError, r"densities that are finite in torch.float32.*mu up to 1e\+30"),
        (GOOD, GOOD, {"queries": 1}, ValueError, "queries must be an integer of at least 2, got 1"),
        (GOOD, GOOD, {"queries": 2.5}, ValueError, "queries must be an integer of at least 2, got 2.5"),
        (GOOD, GOOD, {"batches": 1}, ValueError, "batches must be an integer of at least 2, got 1"),
        (GOOD, GOOD, {"seed": -1}, ValueError, "seed must be an integer of at least 0, got -1"),
        (GOOD, GOOD, {}, ValueError, "batch_size must be an integer from 2 to the 10 rows of mu, got 64"),
        (GOOD, GOOD, {"batch_size": 1}, ValueError, "batch_size must be an integer from 2 to the 10 rows.*got 1"),
    ],
)
def test_errors_name_the_argument(mu, logvar, options, error, message) -> None:
    options = options if message.startswith("batch_size") else {"batch_size": 4, **options}
    with pytest.raises(error, match=message):
        exact_elbo(mu, logvar, **options)
