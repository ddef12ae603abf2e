"""What the ops share on their way to the compiled library: fakes, autograd Functions and their leaner siblings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from disentangle_ext._extension import available

NAMESPACE = "disentangle_ext"


def raw(op: str) -> Any:
    """The raw op of the compiled library; looked up at call time, since a pure-Python install has none."""
    return getattr(torch.ops.disentangle_ext, op).default


def register_fake(op: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Registers the shape rule of a raw op, where there is one."""

    def register(rule: Callable[..., Any]) -> Callable[..., Any]:
        if available("cpu"):
            torch.library.register_fake(f"{NAMESPACE}::{op}", rule)
        return rule

    return register


def compute_dtype(tensor: Tensor) -> torch.dtype:
    return torch.float32 if tensor.dtype in (torch.float16, torch.bfloat16) else tensor.dtype


def under_autocast(first: Tensor, *others: Tensor | None) -> tuple[Any, ...]:
    """Autocast means float32 here: the casts stand in the graph, where autograd sees them."""
    tensors = (first, *others)
    if not torch.is_autocast_enabled(first.device.type):
        return tensors
    return tuple(t if t is None or t.dtype == torch.float64 else t.float() for t in tensors)


class Op(torch.autograd.Function):
    """How an op is seen by torch.func: subclasses write ``forward``, ``setup_context``, ``backward`` and ``vmap``.

    Everywhere else the raw op brings its own derivative, from csrc/autograd.cpp: a node made in Python costs more than
    a small kernel.
    """

    @classmethod
    def call(cls, *inputs: Any) -> Any:
        return cls.apply(*inputs) if transformed() else cls.forward(*inputs)


def transformed() -> bool:
    """Whether a torch.func transform (vmap, grad, jacrev, ..) is active."""
    return torch._C._are_functorch_transforms_active()


def batched_first(info: Any, in_dims: tuple[int | None, ...], tensors: tuple[Any, ...]) -> list[Any]:
    """For vmap rules: every tensor with the mapped dimension in front, where it is one more leading dimension."""
    out: list[Any] = []
    for tensor, dim in zip(tensors, in_dims):
        if tensor is None:
            out.append(None)
        elif dim is None:
            out.append(tensor.expand(info.batch_size, *tensor.shape))
        else:
            out.append(tensor.movedim(dim, 0))
    return out
