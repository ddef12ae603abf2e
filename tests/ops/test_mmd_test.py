"""mmd_test under the null hypothesis and against it."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from disentangle_ext import ops
from tests.ops.cases import NANS, Shape, dtypes, normal
from tests.ops.samples import exponent_of, kernels, pair_means, samples
from tests.ops.tolerance import DTYPES, compute_dtype


@kernels
@pytest.mark.parametrize("estimator", ["unbiased", "biased"])
@dtypes(*DTYPES)
def test_statistic_is_the_mmd(dtype, estimator, kernel, device):
    x, y = (t.to(dtype) for t in samples(Shape((), 20, 3), device))
    options = {"kernel": kernel, "estimator": estimator, **exponent_of(kernel)}
    if kernel != "energy":
        options["bandwidth"] = [0.5, 2.0]
    result = ops.mmd_test(x, y, permutations=10, **options)
    assert result.statistic.dtype == compute_dtype(dtype)
    torch.testing.assert_close(result.statistic, ops.mmd(x, y, **options), rtol=1e-5, atol=1e-6)
    default = ops.mmd_test(x, y, permutations=10).statistic
    torch.testing.assert_close(default, ops.mmd(x, y, bandwidth="median"), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kernel", ["rbf", "energy"])
def test_p_values_under_the_null(kernel, device):
    """With 19 permutations, p is uniform over 1/20, .., 20/20: mean .525, standard deviation .288."""
    p = []
    for _ in range(300):
        x, y = normal(9, 2, device=device), normal(12, 2, device=device)
        p.append(20 * ops.mmd_test(x, y, permutations=19, kernel=kernel).p_value)
    p = torch.tensor(p, dtype=torch.float64)
    assert torch.equal(p.round(), p.round().clamp(1, 20))
    torch.testing.assert_close(p, p.round())
    assert abs(float(p.mean()) - 10.5) < 4 * math.sqrt((400 - 1) / 12 / 300)
    for level in (2, 5, 10):  # as many at or below each level as it says
        share = level / 20
        assert abs(float((p.round() <= level).double().mean()) - share) < 4 * math.sqrt(share * (1 - share) / 300)


@kernels
def test_a_shift_is_found(kernel, device):
    x, y = normal(60, 2, device=device), normal(50, 2, device=device, shift=1)
    assert ops.mmd_test(x, y, permutations=200, kernel=kernel).p_value == pytest.approx(1 / 201)


def test_p_value_of_a_tiny_case(device):
    """Two against two: of the six splits of {0, 1, 10, 11}, two reach the observed difference, so p is about 1/3."""
    x, y = torch.tensor([[0.0], [1.0]], device=device), torch.tensor([[10.0], [11.0]], device=device)
    permutations = 30_000
    splits = [
        pair_means(
            torch.tensor([[v] for v in s]), torch.tensor([[v] for v in {0.0, 1.0, 10.0, 11.0} - set(s)]),
            lambda d2: torch.exp(-d2 / 8), diagonal=True,
        )
        for s in itertools.combinations((0.0, 1.0, 10.0, 11.0), 2)
    ]  # fmt: skip
    exact = sum(v >= splits[0] - 1e-6 for v in splits) / 6
    assert exact == 1 / 3
    p = ops.mmd_test(x, y, permutations=permutations, bandwidth=2.0, estimator="biased").p_value
    assert abs(p - exact) < 4 * math.sqrt(exact * (1 - exact) / permutations)


def test_equal_points_cannot_be_told_apart(device):
    x = torch.ones(5, 2, device=device)
    assert ops.mmd_test(x, x, permutations=50).p_value == 1


def test_the_test_is_reproducible(device):
    x, y = samples(Shape((), 20, 2), device)
    generator = torch.Generator(device)
    first, again, *others = (
        ops.mmd_test(x, 0.8 * y, permutations=200, generator=generator.manual_seed(s)).p_value for s in (1, 1, 2, 3, 4)
    )
    assert first == again
    assert len({first, *others}) > 1
    torch.manual_seed(5)
    seeded = ops.mmd_test(x, 0.8 * y, permutations=200).p_value
    torch.manual_seed(5)
    assert ops.mmd_test(x, 0.8 * y, permutations=200).p_value == seeded


def test_the_test_has_no_gradient(device):
    x, y = (t.requires_grad_() for t in samples(Shape((), 9, 2), device))
    assert not ops.mmd_test(x, y, permutations=5).statistic.requires_grad


def test_the_test_in_blocks_of_rows(device):
    """2,200 rows take more than one block of the kernel matrix."""
    x, y = samples(Shape((), 1000, 2), device, more=200)
    result = ops.mmd_test(x, y, permutations=20, bandwidth=1.0)
    torch.testing.assert_close(result.statistic, ops.mmd(x, y), rtol=1e-10, atol=1e-12)
    assert result.p_value == pytest.approx(1 / 21)


def unusable(dtype: torch.dtype, device: torch.device) -> list[torch.Tensor]:
    """NaNs of every kind, and both infinities."""
    return [*(nan.to(dtype, device) for nan in NANS), *(torch.tensor(v, dtype=dtype) for v in (math.inf, -math.inf))]


@kernels
@pytest.mark.parametrize("argument", ["x", "y"])
@dtypes(*DTYPES)
def test_a_value_that_is_not_finite_leaves_no_p_value(dtype, argument, kernel, device):
    """Without it these samples have one; beside a statistic that is NaN, any p would be taken for a result."""
    clean = dict(zip("xy", (t.to(dtype) for t in samples(Shape((), 7, 3), device))))
    assert 0 < ops.mmd_test(**clean, permutations=9, kernel=kernel).p_value <= 1
    for value in unusable(dtype, device):
        inputs = {name: t.clone() for name, t in clean.items()}
        inputs[argument][2, 1] = value
        for estimator, bandwidth in (("unbiased", "median"), ("biased", 1.5 if kernel != "energy" else "median")):
            options = {"kernel": kernel, "estimator": estimator, "bandwidth": bandwidth}
            result = ops.mmd_test(**inputs, permutations=9, **options)
            assert result.statistic.isnan()
            assert math.isnan(result.p_value)


@pytest.mark.parametrize("values", [(math.inf, math.inf), (math.inf, -math.inf), (math.nan, math.inf)], ids=str)
def test_two_values_that_are_not_finite_leave_no_p_value(values, device):
    x, y = samples(Shape((), 7, 3), device)
    x[0, 0], y[4, 0] = values
    assert all(math.isnan(v) for v in ops.mmd_test(x, y, permutations=9))
