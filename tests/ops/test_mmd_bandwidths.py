"""Bandwidths of mmd, and the conventions of papers and their programs."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from disentangle_ext import ops
from disentangle_ext.ops import reference
from tests.ops.cases import Shape, dtypes
from tests.ops.samples import KERNELS, estimators, pair_means, samples


@pytest.mark.parametrize("kernel", KERNELS[:4])
@estimators
def test_several_bandwidths_add_their_kernels(estimator, kernel, device):
    x, y = samples(Shape((2,), 12, 3), device, equal=True)
    h = [0.3, 1.0, 4.0]
    expected = sum(ops.mmd(x, y, kernel=kernel, bandwidth=v, estimator=estimator) for v in h)
    for given in (h, tuple(h), torch.tensor(h, device=device, dtype=torch.float64)):
        torch.testing.assert_close(
            ops.mmd(x, y, kernel=kernel, bandwidth=given, estimator=estimator), expected, rtol=1e-12, atol=1e-14
        )


@pytest.mark.usefixtures("compiled")
def test_very_many_bandwidths(device):
    """On CUDA they have to fit into shared memory."""
    x, y = samples(Shape((), 9, 3), device)
    h = torch.rand(257, dtype=torch.float64).to(device) + 0.5
    expected = reference.mmd(x, y, h[:256])
    torch.testing.assert_close(ops.mmd(x, y, bandwidth=h[:256]), expected, rtol=1e-12, atol=1e-12)
    if device.type == "cuda":
        with pytest.raises(RuntimeError, match="mmd: on CUDA at most 256 bandwidths, got 257"):
            ops.mmd(x, y, bandwidth=h)
    else:
        torch.testing.assert_close(ops.mmd(x, y, bandwidth=h), reference.mmd(x, y, h), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kernel", KERNELS[:4])
@estimators
@pytest.mark.parametrize("leading", [1, 2])
def test_a_bandwidth_for_each_problem(leading, estimator, kernel, device):
    x, y = samples(Shape((2, 3), 12, 3), device, equal=True)
    h = torch.rand(*(2, 3)[:leading], 2, dtype=torch.float64).to(device) + 0.5
    if leading == 1:  # what goes with the first of two leading dimensions
        h = h[:, None].expand(2, 3, 2)
    out = ops.mmd(x, y, kernel=kernel, bandwidth=h, estimator=estimator)
    for i, j in itertools.product(range(2), range(3)):
        alone = ops.mmd(x[i, j], y[i, j], kernel=kernel, bandwidth=h[i, j].tolist(), estimator=estimator)
        torch.testing.assert_close(out[i, j], alone, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("estimator", ["unbiased", "biased", "linear"])
def test_scalar_bandwidths(estimator, device):
    x, y = samples(Shape((2,), 12, 3), device, equal=True)
    values = [ops.mmd(x, y, bandwidth=h, estimator=estimator) for h in (2.0, 2, [2], torch.tensor(2.0, device=device))]
    for value in values[1:]:
        assert torch.equal(value, values[0])


def median_bandwidth(x: Tensor, y: Tensor) -> float:
    """Pair by pair; torch takes the lower of two middle values."""
    pooled = [*x.double().tolist(), *y.double().tolist()]
    d2 = sorted(sum((a - b) ** 2 for a, b in zip(p, q)) for p, q in itertools.combinations(pooled, 2))
    return math.sqrt(d2[(len(d2) - 1) // 2] / 2)


@pytest.mark.parametrize("kernel", KERNELS[:4])
@dtypes(torch.bfloat16, torch.float32, torch.float64)
def test_median_bandwidth(dtype, kernel, device):
    x, y = (t.to(dtype) for t in samples(Shape((2,), 12, 3), device))
    out = ops.mmd(x, y, kernel=kernel, bandwidth="median")
    for i in range(2):
        alone = ops.mmd(x[i], y[i], kernel=kernel, bandwidth=median_bandwidth(x[i], y[i]))
        torch.testing.assert_close(out[i], alone, rtol=1e-6, atol=1e-7)


def test_median_bandwidth_of_many_rows(device):
    """Over 1,000 evenly spaced rows of x and y together."""
    x, y = samples(Shape((), 1500, 2), device)
    chosen = torch.linspace(0, 3002, 1000, device=device).round().long()  # devices may round it differently
    assert len(chosen.unique()) == 1000
    d2 = torch.nn.functional.pdist(torch.cat([x, y])[chosen]).square()
    expected = ops.mmd(x, y, bandwidth=float((d2.median() / 2).sqrt()))
    torch.testing.assert_close(ops.mmd(x, y, bandwidth="median"), expected, rtol=1e-9, atol=1e-12)


def test_median_bandwidth_is_not_differentiated(device):
    x, y = samples(Shape((), 12, 3), device)
    h = median_bandwidth(x, y)
    leaves = [t.requires_grad_() for t in (x, y)]
    median, fixed = (torch.autograd.grad(ops.mmd(*leaves, bandwidth=b), leaves) for b in ("median", h))
    for a, b in zip(median, fixed):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_median_bandwidth_of_equal_points(device):
    x = torch.ones(5, 3, device=device, requires_grad=True)
    out = ops.mmd(x, x.detach(), bandwidth="median")
    assert float(out.detach()) == 0
    assert not torch.autograd.grad(out, x)[0].any()


@pytest.mark.parametrize("D", [1, 2, 10])
@dtypes(torch.float32, torch.float64)
def test_convention_infovae(dtype, D, device):
    """Zhao's program: the mean over the dimensions of the squared difference, divided by D once more."""
    x, y = (t.to(dtype) for t in samples(Shape((), 20, D), device))
    expected = pair_means(x.double(), y.double(), lambda d2: torch.exp(-d2 / D / D), diagonal=True)
    assert float(ops.mmd(x, y, convention="infovae")) == pytest.approx(expected, rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("D", [1, 2, 10])
@dtypes(torch.float32, torch.float64)
def test_convention_wae(dtype, D, device):
    """The program of Tolstikhin et al., imq: C / (C + d2), C = 2 D s for a standard normal prior."""
    x, y = (t.to(dtype) for t in samples(Shape((), 20, D), device))

    def k(d2: Tensor) -> Tensor:
        return sum(2 * D * s / (2 * D * s + d2) for s in (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0))

    expected = pair_means(x.double(), y.double(), k, diagonal=False)
    assert float(ops.mmd(x, y, convention="wae")) == pytest.approx(expected, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("D", [1, 2, 10])
@dtypes(torch.float32, torch.float64)
def test_convention_wae_rbf(dtype, D, device):
    x, y = (t.to(dtype) for t in samples(Shape((), 20, D), device))
    expected = pair_means(x.double(), y.double(), lambda d2: torch.exp(-d2 / (2 * D)), diagonal=False)
    assert float(ops.mmd(x, y, convention="wae_rbf")) == pytest.approx(expected, rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("convention", ["infovae", "wae", "wae_rbf"])
def test_conventions_have_gradients(convention, device):
    inputs = [t.requires_grad_() for t in samples(Shape((2,), 4, 3), device)]
    assert torch.autograd.gradcheck(lambda x, y: ops.mmd(x, y, convention=convention), inputs)


def test_a_bandwidth_that_cannot_be_read_gives_nan(device):
    x, y = (torch.randn(8, 3, device=device) for _ in range(2))
    h = torch.tensor([0.5, -2.0], device=device)
    first, second = torch.vmap(lambda h: ops.mmd(x, y, bandwidth=h))(h)
    assert float(first) == pytest.approx(float(ops.mmd(x, y, bandwidth=0.5)), rel=1e-5)
    assert second.isnan()
