"""Queries, components and weights; the values and gradients they give."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from disentangle_ext import ops
from tests.ops.cases import Shape, normal, posterior

ESTIMATORS = ("uniform", "mws", "mss", "mss_legacy")
estimators = pytest.mark.parametrize("estimator", ESTIMATORS)


def weighted(shape: Shape, device, components: int) -> list[torch.Tensor]:
    inputs = posterior(shape, device, components)
    return [*inputs, normal(*inputs[1].shape[:-1], device=device)]


def values_and_gradients(inputs, **options) -> tuple[list[torch.Tensor], tuple[torch.Tensor, ...]]:
    leaves = [t.detach().requires_grad_() for t in inputs]
    if len(leaves) == 4:
        options["log_weight"] = leaves[3]
    out = ops.aggregate_posterior(*leaves[:3], **options)
    return list(out), torch.autograd.grad(out[0].sum() + 0.5 * out[1].sum(), leaves)


def with_components(shape: Shape, device: torch.device, more: int = 3, offset: int = 0) -> list[Tensor]:
    """The queries' own posteriors are among the components, from `offset` on."""
    inputs = posterior(shape, device)
    components = posterior(shape._replace(batch=shape.batch + more), device)[1:]
    for c, own in zip(components, inputs[1:]):
        c[..., offset : offset + shape.batch, :] = own
    return [*inputs, *components]


def gradients_of(outputs: Any, leaves: list[Tensor]) -> tuple[Tensor, ...]:
    return torch.autograd.grad(sum((k + 1) * t.sum() for k, t in enumerate(outputs)), leaves, allow_unused=True)
