"""The same bits from every run and from every number of threads, at sizes that are split among threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from tests.ops.cases import OPS, Shape, all_ops, as_tuple
from tests.ops.tolerance import random_gradients

pytestmark = pytest.mark.usefixtures("compiled")

# A second thread is woken only for work that outlasts the waking (csrc/cpu/parallel.h), so the cheap ops need more rows:
# /proc/self/task shows it appear at all of these sizes.
ROWS = {"rsample_kl": (8000, 3000), "mmd": (3000, 600)}  # by raw op: alone, and in each problem of a stack
LARGE = {name: Shape((), ROWS.get(op.raw, (600, 200))[0], 10) for name, op in OPS.items()}
STACK = {name: Shape((3,), ROWS.get(op.raw, (600, 200))[1], 10) for name, op in OPS.items()}


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def values_and_gradients(op, inputs: list[Tensor]) -> list[Tensor]:
    leaves = [t.clone().requires_grad_() for t in inputs]
    values = as_tuple(op.function(*leaves))
    return [*(v.detach() for v in values), *torch.autograd.grad(values, leaves, random_gradients(values))]


def assert_same_bits(first: list[Tensor], second: list[Tensor]) -> None:
    for a, b in zip(first, second, strict=True):
        # Integers of the same width: 0 and -0 differ, NaN equals itself.
        bits = {2: torch.int16, 4: torch.int32, 8: torch.int64}[a.element_size()]
        assert torch.equal(a.contiguous().view(bits), b.contiguous().view(bits))


def inputs_of(name: str, size: str, device: torch.device, dtype: torch.dtype) -> list[Tensor]:
    shape = (STACK if size == "stack" else LARGE)[name]
    return [t.to(dtype) for t in OPS[name].inputs(shape, device)]


sizes = pytest.mark.parametrize("size", ["large", "stack"])
names = pytest.mark.parametrize("name", OPS)
dtypes = pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)


@names
@sizes
@dtypes
def test_one_thread_and_two_give_the_same_bits(name, size, dtype, threads):
    inputs = inputs_of(name, size, torch.device("cpu"), dtype)
    threads(1)
    one = values_and_gradients(OPS[name], inputs)
    for count in (2, 3):
        threads(count)
        assert_same_bits(one, values_and_gradients(OPS[name], inputs))


@names
@sizes
@dtypes
def test_two_runs_give_the_same_bits(name, size, dtype, device, threads):
    threads(2)
    inputs = inputs_of(name, size, device, dtype)
    first = values_and_gradients(OPS[name], inputs)
    for _ in range(3):
        assert_same_bits(first, values_and_gradients(OPS[name], inputs))


@all_ops()
def test_strides_change_no_bit(op, device):
    inputs = [t.float() for t in op.inputs(Shape((), 200, 10), device)]
    contiguous = values_and_gradients(op, inputs)
    strided = [t.mT.contiguous().mT if t.dim() > 1 else t for t in inputs]
    assert_same_bits(contiguous, values_and_gradients(op, strided))
