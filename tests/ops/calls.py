"""Calls of an op with its gradients, and what they are compared with."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tests.ops.cases import OPS, Op, Shape, as_tuple
from tests.ops.tolerance import random_gradients

SHAPE = Shape((), 12, 5)
STACK = Shape((4,), 6, 3)
DIFFERENTIABLE = [name for name in OPS if name != "permute_dims"]


def values_and_gradients(f: Any, inputs: list[Tensor]) -> list[Tensor]:
    leaves = [t.detach().requires_grad_() for t in inputs]
    values = as_tuple(f(*leaves))
    return [*(v.detach() for v in values), *torch.autograd.grad(values, leaves, random_gradients(values))]


def assert_equal(ours: Any, expected: Any) -> None:
    for a, b in zip(as_tuple(ours), as_tuple(expected), strict=True):
        assert a.dtype == b.dtype
        assert torch.equal(a, b)


def assert_close(ours: Any, expected: Any) -> None:
    for a, b in zip(as_tuple(ours), as_tuple(expected), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-13)


def assert_close_as_computed(ours: Any, expected: Any) -> None:
    for a, b in zip(as_tuple(ours), as_tuple(expected), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def scalar(op: Op) -> Any:
    """A loss in which no output is linear, so that every gradient depends on the values."""
    return lambda *inputs: sum((t * t).sum() for t in as_tuple(op.function(*inputs)))


def all_inputs(op: Op) -> tuple[int, ...]:
    return tuple(range(len(op.inputs(Shape((), 2, 1), "cpu"))))
