"""aggregate_posterior against the reference, near and far from its components, with every kind of weight."""

from __future__ import annotations

import math

import pytest
import torch

from disentangle_ext import ops
from disentangle_ext.ops import reference
from tests.ops.cases import NASTY, SOME, N, Shape, dtypes, layouts, nans, normal, posterior, shapes
from tests.ops.tolerance import DTYPES, assert_agrees, compute_dtype, largest, ulp

ESTIMATORS = ("uniform", "mws", "mss", "mss_legacy")
estimators = pytest.mark.parametrize("estimator", ESTIMATORS)


def agree(inputs, estimator: str, offset: int = 0, **options) -> None:
    size = None if estimator == "uniform" else max(N, inputs[1].shape[-2])
    assert_agrees(
        lambda *tensors: ops.aggregate_posterior(*tensors, estimator=estimator, dataset_size=size, offset=offset),
        lambda *tensors: reference.aggregate_posterior(*tensors, None, estimator, size, offset),
        inputs,
        **(rounding(*inputs) | options),
    )


def agree_weighted(inputs, **options) -> None:
    assert_agrees(
        lambda z, mu, logvar, log_weight: ops.aggregate_posterior(z, mu, logvar, log_weight=log_weight),
        reference.aggregate_posterior,
        inputs,
        **(rounding(*inputs[:3]) | options),
    )


def rounding(z, mu, logvar) -> dict[str, float]:
    """The largest sum of magnitudes over a log-density that counts: that of a query under its likeliest component.

    It is on the way to the values, and its exponential to the gradients.
    """
    density = reference.normal_log_density(z[..., :, None, :], mu[..., None, :, :], logvar[..., None, :, :]).sum(-1)
    j = density.argmax(-1, keepdim=True).expand_as(z)
    mu, logvar = mu.gather(-2, j), logvar.gather(-2, j)
    terms = reference.LOG_2PI + logvar.abs() + (z - mu).square() * torch.exp(-logvar)
    size = 0.5 * largest(terms.sum(-1))
    return {"intermediate": size, "exponent": size}


def weighted(shape: Shape, device, components: int) -> list[torch.Tensor]:
    inputs = posterior(shape, device, components)
    return [*inputs, normal(*inputs[1].shape[:-1], device=device)]


def values_and_gradients(inputs, **options) -> tuple[list[torch.Tensor], tuple[torch.Tensor, ...]]:
    leaves = [t.detach().requires_grad_() for t in inputs]
    if len(leaves) == 4:
        options["log_weight"] = leaves[3]
    out = ops.aggregate_posterior(*leaves[:3], **options)
    return list(out), torch.autograd.grad(out[0].sum() + 0.5 * out[1].sum(), leaves)


# Against the reference -------------------------------------------------------------------------------------------


@estimators
@shapes(tuple(s for s in NASTY if s.batch > 1))
def test_the_batch_itself(shape, estimator, device):
    agree(posterior(shape, device), estimator)


@pytest.mark.parametrize("estimator", ["uniform", "mws"])
@shapes(tuple(s for s in NASTY if s.batch == 1))
def test_a_single_component(shape, estimator, device):
    agree(posterior(shape, device), estimator)


@shapes(NASTY)
def test_weights_given(shape, device):
    agree_weighted(weighted(shape, device, shape.batch + 3))


@estimators
@dtypes(torch.float16, torch.bfloat16, torch.float64)
@shapes(SOME)
def test_other_dtypes(shape, dtype, estimator, device):
    """The number of components differs from that of the queries."""
    agree(posterior(shape, device, shape.batch + 5), estimator, offset=3, dtype=dtype)


@dtypes(torch.float16, torch.bfloat16, torch.float64)
@shapes(SOME)
def test_weights_given_in_other_dtypes(shape, dtype, device):
    agree_weighted(weighted(shape, device, shape.batch + 3), dtype=dtype)


@dtypes(*DTYPES)
@layouts()
@shapes((Shape((), 31, 33), Shape((), 257, 10), Shape((2, 3), 31, 10)))
def test_any_layout(shape, layout, dtype, device):
    inputs = weighted(shape, device, shape.batch + 3)
    agree_weighted(
        [*inputs[:3], inputs[3]], dtype=dtype, layout=lambda t: t if t.dim() < inputs[0].dim() else layout(t)
    )
    agree(inputs[:3], "mss", 2, dtype=dtype, layout=layout)


def test_weights_of_any_layout(device):
    shape = Shape((2,), 31, 3)
    agree_weighted(
        weighted(shape, device, 20),
        layout=lambda t: t if t.dim() == 3 else torch.stack([t, t], -1)[..., 0],
    )
    z, mu, logvar, log_weight = weighted(shape, device, 20)
    agree_weighted([z, mu, logvar, log_weight[:1].expand(2, -1)])


@estimators
@pytest.mark.parametrize("offset", [0, 1, 20, 27])
def test_offsets(offset, estimator, device):
    """20 puts the last query but 7 from the end; at 27 its successor is component 0."""
    agree(posterior(Shape((2,), 13, 5), device, 40), estimator, offset)


@pytest.mark.parametrize("estimator", ["mss", "mss_legacy"])
@dtypes(torch.float32, torch.float64)
def test_queries_in_parts_equal_the_whole(estimator, dtype, device):
    inputs = [t.to(dtype) for t in posterior(Shape((), 300, 4), device)]
    z, mu, logvar = inputs
    whole = ops.aggregate_posterior(z, mu, logvar, estimator=estimator, dataset_size=N)
    for first, last in ((0, 1), (1, 140), (140, 300)):
        options = {"estimator": estimator, "dataset_size": N, "offset": first}
        for ours, expected in zip(ops.aggregate_posterior(z[first:last], mu, logvar, **options), whole):
            torch.testing.assert_close(ours, expected[first:last], rtol=1e-6, atol=1e-5)


@estimators
@pytest.mark.parametrize("components", [255, 256, 257, 1023, 1025, 2500])
def test_several_blocks_of_components(components, estimator, device):
    agree(posterior(Shape((), 30, 4), device, components), estimator, 7)


@pytest.mark.parametrize("components", [257, 1025, 4999])
@shapes((Shape((), 3, 2), Shape((), 70, 10), Shape((2,), 5, 33)))
def test_several_blocks_with_weights_given(shape, components, device):
    agree_weighted(weighted(shape, device, components))


def test_many_queries(device):
    agree(posterior(Shape((), 3000, 3), device, 5), "uniform")
    agree(posterior(Shape((), 1100, 2), device), "mss")


@estimators
@shapes((Shape((), 31, 128), Shape((), 64, 200)))
def test_a_joint_density_far_below_its_peak(shape, estimator, device):
    """In many dimensions a component's own sample lies some hundred nats below the peak."""
    agree(posterior(shape, device), estimator)


def test_a_long_sum_is_accurate(device):
    """20,000 components at nearly equal distance: errors of a plain running sum would add up."""
    z, mu, logvar = posterior(Shape((), 16, 4), device, 20_000)
    inputs = [t.float() for t in (0.1 * z, 0.1 * mu, 0.1 * logvar)]
    ours, gradients = values_and_gradients(inputs)
    exact = [t.double().requires_grad_() for t in inputs]
    joint, marginals = reference.aggregate_posterior(*exact)
    torch.testing.assert_close(ours[0].double(), joint, rtol=0, atol=4e-6)
    torch.testing.assert_close(ours[1].double(), marginals, rtol=0, atol=4e-6)
    expected = torch.autograd.grad(joint.sum() + 0.5 * marginals.sum(), exact)
    for a, b in zip(gradients, expected):
        assert largest(a.double() - b) <= 1e-5 * largest(b)


@estimators
def test_gradcheck(estimator, device):
    inputs = [t.requires_grad_() for t in posterior(Shape((2,), 3, 4), device, 5)]
    size = None if estimator == "uniform" else 50
    assert torch.autograd.gradcheck(
        lambda *tensors: ops.aggregate_posterior(*tensors, estimator=estimator, dataset_size=size, offset=1), inputs
    )


def test_gradcheck_with_weights_given(device):
    inputs = [t.requires_grad_() for t in weighted(Shape((2,), 3, 4), device, 5)]
    assert torch.autograd.gradcheck(
        lambda z, mu, logvar, log_weight: ops.aggregate_posterior(z, mu, logvar, log_weight=log_weight), inputs
    )


@pytest.mark.parametrize("output", [0, 1], ids=["joint", "marginals"])
@dtypes(torch.float32, torch.float64)
def test_gradient_of_one_output_alone(output, dtype, device):
    assert_agrees(
        lambda z, mu, logvar, log_weight: ops.aggregate_posterior(z, mu, logvar, log_weight=log_weight)[output],
        lambda *tensors: reference.aggregate_posterior(*tensors)[output],
        weighted(Shape((2,), 31, 10), device, 40),
        dtype=dtype,
    )


@pytest.mark.parametrize("wanted", range(4), ids=["z", "mu", "logvar", "log_weight"])
def test_gradient_of_one_input_alone(wanted, device):
    inputs = weighted(Shape((2,), 9, 5), device, 13)
    gradients = values_and_gradients(inputs)[1]
    leaf = inputs[wanted].detach().requires_grad_()
    z, mu, logvar, log_weight = (*inputs[:wanted], leaf, *inputs[wanted + 1 :])
    out = ops.aggregate_posterior(z, mu, logvar, log_weight=log_weight)
    (gradient,) = torch.autograd.grad(out[0].sum() + 0.5 * out[1].sum(), leaf)
    assert torch.equal(gradient, gradients[wanted])


@dtypes(*DTYPES)
def test_dtypes_and_shapes_of_the_outputs(dtype, device):
    z, mu, logvar = (t.to(dtype) for t in posterior(Shape((2, 3), 4, 5), device, 7))
    joint, marginals = ops.aggregate_posterior(z, mu, logvar)
    assert (joint.shape, joint.dtype, joint.device.type) == ((2, 3, 4), compute_dtype(dtype), device.type)
    assert (marginals.shape, marginals.dtype) == ((2, 3, 4, 5), compute_dtype(dtype))


def test_in_one_dimension_the_marginal_is_the_joint(device):
    joint, marginals = ops.aggregate_posterior(*posterior(Shape((), 31, 1), device, 9))
    torch.testing.assert_close(joint, marginals[:, 0], rtol=1e-13, atol=1e-13)


@dtypes(*DTYPES)
def test_a_stack_equals_its_members(dtype, device):
    inputs = [t.to(dtype) for t in weighted(Shape((2, 3), 13, 5), device, 40)]
    (joint, marginals), gradients = values_and_gradients(inputs)
    for i in range(2):
        for j in range(3):
            alone, alone_gradients = values_and_gradients([t[i, j] for t in inputs])
            assert torch.equal(joint[i, j], alone[0])
            assert torch.equal(marginals[i, j], alone[1])
            for ours, expected in zip(gradients, alone_gradients):
                assert torch.equal(ours[i, j], expected)


# Far from every component ----------------------------------------------------------------------------------------


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


# Weights of minus infinity, values that are not numbers, nothing at all --------------------------------------------


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
