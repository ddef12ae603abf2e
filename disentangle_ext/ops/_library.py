"""What the ops share on their way to the compiled library: fakes, autograd Functions and their leaner siblings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from disentangle_ext._extension import MODULE, available

NAMESPACE = "disentangle_ext"


def raw(op: str) -> Any:
    """The raw op of the compiled library; looked up at call time, since a pure-Python install has none."""
    return getattr(torch.ops.disentangle_ext, op).default


def eager(op: str, *arguments: Any) -> Any:
    """What an op returns by the short way of csrc/eager.cpp, or None where the call must take the long one.

    At a batch of 64, the checks of a wrapper in Python cost as much as a small kernel.
    """
    if torch.compiler.is_compiling() or MODULE is None:
        return None
    return getattr(MODULE, op)(*arguments)


def is_zero(offset: Any) -> bool:
    """Whether an argument has its default of 0; an array would be compared element by element."""
    return type(offset) is int and offset == 0


def register_fake(op: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Registers the shape rule of a raw op, where there is one."""

    def register(rule: Callable[..., Any]) -> Callable[..., Any]:
        if available("cpu"):
            torch.library.register_fake(f"{NAMESPACE}::{op}", rule)
        return rule

    return register


def register_vmap(op: str) -> None:
    """Lets torch.vmap map a raw op: the mapped dimension becomes one more leading dimension of every tensor.

    A shared key is expanded to a key per problem, so every problem sees what it would see alone.
    """

    def rule(info: Any, in_dims: tuple[Any, ...], *args: Any) -> tuple[Any, Any]:
        out = raw(op)(*(_batched_first(info.batch_size, dim, arg) for dim, arg in zip(in_dims, args)))
        if isinstance(out, Tensor):
            return out, 0
        # What is left out of the outputs is an empty tensor, without the mapped dimension.
        return out, tuple(0 if t.dim() and t.shape[0] == info.batch_size else None for t in out)

    if available("cpu"):
        torch.library.register_vmap(f"{NAMESPACE}::{op}", rule)


def _batched_first(size: int, dim: Any, arg: Any) -> Any:
    if isinstance(arg, (list, tuple)):
        dims = dim if isinstance(dim, (list, tuple)) else [dim] * len(arg)
        return [_batched_first(size, each, item) for each, item in zip(dims, arg)]
    if not isinstance(arg, Tensor):
        return arg
    return arg.expand(size, *arg.shape) if dim is None else arg.movedim(dim, 0)


def compute_dtype(tensor: Tensor) -> torch.dtype:
    return torch.float32 if tensor.dtype in (torch.float16, torch.bfloat16) else tensor.dtype


def under_autocast(first: Tensor, *others: Any) -> tuple[Any, ...]:
    """Autocast means float32 here, also where a sampled z is float32 beside the half mu of a linear layer.

    Called before dtypes are compared; what is no half tensor passes through. The casts stand in the graph, where
    autograd sees them.
    """
    tensors = (first, *others)
    device = first.device.type
    if device == "meta" or not torch.is_autocast_enabled(device):
        return tensors
    half = (torch.float16, torch.bfloat16)
    return tuple(t.float() if isinstance(t, Tensor) and t.dtype in half else t for t in tensors)


class Op(torch.autograd.Function):
    """How an op is seen by torch.func: subclasses write ``forward``, ``setup_context`` and ``backward``.

    Everywhere else the raw op brings its own derivative, from csrc/autograd.cpp: a node made in Python costs more than
    a small kernel.
    """

    generate_vmap_rule = True  # from those of the raw ops

    @classmethod
    def call(cls, *inputs: Any) -> Any:
        return cls.apply(*inputs) if transformed() else cls.forward(*inputs)


def transformed() -> bool:
    """Whether a torch.func transform (vmap, grad, jacrev, ..) is active."""
    return torch._C._are_functorch_transforms_active()
