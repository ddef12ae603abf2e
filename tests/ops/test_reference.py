"""The specification itself, against papers, scipy, torch.distributions and programs written the other way round."""

from __future__ import annotations

import itertools
import math
import sys
from decimal import Decimal, getcontext

import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor

from disentangle_ext import ops
from disentangle_ext.ops import reference
from tests.ops.cases import Shape, all_ops, as_tuple, bandwidths, key, normal, posterior

MODULES = ("aggregate_posterior", "elbo_decomposition", "mmd", "permute_dims", "rsample_kl")


@pytest.fixture
def pure_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ops as a pure-Python install runs them."""
    for name in MODULES:
        monkeypatch.setattr(sys.modules[f"disentangle_ext.ops.{name}"], "available", lambda device_type: False)


# Philox ----------------------------------------------------------------------------------------------------------


def philox4x32_10(counter: tuple[int, ...], key: tuple[int, int]) -> list[int]:
    """The paper's pseudo-code, with Python's integers."""
    x, (k0, k1) = list(counter), key
    for _ in range(10):
        high0, low0 = divmod(0xD2511F53 * x[0], 1 << 32)
        high1, low1 = divmod(0xCD9E8D57 * x[2], 1 << 32)
        x = [high1 ^ x[1] ^ k0, low1, high0 ^ x[3] ^ k1, low0]
        k0, k1 = (k0 + 0x9E3779B9) % (1 << 32), (k1 + 0xBB67AE85) % (1 << 32)
    return x


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ],
    ids=["zeros", "ones", "pi"],
)
def test_philox_known_answers_of_random123(counter, key, expected, monkeypatch):
    counter, key, expected = ([int(word, 16) for word in words.split()] for words in (counter, key, expected))
    assert philox4x32_10(counter, key) == expected

    def int64(low: int, high: int) -> int:
        word = low | high << 32
        return word - (1 << 64) if word >= 1 << 63 else word

    # `reference.philox` counts from zero: here its one counter is moved to that of the answer.
    arange = torch.arange
    monkeypatch.setattr(torch, "arange", lambda n, device=None: arange(n, device=device) + int64(*counter[:2]))
    lanes = reference.philox(torch.tensor([int64(*key), int64(*counter[2:])]), 1)
    assert lanes.tolist() == [expected]


def test_philox_of_any_key():
    keys = torch.randint(-(2**63), 2**63 - 1, (20, 2))
    keys = torch.cat([keys, torch.tensor([[-1, 0], [0, -1], [2**63 - 1, -(2**63)]])])
    lanes = reference.philox(keys, 7)
    for k, (seed, offset) in enumerate(keys.tolist()):
        for i in range(7):
            counter = (i, 0, offset & 0xFFFFFFFF, offset >> 32 & 0xFFFFFFFF)
            assert lanes[k, i].tolist() == philox4x32_10(counter, (seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF))


def test_normals_are_box_muller_of_the_lanes():
    lanes = reference.philox(key(), 3).tolist()
    expected = []
    for x in lanes:
        for radius, angle in ((x[0], x[1]), (x[2], x[3])):
            r = math.sqrt(-2 * math.log((radius + 0.5) / 2**32))
            expected += [r * math.cos(2 * math.pi * angle / 2**32), r * math.sin(2 * math.pi * angle / 2**32)]
    ours = reference.standard_normal(key(), 11, torch.float64)
    np.testing.assert_allclose(ours.numpy(), expected[:11], rtol=0, atol=1e-14)


def test_normals_reach_into_both_tails():
    """2^32 radii give normals up to 6.66; float32 alone would stop at 5.77, where 1 - u is 2^-24."""
    for lane, expected in ((0, math.sqrt(2 * 33 * math.log(2))), (0xFFFFFFFF, math.sqrt(2 * 2**-33))):
        fake = torch.tensor([[lane, 0, lane, 0]])
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(reference, "philox", lambda key, count, fake=fake: fake)
            for dtype in (torch.float32, torch.float64):
                assert reference.standard_normal(key(), 1, dtype).item() == pytest.approx(expected, rel=1e-6)


# Gaussians -------------------------------------------------------------------------------------------------------


def test_kl_and_density_against_torch_distributions():
    z, mu, logvar = posterior(Shape((), 50, 4))
    q, p = torch.distributions.Normal(mu, torch.exp(0.5 * logvar)), torch.distributions.Normal(0.0, 1.0)
    torch.testing.assert_close(reference.kl_standard_normal(mu, logvar), torch.distributions.kl_divergence(q, p))
    torch.testing.assert_close(reference.normal_log_density(z, mu, logvar), q.log_prob(z))


@pytest.mark.parametrize("exponent", range(-8, 1))
def test_kl_near_zero_does_not_cancel(exponent):
    getcontext().prec = 50
    for sign in (1, -1):
        logvar = torch.tensor(sign * 10.0**exponent, dtype=torch.float64)
        exact = (Decimal(logvar.item()).exp() - 1 - Decimal(logvar.item())) / 2
        ours = reference.kl_standard_normal(torch.zeros_like(logvar), logvar).item()
        # expm1(l) - l loses the digits by which l is larger than its square, no more.
        assert ours == pytest.approx(float(exact), rel=4e-16 / abs(logvar.item()) + 1e-15, abs=0)


# Aggregate posterior ---------------------------------------------------------------------------------------------


def test_aggregate_posterior_against_torch_distributions():
    z, mu, logvar = posterior(Shape((), 20, 3), components=50)
    weights = torch.distributions.Categorical(logits=torch.zeros(50, dtype=torch.float64))
    components = torch.distributions.Normal(mu, torch.exp(0.5 * logvar))
    joint = torch.distributions.MixtureSameFamily(weights, torch.distributions.Independent(components, 1))
    log_qz, marginals = reference.aggregate_posterior(z, mu, logvar)
    torch.testing.assert_close(log_qz, joint.log_prob(z))
    for d in range(3):
        one = torch.distributions.Normal(mu[:, d], torch.exp(0.5 * logvar[:, d]))
        marginal = torch.distributions.MixtureSameFamily(weights, one)
        torch.testing.assert_close(marginals[:, d], marginal.log_prob(z[:, d]))


def test_stratified_weights_of_the_paper():
    """Chen et al. 2018, appendix C.2: of the M + 1 components, the query's own has weight 1 / N."""
    n, components = 100, 5
    m = components - 1
    w = reference.log_weights("mss", components, components, n, 0, torch.zeros((), dtype=torch.float64)).exp()
    for i, j in itertools.product(range(components), repeat=2):
        expected = 1 / n if j == i else (n - m) / (n * m) if j == (i + 1) % components else 1 / m
        assert w[i, j].item() == pytest.approx(expected, rel=1e-15)
    torch.testing.assert_close(w.sum(1), torch.ones(components, dtype=torch.float64))


def test_stratified_weights_follow_the_offset():
    whole = reference.log_weights("mss", 6, 6, 50, 0, torch.zeros(()))
    assert torch.equal(reference.log_weights("mss", 2, 6, 50, 3, torch.zeros(())), whole[3:5])


@pytest.mark.parametrize("batch", [3, 4, 9])
def test_legacy_weights_of_the_public_codes(batch):
    """The matrix as rtqichen/beta-tcvae fills it: strides over the flattened [B, B] that were meant for diagonals."""
    n, m = 100, batch - 1
    w = torch.full((batch, batch), 1 / m, dtype=torch.float64)
    strat = (n - m) / (n * m)
    w.view(-1)[:: m + 1] = 1 / n
    w.view(-1)[1 :: m + 1] = strat
    w[m - 1, 0] = strat
    ours = reference.log_weights("mss_legacy", batch, batch, n, 0, torch.zeros((), dtype=torch.float64))
    torch.testing.assert_close(ours, w.log())


@pytest.mark.parametrize(("estimator", "weight"), [("uniform", 1 / 7), ("mws", 1 / (7 * 100))])
def test_even_weights(estimator, weight):
    w = reference.log_weights(estimator, 4, 7, 100, 0, torch.zeros((), dtype=torch.float64))
    torch.testing.assert_close(w.exp(), torch.full_like(w, weight))


def test_chunks_change_nothing(monkeypatch):
    tensors = posterior(Shape((2,), 33, 3))
    whole = reference.elbo_decomposition(*tensors, None, None, "mss", 100, reduction="none")
    monkeypatch.setattr(reference, "_CHUNK_PAIRS", 33 * 2 * 4)
    for a, b in zip(whole, reference.elbo_decomposition(*tensors, None, None, "mss", 100, reduction="none")):
        torch.testing.assert_close(a, b, rtol=1e-14, atol=1e-14)


def test_a_row_without_density_has_no_gradient():
    z, mu, logvar = (t.requires_grad_() for t in posterior(Shape((), 4, 2)))
    log_weight = torch.full((4,), -math.inf, dtype=torch.float64, requires_grad=True)
    log_qz, marginals = reference.aggregate_posterior(z, mu, logvar, log_weight)
    assert torch.isneginf(log_qz).all()
    assert torch.isneginf(marginals).all()
    for gradient in torch.autograd.grad(log_qz.sum() + marginals.sum(), (z, mu, logvar, log_weight)):
        assert torch.equal(gradient, torch.zeros_like(gradient))


# MMD -------------------------------------------------------------------------------------------------------------

KERNELS = {
    "rbf": lambda d2, h: math.exp(-d2 / (2 * h**2)),
    "rq": lambda d2, h: (1 + d2 / (2 * 1.7 * h**2)) ** -1.7,
    "imq": lambda d2, h: 1 / (1 + d2 / (2 * h**2)),
    "laplacian": lambda d2, h: math.exp(-math.sqrt(d2) / h),
    "energy": lambda d2, h: -math.sqrt(d2),
}


def mmd_pair_by_pair(x: list, y: list, k, estimator: str) -> float:
    """Means over pairs of points, one pair at a time."""

    def mean(a, b, skip_equal):
        pairs = [(i, j) for i in range(len(a)) for j in range(len(b)) if not (skip_equal and i == j)]
        return sum(k(sum((p - q) ** 2 for p, q in zip(a[i], b[j]))) for i, j in pairs) / len(pairs)

    if estimator == "linear":
        even = range(0, len(x), 2)
        pair = [mean([x[i]], [x[i + 1]], False) + mean([y[i]], [y[i + 1]], False) for i in even]
        cross = [mean([x[i]], [y[i + 1]], False) + mean([x[i + 1]], [y[i]], False) for i in even]
        return sum(p - c for p, c in zip(pair, cross)) / len(pair)
    unbiased = estimator == "unbiased"
    return mean(x, x, unbiased) + mean(y, y, unbiased) - 2 * mean(x, y, False)


@pytest.mark.parametrize("estimator", ["unbiased", "biased", "linear"])
@pytest.mark.parametrize("kernel", KERNELS)
def test_mmd_pair_by_pair(kernel, estimator):
    x, y = normal(6, 2), normal(6 if estimator == "linear" else 5, 2, shift=0.5)
    ours = reference.mmd(x, y, bandwidths(0.8, 2.0), kernel, 1.7, estimator)
    expected = sum(
        mmd_pair_by_pair(x.tolist(), y.tolist(), lambda d2, h=h: KERNELS[kernel](d2, h), estimator) for h in (0.8, 2.0)
    )
    assert ours.item() == pytest.approx(expected, rel=1e-12)


# Permutations ----------------------------------------------------------------------------------------------------


def test_permutations_of_the_reference_are_uniform():
    z = torch.arange(3)[:, None].expand(3, 20_000)
    codes = (reference.permute_dims(z, key()) * torch.tensor([[9], [3], [1]])).sum(0)
    counts = codes.unique(return_counts=True)[1]
    assert counts.numel() == 6
    assert scipy.stats.chisquare(counts.numpy()).pvalue > 1e-4


# The ops without their kernels -----------------------------------------------------------------------------------


@pytest.mark.usefixtures("pure_python")
@all_ops("rsample_kl", "aggregate_posterior_weighted", "elbo_decomposition_components", "mmd", "mmd_laplacian")
def test_ops_fall_back_on_the_reference(op, monkeypatch):
    def refuse(name: str) -> None:
        raise AssertionError(f"a pure-Python install reached for the raw op {name}")

    monkeypatch.setattr("disentangle_ext.ops._library.raw", refuse)
    inputs = op.inputs(Shape((2,), 5, 3), "cpu")
    ours, expected = op.function(*inputs), op.reference(*inputs)
    for a, b in zip(as_tuple(ours), as_tuple(expected), strict=True):
        assert torch.equal(a, b)


@all_ops("rsample_kl", "aggregate_posterior_weighted", "elbo_decomposition_components", "mmd", "mmd_laplacian")
@pytest.mark.usefixtures("compiled")
def test_compiled_and_pure_python_installs_agree(op, device, request):
    inputs = [t.requires_grad_() for t in op.inputs(Shape((2,), 33, 5), device)]

    def values_and_gradients() -> list[Tensor]:
        out = as_tuple(op.function(*inputs))
        return [*out, *torch.autograd.grad([t.sum() for t in out], inputs)]

    compiled = values_and_gradients()
    request.getfixturevalue("pure_python")
    for a, b in zip(compiled, values_and_gradients(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-12)


@pytest.mark.usefixtures("pure_python")
def test_permute_dims_without_its_kernel():
    z = normal(9, 4).requires_grad_()
    out = ops.permute_dims(z, key=key())
    assert torch.equal(out.sort(0).values, z.sort(0).values)
    (gradient,) = torch.autograd.grad(out, z, out)
    assert torch.equal(gradient, z)


@pytest.mark.usefixtures("pure_python")
def test_seed_and_generator_work_without_kernels():
    mu = torch.zeros(5, 3)
    first, second = (ops.rsample_kl(mu, mu, generator=torch.Generator().manual_seed(7))[0] for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, ops.rsample_kl(mu, mu)[0])
