"""The CUDA kernels of rsample_kl, run on the CPU, against the reference in float64."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from disentangle_ext.ops import reference
from tests.cuda import harness
from tests.ops.cases import NANS, dtypes, normal
from tests.ops.tolerance import DTYPES, HALF, assert_agrees, compute_dtype

pytestmark = pytest.mark.builds

# Problems, rows, D and the tile: whole rows in one tile and in several, rows that begin inside a group of elements,
# problems that do (9 x 5), and rows cut into chunks.
SHAPES = (
    (1, 1, 1, 0),
    (1, 64, 10, 0),
    (1, 257, 10, 64),
    (3, 9, 5, 16),
    (2, 31, 33, 64),
    (1, 7, 128, 256),
    (1, 3, 13, 16),
    (2, 3, 21, 16),
    (1, 2, 1500, 600),
)

per_dimension = pytest.mark.parametrize("per_dimension", [False, True], ids=["summed", "per_dimension"])


def keys(problems: int) -> Tensor:
    return torch.randint(-(2**63), 2**63 - 1, (problems, 2), generator=torch.Generator().manual_seed(5))


def nans(*size: int, dtype: torch.dtype, skip: int = 0) -> Tensor:
    """`skip` elements from an aligned address on, so that the fast loads cannot be used."""
    return torch.full((math.prod(size) + skip,), math.nan, dtype=dtype)[skip:].view(size)


class Op(torch.autograd.Function):
    """The two launchers as a differentiable function."""

    @staticmethod
    def forward(ctx, mu, logvar, library, key, tile, per_dimension, skip):
        ctx.options = mu.dtype, *mu.shape, tile, per_dimension, key
        ctx.library, ctx.skip = library, skip
        z, kl = (
            nans(*mu.shape, dtype=mu.dtype, skip=skip),
            nans(*mu.shape[: 2 + per_dimension], dtype=compute_dtype(mu.dtype)),
        )
        library.call("rsample_kl", *ctx.options, mu, logvar, z, kl)
        ctx.save_for_backward(mu, logvar)
        ctx.set_materialize_grads(False)
        return z, kl

    @staticmethod
    def backward(ctx, grad_z, grad_kl):
        gradients = [nans(*t.shape, dtype=t.dtype, skip=ctx.skip) for t in ctx.saved_tensors]
        grad_z, grad_kl = (None if g is None else g.contiguous() for g in (grad_z, grad_kl))
        ctx.library.call("rsample_kl_backward", *ctx.options, *ctx.saved_tensors, grad_z, grad_kl, *gradients)
        return *gradients, None, None, None, None, None


def agree(mode: str, shape, dtype: torch.dtype, per_dimension: bool, outputs=slice(None), skip: int = 0) -> None:
    *size, tile = shape
    key = keys(size[0])
    library = harness.library("rsample_kl", mode)

    def ours(mu: Tensor, logvar: Tensor):
        return Op.apply(mu, logvar, library, key, tile, per_dimension, skip)[outputs]

    def expected(mu: Tensor, logvar: Tensor):
        return reference.rsample_kl(mu, logvar, key, per_dimension)[outputs]

    inputs = [normal(*size), normal(*size, scale=0.7, shift=-1.5)]
    assert_agrees(ours, expected, inputs, dtype=dtype)


@per_dimension
@dtypes(*DTYPES)
def test_agrees_with_the_reference(dtype, per_dimension, mode, order):
    for shape in SHAPES:
        agree(mode, shape, dtype, per_dimension)


@dtypes(torch.bfloat16, torch.float32, torch.float64)
@pytest.mark.parametrize("outputs", [0, 1], ids=["z", "kl"])
def test_gradient_of_one_output_alone(outputs, dtype, mode):
    for per_dimension in (False, True):
        agree(mode, (2, 9, 5, 32), dtype, per_dimension, outputs)


@per_dimension
@dtypes(torch.float16, torch.float32, torch.float64)
def test_addresses_that_are_not_aligned(dtype, per_dimension, mode):
    agree(mode, (2, 31, 10, 64), dtype, per_dimension, skip=1)


@dtypes(torch.float16, torch.float32)
def test_the_natural_plan_of_larger_inputs(dtype):
    """Several tiles, rows of several chunks, many small problems."""
    for shape in ((1, 900, 10, 0), (1, 2, 5001, 0), (40, 7, 3, 0)):
        agree("plain", shape, dtype, False)


@dtypes(*DTYPES)
def test_the_tile_decides_nothing_but_the_speed(dtype):
    """The order of a row's sum follows from its length."""
    mu, logvar, key = normal(2, 40, 10).to(dtype), normal(2, 40, 10).to(dtype), keys(2)
    library = harness.library("rsample_kl", "plain")
    results = [Op.apply(mu, logvar, library, key, tile, False, 0) for tile in (0, 24, 40, 96, 4096)]
    for z, kl in results[1:]:
        assert torch.equal(z, results[0][0])
        assert torch.equal(kl, results[0][1])


def sample(mu: Tensor, logvar: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
    return Op.apply(mu[None], logvar[None], harness.library("rsample_kl", "plain"), key[None], 0, True, 0)


# Keys whose first radius is the smallest or one of the largest integers.
EXTREME_RADII = [(748582185, 0), (84170650, 1), (2705662944, 0xFFFFFFFD), (2**32 + 1011797837, 0xFFFFFFFF)]


@pytest.mark.parametrize(("offset", "radius"), EXTREME_RADII)
def test_noise_at_the_ends_of_the_radius(offset, radius):
    key = torch.tensor([0, offset])
    assert reference.philox(key, 1)[0, 0] == radius
    zero = torch.zeros(1, 4)
    expected = reference.standard_normal(key, 4, torch.float64)
    torch.testing.assert_close(sample(zero, zero, key)[0].double().flatten(), expected, rtol=32 * 2.0**-23, atol=0)


def test_noise_to_a_few_ulp():
    key, zero = keys(1)[0], torch.zeros(100, 1000)
    expected = reference.standard_normal(key, zero.numel(), torch.float64)
    error = (sample(zero, zero, key)[0].double().flatten() - expected).abs() / expected.abs().clamp_min(1)
    assert float(error.max()) <= 8 * 2.0**-23


def test_scale_over_the_whole_range():
    """exp(logvar / 2) times the noise: to a few ulp where it is a normal number, infinite and zero beyond."""
    key = keys(1)[0]
    logvar = torch.cat([torch.linspace(-174, 170, 4001), torch.tensor([-math.inf, -1e30, 1e30, 500.0, -500.0])])[None]
    z = sample(torch.zeros_like(logvar), logvar, key)[0].flatten()
    noise = reference.standard_normal(key, logvar.numel(), torch.float64)
    expected = torch.exp(0.5 * logvar.double().flatten()) * noise
    assert float(((z[:4001].double() - expected[:4001]) / expected[:4001]).abs().max()) <= 16 * 2.0**-23
    assert z[4001:].tolist() == [0, 0, math.copysign(math.inf, noise[4003]), math.copysign(math.inf, noise[4004]), 0]


@dtypes(*DTYPES)
def test_not_a_number(dtype):
    """Whatever its bits, and no number beside it changes."""
    clean = torch.zeros(1, 5 * len(NANS), 3, dtype=dtype)
    mu, logvar, key = clean.clone(), clean.clone(), keys(1)
    for i, nan in enumerate(NANS):
        mu[0, 5 * i + 1, 2], logvar[0, 5 * i + 3, 0] = nan.to(dtype), nan.to(dtype)
    library = harness.library("rsample_kl", "plain")
    leaves = [mu.requires_grad_(), logvar.requires_grad_()]
    z, kl = Op.apply(*leaves, library, key, 0, True, 0)
    bad = [t.isnan() for t in leaves]
    assert torch.equal(z.isnan(), bad[0] | bad[1])
    assert torch.equal(kl.isnan(), z.isnan())
    assert torch.equal(z[~z.isnan()], Op.apply(clean, clean, library, key, 0, True, 0)[0][~z.isnan()])
    for gradient, where in zip(torch.autograd.grad((z.sum(), kl.sum()), leaves), bad):
        assert torch.equal(gradient.isnan(), where)


def test_small_logvar_does_not_cancel():
    logvar = torch.tensor([[1e-4, -1e-4, 1e-6, -0.1, 0.1, 0.4, -0.4]])
    kl = sample(torch.zeros_like(logvar), logvar, keys(1)[0])[1]
    x = logvar.double()
    torch.testing.assert_close(kl[0].double(), 0.5 * (torch.special.expm1(x) - x), rtol=1e-5, atol=0)


def test_gradient_of_the_kl_where_logvar_has_no_room_for_one():
    logvar = torch.tensor([[[-1e8, -1e20, -1e30, -math.inf]]], requires_grad=True)
    kl = Op.apply(torch.zeros_like(logvar), logvar, harness.library("rsample_kl", "plain"), keys(1), 0, True, 0)[1]
    assert torch.autograd.grad(kl.sum(), logvar)[0].tolist() == [[[-0.5] * 4]]


@dtypes(*HALF)
def test_conversions_are_those_of_torch(dtype):
    """All halves, and floats of every exponent with the bits at which rounding decides."""
    library = harness.library("rsample_kl", "plain")
    halves = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(dtype)
    wide = nans(len(halves), dtype=torch.float32)
    library.call("widen", dtype, len(halves), halves, wide)
    torch.testing.assert_close(wide, halves.float(), rtol=0, atol=0, equal_nan=True)

    high = torch.arange(-(2**15), 2**15, dtype=torch.int64) << 16
    low = torch.tensor([0, 1, 0x0FFF, 0x1000, 0x1001, 0x2FFF, 0x3000, 0x3001, 0x7FFF, 0x8000, 0x8001, 0xFFFF])
    x = (high[:, None] + low).flatten().to(torch.int32).view(torch.float32)
    narrow = nans(len(x), dtype=dtype)
    library.call("narrow", dtype, len(x), x, narrow)
    number = ~x.isnan()
    assert torch.equal(narrow[number].view(torch.int16), x.to(dtype)[number].view(torch.int16))
    assert narrow[~number].isnan().all()
