"""What autograd is asked for it gives, and what has no derivative says so."""

from __future__ import annotations

import pytest
import torch
from torch.autograd import forward_ad

from disentangle_ext import ops
from tests.ops.calls import (
    DIFFERENTIABLE,
    SHAPE,
    all_inputs,
    assert_equal,
    scalar,
)
from tests.ops.cases import Shape, all_ops, as_tuple, key

pytestmark = pytest.mark.usefixtures("compiled")


@all_ops()
def test_a_second_derivative_raises(op, device):
    leaves = [t.requires_grad_() for t in op.inputs(SHAPE, device)]
    gradients = torch.autograd.grad(scalar(op)(*leaves), leaves, create_graph=True)
    for gradient in gradients:
        for leaf in leaves:
            with pytest.raises(RuntimeError, match=f"{op.raw}_backward is not implemented"):
                torch.autograd.grad(gradient.sum(), leaf, retain_graph=True)


@all_ops(*DIFFERENTIABLE)
def test_a_second_derivative_raises_for_a_constant_incoming_gradient(op, device):
    leaves = [t.requires_grad_() for t in op.inputs(SHAPE, device)]
    values = as_tuple(op.function(*leaves))
    gradients = torch.autograd.grad([v.sum() for v in values], leaves, create_graph=True)
    assert all(g.requires_grad for g in gradients)
    with pytest.raises(RuntimeError, match="not implemented"):
        torch.autograd.grad(sum(g.sum() for g in gradients), leaves)


def test_the_gradient_of_a_linear_op_is_a_constant(device):
    """permute_dims is linear: nothing to differentiate is left, and autograd knows it."""
    z = torch.randn(SHAPE.batch, SHAPE.D, device=device, requires_grad=True)
    (gradient,) = torch.autograd.grad(ops.permute_dims(z, key=key(device)).sum(), z, create_graph=True)
    assert not gradient.requires_grad


@all_ops()
def test_a_second_derivative_raises_under_torch_func(op, device):
    inputs = op.inputs(Shape((), 3, 2), device)
    f, n = scalar(op), all_inputs(op)
    with pytest.raises(RuntimeError, match="not implemented"):
        torch.func.grad(lambda *t: sum(g.square().sum() for g in torch.func.grad(f, n)(*t)))(*inputs)
    with pytest.raises((RuntimeError, NotImplementedError), match="implement"):
        torch.func.hessian(f)(*inputs)
    with pytest.raises(RuntimeError, match="not implemented"):
        torch.func.jacrev(torch.func.jacrev(f))(*inputs)


@all_ops()
def test_forward_mode_raises(op, device):
    inputs = tuple(op.inputs(SHAPE, device))
    with pytest.raises((RuntimeError, NotImplementedError), match="jvp"):
        torch.func.jvp(op.function, inputs, inputs)
    with forward_ad.dual_level(), pytest.raises((RuntimeError, NotImplementedError), match="jvp"):
        op.function(*(forward_ad.make_dual(t, torch.ones_like(t)) for t in inputs))


@all_ops("rsample_kl", "aggregate_posterior_weighted", "elbo_decomposition_components", "mmd")
def test_inputs_changed_in_place_are_noticed(op, device):
    for changed in range(len(all_inputs(op))):
        leaves = [t.requires_grad_() for t in op.inputs(SHAPE, device)]
        inputs = [t * 1 for t in leaves]
        value = scalar(op)(*inputs)
        with torch.no_grad():
            inputs[changed].add_(1)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            value.backward()


@pytest.mark.parametrize("name", ["rsample_kl", "permute_dims"])
def test_a_key_changed_in_place_is_noticed(name, device):
    k, z = key(device), torch.randn(5, 3, device=device, requires_grad=True)
    out = ops.permute_dims(z, key=k) if name == "permute_dims" else ops.rsample_kl(z, z, key=k)[0]
    k.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()


@all_ops()
def test_gradients_only_where_they_are_asked_for(op, device):
    """One input at a time, and backward a second time with retain_graph."""
    inputs = op.inputs(SHAPE, device)
    leaves = [t.clone().requires_grad_() for t in inputs]
    expected = torch.autograd.grad(scalar(op)(*leaves), leaves)
    for i in range(len(inputs)):
        one = [t.clone().requires_grad_(i == j) for j, t in enumerate(inputs)]
        value = scalar(op)(*one)
        for _ in range(2):
            (gradient,) = torch.autograd.grad(value, one[i], retain_graph=True)
            assert_equal(gradient, expected[i])
