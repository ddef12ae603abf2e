"""aggregate_posterior against the reference, with every kind of weight."""

from __future__ import annotations

import pytest
import torch

from disentangle_ext import ops
from disentangle_ext.ops import reference
from tests.ops.cases import LARGE, QUICK, SOME, N, Shape, dtypes, layouts, posterior, shapes
from tests.ops.components import estimators, values_and_gradients, weighted
from tests.ops.tolerance import DTYPES, assert_agrees, compute_dtype, largest


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


# Against the reference -------------------------------------------------------------------------------------------


@estimators
@shapes(tuple(s for s in QUICK if s.batch > 1))
def test_the_batch_itself(shape, estimator, device):
    agree(posterior(shape, device), estimator)


@pytest.mark.parametrize("estimator", ["uniform", "mws"])
@shapes(tuple(s for s in QUICK if s.batch == 1))
def test_a_single_component(shape, estimator, device):
    agree(posterior(shape, device), estimator)


@pytest.mark.parametrize("estimator", ["uniform", "mss"])
@shapes(LARGE)
def test_large_shapes(shape, estimator, device):
    agree(posterior(shape, device), estimator)


@shapes((*QUICK, LARGE[1]))
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
@pytest.mark.parametrize("components", [255, 256, 257, 1023, 1025])
def test_several_blocks_of_components(components, estimator, device):
    agree(posterior(Shape((), 30, 4), device, components), estimator, 7)


@pytest.mark.parametrize("components", [257, 1025, 4999])
@shapes((Shape((), 3, 2), Shape((), 70, 5), Shape((2,), 5, 33)))
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
