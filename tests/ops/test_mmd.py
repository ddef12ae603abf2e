"""mmd against the reference: values, gradients, numerics."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from disentangle_ext import ops
from disentangle_ext.ops import reference
from tests.ops.cases import LARGE, NASTY, QUICK, Shape, bandwidths, dtypes, layouts, nans, normal, shapes
from tests.ops.samples import KERNELS, estimators, exponent_of, kernels, samples
from tests.ops.tolerance import DTYPES, assert_agrees, compute_dtype, largest

widths = pytest.mark.parametrize("h", [(1.3,), (0.5, 2.0, 7.0)], ids=["one", "several"])


def settings(kernel: str, h: tuple[float, ...], estimator: str) -> dict:
    h = {} if kernel == "energy" else {"bandwidth": h[0] if len(h) == 1 else h}
    return {"kernel": kernel, "estimator": estimator, **exponent_of(kernel), **h}


def agree(inputs, device, kernel="rbf", h=(1.3,), estimator="unbiased", **options) -> None:
    widths = bandwidths(*(h if kernel != "energy" else (1.0,)), device=device)
    size = largest(*inputs) * math.sqrt(2 * inputs[0].shape[-1]) if kernel == "energy" else len(h)
    assert_agrees(
        lambda x, y: ops.mmd(x, y, **settings(kernel, h, estimator)),
        lambda x, y: reference.mmd(x, y, widths, kernel, 1.7, estimator),
        inputs,
        **({"intermediate": size} | options),
    )


# Against the reference -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kernel", "estimator"),
    [
        ("rbf", "unbiased"),
        ("rbf", "biased"),
        *zip(KERNELS[1:], ["biased", "unbiased", "biased", "unbiased"], strict=True),
    ],
)
@shapes(QUICK)
def test_all_shapes(shape, estimator, kernel, device):
    if estimator == "unbiased" and shape.batch == 1:
        shape = shape._replace(batch=2)
    agree(samples(shape, device), device, kernel, estimator=estimator)


@pytest.mark.usefixtures("compiled")
@kernels
@pytest.mark.parametrize("D", [10, 40])
@dtypes(torch.float32, torch.float64)
def test_runs_are_bitwise_equal(dtype, D, kernel, device):
    leaves = [t.to(dtype).requires_grad_() for t in samples(Shape((), 300, D), device)]

    def run() -> list[Tensor]:
        value = ops.mmd(*leaves, kernel=kernel)
        return [value.detach(), *torch.autograd.grad(value, leaves)]

    first = run()
    for _ in range(3):
        assert all(torch.equal(a, b) for a, b in zip(first, run()))


@pytest.mark.parametrize(("kernel", "estimator"), [("imq", "biased"), ("laplacian", "unbiased")])
@shapes(LARGE)
def test_large_shapes(shape, kernel, estimator, device):
    agree(samples(shape, device), device, kernel, estimator=estimator)


@kernels
@shapes(tuple(s for s in NASTY if s.batch % 2 == 0))
def test_linear_of_all_shapes(shape, kernel, device):
    agree(samples(shape, device, equal=True), device, kernel, estimator="linear")


@kernels
@pytest.mark.parametrize(
    ("estimator", "h"), [("unbiased", (0.5, 2.0, 7.0)), ("biased", (1.3,)), ("linear", (0.5, 2.0, 7.0))], ids=str
)
@dtypes(*DTYPES)
@shapes((Shape((), 2, 128), Shape((), 256, 3), Shape((2, 3), 30, 10)))
def test_all_dtypes(shape, dtype, h, estimator, kernel, device):
    agree(samples(shape, device, equal=estimator == "linear"), device, kernel, h, estimator, dtype=dtype)


@kernels
@estimators
@layouts()
@dtypes(torch.bfloat16, torch.float32, torch.float64)
def test_any_layout(dtype, layout, estimator, kernel, device):
    inputs = samples(Shape((2,), 30, 10), device, equal=estimator == "linear")
    agree(inputs, device, kernel, (0.7, 3.0), estimator, dtype=dtype, layout=layout)


@pytest.mark.parametrize("more", [-30, 500])
@kernels
def test_samples_of_different_size(kernel, more, device):
    agree(samples(Shape((), 33, 2), device, more=more), device, kernel, estimator="biased")
    agree(samples(Shape((), 533, 2), device, more=-more), device, kernel)


def test_large_samples(device):
    agree(samples(Shape((), 1033, 1), device, more=300), device)


@kernels
@estimators
@widths
def test_gradcheck(h, estimator, kernel, device):
    inputs = [t.requires_grad_() for t in samples(Shape((2,), 4, 3), device, equal=estimator == "linear")]
    assert torch.autograd.gradcheck(lambda x, y: ops.mmd(x, y, **settings(kernel, h, estimator)), inputs)


@kernels
@pytest.mark.parametrize("wanted", [0, 1], ids=["x", "y"])
def test_gradient_of_one_sample_alone(wanted, kernel, device):
    inputs = samples(Shape((2,), 9, 3), device)
    leaves = [t.clone().requires_grad_() for t in inputs]
    both = torch.autograd.grad(ops.mmd(*leaves, kernel=kernel).sum(), leaves)
    inputs[wanted] = inputs[wanted].clone().requires_grad_()
    value = ops.mmd(*inputs, kernel=kernel)
    (gradient,) = torch.autograd.grad(value.sum(), inputs[wanted])
    torch.testing.assert_close(gradient, both[wanted], rtol=1e-12, atol=1e-14)
    with torch.no_grad():
        torch.testing.assert_close(ops.mmd(*inputs, kernel=kernel), value.detach(), rtol=1e-12, atol=1e-14)


@dtypes(*DTYPES)
@estimators
@pytest.mark.parametrize("leading", [(), (2, 3)], ids=str)
def test_dtypes_and_shapes_of_the_output(leading, estimator, dtype, device):
    """Half inputs give float32, gradients have the dtype of their input."""
    x, y = (t.to(dtype).requires_grad_() for t in samples(Shape(leading, 6, 3), device, equal=True))
    out = ops.mmd(x, y, estimator=estimator)
    assert (out.shape, out.dtype, out.device.type) == (leading, compute_dtype(dtype), device.type)
    for gradient, like in zip(torch.autograd.grad(out.sum(), (x, y)), (x, y)):
        assert (gradient.shape, gradient.dtype) == (like.shape, dtype)


@kernels
@estimators
@dtypes(torch.bfloat16, torch.float32, torch.float64)
def test_a_stack_equals_its_members(dtype, estimator, kernel, device):
    leaves = [t.to(dtype).requires_grad_() for t in samples(Shape((2, 3), 8, 5), device, equal=True)]
    out = ops.mmd(*leaves, kernel=kernel, estimator=estimator)
    gradients = torch.autograd.grad(out.sum(), leaves)
    for i, j in itertools.product(range(2), range(3)):
        members = [t[i, j].detach().requires_grad_() for t in leaves]
        alone = ops.mmd(*members, kernel=kernel, estimator=estimator)
        expected = torch.autograd.grad(alone, members)
        if estimator == "linear":  # plain PyTorch, which may sum a stack in another order
            torch.testing.assert_close(out[i, j], alone)
        else:
            assert torch.equal(out[i, j], alone)
            for a, b in zip(gradients, expected):
                assert torch.equal(a[i, j], b)


# Numerics --------------------------------------------------------------------------------------------------------


@kernels
def test_a_small_difference_keeps_its_digits(kernel, device):
    """MMD^2 of samples far from the origin that differ by little: its three means agree in most digits."""
    x = (normal(500, 4, device=device) + 100).float()
    y = x + 1e-2
    ours = ops.mmd(x, y, kernel=kernel, estimator="biased")
    exact = reference.mmd(x.double(), y.double(), bandwidths(1.0, device=device), kernel, 1.0, "biased")
    assert float(exact) < 1e-2
    assert abs(float(ours) - float(exact)) < 2e-7


@kernels
@pytest.mark.parametrize("estimator", ["biased", "linear"])
@dtypes(torch.float32, torch.float64)
def test_equal_points(dtype, estimator, kernel, device):
    x = normal(1, 3, device=device).to(dtype).expand(6, 3)
    leaves = [x.clone().requires_grad_(), x.clone().requires_grad_()]
    out = ops.mmd(*leaves, kernel=kernel, estimator=estimator)
    assert float(out.detach()) == pytest.approx(0, abs=1e-6)
    for gradient in torch.autograd.grad(out, leaves):
        assert torch.equal(gradient, torch.zeros_like(gradient))


@kernels
@dtypes(*DTYPES)
def test_some_equal_points(dtype, kernel, device):
    """Within a sample and across: no NaN, and the gradients of the other pairs."""
    x, y = samples(Shape((), 9, 3), device)
    x[3], y[5], y[6] = x[1], x[1], x[2]
    agree([x, y], device, kernel, dtype=dtype)


@kernels
def test_the_same_sample_twice(kernel, device):
    x = normal(40, 3, device=device)
    assert float(ops.mmd(x, x, kernel=kernel, estimator="biased")) == pytest.approx(0, abs=1e-14)


@pytest.mark.parametrize("kernel", KERNELS[:4])
@pytest.mark.parametrize("far", [1e6, 1e25])
def test_far_samples_do_not_overflow(far, kernel, device):
    """The squared distance itself does, at 1e25."""
    x = normal(20, 3, device=device).float().requires_grad_()
    y = normal(20, 3, device=device).float() + far
    out = ops.mmd(x, y, kernel=kernel)
    alone = reference.kernel_of(
        reference.squared_distance(x.double(), x.double()), kernel, bandwidths(1.0, device=device), 1.0
    )
    assert float(alone.detach().sum() - 20) / 380 - 1e-6 <= float(out.detach()) <= 2
    assert torch.autograd.grad(out, x)[0].isfinite().all()


def test_unbiased_under_the_null(device):
    """The mean over many samples is zero within its error; the biased estimate is far above."""
    x, y = normal(2000, 10, 2, device=device), normal(2000, 10, 2, device=device)
    unbiased, biased = (ops.mmd(x, y, estimator=e) for e in ("unbiased", "biased"))
    error = float(unbiased.std()) / 2000**0.5
    assert abs(float(unbiased.mean())) < 4 * error
    assert float(biased.mean()) > 20 * error


@pytest.mark.parametrize("exponent", [1e3, 1e6, 1e9])
def test_rational_quadratic_of_a_large_exponent_is_rbf(exponent, device):
    x, y = (torch.randn(8, 3, device=device) for _ in range(2))
    rbf = ops.mmd(x, y)
    for op in (ops.mmd, lambda x, y, **_: reference.mmd(x, y, bandwidths(1.0, device=device), "rq", exponent)):
        assert float(op(x, y, kernel="rq", exponent=exponent)) == pytest.approx(float(rbf), abs=20 / exponent + 1e-6)


@nans()
@kernels
@estimators
@dtypes(*DTYPES)
def test_not_a_number(dtype, estimator, kernel, nan, device):
    """Its row has no gradient that is a number, and the value is none."""
    for D in (3, 20):
        x, y = (t.to(dtype) for t in samples(Shape((), 8, D), device, equal=True))
        x[5, 1] = nan.to(dtype, device)
        value = ops.mmd(x.requires_grad_(), y, kernel=kernel, estimator=estimator)
        (gradient,) = torch.autograd.grad(value, x)
        assert value.isnan()
        assert gradient[5, 1].isnan()
