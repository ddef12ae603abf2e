"""Autocast, no_grad, inference mode and the meta device."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from disentangle_ext import ops
from tests.ops.calls import (
    DIFFERENTIABLE,
    SHAPE,
    assert_close_as_computed,
    assert_equal,
    values_and_gradients,
)
from tests.ops.cases import all_ops, as_tuple
from tests.ops.tolerance import DTYPES

pytestmark = pytest.mark.usefixtures("compiled")


@pytest.fixture(autouse=True)
def fresh_dynamo() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


# Of a compiled graph, the casts alone: half types stand for each other, and the wide ones are not cast.
AUTOCAST = [*((dtype, False) for dtype in DTYPES), (torch.bfloat16, True)]


@all_ops(*DIFFERENTIABLE)
@pytest.mark.parametrize(("dtype", "compiled_graph"), AUTOCAST, ids=str)
def test_autocast_computes_in_float32(op, dtype, compiled_graph, device):
    inputs = [t.to(dtype) for t in op.inputs(SHAPE, device)]
    wide = torch.float64 if dtype == torch.float64 else torch.float32

    def f(*tensors: Tensor) -> Any:
        with torch.autocast(device.type, torch.bfloat16):
            return op.function(*tensors)

    run = torch.compile(f, fullgraph=True, backend="aot_eager") if compiled_graph else f
    ours = values_and_gradients(run, inputs)
    expected = values_and_gradients(op.function, [t.to(wide) for t in inputs])
    values = len(ours) - len(inputs)
    assert_equal(tuple(ours[:values]), tuple(expected[:values]))
    assert all(v.dtype == wide for v in ours[:values])
    assert_equal(tuple(ours[values:]), tuple(g.to(dtype) for g in expected[values:]))


def test_autocast_leaves_values_that_are_only_moved(device):
    z = torch.randn(6, 3, device=device, dtype=torch.bfloat16)
    with torch.autocast(device.type, torch.bfloat16):
        assert ops.permute_dims(z).dtype == torch.bfloat16


@all_ops()
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_modes_without_gradients(op, mode, device):
    leaves = [t.requires_grad_() for t in op.inputs(SHAPE, device)]
    with mode():
        ours = op.function(*leaves)
        fresh = op.function(*(t * 1 for t in leaves))
    assert not any(t.requires_grad for t in as_tuple(ours))
    # On a GPU, mmd without gradients adds up in another order than with them.
    same = assert_close_as_computed if op.raw == "mmd" and device.type == "cuda" else assert_equal
    same(ours, tuple(t.detach() for t in as_tuple(op.function(*leaves))))
    assert_equal(fresh, ours)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_takes_a_sampled_z_beside_half_parameters(dtype, device):
    """As under AMP: a linear layer gives half mu and logvar, rsample_kl a float32 z."""
    mu = torch.randn(12, 5, device=device).to(dtype).requires_grad_()
    logvar = torch.randn(12, 5, device=device).to(dtype).requires_grad_()
    with torch.autocast(device.type, dtype=torch.bfloat16):
        z, _ = ops.rsample_kl(mu, logvar)
        parts = ops.elbo_decomposition(z, mu, logvar, dataset_size=100)
        joint, _ = ops.aggregate_posterior(z, mu, logvar)
        total = parts.total_correlation + joint.mean() + ops.mmd(z, mu)
    assert z.dtype == total.dtype == torch.float32
    total.backward()
    assert mu.grad.dtype == logvar.grad.dtype == dtype
    assert mu.grad.isfinite().all()


def test_meta_tensors():
    """The reference gives their shapes, where there is neither a kernel nor autocast."""
    x = torch.zeros(8, 3, device="meta")
    z, kl = ops.rsample_kl(x, x)
    assert (z.shape, kl.shape, ops.mmd(x, x).shape) == ((8, 3), (8,), ())
    assert ops.elbo_decomposition(x, x, x, dataset_size=10).total_correlation.shape == ()


def test_mmd_test_under_autocast():
    x, y = torch.randn(8, 3), torch.randn(8, 3).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        statistic = ops.mmd_test(x, y, permutations=20).statistic
        torch.testing.assert_close(statistic, ops.mmd(x, y, bandwidth="median"))
