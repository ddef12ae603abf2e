"""Host runs of the kernels of mmd: values and gradients against the reference, whatever the tiles."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from disentangle_ext.ops import reference
from tests.cuda import harness
from tests.ops.cases import NANS, bandwidths, dtypes, normal
from tests.ops.tolerance import assert_agrees, largest

pytestmark = pytest.mark.builds

KERNELS = reference.KERNELS
kernels = pytest.mark.parametrize("kernel", KERNELS)
both = dtypes(torch.float32, torch.float64)
EXPONENT = 1.7


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def sweep(mode: str, x: Tensor, y: Tensor, h: Tensor, kernel: str, biased: bool, rows: int, grad: bool) -> list[Tensor]:
    """Value and gradients; what no thread writes stays NaN."""
    (*leading, m, d), n, k = x.shape, y.shape[-2], h.shape[-1]
    problems = math.prod(leading)
    value = torch.full(leading, math.nan, dtype=x.dtype)
    grads = [torch.full_like(t, math.nan) if grad else None for t in (x, y)]
    sizes = (problems, m, n, d, k, problems * k // h.numel())
    harness.library("mmd", mode).call(
        "mmd_forward", x, y, h, value, *grads, x.dtype, *sizes, KERNELS.index(kernel), EXPONENT, int(biased), rows
    )
    return [value, *(g for g in grads if g is not None)]


class Mmd(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, *settings: Any) -> Tensor:
        mode, *others = settings
        value, *grads = sweep(mode, x.contiguous(), y.contiguous(), *others, grad=True)
        ctx.save_for_backward(*grads)
        return value

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return *(g * grad[..., None, None] for g in ctx.saved_tensors), None, None, None, None, None


def samples(m: int, n: int, d: int, *leading: int) -> list[Tensor]:
    return [normal(*leading, m, d), normal(*leading, n, d, scale=0.7, shift=0.4)]


def agree(
    mode: str,
    inputs: list[Tensor],
    kernel: str,
    *,
    h: Tensor | None = None,
    biased: bool = False,
    rows: int = 64,
    dtype: torch.dtype = torch.float32,
) -> None:
    h = bandwidths(1.3) if h is None else h
    size = largest(*inputs) * math.sqrt(2 * inputs[0].shape[-1]) if kernel == "energy" else h.shape[-1]
    assert_agrees(
        lambda x, y: Mmd.apply(x, y, mode, h, kernel, biased, rows),
        lambda x, y: reference.mmd(x, y, h, kernel, EXPONENT, "biased" if biased else "unbiased"),
        inputs,
        dtype=dtype,
        intermediate=size,
    )


# Every kernel and every width ------------------------------------------------------------------------------------


@kernels
@pytest.mark.parametrize(("d", "dtype"), [(10, torch.float32), (10, torch.float64), (37, torch.float32)], ids=str)
def test_kernels(mode, order, kernel, d, dtype):
    """Tiles of 64, 16 and 9 rows; for D = 37 a third chunk of dimensions that is not full."""
    agree(mode, samples(80, 9, d), kernel, dtype=dtype)


@both
@pytest.mark.parametrize("d", [1, 2, 3, 4, 5, 8, 9, 10, 11, 16, 17, 33])
def test_widths(mode, dtype, d):
    agree(mode, samples(70, 35, d), "rbf", dtype=dtype, biased=True)


@pytest.mark.parametrize("kernel", KERNELS[:4])
@pytest.mark.parametrize("d", [10, 20], ids=["registers", "wide"])
def test_several_bandwidths(mode, kernel, d):
    agree(mode, samples(40, 35, d), kernel, h=bandwidths(0.5, 2.0, 7.0))


@pytest.mark.parametrize("d", [16, 20], ids=["registers", "wide"])
def test_as_many_bandwidths_as_fit_into_shared_memory(mode, d):
    h = torch.linspace(1, 5, 256, dtype=torch.float64)
    agree(mode, samples(9, 3, d), "rq", h=h, dtype=torch.float64)


# Every way to cut the rows ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("d", "dtype"), [(10, torch.float32), (16, torch.float64), (20, torch.float32)], ids=str)
@pytest.mark.parametrize(("m", "n", "rows"), [(150, 70, 64), (200, 70, 256), (40, 200, 128), (70, 9, 0)])
def test_tiles(mode, order, d, dtype, m, n, rows):
    """Several groups of rows in a tile, and columns that all of them meet; a tile of few rows beside full ones."""
    agree(mode, samples(m, n, d), "rbf", rows=rows, dtype=dtype)


@pytest.mark.parametrize(("m", "n"), [(1, 1), (1, 70), (70, 1), (2, 65), (32, 33), (128, 128)])
@pytest.mark.parametrize("d", [3, 20], ids=["registers", "wide"])
def test_few_rows(mode, m, n, d):
    agree(mode, samples(m, n, d), "rbf", biased=True)


@pytest.mark.parametrize("d", [10, 20], ids=["registers", "wide"])
def test_no_rows_of_one_sample(mode, d):
    """As on the CPU: the mean over no pairs."""
    value, *_ = sweep(mode, torch.zeros(0, d), torch.zeros(5, d), bandwidths(1.0), "rbf", True, 64, True)
    assert value.isinf()


# Stacks ----------------------------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("d", [10, 20], ids=["registers", "wide"])
def test_a_stack_equals_its_members(mode, order, dtype, d):
    x, y = (t.to(dtype) for t in samples(70, 35, d, 2, 3))
    kernel = "laplacian"
    stack = sweep(mode, x, y, bandwidths(0.7, 2.0), kernel, False, 64, True)
    for i, j in ((0, 0), (0, 2), (1, 1)):
        alone = sweep(mode, x[i, j].clone(), y[i, j].clone(), bandwidths(0.7, 2.0), kernel, False, 64, True)
        for a, b in zip(stack, alone):
            assert b.isfinite().all()
            assert torch.equal(a[i, j], b)


@pytest.mark.parametrize("leading", [(2,), (2, 3)], ids=["first", "all"])
def test_bandwidths_of_problems(mode, leading):
    x, y = (t.float() for t in samples(40, 35, 3, 2, 3))
    h = torch.rand(*leading, 2, dtype=torch.float64) + 0.5
    stack = sweep(mode, x, y, h, "rbf", False, 64, True)
    for i, j in ((0, 0), (0, 2), (1, 1)):
        own = h[(i, j)[: len(leading)]].clone()
        alone = sweep(mode, x[i, j].clone(), y[i, j].clone(), own, "rbf", False, 64, True)
        for a, b in zip(stack, alone):
            assert b.isfinite().all()
            assert torch.equal(a[i, j], b)


# Without a gradient ----------------------------------------------------------------------------------------------


@kernels
@pytest.mark.parametrize(("d", "dtype"), [(10, torch.float32), (10, torch.float64), (20, torch.float32)], ids=str)
def test_the_value_alone(mode, kernel, d, dtype):
    """The pairs of a lane are others then."""
    x, y = (t.to(dtype) for t in samples(140, 35, d))
    (value,) = sweep(mode, x, y, bandwidths(1.3), kernel, False, 128, False)
    with_gradient = sweep(mode, x, y, bandwidths(1.3), kernel, False, 128, True)[0]
    ulps = 16 * torch.finfo(dtype).eps * (largest(x, y) * math.sqrt(2 * d) if kernel == "energy" else 1)
    torch.testing.assert_close(value, with_gradient, rtol=0, atol=ulps)


# Numerics --------------------------------------------------------------------------------------------------------


@kernels
@pytest.mark.parametrize("d", [3, 20], ids=["registers", "wide"])
def test_equal_points(mode, kernel, d):
    """Within a sample and across: no NaN, and the gradients of the other pairs."""
    x, y = samples(9, 12, d)
    x[3], y[5], y[6] = x[1], x[1], x[2]
    agree(mode, [x, y], kernel)


@kernels
@pytest.mark.parametrize("d", [3, 20], ids=["registers", "wide"])
def test_one_sample_twice(mode, kernel, d):
    """In the same memory: a point of x meets itself in y, and that pair counts."""
    x = normal(70, d)
    value, *grads = sweep(mode, x, x, bandwidths(1.3), kernel, True, 64, True)
    assert abs(float(value)) < 1e-14
    for g in grads:
        assert float(g.abs().max()) < 1e-14


@pytest.mark.parametrize("kernel", ["rbf", "rq", "imq", "laplacian"])
@pytest.mark.parametrize("d", [3, 20], ids=["registers", "wide"])
def test_far_points(mode, kernel, d):
    """Squared distances up to infinity."""
    x, y = (t.float() for t in samples(20, 20, d))
    for far in (1e6, 1e15, 1e25):
        values = sweep(mode, x, y + far, bandwidths(1.0), kernel, False, 64, True)
        alone = sweep(mode, x, (y + far).clone(), bandwidths(1.0), kernel, False, 64, False)[0]
        assert all(t.isfinite().all() for t in values)
        assert float(values[0]) == pytest.approx(float(alone), abs=1e-6)


@both
@kernels
@pytest.mark.parametrize("d", [3, 20], ids=["registers", "wide"])
def test_not_a_number(dtype, kernel, d):
    for nan in NANS:
        x, y = (t.to(dtype) for t in samples(8, 9, d))
        x[5, 1] = nan.to(dtype)
        value, of_x, _ = sweep("plain", x, y, bandwidths(1.3), kernel, False, 64, True)
        assert value.isnan()
        assert of_x[5, 1].isnan()


@kernels
@pytest.mark.parametrize("d", [3, 20], ids=["registers", "wide"])
def test_a_bandwidth_that_is_not_positive(mode, kernel, d):
    x, y = (t.float() for t in samples(20, 20, d))
    for h in (-1.0, 0.0, math.nan):
        value = sweep(mode, x, y, bandwidths(1.0, h), kernel, False, 64, False)[0]
        assert bool(value.isnan()) == (kernel != "energy")


# The plan --------------------------------------------------------------------------------------------------------


def test_the_plan(mode):
    """Blocks for every multiprocessor of a large GPU and memory for partial gradients that does not run away."""
    out = torch.zeros(3, dtype=torch.int64)
    for m in [1, 63, 64, 65, *(3**i for i in range(5, 18))]:
        for n in (1, m // 3 + 1, m, 5 * m):
            harness.library("mmd", mode).call("mmd_plan", m, n, out)
            rows, tiles, items = out.tolist()
            assert rows % 64 == 0
            assert (tiles, items) == (-(-m // rows) - (-n // rows), tiles * (tiles + 1) // 2)
            assert tiles <= 76
            assert tiles >= min(32, (m + n) // 128)
