"""torch.func: vmap, grad and jacrev, in either order."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from disentangle_ext import ops
from tests.ops.calls import (
    SHAPE,
    STACK,
    all_inputs,
    assert_close,
    scalar,
    values_and_gradients,
)
from tests.ops.cases import Shape, all_ops, as_tuple, posterior

pytestmark = pytest.mark.usefixtures("compiled")


@all_ops()
def test_vmap_equals_a_loop(op, device):
    inputs = op.inputs(STACK, device)
    ours = as_tuple(torch.vmap(op.function)(*inputs))
    for i in range(STACK.leading[0]):
        assert_close(tuple(t[i] for t in ours), op.function(*(t[i] for t in inputs)))


@all_ops()
def test_vmap_over_another_dimension_and_out_dims(op, device):
    inputs = op.inputs(STACK, device)
    moved = [t.movedim(0, -1) for t in inputs]
    ours = as_tuple(torch.vmap(op.function, in_dims=-1, out_dims=-1)(*moved))
    assert_close(tuple(t.movedim(-1, 0) for t in ours), torch.vmap(op.function)(*inputs))


@all_ops()
def test_vmap_leaves_an_input_unbatched(op, device):
    inputs = op.inputs(STACK, device)
    for shared in range(len(inputs)) if len(inputs) > 1 else ():
        mixed = [t[0] if i == shared else t for i, t in enumerate(inputs)]
        in_dims = tuple(None if i == shared else 0 for i in range(len(inputs)))
        ours = as_tuple(torch.vmap(op.function, in_dims=in_dims)(*mixed))
        gradient = torch.vmap(torch.func.grad(scalar(op), all_inputs(op)), in_dims=in_dims)(*mixed)
        for i in range(STACK.leading[0]):
            one = [t if j == shared else t[i] for j, t in enumerate(mixed)]
            assert_close(tuple(t[i] for t in ours), op.function(*one))
            assert_close(tuple(t[i] for t in gradient), torch.func.grad(scalar(op), all_inputs(op))(*one))


@all_ops()
def test_nested_vmap(op, device):
    inputs = op.inputs(Shape((2, 3), 4, 2), device)
    ours = as_tuple(torch.vmap(torch.vmap(op.function))(*inputs))
    for i in range(2):
        for j in range(3):
            assert_close(tuple(t[i, j] for t in ours), op.function(*(t[i, j] for t in inputs)))


@all_ops()
def test_functional_gradient_is_that_of_autograd(op, device):
    inputs = op.inputs(SHAPE, device)
    leaves = [t.clone().requires_grad_() for t in inputs]
    expected = torch.autograd.grad(scalar(op)(*leaves), leaves)
    assert_close(torch.func.grad(scalar(op), all_inputs(op))(*inputs), expected)


@all_ops()
def test_vmap_of_gradients_equals_a_loop(op, device):
    inputs = op.inputs(STACK, device)
    gradient = torch.func.grad(scalar(op), all_inputs(op))
    ours = torch.vmap(gradient)(*inputs)
    for i in range(STACK.leading[0]):
        assert_close(tuple(t[i] for t in ours), gradient(*(t[i] for t in inputs)))


@all_ops()
def test_gradient_through_vmap(op, device):
    """The other order: autograd outside."""
    inputs = op.inputs(STACK, device)

    def looped(*leaves: Tensor) -> tuple[Tensor, ...]:
        members = [as_tuple(op.function(*(t[i] for t in leaves))) for i in range(STACK.leading[0])]
        return tuple(torch.stack(outputs) for outputs in zip(*members))

    assert_close(
        tuple(values_and_gradients(torch.vmap(op.function), inputs)), tuple(values_and_gradients(looped, inputs))
    )


@all_ops()
def test_jacobian_row_by_row(op, device):
    inputs = op.inputs(Shape((), 4, 2), device)

    def flat(*tensors: Tensor) -> Tensor:
        return torch.cat([t.flatten() for t in as_tuple(op.function(*tensors))])

    ours = torch.func.jacrev(flat, all_inputs(op))(*inputs)
    leaves = [t.clone().requires_grad_() for t in inputs]
    values = flat(*leaves)
    rows = [torch.autograd.grad(v, leaves, retain_graph=True, materialize_grads=True) for v in values]
    assert_close(ours, tuple(torch.stack(column) for column in zip(*rows)))


def test_vmap_draws_noise_as_it_is_told(device):
    mu = torch.zeros(4, 6, 3, device=device)

    def sample(mu: Tensor) -> Tensor:
        return ops.rsample_kl(mu, mu)[0]

    different = torch.vmap(sample, randomness="different")(mu)
    assert all(not torch.equal(different[i], different[j]) for i in range(4) for j in range(i))
    same = torch.vmap(sample, randomness="same")(mu)
    assert all(torch.equal(same[i], same[0]) for i in range(4))
    with pytest.raises(RuntimeError, match="randomness"):
        torch.vmap(sample)(mu)


def test_vmap_draws_permutations_as_it_is_told(device):
    z = torch.arange(50, device=device)[:, None].expand(4, 50, 3)
    different = torch.vmap(ops.permute_dims, randomness="different")(z)
    assert all(not torch.equal(different[i], different[j]) for i in range(4) for j in range(i))
    same = torch.vmap(ops.permute_dims, randomness="same")(z)
    assert all(torch.equal(same[i], same[0]) for i in range(4))


def test_vmap_over_keys(device):
    """A key per member gives what each key gives alone, forward and backward."""
    keys = torch.tensor([[1, 2], [3, 4], [1, 5]], device=device)
    mu, logvar = posterior(SHAPE, device)[1:]

    def f(k: Tensor, mu: Tensor) -> Tensor:
        return ops.rsample_kl(mu, logvar, key=k)[0].square().sum()

    ours = torch.vmap(torch.func.grad(f, 1), in_dims=(0, None))(keys, mu)
    for i, k in enumerate(keys):
        assert_close(ours[i], torch.func.grad(f, 1)(k, mu))
