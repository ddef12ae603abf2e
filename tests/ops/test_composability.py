"""torch.compile, torch.func, autocast, inference mode: the ops are citizens of PyTorch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend
from torch.autograd import forward_ad

from disentangle_ext import ops
from tests.ops.cases import OPS, Op, Shape, all_ops, as_tuple, key, posterior
from tests.ops.tolerance import random_gradients

pytestmark = pytest.mark.usefixtures("compiled")

SHAPE = Shape((), 12, 5)
STACK = Shape((4,), 6, 3)
RAW = {op.raw: op for op in reversed(OPS.values())}
DIFFERENTIABLE = [name for name in OPS if name != "permute_dims"]


@pytest.fixture(autouse=True)
def fresh_dynamo() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def values_and_gradients(f: Any, inputs: list[Tensor]) -> list[Tensor]:
    leaves = [t.detach().requires_grad_() for t in inputs]
    values = as_tuple(f(*leaves))
    return [*(v.detach() for v in values), *torch.autograd.grad(values, leaves, random_gradients(values))]


def assert_equal(ours: Any, expected: Any) -> None:
    for a, b in zip(as_tuple(ours), as_tuple(expected), strict=True):
        assert a.dtype == b.dtype
        assert torch.equal(a, b)


def assert_close(ours: Any, expected: Any) -> None:
    for a, b in zip(as_tuple(ours), as_tuple(expected), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-13)


def assert_close_as_computed(ours: Any, expected: Any) -> None:
    for a, b in zip(as_tuple(ours), as_tuple(expected), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def scalar(op: Op) -> Any:
    """A loss in which no output is linear, so that every gradient depends on the values."""
    return lambda *inputs: sum((t * t).sum() for t in as_tuple(op.function(*inputs)))


def all_inputs(op: Op) -> tuple[int, ...]:
    return tuple(range(len(op.inputs(Shape((), 2, 1), "cpu"))))


# torch.compile ---------------------------------------------------------------------------------------------------


@all_ops()
@pytest.mark.parametrize("shape", [SHAPE, STACK], ids=str)
def test_compiled_graph_equals_eager(op, shape, device):
    inputs = [t.float() for t in op.inputs(shape, device)]
    compiled = torch.compile(op.function, fullgraph=True, backend="aot_eager")
    assert_equal(values_and_gradients(compiled, inputs), values_and_gradients(op.function, inputs))


@all_ops()
@pytest.mark.parametrize("dynamic", [False, True])
def test_compiled_graph_without_gradients(op, dynamic, device):
    inputs = op.inputs(SHAPE, device)
    compiled = torch.compile(op.function, fullgraph=True, backend="aot_eager", dynamic=dynamic)
    assert_equal(compiled(*inputs), op.function(*inputs))


@pytest.mark.parametrize("op", RAW.values(), ids=RAW.keys())
def test_inductor_fuses_around_the_op(op, device):
    def f(*inputs: Tensor) -> Tensor:
        return sum(t.square().sum() for t in as_tuple(op.function(*(2 * t.tanh() for t in inputs))))

    inputs = op.inputs(SHAPE, device)
    compiled = torch.compile(f, fullgraph=True, backend="inductor")
    assert_close(values_and_gradients(compiled, inputs), values_and_gradients(f, inputs))


@all_ops()
def test_a_new_batch_size_compiles_once_more_and_the_next_not_at_all(op, device):
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(op.function, fullgraph=True, backend=counter)

    def graphs(batch: int) -> int:
        inputs = op.inputs(Shape((), batch, 5), device)
        assert_equal(values_and_gradients(compiled, inputs), values_and_gradients(op.function, inputs))
        return counter.frame_count

    assert graphs(12) == 1
    assert graphs(12) == 1
    assert graphs(20) <= 2
    after = counter.frame_count
    assert [graphs(12), graphs(20), graphs(33), graphs(7)] == [after] * 4


def test_without_a_key_compiled_noise_follows_the_seed(device):
    mu = torch.zeros(100, 10, device=device)

    for f in (
        lambda t: ops.rsample_kl(t, t)[0],
        lambda t: ops.permute_dims(t + torch.arange(100, device=device)[:, None]),
    ):
        compiled = torch.compile(f, fullgraph=True, backend="aot_eager")
        first, second = compiled(mu), compiled(mu)
        assert not torch.equal(first, second)
        torch.manual_seed(5)
        again = compiled(mu)
        torch.manual_seed(5)
        assert_equal(again, compiled(mu))
        torch.manual_seed(5)
        assert_equal(again, f(mu))


# Registrations ---------------------------------------------------------------------------------------------------


def raw_arguments(shape: Shape, device: torch.device, dtype: torch.dtype = torch.float32) -> dict[str, list[tuple]]:
    """Arguments of every raw op: several sets, one for each branch of what may be None."""
    torch.manual_seed(1)
    lead = shape.leading
    z, mu, logvar = (t.to(dtype) for t in posterior(shape, device))
    component_mu, component_logvar = (t.to(dtype) for t in posterior(shape._replace(batch=shape.batch + 3), device)[1:])
    log_weight = component_mu[..., 0].contiguous()
    rows, k = z[..., 0].contiguous(), key(device)
    bandwidth = torch.tensor([0.5, 2.0], dtype=torch.float64, device=device)
    wide = torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype
    raw = torch.ops.disentangle_ext
    log_qz, marginals = raw.aggregate_posterior(z, component_mu, component_logvar, log_weight, 0, 0, 0)
    outs = raw.elbo_decomposition(z, mu, logvar, None, None, 2, 1000, 0, 1)
    with_components = raw.elbo_decomposition(z, mu, logvar, component_mu, component_logvar, 1, 1000, 0, 0)
    value, grad_x, grad_y = raw.mmd(z, component_mu, bandwidth, 0, 1.0, False, True)
    batch_less = torch.ones(lead, dtype=wide, device=device)
    return {
        "rsample_kl": [(mu, logvar, k, False), (mu, logvar, k, True)],
        "rsample_kl_backward": [
            (z, rows.to(wide), mu, logvar, k, False),
            (z, None, mu, logvar, k, False),
            (None, z.to(wide), mu, logvar, k, True),
        ],
        "aggregate_posterior": [
            (z, component_mu, component_logvar, None, 0, 0, 0),
            (z, component_mu, component_logvar, log_weight, 0, 0, 0),
            (z, component_mu, component_logvar, None, 2, 1000, 2),
        ],
        "aggregate_posterior_backward": [
            (log_qz, marginals, z, component_mu, component_logvar, log_weight, log_qz, marginals, 0, 0, 0),
            (log_qz, None, z, component_mu, component_logvar, None, log_qz, marginals, 0, 0, 0),
        ],
        "elbo_decomposition": [
            (z, mu, logvar, None, None, 2, 1000, 0, 1),
            (z, mu, logvar, component_mu, component_logvar, 1, 1000, 0, 0),
        ],
        "elbo_decomposition_backward": [
            ([batch_less] * 7, z, mu, logvar, None, None, *outs[7:], 2, 1000, 0, 1),
            (
                [None, rows.to(wide), *[None] * 5],
                *(z, mu, logvar, component_mu, component_logvar),
                *with_components[7:],
                *(1, 1000, 0, 0),
            ),
        ],
        "mmd": [(z, component_mu, bandwidth, 0, 1.0, False, True), (z, component_mu, bandwidth, 3, 1.0, True, False)],
        "mmd_backward": [(value, z, component_mu, grad_x, grad_y)],
        "permute_dims": [(z, k), (z.long(), k)],
        "permute_dims_backward": [(z, k)],
    }


RAW_OPS = sorted(raw_arguments(SHAPE, torch.device("cpu"))) if hasattr(torch.ops.disentangle_ext, "mmd") else []
OPCHECKS = ("test_schema", "test_faketensor", "test_autograd_registration", "test_aot_dispatch_dynamic")


def test_every_raw_op_is_checked():
    names = {
        name.split("::")[1] for name in torch._C._dispatch_get_all_op_names() if name.startswith("disentangle_ext::")
    }
    assert names == set(RAW_OPS)


@pytest.mark.parametrize("name", RAW_OPS)
@pytest.mark.parametrize("shape", [SHAPE, STACK], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
def test_opcheck(name, shape, dtype, device):
    op = getattr(torch.ops.disentangle_ext, name).default
    for arguments in raw_arguments(shape, device, dtype)[name]:
        torch.library.opcheck(op, arguments, test_utils=OPCHECKS)


@pytest.mark.parametrize("name", [name for name in RAW_OPS if not name.endswith("_backward")])
def test_opcheck_with_gradients(name, device):
    op = getattr(torch.ops.disentangle_ext, name).default
    for arguments in raw_arguments(SHAPE, device, torch.float64)[name]:
        if name == "mmd" and not arguments[-1]:
            continue  # told not to prepare a gradient: see test_errors.py
        # The bandwidth, the one floating-point argument without a gradient, is checked by the Python wrapper.
        leaves = [
            a.clone().requires_grad_() if isinstance(a, Tensor) and a.dim() == 2 and a.is_floating_point() else a
            for a in arguments
        ]
        torch.library.opcheck(op, tuple(leaves), test_utils=OPCHECKS)


# torch.func ------------------------------------------------------------------------------------------------------


@all_ops()
def test_vmap_equals_a_loop(op, device):
    inputs = op.inputs(STACK, device)
    ours = as_tuple(torch.vmap(op.function)(*inputs))
    for i in range(STACK.leading[0]):
        assert_close(tuple(t[i] for t in ours), op.function(*(t[i] for t in inputs)))


@all_ops()
def test_vmap_over_another_dimension_and_out_dims(op, device):
    inputs = op.inputs(STACK, device)
    moved = [t.movedim(0, -1) for t in inputs]
    ours = as_tuple(torch.vmap(op.function, in_dims=-1, out_dims=-1)(*moved))
    assert_close(tuple(t.movedim(-1, 0) for t in ours), torch.vmap(op.function)(*inputs))


@all_ops()
def test_vmap_leaves_an_input_unbatched(op, device):
    inputs = op.inputs(STACK, device)
    for shared in range(len(inputs)) if len(inputs) > 1 else ():
        mixed = [t[0] if i == shared else t for i, t in enumerate(inputs)]
        in_dims = tuple(None if i == shared else 0 for i in range(len(inputs)))
        ours = as_tuple(torch.vmap(op.function, in_dims=in_dims)(*mixed))
        gradient = torch.vmap(torch.func.grad(scalar(op), all_inputs(op)), in_dims=in_dims)(*mixed)
        for i in range(STACK.leading[0]):
            one = [t if j == shared else t[i] for j, t in enumerate(mixed)]
            assert_close(tuple(t[i] for t in ours), op.function(*one))
            assert_close(tuple(t[i] for t in gradient), torch.func.grad(scalar(op), all_inputs(op))(*one))


@all_ops()
def test_nested_vmap(op, device):
    inputs = op.inputs(Shape((2, 3), 4, 2), device)
    ours = as_tuple(torch.vmap(torch.vmap(op.function))(*inputs))
    for i in range(2):
        for j in range(3):
            assert_close(tuple(t[i, j] for t in ours), op.function(*(t[i, j] for t in inputs)))


@all_ops()
def test_functional_gradient_is_that_of_autograd(op, device):
    inputs = op.inputs(SHAPE, device)
    leaves = [t.clone().requires_grad_() for t in inputs]
    expected = torch.autograd.grad(scalar(op)(*leaves), leaves)
    assert_close(torch.func.grad(scalar(op), all_inputs(op))(*inputs), expected)


@all_ops()
def test_vmap_of_gradients_equals_a_loop(op, device):
    inputs = op.inputs(STACK, device)
    gradient = torch.func.grad(scalar(op), all_inputs(op))
    ours = torch.vmap(gradient)(*inputs)
    for i in range(STACK.leading[0]):
        assert_close(tuple(t[i] for t in ours), gradient(*(t[i] for t in inputs)))


@all_ops()
def test_compiled_vmap(op, device):
    inputs = op.inputs(STACK, device)
    f = torch.vmap(op.function)
    compiled = torch.compile(f, fullgraph=True, backend="aot_eager")
    assert_equal(values_and_gradients(compiled, inputs), values_and_gradients(f, inputs))


@all_ops()
def test_gradient_through_vmap(op, device):
    """The other order: autograd outside."""
    inputs = op.inputs(STACK, device)

    def looped(*leaves: Tensor) -> tuple[Tensor, ...]:
        members = [as_tuple(op.function(*(t[i] for t in leaves))) for i in range(STACK.leading[0])]
        return tuple(torch.stack(outputs) for outputs in zip(*members))

    assert_close(
        tuple(values_and_gradients(torch.vmap(op.function), inputs)), tuple(values_and_gradients(looped, inputs))
    )


@all_ops()
def test_jacobian_row_by_row(op, device):
    inputs = op.inputs(Shape((), 4, 2), device)

    def flat(*tensors: Tensor) -> Tensor:
        return torch.cat([t.flatten() for t in as_tuple(op.function(*tensors))])

    ours = torch.func.jacrev(flat, all_inputs(op))(*inputs)
    leaves = [t.clone().requires_grad_() for t in inputs]
    values = flat(*leaves)
    rows = [torch.autograd.grad(v, leaves, retain_graph=True, materialize_grads=True) for v in values]
    assert_close(ours, tuple(torch.stack(column) for column in zip(*rows)))


def test_vmap_draws_noise_as_it_is_told(device):
    mu = torch.zeros(4, 6, 3, device=device)

    def sample(mu: Tensor) -> Tensor:
        return ops.rsample_kl(mu, mu)[0]

    different = torch.vmap(sample, randomness="different")(mu)
    assert all(not torch.equal(different[i], different[j]) for i in range(4) for j in range(i))
    same = torch.vmap(sample, randomness="same")(mu)
    assert all(torch.equal(same[i], same[0]) for i in range(4))
    with pytest.raises(RuntimeError, match="randomness"):
        torch.vmap(sample)(mu)


def test_vmap_draws_permutations_as_it_is_told(device):
    z = torch.arange(50, device=device)[:, None].expand(4, 50, 3)
    different = torch.vmap(ops.permute_dims, randomness="different")(z)
    assert all(not torch.equal(different[i], different[j]) for i in range(4) for j in range(i))
    same = torch.vmap(ops.permute_dims, randomness="same")(z)
    assert all(torch.equal(same[i], same[0]) for i in range(4))


def test_vmap_over_keys(device):
    """A key per member gives what each key gives alone, forward and backward."""
    keys = torch.tensor([[1, 2], [3, 4], [1, 5]], device=device)
    mu, logvar = posterior(SHAPE, device)[1:]

    def f(k: Tensor, mu: Tensor) -> Tensor:
        return ops.rsample_kl(mu, logvar, key=k)[0].square().sum()

    ours = torch.vmap(torch.func.grad(f, 1), in_dims=(0, None))(keys, mu)
    for i, k in enumerate(keys):
        assert_close(ours[i], torch.func.grad(f, 1)(k, mu))


# What has no derivative says so --------------------------------------------------------------------------------------


@all_ops()
def test_a_second_derivative_raises(op, device):
    leaves = [t.requires_grad_() for t in op.inputs(SHAPE, device)]
    gradients = torch.autograd.grad(scalar(op)(*leaves), leaves, create_graph=True)
    for gradient in gradients:
        for leaf in leaves:
            with pytest.raises(RuntimeError, match=f"{op.raw}_backward is not implemented"):
                torch.autograd.grad(gradient.sum(), leaf, retain_graph=True)


@all_ops(*DIFFERENTIABLE)
def test_a_second_derivative_raises_for_a_constant_incoming_gradient(op, device):
    leaves = [t.requires_grad_() for t in op.inputs(SHAPE, device)]
    values = as_tuple(op.function(*leaves))
    gradients = torch.autograd.grad([v.sum() for v in values], leaves, create_graph=True)
    assert all(g.requires_grad for g in gradients)
    with pytest.raises(RuntimeError, match="not implemented"):
        torch.autograd.grad(sum(g.sum() for g in gradients), leaves)


def test_the_gradient_of_a_linear_op_is_a_constant(device):
    """permute_dims is linear: nothing to differentiate is left, and autograd knows it."""
    z = torch.randn(SHAPE.batch, SHAPE.D, device=device, requires_grad=True)
    (gradient,) = torch.autograd.grad(ops.permute_dims(z, key=key(device)).sum(), z, create_graph=True)
    assert not gradient.requires_grad


@all_ops()
def test_a_second_derivative_raises_under_torch_func(op, device):
    inputs = op.inputs(Shape((), 3, 2), device)
    f, n = scalar(op), all_inputs(op)
    with pytest.raises(RuntimeError, match="not implemented"):
        torch.func.grad(lambda *t: sum(g.square().sum() for g in torch.func.grad(f, n)(*t)))(*inputs)
    with pytest.raises((RuntimeError, NotImplementedError), match="implement"):
        torch.func.hessian(f)(*inputs)
    with pytest.raises(RuntimeError, match="not implemented"):
        torch.func.jacrev(torch.func.jacrev(f))(*inputs)


@all_ops()
def test_forward_mode_raises(op, device):
    inputs = tuple(op.inputs(SHAPE, device))
    with pytest.raises((RuntimeError, NotImplementedError), match="jvp"):
        torch.func.jvp(op.function, inputs, inputs)
    with forward_ad.dual_level(), pytest.raises((RuntimeError, NotImplementedError), match="jvp"):
        op.function(*(forward_ad.make_dual(t, torch.ones_like(t)) for t in inputs))


@all_ops()
def test_a_functional_gradient_compiles(op, device):
    """Dynamo unrolls the Function that torch.func needs down to the raw op, whose own node then serves."""
    inputs = op.inputs(SHAPE, device)
    gradient = torch.func.grad(scalar(op), all_inputs(op))
    torch._dynamo.reset()
    compiled = torch.compile(gradient, fullgraph=True, backend="aot_eager")(*inputs)
    for ours, eager in zip(compiled, gradient(*inputs), strict=True):
        torch.testing.assert_close(ours, eager)


@all_ops("rsample_kl", "aggregate_posterior_weighted", "elbo_decomposition_components", "mmd")
def test_inputs_changed_in_place_are_noticed(op, device):
    for changed in range(len(all_inputs(op))):
        leaves = [t.requires_grad_() for t in op.inputs(SHAPE, device)]
        inputs = [t * 1 for t in leaves]
        value = scalar(op)(*inputs)
        with torch.no_grad():
            inputs[changed].add_(1)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            value.backward()


@pytest.mark.parametrize("name", ["rsample_kl", "permute_dims"])
def test_a_key_changed_in_place_is_noticed(name, device):
    k, z = key(device), torch.randn(5, 3, device=device, requires_grad=True)
    out = ops.permute_dims(z, key=k) if name == "permute_dims" else ops.rsample_kl(z, z, key=k)[0]
    k.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()


# Modes -----------------------------------------------------------------------------------------------------------


@all_ops(*DIFFERENTIABLE)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("compiled_graph", [False, True], ids=["eager", "compile"])
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


@all_ops("rsample_kl", "elbo_decomposition", "mmd")
def test_autocast_outside_of_the_compiled_function(op, device):
    inputs = [t.bfloat16() for t in op.inputs(SHAPE, device)]
    expected = values_and_gradients(op.function, [t.float() for t in inputs])
    with torch.autocast(device.type, torch.bfloat16):
        values = as_tuple(torch.compile(op.function, fullgraph=True, backend="aot_eager")(*inputs))
    # On a GPU, mmd without gradients adds up in another order than with them.
    same = assert_close_as_computed if op.raw == "mmd" and device.type == "cuda" else assert_equal
    same(values, tuple(expected[: len(values)]))


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


@all_ops()
def test_gradients_only_where_they_are_asked_for(op, device):
    """One input at a time, and backward a second time with retain_graph."""
    inputs = op.inputs(SHAPE, device)
    leaves = [t.clone().requires_grad_() for t in inputs]
    expected = torch.autograd.grad(scalar(op)(*leaves), leaves)
    for i in range(len(inputs)):
        one = [t.clone().requires_grad_(i == j) for j, t in enumerate(inputs)]
        value = scalar(op)(*one)
        for _ in range(2):
            (gradient,) = torch.autograd.grad(value, one[i], retain_graph=True)
            assert_equal(gradient, expected[i])


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
