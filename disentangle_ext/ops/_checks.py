"""Errors that name the op, the argument, what was expected and what came."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from disentangle_ext._errors import describe
from disentangle_ext._names import choose
from disentangle_ext.ops.reference import ESTIMATORS

FLOATING = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
REDUCTIONS = ("none", "mean", "sum")


def shape(tensor: Tensor) -> tuple[int, ...]:
    return tuple(tensor.shape)


def dense(op: str, name: str, tensor: Tensor) -> None:
    """A tensor of any dtype whose elements lie at strides."""
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{op}: {name} must be a Tensor, got {type(tensor).__name__}")
    if tensor.is_nested or tensor.is_quantized or tensor.layout != torch.strided:
        kind = "nested" if tensor.is_nested else "quantized" if tensor.is_quantized else str(tensor.layout)
        raise TypeError(f"{op}: {name} must be a dense tensor (torch.strided), got a {kind} one")


def floating(op: str, name: str, tensor: Tensor, dims: int) -> None:
    """A floating-point tensor of at least `dims` dimensions."""
    dense(op, name, tensor)
    if tensor.dtype not in FLOATING:
        raise TypeError(f"{op}: {name} must be a floating-point tensor, got {tensor.dtype}")
    if tensor.dim() < dims:
        wanted = "[.., D]" if dims == 1 else "[.., B, D]"
        raise ValueError(f"{op}: {name} must have the shape {wanted}, got {shape(tensor)}")


def same_kind(op: str, name: str, tensor: Tensor, like_name: str, like: Tensor) -> None:
    """The dtype and the device of another argument."""
    dense(op, name, tensor)
    if tensor.dtype != like.dtype:
        raise TypeError(f"{op}: {name} must have the dtype of {like_name} ({like.dtype}), got {tensor.dtype}")
    if tensor.device != like.device:
        raise ValueError(f"{op}: {name} must be on the device of {like_name} ({like.device}), got {tensor.device}")


def same(op: str, name: str, tensor: Tensor, like_name: str, like: Tensor) -> None:
    """The shape, dtype and device of another argument."""
    same_kind(op, name, tensor, like_name, like)
    if tensor.shape != like.shape:
        raise ValueError(f"{op}: {name} must have the shape of {like_name} {shape(like)}, got {shape(tensor)}")


def rows_like(op: str, name: str, tensor: Tensor, like_name: str, like: Tensor) -> None:
    """The dtype, device, leading dimensions and latent dimension of another argument; any number of rows."""
    same_kind(op, name, tensor, like_name, like)
    if tensor.dim() != like.dim() or tensor.shape[:-2] != like.shape[:-2] or tensor.shape[-1] != like.shape[-1]:
        wanted = ", ".join(str(n) for n in (*like.shape[:-2], "N", like.shape[-1]))
        raise ValueError(
            f"{op}: {name} must have the shape ({wanted}) to go with {like_name} {shape(like)}, got {shape(tensor)}"
        )


def reduction(op: str, name: str) -> None:
    choose(f"{op}: reduction", name, REDUCTIONS)


def boolean(op: str, name: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise TypeError(f"{op}: {name} must be a bool, got {describe(value)}")


def integer(op: str, name: str, value: Any) -> None:
    """An integer that fits the kernels."""
    if not isinstance(value, (int, torch.SymInt)) or isinstance(value, bool):
        raise TypeError(f"{op}: {name} must be an int, got {describe(value)}")
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
        raise ValueError(f"{op}: {name} must be in [-2^63, 2^63), got {value}")


def positive(op: str, name: str, value: Any) -> float:
    """A positive, finite number, as a float."""
    if not real_number(value):
        raise TypeError(f"{op}: {name} must be a number, got {describe(value)}")
    if not 0 < value < math.inf:
        raise ValueError(f"{op}: {name} must be positive and finite, got {value}")
    symbolic: bool = isinstance(value, torch.SymFloat)  # of a graph that is not specialised to one value
    return value if symbolic else float(value)


def real_number(value: Any) -> bool:
    return isinstance(value, (int, float, torch.SymInt, torch.SymFloat, Real)) and not isinstance(value, bool)


def estimator(op: str, name: str, *, queries: int, components: int, dataset_size: int | None, offset: int) -> int:
    """Checks what the estimator's weights need; returns its number in csrc/math/log_weights.h."""
    choose(f"{op}: estimator", name, ESTIMATORS)
    if dataset_size is not None:
        integer(op, "dataset_size", dataset_size)
    integer(op, "offset", offset)
    if name != "uniform":
        if dataset_size is None:
            raise ValueError(f"{op}: dataset_size must be given for the estimator {name!r}")
        if dataset_size < components:
            raise ValueError(
                f"{op}: dataset_size must be at least the number of components ({components}), got {dataset_size}"
            )
    if name in ("mss", "mss_legacy"):
        if components < 2:
            raise ValueError(f"{op}: the estimator {name!r} needs a batch of at least 2, got {components}")
        if offset < 0 or offset + queries > components:
            raise ValueError(
                f"{op}: offset must place the {queries} queries among the {components} components "
                f"(0 to {components - queries}), got {offset}"
            )
    return ESTIMATORS.index(name)


def key(op: str, value: Tensor, like_name: str, like: Tensor, leading: Sequence[int]) -> None:
    """An int64 key [.., 2] whose leading dimensions are the first of `leading`."""
    if not isinstance(value, Tensor) or value.dtype != torch.int64:
        got = value.dtype if isinstance(value, Tensor) else type(value).__name__
        raise TypeError(f"{op}: key must be an int64 tensor, got {got}")
    dense(op, "key", value)
    if value.dim() < 1 or value.shape[-1] != 2 or tuple(value.shape[:-1]) != tuple(leading[: value.dim() - 1]):
        raise ValueError(
            f"{op}: key must have the shape (2,) or the leading dimensions of {like_name} {shape(like)} and 2, "
            f"got {shape(value)}"
        )
    if value.device != like.device:
        raise ValueError(f"{op}: key must be on the device of {like_name} ({like.device}), got {value.device}")
