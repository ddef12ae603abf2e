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


def under_autocast(*tensors: Tensor | None) -> tuple[Any, ...]:
    """Autocast means float32 here: the casts stand in the graph, where autograd sees them."""
    device = next(t.device.type for t in tensors if t is not None)
    if not torch.is_autocast_enabled(device):
        return tensors
    return tuple(t if t is None or t.dtype == torch.float64 else t.float() for t in tensors)


class Op(torch.autograd.Function):
    """An autograd Function in the form that torch.compile and torch.func understand, with a faster sibling.

    Subclasses write ``forward``, ``setup_context``, ``backward`` and ``vmap``. Splitting forward from setup_context
    costs PyTorch about as much as a small op takes, so plain eager code goes through ``_lean``, the older form.
    """

    _lean: type[torch.autograd.Function]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)

        def forward(ctx: Any, *inputs: Any) -> Any:
            output = cls.forward(*inputs)
            cls.setup_context(ctx, inputs, output)
            return output

        members = {"forward": staticmethod(forward), "backward": staticmethod(cls.backward)}
        cls._lean = type(f"{cls.__name__}Lean", (torch.autograd.Function,), members)

    @classmethod
    def call(cls, *inputs: Any) -> Any:
        """The cheapest way through: the raw op where no gradient is wanted, else the form the situation needs."""
        if transformed():
            return cls.apply(*inputs)
        if not wants_grad(*inputs):
            return cls.forward(*inputs)
        return cls._lean.apply(*inputs)


def transformed() -> bool:
    """Whether torch.compile traces or a torch.func transform is active."""
    return torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active()


def wants_grad(*inputs: Any) -> bool:
    return torch.is_grad_enabled() and any(isinstance(t, Tensor) and t.requires_grad for t in inputs)


def batched_first(info: Any, in_dims: tuple[int | None, ...], tensors: tuple[Tensor | None, ...]) -> list[Tensor | None]:
    """For vmap rules: every tensor with the mapped dimension in front, where it is one more leading dimension."""
    out: list[Tensor | None] = []
    for tensor, dim in zip(tensors, in_dims):
        if tensor is None:
            out.append(None)
        elif dim is None:
            out.append(tensor.expand(info.batch_size, *tensor.shape))
        else:
            out.append(tensor.movedim(dim, 0))
    return out
