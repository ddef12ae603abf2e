"""torch.compile: one graph without a break, equal to eager, compiled no more often than shapes demand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend

from disentangle_ext import ops
from tests.ops.calls import (
    SHAPE,
    STACK,
    all_inputs,
    assert_close,
    assert_close_as_computed,
    assert_equal,
    scalar,
    values_and_gradients,
)
from tests.ops.cases import OPS, Shape, all_ops, as_tuple
from tests.ops.refusals import X

pytestmark = pytest.mark.usefixtures("compiled")
RAW = {op.raw: op for op in reversed(OPS.values())}


@pytest.fixture(autouse=True)
def fresh_dynamo() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@all_ops()
def test_compiled_graph_equals_eager(op, device):
    """A stack in float32; test_a_new_batch_size.. compares single problems in float64."""
    inputs = [t.float() for t in op.inputs(STACK, device)]
    compiled = torch.compile(op.function, fullgraph=True, backend="aot_eager")
    assert_equal(values_and_gradients(compiled, inputs), values_and_gradients(op.function, inputs))


@all_ops()
def test_compiled_graph_without_gradients(op, device):
    inputs = op.inputs(SHAPE, device)
    compiled = torch.compile(op.function, fullgraph=True, backend="aot_eager", dynamic=True)
    assert_equal(compiled(*inputs), op.function(*inputs))


@pytest.mark.builds
def test_inductor_fuses_around_every_op(device):
    """All in one graph: every program that it writes costs seconds of a C++ compiler."""
    inputs = [op.inputs(SHAPE, device) for op in RAW.values()]
    counts = [len(tensors) for tensors in inputs]

    def f(*leaves: Tensor) -> tuple[Tensor, ...]:
        parts = (2 * torch.cat([t.flatten() for t in leaves]).tanh()).split([t.numel() for t in leaves])
        changed, values = iter([part.view(t.shape) for part, t in zip(parts, leaves)]), []
        for op, count in zip(RAW.values(), counts):
            outputs = as_tuple(op.function(*(next(changed) for _ in range(count))))
            values.append(sum(t.square().sum() for t in outputs))
        return tuple(values)

    leaves = [t for tensors in inputs for t in tensors]
    compiled = torch.compile(f, fullgraph=True, backend="inductor")
    assert_close(values_and_gradients(compiled, leaves), values_and_gradients(f, leaves))


@all_ops()
def test_a_new_batch_size_compiles_once_more_and_the_next_not_at_all(op, device):
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(op.function, fullgraph=True, backend=counter)

    def graphs(batch: int) -> int:
        inputs = op.inputs(Shape((), batch, 5), device)
        assert_equal(values_and_gradients(compiled, inputs), values_and_gradients(op.function, inputs))
        return counter.frame_count

    assert graphs(12) == 1
    assert graphs(12) == 1
    assert graphs(20) <= 2
    after = counter.frame_count
    assert [graphs(12), graphs(20), graphs(33), graphs(7)] == [after] * 4


def test_without_a_key_compiled_noise_follows_the_seed(device):
    mu = torch.zeros(100, 10, device=device)

    for f in (
        lambda t: ops.rsample_kl(t, t)[0],
        lambda t: ops.permute_dims(t + torch.arange(100, device=device)[:, None]),
    ):
        compiled = torch.compile(f, fullgraph=True, backend="aot_eager")
        first, second = compiled(mu), compiled(mu)
        assert not torch.equal(first, second)
        torch.manual_seed(5)
        again = compiled(mu)
        torch.manual_seed(5)
        assert_equal(again, compiled(mu))
        torch.manual_seed(5)
        assert_equal(again, f(mu))


@all_ops()
def test_compiled_vmap(op, device):
    inputs = op.inputs(STACK, device)
    f = torch.vmap(op.function)
    compiled = torch.compile(f, fullgraph=True, backend="aot_eager")
    assert_equal(values_and_gradients(compiled, inputs), values_and_gradients(f, inputs))


@all_ops()
def test_a_functional_gradient_compiles(op, device):
    """Dynamo unrolls the Function that torch.func needs down to the raw op, whose own node then serves."""
    inputs = op.inputs(SHAPE, device)
    gradient = torch.func.grad(scalar(op), all_inputs(op))
    compiled = torch.compile(gradient, fullgraph=True, backend="aot_eager")(*inputs)
    for ours, eager in zip(compiled, gradient(*inputs), strict=True):
        torch.testing.assert_close(ours, eager)


@all_ops("rsample_kl", "elbo_decomposition", "mmd")
def test_autocast_outside_of_the_compiled_function(op, device):
    inputs = [t.bfloat16() for t in op.inputs(SHAPE, device)]
    expected = values_and_gradients(op.function, [t.float() for t in inputs])
    with torch.autocast(device.type, torch.bfloat16):
        values = as_tuple(torch.compile(op.function, fullgraph=True, backend="aot_eager")(*inputs))
    # On a GPU, mmd without gradients adds up in another order than with them.
    same = assert_close_as_computed if op.raw == "mmd" and device.type == "cuda" else assert_equal
    same(values, tuple(expected[: len(values)]))


RANDOM: dict[str, Callable[..., Any]] = {
    "rsample_kl": lambda t, **kwargs: ops.rsample_kl(t, t, **kwargs),
    "permute_dims": ops.permute_dims,
}

random_ops = pytest.mark.parametrize("op", RANDOM)


@random_ops
def test_a_generator_in_a_compiled_graph(op):
    """Dynamo, which needs no backend for it, wraps the error in one of its own, which quotes it."""
    generator = torch.Generator()
    compiled = torch.compile(lambda t: RANDOM[op](t, generator=generator), fullgraph=True, backend="eager")
    with pytest.raises(RuntimeError, match=f"{op}: a torch.Generator cannot enter a compiled graph: pass key= instead"):
        compiled(X)


def test_a_tensor_of_bandwidths_compiles(device):
    x, y, h = (
        torch.randn(8, 3, device=device),
        torch.randn(9, 3, device=device),
        torch.tensor([1.0, 2.0], device=device),
    )
    compiled = torch.compile(lambda x, y, h: ops.mmd(x, y, bandwidth=h), fullgraph=True, backend="aot_eager")
    assert compiled(x, y, h) == ops.mmd(x, y, bandwidth=[1.0, 2.0])
