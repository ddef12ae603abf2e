"""elbo_decomposition of an empty batch, of NaNs and of extreme posteriors."""

from __future__ import annotations

import math

import pytest
import torch

from disentangle_ext import ops
from disentangle_ext.ops import reference
from tests.ops.cases import N, Shape, dtypes, nans, normal, posterior
from tests.ops.components import gradients_of, with_components
from tests.ops.tolerance import DTYPES


@pytest.mark.parametrize("estimator", ["uniform", "mws"])
@pytest.mark.parametrize("given", [False, True], ids=["batch", "components"])
@pytest.mark.parametrize("leading", [(), (2,)], ids=str)
def test_an_empty_batch(estimator, given, leading, device):
    leaves = [torch.zeros(*leading, 0, 3, device=device, requires_grad=True) for _ in range(3)]
    components = [normal(*leading, 5, 3, device=device).float().requires_grad_() for _ in range(2)] if given else None
    out = ops.elbo_decomposition(*leaves, dataset_size=N, estimator=estimator, components=components, reduction="none")
    for field in out:
        assert field.shape == (*leading, 0)
    for gradient in gradients_of(out, [*leaves, *(components or ())]):
        assert not gradient.any()


@nans()
@dtypes(*DTYPES)
def test_not_a_number_stays_in_its_row(dtype, nan, device):
    z, mu, logvar = (t.to(dtype) for t in posterior(Shape((), 12, 3), device))
    clean = ops.elbo_decomposition(z, mu, logvar, dataset_size=N, reduction="none")
    z[5, 1] = nan.to(dtype, device)
    out = ops.elbo_decomposition(z, mu, logvar, dataset_size=N, reduction="none")
    bad = torch.arange(12, device=device) == 5
    for ours, expected in zip(out, clean):
        assert torch.equal(ours.isnan(), bad)
        assert torch.equal(ours[~bad], expected[~bad])
    leaves = [t.requires_grad_() for t in (z, mu, logvar)]
    (gradient,) = torch.autograd.grad(ops.total_correlation(*leaves, dataset_size=N), leaves[:1])
    assert gradient[5, 1].isnan()
    assert gradient[~bad].isfinite().all()


@nans()
@dtypes(*DTYPES)
def test_a_posterior_that_is_not_a_number_leaves_no_field_finite(dtype, nan, device):
    """A run that diverged must not be given a total correlation."""
    for argument in (1, 2):
        inputs = [t.to(dtype) for t in posterior(Shape((), 12, 3), device)]
        inputs[argument][5, 1] = nan.to(dtype, device)
        for name, field in ops.elbo_decomposition(*inputs, dataset_size=N)._asdict().items():
            assert field.isnan() or name == "log_pz"


def test_mutual_information_is_at_most_log_n(device):
    """For uniform and mss weights, at any width of the posteriors."""
    for scale in (-8.0, -3.0, 0.0):
        z, mu, logvar = (t.float() for t in posterior(Shape((), 64, 5), device))
        logvar = logvar + scale
        z = mu + torch.exp(0.5 * logvar) * (z - mu)
        for estimator, bound in (("uniform", 64), ("mss", N)):
            out = ops.elbo_decomposition(z, mu, logvar, dataset_size=N, estimator=estimator, reduction="none")
            assert float(out.mutual_information.max()) <= math.log(bound) + 1e-4


def test_a_precision_beyond_float32(device):
    """exp(150) is no float32, but the square of a distance of nothing times it is zero."""
    x = torch.randn(4, 3, device=device)
    logvar = torch.full_like(x, -150.0).requires_grad_()
    parts = ops.elbo_decomposition(x, x, logvar, dataset_size=10)
    exact = reference.elbo_decomposition(x.double(), x.double(), logvar.double(), None, None, "mss", 10)
    for ours, expected in zip(parts, exact):
        torch.testing.assert_close(ours.double(), expected, rtol=1e-5, atol=1e-4)
    (gradient,) = torch.autograd.grad(parts.log_qz_x, logvar)
    torch.testing.assert_close(gradient, torch.full_like(x, -0.5 / 4))


def test_a_gradient_with_the_negative_bit(device):
    """As that of an imaginary part after conj(): its memory holds the opposite of its value."""
    inputs = [t.float().to(device).requires_grad_() for t in (normal(6, 3), normal(6, 3), normal(6, 3))]
    value = ops.elbo_decomposition(*inputs, dataset_size=50).total_correlation
    incoming = torch.ones((), dtype=torch.complex64, device=device).mul(1j).conj().imag
    assert incoming.is_neg()
    for lazy, plain in zip(
        torch.autograd.grad(value, inputs, incoming, retain_graph=True),
        torch.autograd.grad(value, inputs, incoming.resolve_neg()),
    ):
        assert torch.equal(lazy, plain)


@pytest.mark.parametrize("value", [1e30, -1e30])
@dtypes(torch.float32, torch.float64)
def test_one_extreme_component_leaves_the_fields_as_they_are(value, dtype, device):
    z, mu, logvar, *components = (t.to(dtype) for t in with_components(Shape((), 9, 3), device))
    components[1][-1, 1] = value
    options = {"estimator": "mws", "dataset_size": N, "reduction": "none"}
    fields = ops.elbo_decomposition(z, mu, logvar, components=components, **options)
    wide = [t.double() for t in (z, mu, logvar, *components)]
    expected = reference.elbo_decomposition(*wide, **options)
    rtol = 4e-6 if dtype == torch.float32 else 1e-13
    for ours, right in zip(fields, expected):
        torch.testing.assert_close(ours.double(), right, rtol=rtol, atol=4 * rtol)
