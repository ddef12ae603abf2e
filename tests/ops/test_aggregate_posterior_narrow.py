"""aggregate_posterior with components so narrow that float32 hardly holds their scale, and with infinite variances."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from disentangle_ext import ops
from disentangle_ext.ops import reference
from tests.ops.cases import Shape, dtypes, normal, posterior
from tests.ops.components import values_and_gradients
from tests.ops.tolerance import largest, ulp

Results = tuple[tuple[Tensor, Tensor], tuple[Tensor, ...]]


def plain(inputs: list[Tensor], dtype: torch.dtype = torch.float64) -> Results:
    """Values and gradients of the reference, as `values_and_gradients` has them."""
    leaves = [t.to(dtype).requires_grad_() for t in inputs]
    joint, marginals = reference.aggregate_posterior(*leaves)
    return (joint, marginals), torch.autograd.grad(joint.sum() + 0.5 * marginals.sum(), leaves)


def assert_near(ours: Tensor, expected: Tensor, rtol: float) -> None:
    """By the largest gradient, or by 1, as large as those that come in."""
    assert ours.isfinite().all()
    assert largest(ours.double() - expected) <= rtol * max(1.0, largest(expected))


def with_a_narrow_component(logvar: float, sigmas: float, components: int, D: int, device) -> list[Tensor]:
    """The first query lies that many standard deviations from the mean of a component, which is zero."""
    z, mu, logvars = (t.float() for t in posterior(Shape((), 9, D), device, components))
    mu[components // 2], logvars[components // 2] = 0, logvar
    z[0] = sigmas * math.exp(0.5 * logvar)
    return [z, mu, logvars]


@pytest.mark.parametrize("sigmas", [0.7, 6.0, 14.0, 17.0, 20.0])
@pytest.mark.parametrize("logvar", [-60.0, -100.0, -150.0])
@pytest.mark.parametrize("components", [2, 40])
@pytest.mark.parametrize("D", [1, 3, 18])
def test_a_query_beside_a_narrow_component(D, components, logvar, sigmas, device):
    inputs = with_a_narrow_component(logvar, sigmas, components, D, device)
    ours, gradients = values_and_gradients(inputs)
    values, expected = plain(inputs)
    for a, b in zip(ours, values):
        torch.testing.assert_close(a.double(), b, rtol=4e-6, atol=4e-6)
    # Gradients by a component's places are as large as its scale: each row by itself.
    narrow = components // 2
    rows = [range(9), *2 * [range(components)]]
    for a, b, own, special in zip(gradients, expected, rows, (0, narrow, narrow)):
        others = [i for i in own if i != special]
        assert_near(a[special], b[special], 5e-5)
        assert_near(a[others], b[others], 5e-5)


@pytest.mark.parametrize("broad", [False, True], ids=["all", "but one"])
@pytest.mark.parametrize("logvar", [-60.0, -80.0])
@pytest.mark.parametrize("D", [64, 200])
def test_narrow_components_in_many_dimensions(D, logvar, broad, device):
    """Their peaks are thousands of bits high; beside them a query's distance has to keep its digits."""
    logvars = torch.full((64, D), logvar, device=device)
    if broad:
        logvars[3] = 0
    mu = normal(64, D, device=device).float() * torch.exp(0.5 * logvars)
    z = mu + normal(64, D, device=device).float() * torch.exp(0.5 * logvars)
    inputs = [z, mu, logvars]
    ours, gradients = values_and_gradients(inputs)
    (values, expected), (eager, eager_gradients) = plain(inputs), plain(inputs, torch.float32)
    for a, e, b in zip(ours, eager, values):
        assert largest(a.double() - b) <= 2 * largest(e.double() - b) + ulp(largest(b), torch.float32)
    exponent = ulp(largest(values[0]), torch.float32)
    for a, e, b in zip(gradients, eager_gradients, expected):
        assert largest(a.double() - b) <= 2 * largest(e.double() - b) + exponent * largest(b)


@pytest.mark.parametrize("sigmas", [0.7, 6.0])
@pytest.mark.parametrize("D", [3, 18])
def test_components_whose_precision_overflows_in_float64(D, sigmas, device):
    """A problem that is 2^-1000 times as large has the same responsibilities."""
    z, mu, logvars = posterior(Shape((), 9, D), device, 40)
    logvars = 0.5 * logvars - 2
    z[0] = mu[7] + sigmas * torch.exp(0.5 * logvars[7])
    ours, gradients = values_and_gradients([z * 2.0**-1000, mu * 2.0**-1000, logvars - 2000 * math.log(2)])
    (joint, marginals), expected = plain([z, mu, logvars])
    torch.testing.assert_close(ours[0], joint + 1000 * D * math.log(2), rtol=1e-13, atol=1e-12)
    torch.testing.assert_close(ours[1], marginals + 1000 * math.log(2), rtol=1e-13, atol=1e-12)
    for a, b, scale in zip(gradients, expected, (2.0**-1000, 2.0**-1000, 1.0)):
        assert_near(a * scale, b, 1e-11)


@pytest.mark.parametrize("logvar", [math.inf, 3e38, -1e30, -math.inf])
@pytest.mark.parametrize("D", [3, 18])
@dtypes(torch.float32, torch.float64)
def test_logvars_that_leave_no_density(dtype, D, logvar, device):
    z, mu, _ = (t.to(dtype) for t in posterior(Shape((), 9, D), device, 20))
    (joint, marginals), gradients = values_and_gradients([z, mu, torch.full_like(mu, logvar)])
    if abs(logvar) == math.inf or logvar < 0:
        assert torch.isneginf(joint).all()
        assert torch.isneginf(marginals).all()
        for gradient in gradients:
            assert torch.equal(gradient, torch.zeros_like(gradient))
    else:
        torch.testing.assert_close(marginals, torch.full_like(marginals, -0.5 * logvar))
        for gradient in gradients:
            assert gradient.isfinite().all()


@pytest.mark.parametrize("bits", [127.6, 127.9, 128.0, 128.1, 128.4])
def test_places_of_a_group_that_no_query_takes(bits, device):
    """Queries go in fours; what an empty place computes may leave the range, and must leave no trace."""
    mu = torch.tensor([[0.0, 0.0], [1.0, 1.0]], device=device)
    logvars = torch.tensor([2 * [-40 - bits * math.log(2)], [0.0, 0.0]], device=device)
    inputs = [torch.zeros(1, 2, device=device), mu, logvars]
    _, gradients = values_and_gradients(inputs)
    for a, b in zip(gradients, plain(inputs)[1]):
        torch.testing.assert_close(a.double(), b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("log_weight", [-70.0, -100.0, -140.0])
def test_a_component_of_little_weight_that_is_alone(log_weight, device):
    """e^-100 is nothing in float32, but all that there is where the query lies."""
    mu = torch.tensor([[0.0], [30.0], [40.0]], device=device)
    weight = torch.tensor([log_weight, 0.0, 0.0], device=device)
    inputs = [torch.full((2, 1), 0.1, device=device), mu, torch.zeros_like(mu), weight]
    _, gradients = values_and_gradients(inputs)
    for a, b in zip(gradients, plain(inputs)[1]):
        torch.testing.assert_close(a.double(), b, rtol=1e-5, atol=1e-6)


def test_a_query_at_infinity_beside_a_component_without_width(device):
    """Its densities are zero, whatever the distance is multiplied by."""
    z = torch.tensor([[math.inf], [-math.inf], [0.3]], device=device)
    logvars = torch.tensor([[-1e30], [0.0], [0.3]], device=device)
    (joint, _), gradients = values_and_gradients([z, torch.zeros(3, 1, device=device), logvars])
    assert joint.isneginf().tolist() == [True, True, False]
    for gradient in gradients:
        assert gradient.isfinite().all()
    assert gradients[0].count_nonzero() == 1


@pytest.mark.parametrize(("logvar", "z"), [(0.0, 46524.421875), (-20.0, 2.39), (-19.0, 2.0)])
def test_a_query_that_is_left_to_float64(logvar, z, device):
    """Among others near it: at some of them float32 rounds the logarithm of their share of 1 to that of infinity."""
    z = torch.linspace(z, 1.3 * z, 300, device=device)[:, None]
    arguments = [z, torch.zeros(1, 1, device=device), torch.full((1, 1), logvar, device=device)]
    ours, gradients = values_and_gradients(arguments)
    expected_values, expected = plain([each.double() for each in arguments])
    for a, b in zip((*ours, *gradients), (*expected_values, *expected)):
        assert_near(a.double(), b, 1e-4)


@pytest.mark.parametrize("scale", [1e6, 1e9, 1e14, 1e20])
def test_no_component_has_more_than_the_whole_of_a_query(scale, device):
    """However far the query is: of its only component the gradient by z is at most their distance."""
    generator = torch.Generator().manual_seed(0)
    z = scale * torch.rand(500, 1, dtype=torch.float64, generator=generator).to(device)
    zero = torch.zeros(1, 1, dtype=torch.float64, device=device)
    _, (by_z, *others) = values_and_gradients([z, zero, zero])
    assert (by_z.abs() <= 1.5 * z * (1 + 1e-6)).all()  # by the joint density, and half of that by the marginal one
    assert all(each.isfinite().all() for each in others)


def test_gradients_that_are_not_asked_for_are_zero(device):
    """log q(z|x) of a posterior without width, where only the total correlation and log p(z) are trained."""
    z, mu, logvars = (t.float() for t in posterior(Shape((), 9, 3), device))
    own = [z, z.clone(), torch.full_like(z, -200.0)]
    leaves = [t.requires_grad_() for t in own]
    out = ops.elbo_decomposition(*leaves, dataset_size=100, estimator="uniform", components=(mu, logvars))
    gradients = torch.autograd.grad(out.total_correlation + out.log_pz, leaves)
    assert gradients[0].isfinite().all()
    for gradient in gradients[1:]:
        assert torch.equal(gradient, torch.zeros_like(gradient))
