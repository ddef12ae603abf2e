"""elbo_decomposition against the reference, and the identities that its seven fields obey."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from disentangle_ext import ops
from disentangle_ext.ops import reference
from tests.ops.cases import LARGE, QUICK, SOME, N, Shape, dtypes, layouts, posterior, shapes
from tests.ops.components import ESTIMATORS, estimators, gradients_of, with_components
from tests.ops.tolerance import DTYPES, assert_agrees, compute_dtype, largest

REDUCTIONS = ("none", "mean", "sum")

reductions = pytest.mark.parametrize("reduction", REDUCTIONS)
# An estimator weighs the components, a reduction adds up rows: they know nothing of each other. The mean goes with the
# estimators that train and report with it.
each_estimator_and_each_reduction = pytest.mark.parametrize(
    ("estimator", "reduction"), list(zip(ESTIMATORS, ["sum", "mean", "mean", "none"], strict=True))
)


def rounding(z: Tensor, mu: Tensor, logvar: Tensor) -> dict[str, float]:
    """The largest sum of magnitudes over a query's log-density under its own posterior, and under the prior."""
    own = reference.LOG_2PI + logvar.abs() + (z - mu).square() * torch.exp(-logvar)
    size = 0.5 * max(largest(own.sum(-1)), largest((reference.LOG_2PI + z.square()).sum(-1)))
    return {"intermediate": size, "exponent": size}


def agree(
    inputs: list[Tensor], estimator: str = "mss", reduction: str = "mean", offset: int = 0, **options: Any
) -> None:
    """Five tensors come with components."""
    size = max(N, inputs[-1].shape[-2])
    terms = rounding(*inputs[:3])
    if reduction == "sum":
        terms["intermediate"] *= inputs[0].shape[-2]

    def ours(z: Tensor, mu: Tensor, logvar: Tensor, *components: Tensor) -> tuple[Tensor, ...]:
        return ops.elbo_decomposition(
            z,
            mu,
            logvar,
            dataset_size=size,
            estimator=estimator,
            components=components or None,
            offset=offset,
            reduction=reduction,
        )

    def expected(z: Tensor, mu: Tensor, logvar: Tensor, c_mu: Any = None, c_logvar: Any = None) -> tuple[Tensor, ...]:
        return reference.elbo_decomposition(z, mu, logvar, c_mu, c_logvar, estimator, size, offset, reduction)

    assert_agrees(ours, expected, inputs, **(terms | options))


# Against the reference -------------------------------------------------------------------------------------------


@estimators
@shapes(tuple(s for s in QUICK if s.batch > 1))
def test_all_shapes(shape, estimator, device):
    agree(posterior(shape, device), estimator, reduction="none")


@pytest.mark.parametrize(("shape", "estimator"), list(zip(LARGE, ["mws", "mss"], strict=True)), ids=str)
def test_large_shapes(shape, estimator, device):
    agree(posterior(shape, device), estimator, reduction="none")


@each_estimator_and_each_reduction
@dtypes(*DTYPES)
@shapes(tuple(s for s in SOME if s.batch > 1))
def test_all_dtypes_and_reductions(shape, dtype, estimator, reduction, device):
    agree(posterior(shape, device), estimator, reduction, dtype=dtype)


@each_estimator_and_each_reduction
@dtypes(*DTYPES)
@shapes((Shape((), 2, 128), Shape((), 31, 33), Shape((2, 3), 31, 10)))
def test_other_components(shape, dtype, estimator, reduction, device):
    agree(with_components(shape, device, 5, offset=3), estimator, reduction, offset=3, dtype=dtype)


@pytest.mark.parametrize("components", [257, 1030])
@estimators
def test_many_components(components, estimator, device):
    agree(with_components(Shape((), 20, 4), device, components - 20, offset=7), estimator, "none", offset=7)


@dtypes(torch.bfloat16, torch.float32, torch.float64)
@layouts()
@pytest.mark.parametrize("given", [False, True], ids=["batch", "components"])
def test_any_layout(given, layout, dtype, device):
    shape = Shape((2,), 31, 10)
    inputs = with_components(shape, device) if given else posterior(shape, device)
    agree(inputs, "mws", "none", dtype=dtype, layout=layout)


@pytest.mark.parametrize("given", [False, True], ids=["batch", "components"])
@pytest.mark.parametrize("estimator", ["uniform", "mws"])
@reductions
def test_a_single_row(estimator, given, reduction, device):
    shape = Shape((2,), 1, 5)
    agree(with_components(shape, device) if given else posterior(shape, device), estimator, reduction)


@reductions
@estimators
def test_gradcheck(estimator, reduction, device):
    inputs = [t.requires_grad_() for t in posterior(Shape((2,), 3, 4), device)]
    assert torch.autograd.gradcheck(
        lambda *t: tuple(ops.elbo_decomposition(*t, dataset_size=50, estimator=estimator, reduction=reduction)), inputs
    )


@estimators
def test_gradcheck_with_components(estimator, device):
    inputs = [t.requires_grad_() for t in with_components(Shape((), 3, 2), device, 2, offset=1)]
    assert torch.autograd.gradcheck(
        lambda *t: tuple(
            ops.elbo_decomposition(*t[:3], components=t[3:], offset=1, dataset_size=50, estimator=estimator)
        ),
        inputs,
    )


# What comes out --------------------------------------------------------------------------------------------------


@dtypes(*DTYPES)
@pytest.mark.parametrize("leading", [(), (2, 3)], ids=str)
def test_names_dtypes_and_shapes(leading, dtype, device):
    inputs = [t.to(dtype) for t in posterior(Shape(leading, 4, 5), device)]
    for reduction in REDUCTIONS:
        out = ops.elbo_decomposition(*inputs, dataset_size=N, reduction=reduction)
        assert isinstance(out, ops.ElboDecomposition)
        for field in out:
            assert field.shape == (leading if reduction != "none" else (*leading, 4))
            assert (field.dtype, field.device.type) == (compute_dtype(dtype), device.type)
    assert out._fields == (
        "mutual_information",
        "total_correlation",
        "dimwise_kl",
        "log_qz_x",
        "log_qz",
        "log_prod_qz",
        "log_pz",
    )


@estimators
@reductions
@pytest.mark.parametrize("given", [False, True], ids=["batch", "components"])
def test_the_terms_add_up(given, reduction, estimator, device):
    shape = Shape((2,), 31, 10)
    inputs = with_components(shape, device) if given else posterior(shape, device)
    out = ops.elbo_decomposition(
        *inputs[:3], dataset_size=N, estimator=estimator, components=inputs[3:] or None, reduction=reduction
    )
    whole = out.mutual_information + out.total_correlation + out.dimwise_kl
    torch.testing.assert_close(whole, out.log_qz_x - out.log_pz, rtol=1e-12, atol=1e-10)
    torch.testing.assert_close(out.mutual_information, out.log_qz_x - out.log_qz, rtol=1e-12, atol=1e-10)
    torch.testing.assert_close(out.total_correlation, out.log_qz - out.log_prod_qz, rtol=1e-12, atol=1e-10)
    torch.testing.assert_close(out.dimwise_kl, out.log_prod_qz - out.log_pz, rtol=1e-12, atol=1e-10)


def test_densities_against_torch_distributions(device):
    z, mu, logvar = posterior(Shape((), 20, 3), device)
    out = ops.elbo_decomposition(z, mu, logvar, dataset_size=N, reduction="none")
    q = torch.distributions.Normal(mu, torch.exp(0.5 * logvar))
    torch.testing.assert_close(out.log_qz_x, q.log_prob(z).sum(-1))
    torch.testing.assert_close(out.log_pz, torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(-1))


@estimators
@dtypes(torch.float32, torch.float64)
def test_the_aggregate_is_that_of_aggregate_posterior(dtype, estimator, device):
    inputs = [t.to(dtype) for t in with_components(Shape((2,), 31, 10), device, 9, offset=4)]
    out = ops.elbo_decomposition(
        *inputs[:3], dataset_size=N, estimator=estimator, components=inputs[3:], offset=4, reduction="none"
    )
    size = None if estimator == "uniform" else N
    joint, marginals = ops.aggregate_posterior(inputs[0], *inputs[3:], estimator=estimator, dataset_size=size, offset=4)
    assert torch.equal(out.log_qz, joint)
    torch.testing.assert_close(out.log_prod_qz, marginals.sum(-1))


@estimators
@dtypes(torch.bfloat16, torch.float32, torch.float64)
def test_reductions_are_those_of_the_rows(dtype, estimator, device):
    inputs = [t.to(dtype) for t in posterior(Shape((2,), 257, 10), device)]
    none, mean, total = (
        ops.elbo_decomposition(*inputs, dataset_size=N, estimator=estimator, reduction=r) for r in REDUCTIONS
    )
    tolerance = 1e-5 if compute_dtype(dtype) == torch.float32 else 1e-13
    for rows, m, s in zip(none, mean, total):
        size = largest(rows)
        torch.testing.assert_close(m.double(), rows.double().mean(-1), rtol=0, atol=tolerance * size)
        torch.testing.assert_close(s.double(), rows.double().sum(-1), rtol=0, atol=257 * tolerance * size)


@reductions
def test_gradients_of_reductions_are_those_of_the_rows(reduction, device):
    leaves = [t.requires_grad_() for t in posterior(Shape((2,), 31, 4), device)]
    rows = ops.elbo_decomposition(*leaves, dataset_size=N, reduction="none")
    expected = gradients_of([reference.reduce(t, reduction) for t in rows], leaves)
    ours = gradients_of(ops.elbo_decomposition(*leaves, dataset_size=N, reduction=reduction), leaves)
    for a, b in zip(ours, expected):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-12)


@estimators
@reductions
@dtypes(torch.bfloat16, torch.float32)
def test_total_correlation_is_the_field(dtype, reduction, estimator, device):
    inputs = [t.to(dtype) for t in with_components(Shape((2,), 9, 4), device, 6, offset=2)]
    for extra in ({}, {"components": tuple(inputs[3:]), "offset": 2}):
        options = {"dataset_size": N, "estimator": estimator, "reduction": reduction, **extra}
        tc = ops.total_correlation(*inputs[:3], **options)
        assert torch.equal(tc, ops.elbo_decomposition(*inputs[:3], **options).total_correlation)


def test_the_components_default_to_the_batch(device):
    inputs = [t.float() for t in posterior(Shape((2,), 31, 4), device)]
    default = ops.elbo_decomposition(*inputs, dataset_size=N)
    for ours, expected in zip(ops.elbo_decomposition(*inputs, components=inputs[1:], dataset_size=N), default):
        assert torch.equal(ours, expected)


def test_parts_of_a_batch_against_all_its_components(device):
    """What data parallelism does: local rows, gathered components; gradients of all parts add up."""
    inputs = posterior(Shape((), 30, 4), device)
    leaves = [t.clone().requires_grad_() for t in inputs]
    whole = ops.elbo_decomposition(*leaves, dataset_size=N, reduction="none")
    expected = gradients_of(whole, leaves)
    leaves = [t.clone().requires_grad_() for t in inputs]
    parts = [
        ops.elbo_decomposition(
            *(t[i : i + 10] for t in leaves), components=leaves[1:], offset=i, dataset_size=N, reduction="none"
        )
        for i in (0, 10, 20)
    ]
    joined = [torch.cat(fields) for fields in zip(*parts)]
    for a, b in zip((*joined, *gradients_of(joined, leaves)), (*whole, *expected)):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-11)


@dtypes(*DTYPES)
@each_estimator_and_each_reduction
def test_a_stack_equals_its_members(reduction, estimator, dtype, device):
    inputs = [t.to(dtype) for t in with_components(Shape((2, 3), 7, 5), device)]

    def outputs_and_gradients(tensors: list[Tensor]) -> list[Tensor]:
        leaves = [t.detach().requires_grad_() for t in tensors]
        out = ops.elbo_decomposition(
            *leaves[:3], components=leaves[3:], dataset_size=N, estimator=estimator, reduction=reduction
        )
        return [*out, *gradients_of(out, leaves)]

    stack = outputs_and_gradients(inputs)
    for i, j in ((0, 0), (0, 2), (1, 1)):
        for ours, expected in zip(stack, outputs_and_gradients([t[i, j] for t in inputs])):
            assert torch.equal(ours[i, j], expected)


# Some gradients only ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("field", ops.ElboDecomposition._fields)
@dtypes(torch.float32, torch.float64)
@reductions
def test_one_field_differentiated(field, dtype, reduction, device):
    """The other fields send no gradient, which is not the same as a gradient of zeros."""
    inputs = with_components(Shape((2,), 9, 4), device)
    index = ops.ElboDecomposition._fields.index(field)

    def ours(z: Tensor, mu: Tensor, logvar: Tensor, *components: Tensor) -> Tensor:
        return ops.elbo_decomposition(z, mu, logvar, components=components, dataset_size=N, reduction=reduction)[index]

    exact = [t.to(dtype).double().requires_grad_() for t in inputs]
    out = reference.elbo_decomposition(*exact, "mss", N, 0, reduction)[index]
    expected = torch.autograd.grad(out.sum(), exact, allow_unused=True)
    leaves = [t.to(dtype).requires_grad_() for t in inputs]
    gradients = torch.autograd.grad(ours(*leaves).sum(), leaves, allow_unused=True)
    for a, b in zip(gradients, expected):
        if b is None:
            assert a is None or not a.any()
        else:
            assert largest(a.double() - b) <= (1e-4 if dtype == torch.float32 else 1e-12) * max(1, largest(b))


def test_gradients_of_the_fields_add_up_to_that_of_all(device):
    leaves = [t.requires_grad_() for t in posterior(Shape((2,), 31, 4), device)]
    out = ops.elbo_decomposition(*leaves, dataset_size=N)
    apart = [
        torch.autograd.grad((k + 1) * t.sum(), leaves, retain_graph=True, allow_unused=True) for k, t in enumerate(out)
    ]
    for whole, *parts in zip(gradients_of(out, leaves), *apart):
        torch.testing.assert_close(whole, sum(p for p in parts if p is not None), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("wanted", range(5), ids=["z", "mu", "logvar", "component_mu", "component_logvar"])
def test_gradient_of_one_input_alone(wanted, device):
    inputs = with_components(Shape((2,), 9, 4), device)

    def gradients(leaves: list[Tensor], wanted: list[Tensor]) -> tuple[Tensor, ...]:
        return gradients_of(ops.elbo_decomposition(*leaves[:3], components=leaves[3:], dataset_size=N), wanted)

    every = [t.clone().requires_grad_() for t in inputs]
    alone = list(inputs)
    alone[wanted] = inputs[wanted].clone().requires_grad_()
    assert torch.equal(gradients(alone, [alone[wanted]])[0], gradients(every, every)[wanted])
