"""aggregate_posterior far from its components, and with weights of minus infinity, NaNs and nothing at all."""

from __future__ import annotations

import math

import pytest
import torch

from disentangle_ext import ops
from disentangle_ext.ops import reference
from tests.ops.cases import N, Shape, dtypes, nans, normal, posterior
from tests.ops.components import estimators, values_and_gradients, weighted
from tests.ops.tolerance import DTYPES, largest, ulp


def far_away(kind: str, distance: float, device) -> list[torch.Tensor]:
    z, mu, logvar = (t.float() for t in posterior(Shape((), 20, 5), device))
    if kind == "all dimensions":
        z = z + distance * torch.exp(0.5 * logvar)
    elif kind == "one dimension":
        z[:, 2] += distance
    else:  # some rows only
        z[::3] -= distance
    return [z, mu, logvar]


@estimators
@pytest.mark.parametrize("distance", [30.0, 1e4])
@pytest.mark.parametrize("kind", ["all dimensions", "one dimension", "some rows"])
def test_queries_far_from_every_component(kind, distance, estimator, device):
    inputs = far_away(kind, distance, device)
    size = None if estimator == "uniform" else N
    ours, gradients = values_and_gradients(inputs, estimator=estimator, dataset_size=size)
    exact = [t.double().requires_grad_() for t in inputs]
    joint, marginals = reference.aggregate_posterior(*exact, None, estimator, size)
    # Values are d2 / 2: their relative error is that of the squared distance, whose ratio to the spread is 1e8.
    torch.testing.assert_close(ours[0].double(), joint, rtol=2e-6, atol=1e-5)
    torch.testing.assert_close(ours[1].double(), marginals, rtol=2e-6, atol=1e-5)
    for gradient in gradients:
        assert gradient.isfinite().all()
    # One component holds all of the weight in a far row, or two that float32 cannot tell apart: in double, all agree.
    ours64, gradients64 = values_and_gradients(exact, estimator=estimator, dataset_size=size)
    expected = torch.autograd.grad(joint.sum() + 0.5 * marginals.sum(), exact)
    torch.testing.assert_close(ours64[0], joint, rtol=1e-13, atol=1e-12)
    for a, b in zip(gradients64, expected):
        assert largest(a - b) <= 1e-6 * largest(b)


@dtypes(torch.float32, torch.float64)
def test_far_rows_with_weights_given(dtype, device):
    inputs = [t.to(dtype) for t in (*far_away("some rows", 1e4, device), normal(20, device=device, scale=50))]
    ours, gradients = values_and_gradients(inputs)
    joint, marginals = reference.aggregate_posterior(*(t.double() for t in inputs))
    torch.testing.assert_close(ours[0].double(), joint, rtol=2e-6, atol=1e-5)
    torch.testing.assert_close(ours[1].double(), marginals, rtol=2e-6, atol=1e-5)
    for gradient in gradients:
        assert gradient.isfinite().all()
    # Responsibilities are at most 1, so a component's gradient is at most sum_i (g_i + sum_d h_id).
    assert float(gradients[3].max()) <= 1.001 * (20 + 0.5 * 20 * 5)


@estimators
@pytest.mark.parametrize("distance", [30.0, 1e3, 1e4])
@pytest.mark.parametrize("kind", ["all dimensions", "one dimension", "some rows"])
def test_gradients_far_from_every_component_have_the_right_size(kind, distance, estimator, device):
    """Responsibilities come from differences of logarithms as large as 1e8, yet none may exceed 1."""
    inputs = far_away(kind, distance, device)
    size = None if estimator == "uniform" else N
    _, gradients = values_and_gradients(inputs, estimator=estimator, dataset_size=size)
    exact = [t.double().requires_grad_() for t in inputs]
    joint, marginals = reference.aggregate_posterior(*exact, None, estimator, size)
    for a, b in zip(gradients, torch.autograd.grad(joint.sum() + 0.5 * marginals.sum(), exact)):
        assert largest(a.double() - b) <= 1e-5 * largest(b)


@pytest.mark.parametrize("distance", [100.0, 1e3, 1e4])
def test_far_gradients_are_as_good_as_those_of_plain_pytorch(distance, device):
    """The tolerance rule without its allowance for the exponent: plain float32 stays within 1e-5 at any distance."""
    inputs = far_away("all dimensions", distance, device)

    def plain(dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
        leaves = [t.to(dtype).requires_grad_() for t in inputs]
        joint, marginals = reference.aggregate_posterior(*leaves)
        return torch.autograd.grad(joint.sum() + 0.5 * marginals.sum(), leaves)

    _, ours = values_and_gradients(inputs)
    for a, eager, exact in zip(ours, plain(torch.float32), plain(torch.float64)):
        allowed = 2 * largest(eager.double() - exact) + 8 * ulp(largest(exact), torch.float32)
        assert largest(a.double() - exact) <= allowed


@pytest.mark.parametrize("logvar", [-30.0, -12.0, 12.0, 30.0])
def test_extreme_variances(logvar, device):
    z, mu, _ = (t.float() for t in posterior(Shape((), 20, 3), device))
    z = mu + math.exp(logvar / 2) * torch.ones_like(z)
    inputs = [z, mu, torch.full_like(mu, logvar)]
    ours, gradients = values_and_gradients(inputs)
    joint, marginals = reference.aggregate_posterior(*(t.double() for t in inputs))
    torch.testing.assert_close(ours[0].double(), joint, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(ours[1].double(), marginals, rtol=1e-5, atol=1e-4)
    for gradient in gradients:
        assert gradient.isfinite().all()


@dtypes(*DTYPES)
@pytest.mark.parametrize("components", [4, 300])
def test_no_component_at_all(components, dtype, device):
    z, mu, logvar = (t.to(dtype) for t in posterior(Shape((), 7, 3), device, components))
    log_weight = torch.full((components,), -math.inf, dtype=dtype, device=device)
    (joint, marginals), gradients = values_and_gradients([z, mu, logvar, log_weight])
    assert torch.isneginf(joint).all()
    assert torch.isneginf(marginals).all()
    for gradient in gradients:
        assert torch.equal(gradient, torch.zeros_like(gradient))


@pytest.mark.parametrize("components", [7, 300])
@dtypes(torch.float32, torch.float64)
def test_components_without_weight_are_ignored(components, dtype, device):
    inputs = [t.to(dtype) for t in weighted(Shape((), 9, 3), device, components)]
    without = torch.arange(components, device=device) % 3 == 0
    inputs[1][without] = 1e3  # it does not matter where they are
    inputs[3][without] = -math.inf
    ours, gradients = values_and_gradients(inputs)
    kept = [inputs[0], *(t[~without] for t in inputs[1:])]
    expected, kept_gradients = values_and_gradients(kept)
    tolerance = {"rtol": 1e-5, "atol": 2e-5} if dtype == torch.float32 else {"rtol": 1e-12, "atol": 1e-12}
    for a, b in zip(ours, expected):
        torch.testing.assert_close(a, b, **tolerance)
    torch.testing.assert_close(gradients[0], kept_gradients[0], **tolerance)
    for a, b in zip(gradients[1:], kept_gradients[1:]):
        torch.testing.assert_close(a[~without], b, **tolerance)
        assert largest(a[without]) <= 1e10 * torch.finfo(dtype).tiny  # the smallest exponential, times d^2


def test_one_problem_without_components(device):
    inputs = weighted(Shape((2,), 5, 3), device, 6)
    inputs[3][1] = -math.inf
    (joint, _), gradients = values_and_gradients(inputs)
    assert joint[0].isfinite().all()
    assert torch.isneginf(joint[1]).all()
    for gradient in gradients:
        assert gradient[0].abs().sum() > 0
        assert torch.equal(gradient[1], torch.zeros_like(gradient[1]))


@nans()
@estimators
@dtypes(*DTYPES)
def test_not_a_number_stays_in_its_row(dtype, estimator, nan, device):
    inputs = [t.to(dtype) for t in posterior(Shape((), 40, 3), device)]
    options = {"estimator": estimator, "dataset_size": None if estimator == "uniform" else N}
    clean = ops.aggregate_posterior(*inputs, **options)
    inputs[0][7, 1] = nan.to(dtype, device)
    joint, marginals = ops.aggregate_posterior(*inputs, **options)
    bad = torch.arange(40, device=device) == 7
    assert torch.equal(joint.isnan(), bad)
    assert torch.equal(joint[~bad], clean[0][~bad])
    assert marginals.isnan().nonzero().tolist() == [[7, 1]]
    assert torch.equal(marginals[~bad], clean[1][~bad])
    gradients = values_and_gradients(inputs, **options)[1]
    assert gradients[0][7, 1].isnan()
    assert gradients[0][~bad].isfinite().all()


@nans()
@dtypes(*DTYPES)
@pytest.mark.parametrize("D", [3, 18])
def test_a_component_that_is_not_a_number_concerns_every_query(D, dtype, nan, device):
    for argument in (1, 2):
        inputs = [t.to(dtype) for t in posterior(Shape((), 9, D), device)]
        inputs[argument][5, 1] = nan.to(dtype, device)
        (joint, marginals), gradients = values_and_gradients(inputs)
        assert joint.isnan().all()
        assert marginals.isnan().all(0).tolist() == [d == 1 for d in range(D)]
        assert gradients[0].isnan().all()
    inputs = [t.to(dtype) for t in weighted(Shape((), 9, D), device, 9)]
    inputs[3][5] = nan.to(dtype, device)
    for out in values_and_gradients(inputs)[0]:
        assert out.isnan().all()


@pytest.mark.parametrize("shape", [(0, 3), (2, 0, 3), (0, 4, 3)], ids=str)
def test_no_queries(shape, device):
    z = torch.zeros(shape, device=device)
    mu = normal(*shape[:-2], 5, 3, device=device).float()
    (joint, marginals), gradients = values_and_gradients([z, mu, mu])
    assert joint.shape == shape[:-1]
    assert marginals.shape == shape
    for gradient, like in zip(gradients, (z, mu, mu)):
        assert torch.equal(gradient, torch.zeros_like(like))


def test_no_components(device):
    """Without components the density is zero, as the reference says."""
    z, nothing = torch.zeros(4, 3, device=device), torch.zeros(0, 3, device=device)
    (joint, marginals), gradients = values_and_gradients([z, nothing, nothing])
    assert torch.isneginf(joint).all()
    assert torch.isneginf(marginals).all()
    assert torch.equal(gradients[0], torch.zeros_like(z))


@dtypes(torch.float32, torch.float64)
def test_no_dimensions(dtype, device):
    """Every density is one; what is left are the weights."""
    z, mu = torch.zeros(4, 0, dtype=dtype, device=device), torch.zeros(7, 0, dtype=dtype, device=device)
    weight = normal(7, device=device).to(dtype)
    (joint, marginals), gradients = values_and_gradients([z, mu, mu, weight])
    torch.testing.assert_close(joint, weight.logsumexp(-1).expand(4))
    assert marginals.shape == (4, 0)
    assert [g.shape for g in gradients] == [z.shape, mu.shape, mu.shape, weight.shape]
    for field in ops.elbo_decomposition(mu, mu, mu, dataset_size=N):
        assert field.isfinite()


@pytest.mark.parametrize("components", [16, 20])
@pytest.mark.parametrize("D", [3, 18])
@dtypes(torch.float32, torch.float64)
def test_a_query_at_infinity(components, D, dtype, device):
    """Its densities are zero and have no gradients; those of the other queries are as without it."""
    mu, near = normal(components, D, device=device).to(dtype), normal(2, D, device=device).to(dtype)
    z = torch.cat([near, torch.full((2, D), math.inf, dtype=dtype, device=device)])
    (joint, marginals), gradients = values_and_gradients([z, mu, torch.zeros_like(mu)])
    assert torch.isneginf(joint[2:]).all()
    assert torch.isneginf(marginals[2:]).all()
    expected, expected_gradients = values_and_gradients([near, mu, torch.zeros_like(mu)])
    for a, b in zip((joint[:2], marginals[:2], gradients[0][:2], *gradients[1:]), (*expected, *expected_gradients)):
        torch.testing.assert_close(a, b)
    assert torch.equal(gradients[0][2:], torch.zeros_like(near))


def test_a_query_whose_squared_distance_overflows(device):
    """1e25 squared is infinite in float32: every density is zero, and so are the gradients."""
    mu = normal(20, 3, device=device).float()
    (joint, marginals), gradients = values_and_gradients(
        [torch.full((2, 3), 1e25, device=device), mu, torch.zeros_like(mu)]
    )
    assert torch.isneginf(joint).all()
    assert torch.isneginf(marginals).all()
    for gradient in gradients:
        assert torch.equal(gradient, torch.zeros_like(gradient))


def with_one_logvar(value: float, components: int, D: int, dtype: torch.dtype, device) -> list[torch.Tensor]:
    """A problem of which one component is so narrow or so broad in one dimension that its density is zero."""
    inputs = [t.to(dtype) for t in posterior(Shape((), 9, D), device, components)]
    inputs[2][components // 2, D // 2] = value
    return inputs


@pytest.mark.parametrize("value", [1e30, 1e4, -90.0, -160.0, -800.0, -2000.0, -1e30, -1e38])
@pytest.mark.parametrize("components", [20, 600])
@pytest.mark.parametrize("D", [1, 3, 18])
@dtypes(torch.float32, torch.float64)
def test_one_extreme_logvar_concerns_no_other_component(value, components, D, dtype, device):
    inputs = with_one_logvar(value, components, D, dtype, device)
    ours, gradients = values_and_gradients(inputs)
    exact = [t.double() for t in inputs]
    exact[2].clamp_(-70, 1e6)  # whose density is zero as well, and plain PyTorch has gradients for it
    exact = [t.requires_grad_() for t in exact]
    joint, marginals = reference.aggregate_posterior(*exact)
    rtol = 4e-6 if dtype == torch.float32 else 1e-13
    torch.testing.assert_close(ours[0].double(), joint, rtol=rtol, atol=rtol)
    torch.testing.assert_close(ours[1].double(), marginals, rtol=rtol, atol=rtol)
    for a, b in zip(gradients, torch.autograd.grad(joint.sum() + 0.5 * marginals.sum(), exact)):
        assert largest(a.double() - b) <= 4 * rtol * largest(b)


@pytest.mark.parametrize("D", [128, 1000, 10000])
def test_gradients_in_many_dimensions(D, device):
    """Logarithms of thousands of nats, of which the responsibilities are the differences."""
    inputs = [torch.randn(4, D, device=device) for _ in range(3)]
    _, gradients = values_and_gradients(inputs)
    exact = [t.double().requires_grad_() for t in inputs]
    joint, marginals = reference.aggregate_posterior(*exact)
    for a, b in zip(gradients, torch.autograd.grad(joint.sum() + 0.5 * marginals.sum(), exact)):
        assert largest(a.double() - b) <= 1e-6 * largest(b)


def test_gradients_of_components_with_many_queries():
    """Equal queries: whatever a sum of so many terms rounds away, it rounds the same way each time."""
    queries, D = 1 << 16, 2
    z, mu, logvar, log_weight = normal(1, D), 0.5 * normal(16, D), 0.3 * normal(16, D), normal(16)

    def gradients(dtype):
        weighted = [t.float().to(dtype).requires_grad_() for t in (z, mu, logvar, log_weight)]
        out = ops.aggregate_posterior(weighted[0].expand(queries, D), *weighted[1:3], log_weight=weighted[3])
        return torch.autograd.grad(out, weighted[1:], [torch.full_like(t, 0.1) for t in out])

    for ours, exact in zip(gradients(torch.float32), gradients(torch.float64)):
        assert (ours - exact).abs().max() < 1e-5 * exact.abs().max()
