"""mmd against the reference and against the formulas of the papers; mmd_test under the null and against it."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from disentangle_ext import ops
from disentangle_ext.ops import reference
from tests.ops.cases import NASTY, Shape, bandwidths, dtypes, layouts, nans, normal, shapes
from tests.ops.tolerance import DTYPES, assert_agrees, compute_dtype, largest

KERNELS = ("rbf", "rq", "imq", "laplacian", "energy")
kernels = pytest.mark.parametrize("kernel", KERNELS)
estimators = pytest.mark.parametrize("estimator", ["unbiased", "biased", "linear"])
widths = pytest.mark.parametrize("h", [(1.3,), (0.5, 2.0, 7.0)], ids=["one", "several"])


def samples(shape: Shape, device, *, equal: bool = False, more: int = 3) -> list[Tensor]:
    y = normal(*shape.leading, shape.batch + (0 if equal else more), shape.D, device=device, scale=0.7, shift=0.4)
    return [normal(*shape.leading, shape.batch, shape.D, device=device), y]


def settings(kernel: str, h: tuple[float, ...], estimator: str) -> dict:
    h = {} if kernel == "energy" else {"bandwidth": h[0] if len(h) == 1 else h}
    return {"kernel": kernel, "estimator": estimator, "exponent": 1.7, **h}


def agree(inputs, device, kernel="rbf", h=(1.3,), estimator="unbiased", **options) -> None:
    widths = bandwidths(*(h if kernel != "energy" else (1.0,)), device=device)
    size = largest(*inputs) * math.sqrt(2 * inputs[0].shape[-1]) if kernel == "energy" else len(h)
    assert_agrees(
        lambda x, y: ops.mmd(x, y, **settings(kernel, h, estimator)),
        lambda x, y: reference.mmd(x, y, widths, kernel, 1.7, estimator),
        inputs,
        **({"intermediate": size} | options),
    )


# Against the reference -------------------------------------------------------------------------------------------


@kernels
@pytest.mark.parametrize("estimator", ["unbiased", "biased"])
@shapes(tuple(s for s in NASTY if s.batch * s.D < 257 * 33))
def test_all_shapes(shape, estimator, kernel, device):
    if estimator == "unbiased" and shape.batch == 1:
        shape = shape._replace(batch=2)
    agree(samples(shape, device), device, kernel, estimator=estimator)


@pytest.mark.usefixtures("compiled")
@kernels
@pytest.mark.parametrize("D", [10, 40])
@dtypes(torch.float32, torch.float64)
def test_runs_are_bitwise_equal(dtype, D, kernel, device):
    leaves = [t.to(dtype).requires_grad_() for t in samples(Shape((), 300, D), device)]

    def run() -> list[Tensor]:
        value = ops.mmd(*leaves, kernel=kernel)
        return [value.detach(), *torch.autograd.grad(value, leaves)]

    first = run()
    for _ in range(3):
        assert all(torch.equal(a, b) for a, b in zip(first, run()))


@pytest.mark.parametrize(
    ("D", "kernel", "estimator"), [(33, "imq", "unbiased"), (128, "rbf", "biased"), (128, "laplacian", "unbiased")]
)
def test_large_shapes(D, kernel, estimator, device):
    """Few of them: the reference needs memory in batch^2 D."""
    agree(samples(Shape((), 257, D), device), device, kernel, estimator=estimator)


@kernels
@shapes(tuple(s for s in NASTY if s.batch % 2 == 0))
def test_linear_of_all_shapes(shape, kernel, device):
    agree(samples(shape, device, equal=True), device, kernel, estimator="linear")


@kernels
@estimators
@widths
@dtypes(*DTYPES)
@shapes((Shape((), 2, 128), Shape((), 256, 10), Shape((2, 3), 30, 10)))
def test_all_dtypes(shape, dtype, h, estimator, kernel, device):
    agree(samples(shape, device, equal=estimator == "linear"), device, kernel, h, estimator, dtype=dtype)


@kernels
@estimators
@layouts()
@dtypes(torch.bfloat16, torch.float32, torch.float64)
def test_any_layout(dtype, layout, estimator, kernel, device):
    inputs = samples(Shape((2,), 30, 10), device, equal=estimator == "linear")
    agree(inputs, device, kernel, (0.7, 3.0), estimator, dtype=dtype, layout=layout)


@pytest.mark.parametrize("more", [-30, 3, 500])
@kernels
def test_samples_of_different_size(kernel, more, device):
    agree(samples(Shape((), 33, 5), device, more=more), device, kernel, estimator="biased")
    agree(samples(Shape((), 533, 5), device, more=-more), device, kernel)


def test_large_samples(device):
    agree(samples(Shape((), 1033, 3), device, more=1000), device)


@kernels
@estimators
@widths
def test_gradcheck(h, estimator, kernel, device):
    inputs = [t.requires_grad_() for t in samples(Shape((2,), 4, 3), device, equal=estimator == "linear")]
    assert torch.autograd.gradcheck(lambda x, y: ops.mmd(x, y, **settings(kernel, h, estimator)), inputs)


@kernels
@pytest.mark.parametrize("wanted", [0, 1], ids=["x", "y"])
def test_gradient_of_one_sample_alone(wanted, kernel, device):
    inputs = samples(Shape((2,), 9, 3), device)
    leaves = [t.clone().requires_grad_() for t in inputs]
    both = torch.autograd.grad(ops.mmd(*leaves, kernel=kernel).sum(), leaves)
    inputs[wanted] = inputs[wanted].clone().requires_grad_()
    value = ops.mmd(*inputs, kernel=kernel)
    (gradient,) = torch.autograd.grad(value.sum(), inputs[wanted])
    torch.testing.assert_close(gradient, both[wanted], rtol=1e-12, atol=1e-14)
    with torch.no_grad():
        torch.testing.assert_close(ops.mmd(*inputs, kernel=kernel), value.detach(), rtol=1e-12, atol=1e-14)


@dtypes(*DTYPES)
@estimators
@pytest.mark.parametrize("leading", [(), (2, 3)], ids=str)
def test_dtypes_and_shapes_of_the_output(leading, estimator, dtype, device):
    """Half inputs give float32, gradients have the dtype of their input."""
    x, y = (t.to(dtype).requires_grad_() for t in samples(Shape(leading, 6, 3), device, equal=True))
    out = ops.mmd(x, y, estimator=estimator)
    assert (out.shape, out.dtype, out.device.type) == (leading, compute_dtype(dtype), device.type)
    for gradient, like in zip(torch.autograd.grad(out.sum(), (x, y)), (x, y)):
        assert (gradient.shape, gradient.dtype) == (like.shape, dtype)


@kernels
@estimators
@dtypes(torch.bfloat16, torch.float32, torch.float64)
def test_a_stack_equals_its_members(dtype, estimator, kernel, device):
    leaves = [t.to(dtype).requires_grad_() for t in samples(Shape((2, 3), 8, 5), device, equal=True)]
    out = ops.mmd(*leaves, kernel=kernel, estimator=estimator)
    gradients = torch.autograd.grad(out.sum(), leaves)
    for i, j in itertools.product(range(2), range(3)):
        members = [t[i, j].detach().requires_grad_() for t in leaves]
        alone = ops.mmd(*members, kernel=kernel, estimator=estimator)
        expected = torch.autograd.grad(alone, members)
        if estimator == "linear":  # plain PyTorch, which may sum a stack in another order
            torch.testing.assert_close(out[i, j], alone)
        else:
            assert torch.equal(out[i, j], alone)
            for a, b in zip(gradients, expected):
                assert torch.equal(a[i, j], b)


# Numerics --------------------------------------------------------------------------------------------------------


@kernels
def test_a_small_difference_keeps_its_digits(kernel, device):
    """MMD^2 of samples far from the origin that differ by little: its three means agree in most digits."""
    x = (normal(500, 4, device=device) + 100).float()
    y = x + 1e-2
    ours = ops.mmd(x, y, kernel=kernel, estimator="biased")
    exact = reference.mmd(x.double(), y.double(), bandwidths(1.0, device=device), kernel, 1.0, "biased")
    assert float(exact) < 1e-2
    assert abs(float(ours) - float(exact)) < 2e-7


@kernels
@pytest.mark.parametrize("estimator", ["biased", "linear"])
@dtypes(torch.float32, torch.float64)
def test_equal_points(dtype, estimator, kernel, device):
    x = normal(1, 3, device=device).to(dtype).expand(6, 3)
    leaves = [x.clone().requires_grad_(), x.clone().requires_grad_()]
    out = ops.mmd(*leaves, kernel=kernel, estimator=estimator)
    assert float(out.detach()) == pytest.approx(0, abs=1e-6)
    for gradient in torch.autograd.grad(out, leaves):
        assert torch.equal(gradient, torch.zeros_like(gradient))


@kernels
@dtypes(*DTYPES)
def test_some_equal_points(dtype, kernel, device):
    """Within a sample and across: no NaN, and the gradients of the other pairs."""
    x, y = samples(Shape((), 9, 3), device)
    x[3], y[5], y[6] = x[1], x[1], x[2]
    agree([x, y], device, kernel, dtype=dtype)


@kernels
def test_the_same_sample_twice(kernel, device):
    x = normal(40, 3, device=device)
    assert float(ops.mmd(x, x, kernel=kernel, estimator="biased")) == pytest.approx(0, abs=1e-14)


@pytest.mark.parametrize("kernel", KERNELS[:4])
@pytest.mark.parametrize("far", [1e6, 1e25])
def test_far_samples_do_not_overflow(far, kernel, device):
    """The squared distance itself does, at 1e25."""
    x = normal(20, 3, device=device).float().requires_grad_()
    y = normal(20, 3, device=device).float() + far
    out = ops.mmd(x, y, kernel=kernel)
    alone = reference.kernel_of(
        reference.squared_distance(x.double(), x.double()), kernel, bandwidths(1.0, device=device), 1.0
    )
    assert float(alone.detach().sum() - 20) / 380 - 1e-6 <= float(out.detach()) <= 2
    assert torch.autograd.grad(out, x)[0].isfinite().all()


def test_unbiased_under_the_null(device):
    """The mean over many samples is zero within its error; the biased estimate is far above."""
    x, y = normal(2000, 10, 2, device=device), normal(2000, 10, 2, device=device)
    unbiased, biased = (ops.mmd(x, y, estimator=e) for e in ("unbiased", "biased"))
    error = float(unbiased.std()) / 2000**0.5
    assert abs(float(unbiased.mean())) < 4 * error
    assert float(biased.mean()) > 20 * error


# Bandwidths ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", KERNELS[:4])
@estimators
def test_several_bandwidths_add_their_kernels(estimator, kernel, device):
    x, y = samples(Shape((2,), 12, 3), device, equal=True)
    h = [0.3, 1.0, 4.0]
    expected = sum(ops.mmd(x, y, kernel=kernel, bandwidth=v, estimator=estimator) for v in h)
    for given in (h, tuple(h), torch.tensor(h, device=device, dtype=torch.float64)):
        torch.testing.assert_close(
            ops.mmd(x, y, kernel=kernel, bandwidth=given, estimator=estimator), expected, rtol=1e-12, atol=1e-14
        )


@pytest.mark.usefixtures("compiled")
def test_very_many_bandwidths(device):
    """On CUDA they have to fit into shared memory."""
    x, y = samples(Shape((), 9, 3), device)
    h = torch.rand(257, dtype=torch.float64).to(device) + 0.5
    expected = reference.mmd(x, y, h[:256])
    torch.testing.assert_close(ops.mmd(x, y, bandwidth=h[:256]), expected, rtol=1e-12, atol=1e-12)
    if device.type == "cuda":
        with pytest.raises(RuntimeError, match="mmd: on CUDA at most 256 bandwidths, got 257"):
            ops.mmd(x, y, bandwidth=h)
    else:
        torch.testing.assert_close(ops.mmd(x, y, bandwidth=h), reference.mmd(x, y, h), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kernel", KERNELS[:4])
@estimators
@pytest.mark.parametrize("leading", [1, 2])
def test_a_bandwidth_for_each_problem(leading, estimator, kernel, device):
    x, y = samples(Shape((2, 3), 12, 3), device, equal=True)
    h = torch.rand(*(2, 3)[:leading], 2, dtype=torch.float64).to(device) + 0.5
    if leading == 1:  # what goes with the first of two leading dimensions
        h = h[:, None].expand(2, 3, 2)
    out = ops.mmd(x, y, kernel=kernel, bandwidth=h, estimator=estimator)
    for i, j in itertools.product(range(2), range(3)):
        alone = ops.mmd(x[i, j], y[i, j], kernel=kernel, bandwidth=h[i, j].tolist(), estimator=estimator)
        torch.testing.assert_close(out[i, j], alone, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("estimator", ["unbiased", "biased", "linear"])
def test_scalar_bandwidths(estimator, device):
    x, y = samples(Shape((2,), 12, 3), device, equal=True)
    values = [ops.mmd(x, y, bandwidth=h, estimator=estimator) for h in (2.0, 2, [2], torch.tensor(2.0, device=device))]
    for value in values[1:]:
        assert torch.equal(value, values[0])


def median_bandwidth(x: Tensor, y: Tensor) -> float:
    """Pair by pair; torch takes the lower of two middle values."""
    pooled = [*x.double().tolist(), *y.double().tolist()]
    d2 = sorted(sum((a - b) ** 2 for a, b in zip(p, q)) for p, q in itertools.combinations(pooled, 2))
    return math.sqrt(d2[(len(d2) - 1) // 2] / 2)


@pytest.mark.parametrize("kernel", KERNELS[:4])
@dtypes(torch.bfloat16, torch.float32, torch.float64)
def test_median_bandwidth(dtype, kernel, device):
    x, y = (t.to(dtype) for t in samples(Shape((2,), 12, 3), device))
    out = ops.mmd(x, y, kernel=kernel, bandwidth="median")
    for i in range(2):
        alone = ops.mmd(x[i], y[i], kernel=kernel, bandwidth=median_bandwidth(x[i], y[i]))
        torch.testing.assert_close(out[i], alone, rtol=1e-6, atol=1e-7)


def test_median_bandwidth_of_many_rows(device):
    """Over 1,000 evenly spaced rows of x and y together."""
    x, y = samples(Shape((), 1500, 2), device)
    chosen = torch.linspace(0, 3002, 1000, device=device).round().long()  # devices may round it differently
    assert len(chosen.unique()) == 1000
    d2 = torch.nn.functional.pdist(torch.cat([x, y])[chosen]).square()
    expected = ops.mmd(x, y, bandwidth=float((d2.median() / 2).sqrt()))
    torch.testing.assert_close(ops.mmd(x, y, bandwidth="median"), expected, rtol=1e-9, atol=1e-12)


def test_median_bandwidth_is_not_differentiated(device):
    x, y = samples(Shape((), 12, 3), device)
    h = median_bandwidth(x, y)
    leaves = [t.requires_grad_() for t in (x, y)]
    median, fixed = (torch.autograd.grad(ops.mmd(*leaves, bandwidth=b), leaves) for b in ("median", h))
    for a, b in zip(median, fixed):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_median_bandwidth_of_equal_points(device):
    x = torch.ones(5, 3, device=device, requires_grad=True)
    out = ops.mmd(x, x.detach(), bandwidth="median")
    assert float(out.detach()) == 0
    assert not torch.autograd.grad(out, x)[0].any()


# Conventions -----------------------------------------------------------------------------------------------------


def pair_means(x: Tensor, y: Tensor, k, *, diagonal: bool) -> float:
    """E k(x, x') + E k(y, y') - 2 E k(x, y) with k a function of the squared distance, written out."""

    def mean(a: Tensor, b: Tensor, *, own: bool) -> float:
        values = k((a[:, None] - b[None]).square().sum(-1))
        if own and not diagonal:
            n = len(a)
            return float(values[~torch.eye(n, dtype=torch.bool, device=a.device)].sum() / (n * (n - 1)))
        return float(values.mean())

    return mean(x, x, own=True) + mean(y, y, own=True) - 2 * mean(x, y, own=False)


@pytest.mark.parametrize("D", [1, 2, 10])
@dtypes(torch.float32, torch.float64)
def test_convention_infovae(dtype, D, device):
    """Zhao's program: the mean over the dimensions of the squared difference, divided by D once more."""
    x, y = (t.to(dtype) for t in samples(Shape((), 20, D), device))
    expected = pair_means(x.double(), y.double(), lambda d2: torch.exp(-d2 / D / D), diagonal=True)
    assert float(ops.mmd(x, y, convention="infovae")) == pytest.approx(expected, rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("D", [1, 2, 10])
@dtypes(torch.float32, torch.float64)
def test_convention_wae(dtype, D, device):
    """The program of Tolstikhin et al., imq: C / (C + d2), C = 2 D s for a standard normal prior."""
    x, y = (t.to(dtype) for t in samples(Shape((), 20, D), device))

    def k(d2: Tensor) -> Tensor:
        return sum(2 * D * s / (2 * D * s + d2) for s in (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0))

    expected = pair_means(x.double(), y.double(), k, diagonal=False)
    assert float(ops.mmd(x, y, convention="wae")) == pytest.approx(expected, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("D", [1, 2, 10])
@dtypes(torch.float32, torch.float64)
def test_convention_wae_rbf(dtype, D, device):
    x, y = (t.to(dtype) for t in samples(Shape((), 20, D), device))
    expected = pair_means(x.double(), y.double(), lambda d2: torch.exp(-d2 / (2 * D)), diagonal=False)
    assert float(ops.mmd(x, y, convention="wae_rbf")) == pytest.approx(expected, rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("convention", ["infovae", "wae", "wae_rbf"])
def test_conventions_have_gradients(convention, device):
    inputs = [t.requires_grad_() for t in samples(Shape((2,), 4, 3), device)]
    assert torch.autograd.gradcheck(lambda x, y: ops.mmd(x, y, convention=convention), inputs)


# The test --------------------------------------------------------------------------------------------------------


@kernels
@pytest.mark.parametrize("estimator", ["unbiased", "biased"])
@dtypes(*DTYPES)
def test_statistic_is_the_mmd(dtype, estimator, kernel, device):
    x, y = (t.to(dtype) for t in samples(Shape((), 20, 3), device))
    options = {"kernel": kernel, "estimator": estimator, "exponent": 1.7}
    if kernel != "energy":
        options["bandwidth"] = [0.5, 2.0]
    result = ops.mmd_test(x, y, permutations=10, **options)
    assert result.statistic.dtype == compute_dtype(dtype)
    torch.testing.assert_close(result.statistic, ops.mmd(x, y, **options), rtol=1e-5, atol=1e-6)
    default = ops.mmd_test(x, y, permutations=10).statistic
    torch.testing.assert_close(default, ops.mmd(x, y, bandwidth="median"), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kernel", ["rbf", "energy"])
def test_p_values_under_the_null(kernel, device):
    """With 19 permutations, p is uniform over 1/20, .., 20/20: mean .525, standard deviation .288."""
    p = []
    for _ in range(300):
        x, y = normal(9, 2, device=device), normal(12, 2, device=device)
        p.append(20 * ops.mmd_test(x, y, permutations=19, kernel=kernel).p_value)
    p = torch.tensor(p, dtype=torch.float64)
    assert torch.equal(p.round(), p.round().clamp(1, 20))
    torch.testing.assert_close(p, p.round())
    assert abs(float(p.mean()) - 10.5) < 4 * math.sqrt((400 - 1) / 12 / 300)
    for level in (2, 5, 10):  # as many at or below each level as it says
        share = level / 20
        assert abs(float((p.round() <= level).double().mean()) - share) < 4 * math.sqrt(share * (1 - share) / 300)


@kernels
def test_a_shift_is_found(kernel, device):
    x, y = normal(60, 2, device=device), normal(50, 2, device=device, shift=1)
    assert ops.mmd_test(x, y, permutations=200, kernel=kernel).p_value == pytest.approx(1 / 201)


def test_p_value_of_a_tiny_case(device):
    """Two against two: of the six splits of {0, 1, 10, 11}, two reach the observed difference, so p is about 1/3."""
    x, y = torch.tensor([[0.0], [1.0]], device=device), torch.tensor([[10.0], [11.0]], device=device)
    permutations = 30_000
    splits = [
        pair_means(
            torch.tensor([[v] for v in s]), torch.tensor([[v] for v in {0.0, 1.0, 10.0, 11.0} - set(s)]),
            lambda d2: torch.exp(-d2 / 8), diagonal=True,
        )
        for s in itertools.combinations((0.0, 1.0, 10.0, 11.0), 2)
    ]  # fmt: skip
    exact = sum(v >= splits[0] - 1e-6 for v in splits) / 6
    assert exact == 1 / 3
    p = ops.mmd_test(x, y, permutations=permutations, bandwidth=2.0, estimator="biased").p_value
    assert abs(p - exact) < 4 * math.sqrt(exact * (1 - exact) / permutations)


def test_equal_points_cannot_be_told_apart(device):
    x = torch.ones(5, 2, device=device)
    assert ops.mmd_test(x, x, permutations=50).p_value == 1


def test_the_test_is_reproducible(device):
    x, y = samples(Shape((), 20, 2), device)
    generator = torch.Generator(device)
    first, again, *others = (
        ops.mmd_test(x, 0.8 * y, permutations=200, generator=generator.manual_seed(s)).p_value for s in (1, 1, 2, 3, 4)
    )
    assert first == again
    assert len({first, *others}) > 1
    torch.manual_seed(5)
    seeded = ops.mmd_test(x, 0.8 * y, permutations=200).p_value
    torch.manual_seed(5)
    assert ops.mmd_test(x, 0.8 * y, permutations=200).p_value == seeded


def test_the_test_has_no_gradient(device):
    x, y = (t.requires_grad_() for t in samples(Shape((), 9, 2), device))
    assert not ops.mmd_test(x, y, permutations=5).statistic.requires_grad


def test_the_test_in_blocks_of_rows(device):
    """2,200 rows take more than one block of the kernel matrix."""
    x, y = samples(Shape((), 1000, 2), device, more=200)
    result = ops.mmd_test(x, y, permutations=20, bandwidth=1.0)
    torch.testing.assert_close(result.statistic, ops.mmd(x, y), rtol=1e-10, atol=1e-12)
    assert result.p_value == pytest.approx(1 / 21)


@pytest.mark.parametrize("exponent", [1e3, 1e6, 1e9])
def test_rational_quadratic_of_a_large_exponent_is_rbf(exponent, device):
    x, y = (torch.randn(8, 3, device=device) for _ in range(2))
    rbf = ops.mmd(x, y)
    for op in (ops.mmd, lambda x, y, **_: reference.mmd(x, y, bandwidths(1.0, device=device), "rq", exponent)):
        assert float(op(x, y, kernel="rq", exponent=exponent)) == pytest.approx(float(rbf), abs=20 / exponent + 1e-6)


@nans()
@kernels
@estimators
@dtypes(*DTYPES)
def test_not_a_number(dtype, estimator, kernel, nan, device):
    """Its row has no gradient that is a number, and the value is none."""
    for D in (3, 20):
        x, y = (t.to(dtype) for t in samples(Shape((), 8, D), device, equal=True))
        x[5, 1] = nan.to(dtype, device)
        value = ops.mmd(x.requires_grad_(), y, kernel=kernel, estimator=estimator)
        (gradient,) = torch.autograd.grad(value, x)
        assert value.isnan()
        assert gradient[5, 1].isnan()


def test_a_bandwidth_that_cannot_be_read_gives_nan(device):
    x, y = (torch.randn(8, 3, device=device) for _ in range(2))
    h = torch.tensor([0.5, -2.0], device=device)
    first, second = torch.vmap(lambda h: ops.mmd(x, y, bandwidth=h))(h)
    assert float(first) == pytest.approx(float(ops.mmd(x, y, bandwidth=0.5)), rel=1e-5)
    assert second.isnan()


def test_a_tensor_of_bandwidths_compiles(device):
    x, y, h = (
        torch.randn(8, 3, device=device),
        torch.randn(9, 3, device=device),
        torch.tensor([1.0, 2.0], device=device),
    )
    compiled = torch.compile(lambda x, y, h: ops.mmd(x, y, bandwidth=h), fullgraph=True, backend="aot_eager")
    assert compiled(x, y, h) == ops.mmd(x, y, bandwidth=[1.0, 2.0])
