"""The short way of csrc/eager.cpp: it is taken where it may be, and returns what the long way returns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from disentangle_ext import ops
from disentangle_ext._extension import available
from disentangle_ext.ops import _library

pytestmark = pytest.mark.skipif(not available("cpu"), reason="there is no compiled module")

B, D = 6, 3
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
CALLS: dict[str, Callable[..., Any]] = {
    "rsample_kl": lambda a, b, c: ops.rsample_kl(a, b),
    "rsample_kl_per_dimension": lambda a, b, c: ops.rsample_kl(a, b, per_dimension=True),
    "permute_dims": lambda a, b, c: ops.permute_dims(a),
    "aggregate_exact": lambda a, b, c: ops.aggregate_posterior(a[:2], b, c),
    "aggregate_mss": lambda a, b, c: ops.aggregate_posterior(a, b, c, estimator="mss", dataset_size=100),
    "elbo_mss": lambda a, b, c: ops.elbo_decomposition(a, b, c, dataset_size=100),
    "elbo_mws": lambda a, b, c: ops.elbo_decomposition(a, b, c, dataset_size=100, estimator="mws", reduction="none"),
    "elbo_legacy": lambda a, b, c: ops.elbo_decomposition(
        a, b, c, dataset_size=100, estimator="mss_legacy", reduction="sum"
    ),
    "elbo_uniform": lambda a, b, c: ops.elbo_decomposition(a, b, c, dataset_size=100, estimator="uniform"),
    "mmd": lambda a, b, c: ops.mmd(a, b),
    "mmd_biased": lambda a, b, c: ops.mmd(a, b, estimator="biased", bandwidth=2.0),
    "mmd_rq": lambda a, b, c: ops.mmd(a, b, kernel="rq", exponent=0.5),
    "mmd_imq": lambda a, b, c: ops.mmd(a, b, kernel="imq", bandwidth=0.7),
    "mmd_laplacian": lambda a, b, c: ops.mmd(a, b, kernel="laplacian"),
}


def inputs(dtype: torch.dtype = torch.float32) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(3)
    return tuple(torch.randn(B, D, generator=generator).to(dtype).requires_grad_() for _ in range(3))


def outcome(call: Callable[..., Any], tensors: tuple[Tensor, ...]) -> list[Tensor]:
    """Outputs and gradients."""
    torch.manual_seed(11)
    out = call(*tensors)
    out = out if isinstance(out, tuple) else (out,)
    value = sum((t.float() * (i + 1)).sum() for i, t in enumerate(out))
    gradients = torch.autograd.grad(value, tensors, allow_unused=True)
    return [*out, *(torch.zeros(()) if g is None else g for g in gradients)]


def refuse(*_: Any) -> None:
    raise AssertionError("the other way was taken")


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", CALLS)
def test_both_ways_return_the_same(name, dtype, monkeypatch):
    tensors = inputs(dtype)
    with monkeypatch.context() as patch:
        patch.setattr(_library, "raw", refuse)  # what every wrapper ends in
        short = outcome(CALLS[name], tensors)
    monkeypatch.setattr(_library, "eager", lambda *_: None)
    long = outcome(CALLS[name], tensors)
    for a, b in zip(short, long, strict=True):
        assert a.dtype == b.dtype
        assert torch.equal(a, b)


@pytest.mark.parametrize("name", CALLS)
def test_strided_inputs_and_parameters(name, monkeypatch):
    wide = torch.randn(3, D, 2 * B)
    tensors = tuple(torch.nn.Parameter(t[:, ::2].t()) for t in wide)
    with monkeypatch.context() as patch:
        patch.setattr(_library, "raw", refuse)
        short = outcome(CALLS[name], tensors)
    long = outcome(CALLS[name], tuple(t.detach().contiguous().requires_grad_() for t in tensors))
    for a, b in zip(short, long, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("name", CALLS)
def test_nothing_is_recorded_without_grad(name):
    tensors = inputs()
    with torch.no_grad():
        out = CALLS[name](*tensors)
    detached = CALLS[name](*(t.detach() for t in tensors))
    for t in (
        *(out if isinstance(out, tuple) else (out,)),
        *(detached if isinstance(detached, tuple) else (detached,)),
    ):
        assert t.grad_fn is None


class Named(Tensor):
    """A subclass, whose calls are its own business."""


class Functions(TorchFunctionMode):
    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return function(*args, **(kwargs or {}))


class Operators(TorchDispatchMode):
    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    "context",
    [
        pytest.param(lambda: torch.autocast("cpu", torch.bfloat16), id="autocast"),
        pytest.param(Functions, id="function-mode"),
        pytest.param(Operators, id="dispatch-mode"),
    ],
)
@pytest.mark.parametrize("name", CALLS)
def test_what_is_observed_takes_the_long_way(name, context, monkeypatch):
    monkeypatch.setattr(_library, "raw", refuse)
    with context(), pytest.raises(AssertionError, match="the other way"):
        CALLS[name](*inputs())


@pytest.mark.parametrize("name", CALLS)
def test_subclasses_and_transforms_take_the_long_way(name, monkeypatch):
    monkeypatch.setattr(_library, "raw", refuse)
    with pytest.raises(AssertionError, match="the other way"):
        CALLS[name](*(t.detach().as_subclass(Named) for t in inputs()))
    with pytest.raises(AssertionError, match="the other way"):
        torch.vmap(CALLS[name], randomness="different")(*(t.detach().expand(2, B, D) for t in inputs()))


@pytest.mark.filterwarnings("ignore")  # of what PyTorch calls a prototype, or deprecated
@pytest.mark.parametrize("kind", ["nested", "quantized", "sparse"])
def test_tensors_that_are_not_dense_are_declined(kind):
    dense = torch.randn(B, D)
    odd = {
        "nested": lambda: torch.nested.nested_tensor([dense, dense]),
        "quantized": lambda: torch.quantize_per_tensor(dense, 0.1, 0, torch.qint8),
        "sparse": dense.to_sparse,
    }[kind]()
    short = _library.MODULE
    assert short.rsample_kl(odd, odd, False, None, None) is None
    assert short.permute_dims(odd, None, None) is None
    assert short.aggregate_posterior(odd, odd, odd, "uniform", None) is None
    assert short.elbo_decomposition(odd, odd, odd, 100, "mss", "mean") is None
    assert short.mmd(odd, odd, "rbf", 1.0, 1.0, "unbiased") is None


def test_the_default_generator_moves_on():
    mu, logvar, _ = inputs()
    torch.manual_seed(0)
    first, second = ops.rsample_kl(mu, logvar)[0], ops.rsample_kl(mu, logvar)[0]
    assert not torch.equal(first, second)
    torch.manual_seed(0)
    assert torch.equal(first, ops.rsample_kl(mu, logvar)[0])
