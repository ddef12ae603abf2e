"""Bad tensors, keys and generators: the message names the op, the argument, what was expected and what came."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from disentangle_ext import ops
from tests.ops.cases import key
from tests.ops.refusals import META, STACK, X, refused, rows


def with_dataset_size(f: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *tensors, **kwargs: f(*tensors, **{"dataset_size": 100, **kwargs})


# Every op with its tensors, each with the one whose shape it must have (None: only leading and latent dimensions must
# fit), and the least number of dimensions.
TENSORS: dict[str, tuple[Callable[..., Any], dict[str, str | None], int]] = {
    "rsample_kl": (ops.rsample_kl, {"mu": None, "logvar": "mu"}, 1),
    "aggregate_posterior": (ops.aggregate_posterior, {"z": None, "mu": None, "logvar": "mu"}, 2),
    "elbo_decomposition": (with_dataset_size(ops.elbo_decomposition), {"z": None, "mu": "z", "logvar": "mu"}, 2),
    "mmd": (ops.mmd, {"x": None, "y": None}, 2),
    "mmd_test": (ops.mmd_test, {"x": None, "y": None}, 2),
}

ARGUMENTS = [(op, i, name) for op, (_, names, _) in TENSORS.items() for i, name in enumerate(names)]


def each_tensor(*, first: bool = True) -> pytest.MarkDecorator:
    chosen = [a for a in ARGUMENTS if first or a[1]]
    return pytest.mark.parametrize(("op", "position", "name"), chosen, ids=[f"{op}-{name}" for op, _, name in chosen])


def call_with(op: str, position: int, value: Any) -> Any:
    f, names, _ = TENSORS[op]
    arguments: list[Any] = [X] * len(names)
    arguments[position] = value
    return f(*arguments)


def test_the_house_rule():
    mu, logvar = rows(64, 10), rows(64, 9)
    with pytest.raises(ValueError, match="rsample_kl") as error:
        ops.rsample_kl(mu, logvar)
    assert str(error.value) == "rsample_kl: logvar must have the shape of mu (64, 10), got (64, 9)"


# Tensors ---------------------------------------------------------------------------------------------------------


@each_tensor()
@pytest.mark.parametrize("value", [None, 1.0, [[1.0]], "x"], ids=repr)
def test_not_a_tensor(op, position, name, value):
    refused(TypeError, f"{op}: {name} must be a Tensor, got {type(value).__name__}", call_with, op, position, value)


@each_tensor()
@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64], ids=str)
def test_not_floating_point(op, position, name, dtype):
    _, names, _ = TENSORS[op]
    with pytest.raises(TypeError, match=f"^{op}: {name} must .*got {dtype}$"):
        call_with(op, position, X.to(dtype))
    refused(
        TypeError,
        f"{op}: {next(iter(names))} must be a floating-point tensor, got {dtype}",
        TENSORS[op][0],
        *[X.to(dtype)] * len(names),
    )


@each_tensor(first=False)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16], ids=str)
def test_mixed_dtypes(op, position, name, dtype):
    with pytest.raises(TypeError, match=rf"^{op}: {name} must have the dtype of \w+ \(torch.float32\), got {dtype}$"):
        call_with(op, position, X.to(dtype))


@each_tensor(first=False)
def test_mixed_devices(op, position, name):
    with pytest.raises(ValueError, match=rf"^{op}: {name} must be on the device of \w+ \(cpu\), got meta$"):
        call_with(op, position, META)


@each_tensor(first=False)
@pytest.mark.parametrize("value", [rows(8, 4), STACK, X[0]], ids=["dimensions", "stack", "vector"])
def test_shapes_that_do_not_fit(op, position, name, value):
    got = re.escape(str(tuple(value.shape)))
    with pytest.raises(ValueError, match=f"^{op}: {name} must have the shape .*got {got}$"):
        call_with(op, position, value)


@each_tensor(first=False)
def test_rows_that_do_not_fit(op, position, name):
    like = TENSORS[op][1][name]
    if like is None:
        pytest.skip("may have any number of rows")
    message = f"{op}: {name} must have the shape of {like} (8, 3), got (9, 3)"
    refused(ValueError, message, call_with, op, position, rows(9))


@pytest.mark.parametrize("op", TENSORS)
def test_too_few_dimensions(op):
    f, names, dims = TENSORS[op]
    wanted = "[.., D]" if dims == 1 else "[.., B, D]"
    low = X[0, 0] if dims == 1 else X[0]
    message = f"{op}: {next(iter(names))} must have the shape {wanted}, got {tuple(low.shape)}"
    refused(ValueError, message, f, *[low] * len(names))


def test_permute_dims_tensors():
    refused(TypeError, "permute_dims: z must be a Tensor, got list", ops.permute_dims, [[1.0]])
    refused(ValueError, "permute_dims: z must have the shape [.., B, D], got (3,)", ops.permute_dims, X[0])


# Keys and generators ---------------------------------------------------------------------------------------------


RANDOM: dict[str, Callable[..., Any]] = {
    "rsample_kl": lambda t, **kwargs: ops.rsample_kl(t, t, **kwargs),
    "permute_dims": ops.permute_dims,
}

FIRST = {"rsample_kl": "mu", "permute_dims": "z"}
random_ops = pytest.mark.parametrize("op", RANDOM)


@random_ops
def test_key_and_generator(op):
    message = f"{op}: give a key or a generator, not both"
    refused(ValueError, message, RANDOM[op], X, key=key(), generator=torch.Generator())


@random_ops
@pytest.mark.parametrize("value", [key().int(), key().double(), [1, 2], 7], ids=repr)
def test_key_of_another_type(op, value):
    got = value.dtype if isinstance(value, Tensor) else type(value).__name__
    refused(TypeError, f"{op}: key must be an int64 tensor, got {got}", RANDOM[op], X, key=value)


@random_ops
@pytest.mark.parametrize("shape", [(), (1,), (3,), (3, 2), (2, 8, 3, 2)], ids=str)
def test_key_of_another_shape(op, shape):
    message = (
        f"{op}: key must have the shape (2,) or the leading dimensions of {FIRST[op]} (2, 8, 3) and 2, got {shape}"
    )
    refused(ValueError, message, RANDOM[op], STACK, key=torch.zeros(shape, dtype=torch.int64))


def test_permute_dims_has_no_key_per_row():
    refused(ValueError, "permute_dims: key must have", ops.permute_dims, X, key=torch.zeros(8, 2, dtype=torch.int64))


@random_ops
def test_key_on_another_device(op):
    message = f"{op}: key must be on the device of {FIRST[op]} (cpu), got meta"
    refused(ValueError, message, RANDOM[op], X, key=key().to("meta"))
