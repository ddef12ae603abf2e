"""rsample_kl against the reference and against statistics: its values, its gradients and its noise."""

from __future__ import annotations

import math
from decimal import Decimal, getcontext

import pytest
import scipy.stats
import torch

from disentangle_ext import ops
from disentangle_ext.ops import reference
from tests.ops.cases import NASTY, SOME, Shape, dtypes, key, layouts, nans, normal, posterior, shapes
from tests.ops.tolerance import DTYPES, HALF, assert_agrees, compute_dtype, largest, ulp

per_dimension = pytest.mark.parametrize("per_dimension", [False, True], ids=["summed", "per_dimension"])


def noise(count: int, dtype: torch.dtype = torch.float32, key: torch.Tensor | None = None, device="cpu"):
    """The op's normals alone: the sample of a standard normal."""
    zero = torch.zeros(1, count, dtype=dtype, device=device)
    return ops.rsample_kl(zero, zero, key=key)[0][0]


def agree(inputs, device, per_dimension=False, **options) -> None:
    assert_agrees(
        lambda mu, logvar: ops.rsample_kl(mu, logvar, key=key(device), per_dimension=per_dimension),
        lambda mu, logvar: reference.rsample_kl(mu, logvar, key(device), per_dimension),
        inputs,
        **options,
    )


# Values and gradients --------------------------------------------------------------------------------------------


@per_dimension
@dtypes(*DTYPES)
@shapes(NASTY)
def test_agrees_with_the_reference(shape, dtype, per_dimension, device):
    agree(posterior(shape, device)[1:], device, per_dimension, dtype=dtype)


@per_dimension
@dtypes(*HALF, torch.float32)
@shapes((Shape((2,), 3, 1001), Shape((), 2, 4096), Shape((2,), 3, 5001), Shape((), 2, 20_003)))
def test_long_rows(shape, dtype, per_dimension, device):
    """A CUDA block sums as many rows as fit into its shared memory, or one that does not.

    Not in float64: there the yardstick's own sum is as rough as ours.
    """
    agree(posterior(shape, device)[1:], device, per_dimension, dtype=dtype)


@per_dimension
@dtypes(*DTYPES)
@layouts()
@shapes(SOME)
def test_any_layout(shape, layout, dtype, per_dimension, device):
    agree(posterior(shape, device)[1:], device, per_dimension, dtype=dtype, layout=layout)


@dtypes(*DTYPES)
def test_mu_and_logvar_may_differ_in_layout(dtype, device):
    """The two halves of a linear layer's output, one of them transposed."""
    both = normal(31, 20, device=device).to(dtype)
    mu, logvar = both.chunk(2, -1)
    logvar = logvar.mT.contiguous().mT
    for ours, plain in zip(
        ops.rsample_kl(mu, logvar, key=key(device)),
        ops.rsample_kl(mu.contiguous(), logvar.contiguous(), key=key(device)),
    ):
        assert torch.equal(ours, plain)


@dtypes(torch.float32, torch.float64)
def test_one_row_without_a_batch(dtype, device):
    agree([normal(7, device=device), normal(7, device=device)], device, dtype=dtype)


@pytest.mark.parametrize("outputs", [0, 1], ids=["z", "kl"])
def test_gradient_of_one_output_alone(outputs, device):
    assert_agrees(
        lambda mu, logvar: ops.rsample_kl(mu, logvar, key=key(device))[outputs],
        lambda mu, logvar: reference.rsample_kl(mu, logvar, key(device))[outputs],
        posterior(Shape((2,), 31, 10), device)[1:],
    )


@per_dimension
def test_gradcheck(per_dimension, device):
    inputs = [t.requires_grad_() for t in posterior(Shape((2,), 3, 5), device)[1:]]
    assert torch.autograd.gradcheck(
        lambda mu, logvar: ops.rsample_kl(mu, logvar, key=key(device), per_dimension=per_dimension), inputs
    )


@dtypes(*DTYPES)
def test_dtypes_and_shapes_of_the_outputs(dtype, device):
    mu = torch.zeros(2, 3, 4, dtype=dtype, device=device)
    z, kl = ops.rsample_kl(mu, mu)
    assert (z.dtype, z.shape, z.device.type) == (dtype, mu.shape, device.type)
    assert (kl.dtype, kl.shape) == (compute_dtype(dtype), mu.shape[:-1])
    kl = ops.rsample_kl(mu, mu, per_dimension=True)[1]
    assert (kl.dtype, kl.shape) == (compute_dtype(dtype), mu.shape)


@pytest.mark.parametrize("shape", [(0, 5), (3, 0), (2, 0, 4)], ids=str)
def test_nothing_to_sample(shape, device):
    mu = torch.zeros(shape, device=device, requires_grad=True)
    z, kl = ops.rsample_kl(mu, mu)
    assert z.shape == shape
    assert torch.equal(kl, torch.zeros(shape[:-1], device=device))
    (gradient,) = torch.autograd.grad(z.sum() + kl.sum(), mu)
    assert gradient.shape == shape


# Numerics --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("exponent", [-1.0, -1.1, -2.0, -4.0, -6.0])
def test_small_logvar_does_not_cancel(exponent, device):
    getcontext().prec = 50
    for sign in (1, -1):
        logvar = torch.tensor([[sign * 10.0**exponent]], device=device)
        exact = (Decimal(logvar.item()).exp() - 1 - Decimal(logvar.item())) / 2
        kl = ops.rsample_kl(torch.zeros_like(logvar), logvar, per_dimension=True)[1].item()
        assert kl == pytest.approx(float(exact), rel=1e-5, abs=0)


@dtypes(torch.float32, torch.float64)
def test_relative_accuracy_over_a_wide_range_of_logvar(dtype, device):
    """-30 to 30, every element by itself: the rule of the other tests looks at the largest only."""
    logvar = torch.linspace(-30, 30, 1200, device=device).to(dtype)[:, None].requires_grad_()
    logvar64 = logvar.detach().double().requires_grad_()
    zero = torch.zeros_like(logvar)
    z, kl = ops.rsample_kl(zero, logvar, key=key(device), per_dimension=True)
    z64, kl64 = reference.rsample_kl(zero.double(), logvar64, key(device), True)
    slope_z, slope_z64 = (
        torch.autograd.grad(t.sum(), v, retain_graph=True)[0] for t, v in ((z, logvar), (z64, logvar64))
    )
    # The noise may be near zero, where its angle decides: then the error is one of the scale.
    scale = torch.exp(0.5 * logvar64).detach()
    for ours, exact in ((z, z64), (slope_z, slope_z64)):
        error = (ours.double() - exact).abs() / (scale + exact.abs())
        assert largest(error) <= 16 * torch.finfo(dtype).eps
    torch.testing.assert_close(kl.double(), kl64, rtol=1e-5 if dtype == torch.float32 else 1e-12, atol=1e-30)
    (slope,), (slope64,) = (torch.autograd.grad(t.sum(), v) for t, v in ((kl, logvar), (kl64, logvar64)))
    # expm1 near its zero is as good as its argument.
    torch.testing.assert_close(slope.double(), slope64, rtol=64 * torch.finfo(dtype).eps, atol=1e-15)


@dtypes(torch.float32, torch.float64)
def test_gradient_of_the_kl_where_logvar_has_no_room_for_one(dtype, device):
    """(e^logvar - 1) / 2 is -1/2, however low: 1 is less than half an ulp of these."""
    logvar = torch.tensor([[-1e8, -1e20, -1e30, -math.inf]], dtype=dtype, device=device, requires_grad=True)
    kl = ops.rsample_kl(torch.zeros_like(logvar), logvar, key=key(device), per_dimension=True)[1]
    assert torch.autograd.grad(kl.sum(), logvar)[0].tolist() == [[-0.5] * 4]


@dtypes(*HALF)
@pytest.mark.parametrize("logvar", [-6.0, -10.0])
def test_backward_of_half_types_makes_the_noise_again(logvar, dtype, device):
    """z - mu, rounded to bfloat16, is off by 58 % at logvar -10: a backward that used it would be seen here."""
    mu = normal(64, 10, device=device).to(dtype)
    leaf = torch.full_like(mu, logvar, requires_grad=True)
    z, _ = ops.rsample_kl(mu, leaf, key=key(device))
    (gradient,) = torch.autograd.grad(z.sum(), leaf)
    exact = (
        0.5 * math.exp(logvar / 2) * reference.standard_normal(key(device), mu.numel(), torch.float64).view(mu.shape)
    )
    torch.testing.assert_close(gradient.double(), exact, rtol=torch.finfo(dtype).eps, atol=torch.finfo(dtype).tiny)


@nans()
@dtypes(*DTYPES)
def test_not_a_number_stays_in_its_row(dtype, nan, device):
    mu, logvar = (torch.zeros(5, 3, dtype=dtype, device=device) for _ in range(2))
    clean, _ = ops.rsample_kl(mu.clone(), logvar.clone(), key=key(device))
    mu[1, 2], logvar[3, 0] = nan.to(dtype, device), nan.to(dtype, device)
    leaves = [mu.requires_grad_(), logvar.requires_grad_()]
    z, kl = ops.rsample_kl(*leaves, key=key(device))
    bad = torch.zeros(5, 3, dtype=torch.bool, device=device)
    bad[1, 2], bad[3, 0] = True, True
    assert torch.equal(z.isnan(), bad)
    assert torch.equal(z[~bad], clean[~bad])
    assert kl.isnan().tolist() == [False, True, False, True, False]
    of_mu, of_logvar = torch.autograd.grad((z.sum(), kl.sum()), leaves)
    assert of_mu.isnan().nonzero().tolist() == [[1, 2]]
    assert of_logvar.isnan().nonzero().tolist() == [[3, 0]]


# Noise -----------------------------------------------------------------------------------------------------------


@dtypes(torch.float32, torch.float64)
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 15, 16, 17, 100_003])
def test_noise_of_the_reference(count, dtype, device):
    """To a few ulp of each value, or of 1 where the angle is near a zero of its sine."""
    expected = reference.standard_normal(key(device), count, torch.float64)
    ours = noise(count, dtype, key(device), device).double()
    error = (ours - expected).abs()
    assert float((error / expected.abs().clamp_min(1)).max()) <= 8 * torch.finfo(dtype).eps


# Keys whose first radius is the smallest or one of the largest integers, found by search: (offset, radius).
EXTREME_RADII = [(748582185, 0), (84170650, 1), (2705662944, 0xFFFFFFFD), (2**32 + 1011797837, 0xFFFFFFFF)]


@dtypes(torch.float32, torch.float64)
@pytest.mark.parametrize(("offset", "radius"), EXTREME_RADII)
def test_noise_at_the_ends_of_the_radius(offset, radius, dtype, device):
    """A uniform rounded to float32 would be 0 or 1 there: infinite noise, or none."""
    at_end = key(device, 0, offset)
    assert reference.philox(at_end, 1)[0, 0] == radius
    for count in (2, 1000):  # alone, and where whole vectors are computed
        ours = noise(count, dtype, at_end, device)[:2].double()
        expected = reference.standard_normal(at_end, 2, torch.float64)
        torch.testing.assert_close(ours, expected, rtol=32 * torch.finfo(dtype).eps, atol=0)


def test_moments(device):
    n = 1_000_000
    x = noise(n, key=key(device), device=device).double()
    centred = x - x.mean()
    variance = centred.square().mean()
    # Standard errors of the moments of n normals.
    assert abs(x.mean()) < 4 / math.sqrt(n)
    assert abs(variance - 1) < 4 * math.sqrt(2 / n)
    assert abs((centred**3).mean() / variance**1.5) < 4 * math.sqrt(6 / n)
    assert abs((centred**4).mean() / variance**2 - 3) < 4 * math.sqrt(24 / n)


@dtypes(*DTYPES)
def test_distribution(dtype, device):
    """bfloat16 rounds to steps of 1/256, which Kolmogorov and Smirnov see beyond some thousand values."""
    n = {torch.bfloat16: 2_000, torch.float16: 20_000}.get(dtype, 200_000)
    x = noise(n, dtype, key(device), device).double().cpu().numpy()
    assert scipy.stats.kstest(x, "norm").pvalue > 1e-3


def test_neighbours_are_independent(device):
    """Among them the members of a Box-Muller pair, which share their radius."""
    x = noise(400_000, key=key(device), device=device).double().cpu().view(-1, 4)
    n = len(x)
    for i in range(4):
        for j in range(i):
            a, b = x[:, i], x[:, j]
            assert abs((a * b).mean()) < 4 / math.sqrt(n)
            # For independent normals, (a^2 - 1)(b^2 - 1) has mean 0 and variance 4.
            assert abs(((a.square() - 1) * (b.square() - 1)).mean()) < 8 / math.sqrt(n)
            signs = torch.stack([(a > 0) & (b > 0), (a > 0) & (b <= 0), (a <= 0) & (b > 0), (a <= 0) & (b <= 0)])
            assert scipy.stats.chisquare(signs.sum(1).numpy()).pvalue > 1e-4


# Keys ------------------------------------------------------------------------------------------------------------


@dtypes(*DTYPES)
def test_one_key_counts_through_the_whole_tensor(dtype, device):
    flat = noise(2 * 3 * 7 * 5, dtype, key(device), device)
    zero = torch.zeros(2, 3, 7, 5, dtype=dtype, device=device)
    assert torch.equal(ops.rsample_kl(zero, zero, key=key(device))[0].flatten(), flat)


@dtypes(*DTYPES)
@pytest.mark.parametrize("key_dims", [1, 2])
def test_a_stack_with_keys_equals_its_members(dtype, key_dims, device):
    """13 x 5 elements: no problem begins at a whole counter of the flat index."""
    keys = torch.randint(-(2**63), 2**63 - 1, (*(2, 3)[:key_dims], 2)).to(device)
    inputs = [t.to(dtype) for t in posterior(Shape((2, 3), 13, 5), device)[1:]]
    leaves = [t.requires_grad_() for t in inputs]
    stack = ops.rsample_kl(*leaves, key=keys)
    stack_gradients = torch.autograd.grad([t.sum() for t in stack], leaves)
    for index in torch.cartesian_prod(*(torch.arange(n) for n in keys.shape[:-1])).view(-1, key_dims).tolist():
        index = tuple(index)
        members = [t[index].detach().requires_grad_() for t in inputs]
        alone = ops.rsample_kl(*members, key=keys[index])
        gradients = torch.autograd.grad([t.sum() for t in alone], members)
        for ours, expected in zip((*stack, *stack_gradients), (*alone, *gradients)):
            assert torch.equal(ours[index], expected)


def test_keys_matter(device):
    draws = [noise(8, key=key(device, *k), device=device) for k in ((1, 0), (0, 1), (1, 1), (2**32 + 1, 0), (1, 2**32))]
    for i, a in enumerate(draws):
        for b in draws[:i]:
            assert not (a == b).any()


def test_manual_seed_governs_the_noise(device):
    draws = []
    for _ in range(2):
        torch.manual_seed(3)
        draws.append([noise(8, device=device), noise(8, device=device)])
    assert torch.equal(draws[0][0], draws[1][0])
    assert torch.equal(draws[0][1], draws[1][1])
    assert not (draws[0][0] == draws[0][1]).any()


def test_generator(device):
    zero = torch.zeros(4, 5, device=device)
    generator = torch.Generator(device)
    default = torch.default_generator if device.type == "cpu" else torch.cuda.default_generators[device.index or 0]
    state = default.get_state()
    first, other, again = (ops.rsample_kl(zero, zero, generator=generator.manual_seed(seed))[0] for seed in (7, 8, 7))
    second = ops.rsample_kl(zero, zero, generator=generator)[0]
    assert torch.equal(first, again)
    assert not (first == other).any()
    assert not (first == second).any()
    assert torch.equal(default.get_state(), state)  # the default generator is left alone


@dtypes(torch.float16, torch.float32)
def test_a_stack_of_long_rows_equals_its_members(dtype, device):
    """Bit for bit, also where one problem alone would be cut into smaller pieces."""
    keys = torch.randint(-(2**63), 2**63 - 1, (40, 2)).to(device)
    mu, logvar = (t.to(dtype) for t in posterior(Shape((40,), 9, 1001), device)[1:])
    z, kl = ops.rsample_kl(mu, logvar, key=keys)
    for i in (0, 39):
        alone = ops.rsample_kl(mu[i], logvar[i], key=keys[i])
        assert torch.equal(z[i], alone[0])
        assert torch.equal(kl[i], alone[1])


def test_two_calls_have_different_keys(device):
    mu = normal(9, 4, device=device)
    (first, kl), (second, kl_again) = (ops.rsample_kl(mu, mu) for _ in range(2))
    assert not (first == second).any()
    assert torch.equal(kl, kl_again)


def test_kl_is_the_sum_of_its_dimensions(device):
    mu, logvar = (t.float() for t in posterior(Shape((), 31, 33), device)[1:])
    summed, single = (ops.rsample_kl(mu, logvar, key=key(device), per_dimension=p)[1] for p in (False, True))
    assert largest(summed - single.double().sum(-1)) <= 8 * ulp(largest(summed), torch.float32)
