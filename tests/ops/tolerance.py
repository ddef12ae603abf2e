"""When is a kernel right? The yardstick is the error that plain PyTorch makes itself.

    max|ours - ref64| <= 2 max|eager - ref64| + 8 ulp of the largest intermediate + 1 half ulp where the output is half

Inputs are first rounded to the dtype of the op. ``ref64`` is the reference in float64, ``eager`` the same reference in
the dtype of the op (float32 for half types), ``ours`` the op. The rule holds for every output and every gradient, with
random gradients coming in. An ulp is one of float32, or of float64 where the op computes in it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

HALF = (torch.float16, torch.bfloat16)
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    return torch.float32 if dtype in HALF else dtype


def ulp(value: float, dtype: torch.dtype) -> float:
    """Spacing of the numbers of `dtype` just above |value|."""
    info = torch.finfo(dtype)
    x = torch.tensor(abs(value), dtype=torch.float64).clamp(info.tiny, info.max)
    return float(2.0 ** torch.floor(torch.log2(x)) * info.eps)


@dataclass
class Run:
    """What a function returned: values, gradients (None where an input has none), and the largest number on the way."""

    values: list[Tensor]
    incoming: list[Tensor]
    """The weights of the values."""
    gradients: list[Tensor | None]
    largest_gradient: float


class Largest(TorchDispatchMode):
    """Watches every finite floating-point number that PyTorch computes while it is active."""

    value = 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for t in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(t, Tensor) and t.is_floating_point() and t.numel():
                self.value = max(self.value, largest(t))
        return out


def largest(*tensors: Tensor) -> float:
    """The largest finite magnitude."""
    return max((float(t.detach().double().abs().nan_to_num(0, 0, 0).max()) for t in tensors if t.numel()), default=0.0)


def run(f: Callable[..., Any], inputs: Sequence[Tensor | None], incoming: Sequence[Tensor] | None = None) -> Run:
    """Evaluates f once, and the gradients of its outputs, weighted by `incoming` or at random, for every input."""
    leaves = [None if t is None else t.detach().requires_grad_(t.is_floating_point()) for t in inputs]
    out = f(*leaves)
    values = [out] if isinstance(out, Tensor) else list(out)
    wanted = [t for t in leaves if t is not None and t.requires_grad]
    incoming = random_gradients(values) if incoming is None else list(incoming)
    with Largest() as seen:
        grads = iter(torch.autograd.grad(values, wanted, incoming, allow_unused=True))
    gradients = [next(grads) if t is not None and t.requires_grad else None for t in leaves]
    return Run([v.detach() for v in values], incoming, gradients, seen.value)


def random_gradients(values: Sequence[Tensor]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(v.shape, generator=generator).to(v.device, v.dtype) for v in values]


def assert_agrees(
    op: Callable[..., Any],
    reference: Callable[..., Any],
    inputs: Sequence[Tensor | None],
    *,
    dtype: torch.dtype = torch.float32,
    layout: Callable[[Tensor], Tensor] = lambda t: t,
    intermediate: float = 0.0,
    exponent: float = 0.0,
) -> None:
    """Holds op against reference by the rule above.

    Args:
        op, reference: functions of the inputs that return a Tensor or a tuple of them.
        inputs: float64 masters; None is passed on as it is.
        dtype: what the op is given.
        layout: gives the tensors that the op sees other strides.
        intermediate: the largest number on the way to the values, where that is larger than the values.
        exponent: the largest logarithm whose exponential is a factor of the gradients, where it is large: its ulps are
            a relative error of theirs.
    """
    ours_in = [None if t is None else layout(t.to(dtype)) for t in inputs]
    plain = [None if t is None else t.contiguous() for t in ours_in]
    ours = run(op, ours_in)
    ref64 = run(reference, _as(torch.float64, plain), _as(torch.float64, ours.incoming))
    eager_dtype = compute_dtype(dtype)
    eager = run(reference, _as(eager_dtype, plain), _as(eager_dtype, ours.incoming))

    scale = max(intermediate, largest(*ref64.values))
    for i, (o, e, r) in enumerate(zip(ours.values, eager.values, ref64.values, strict=True)):
        _compare(f"value {i}", o, e, r, eager_dtype, scale)
    scale = max(ref64.largest_gradient, largest(*(g for g in ref64.gradients if g is not None)))
    for i, (o, e, r) in enumerate(zip(ours.gradients, eager.gradients, ref64.gradients, strict=True)):
        if r is None or e is None:
            assert o is None, f"gradient {i}: expected none"
            continue
        assert o is not None, f"gradient {i} is missing"
        assert o.dtype == ours_in[i].dtype, f"gradient {i} has the dtype {o.dtype}"
        relative = ulp(exponent, eager_dtype) / torch.finfo(eager_dtype).eps if exponent > 1 else 0.0
        _compare(f"gradient {i}", o, e, r, eager_dtype, scale + relative * largest(r))


def _as(dtype: torch.dtype, tensors: Sequence[Tensor | None]) -> list[Tensor | None]:
    return [None if t is None else t.to(dtype) for t in tensors]


def _compare(name: str, ours: Tensor, eager: Tensor, ref64: Tensor, dtype: torch.dtype, scale: float) -> None:
    assert ours.shape == ref64.shape, f"{name}: shape {tuple(ours.shape)} instead of {tuple(ref64.shape)}"
    if ours.numel() == 0:
        return
    error, eager_error = (_error(t, ref64) for t in (ours, eager))
    allowed = 2 * eager_error + 8 * ulp(scale, dtype)
    if ours.dtype in HALF:
        allowed += ulp(largest(ref64), ours.dtype)
    assert error <= allowed, (
        f"{name}: error {error:.3g}, allowed {allowed:.3g} (plain PyTorch {eager_error:.3g}, largest {scale:.3g})"
    )


def _error(x: Tensor, ref64: Tensor) -> float:
    """Largest difference; infinite where one is not finite and the other is not the same."""
    difference = (x.double() - ref64).abs()
    difference[x.double() == ref64] = 0  # equal infinities
    difference[x.isnan() & ref64.isnan()] = 0
    return float(difference.nan_to_num(float("inf")).max())
