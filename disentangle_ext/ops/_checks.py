"""Errors that name the op, the argument, what was expected and what came."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from disentangle_ext._names import choose
from disentangle_ext.ops.reference import ESTIMATORS

FLOATING = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
REDUCTIONS = ("none", "mean", "sum")


def shape(tensor: Tensor) -> tuple[int, ...]:
    return tuple(tensor.shape)


def floating(op: str, name: str, tensor: Tensor, dims: int) -> None:
    """A floating-point tensor of at least `dims` dimensions."""
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{op}: {name} must be a Tensor, got {type(tensor).__name__}")
    if tensor.dtype not in FLOATING:
        raise TypeError(f"{op}: {name} must be a floating-point tensor, got {tensor.dtype}")
    if tensor.dim() < dims:
        wanted = "[.., D]" if dims == 1 else "[.., B, D]"
        raise ValueError(f"{op}: {name} must have the shape {wanted}, got {shape(tensor)}")


def same_kind(op: str, name: str, tensor: Tensor, like_name: str, like: Tensor) -> None:
    """The dtype and the device of another argument."""
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{op}: {name} must be a Tensor, got {type(tensor).__name__}")
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


def integers(op: str, **values: int | None) -> None:
    """Integers that fit the kernels, or None."""
    for argument, value in values.items():
        if value is not None and not isinstance(value, (int, torch.SymInt)):
            raise TypeError(f"{op}: {argument} must be an int, got {type(value).__name__} {value!r}")
        if isinstance(value, int) and value >= 1 << 63:
            raise ValueError(f"{op}: {argument} must be below 2^63, got {value}")


def estimator(op: str, name: str, *, queries: int, components: int, dataset_size: int | None, offset: int) -> int:
    """Checks what the estimator's weights need; returns its number in csrc/math/log_weights.h."""
    choose(f"{op}: estimator", name, ESTIMATORS)
    integers(op, dataset_size=dataset_size, offset=offset)
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
    if value.dim() < 1 or value.shape[-1] != 2 or tuple(value.shape[:-1]) != tuple(leading[: value.dim() - 1]):
        raise ValueError(
            f"{op}: key must have the shape (2,) or the leading dimensions of {like_name} {shape(like)} and 2, "
            f"got {shape(value)}"
        )
    if value.device != like.device:
        raise ValueError(f"{op}: key must be on the device of {like_name} ({like.device}), got {value.device}")
