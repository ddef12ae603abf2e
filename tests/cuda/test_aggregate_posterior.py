"""The kernels of aggregate_posterior and elbo_decomposition on the host, against the reference in float64."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from disentangle_ext.ops import reference
from tests.cuda import harness
from tests.ops.cases import NANS

pytestmark = pytest.mark.builds

TYPES = {torch.float32: 2, torch.float64: 3}
ESTIMATORS = {name: i for i, name in enumerate(reference.ESTIMATORS)}
N = 1000  # data-set size


class Case(NamedTuple):
    """A problem, and how its work is cut: zeros leave that to the shape."""

    queries: int
    components: int
    D: int
    problems: int = 1
    estimator: str = "uniform"
    offset: int = 0
    weighted: bool = False
    dtype: torch.dtype = torch.float32
    lanes: int = 0
    groups: int = 0
    split: int = 0
    component_range: int = 0
    query_range: int = 0
    far: float = 0.0
    """How far every second query is from the components."""
    narrow: float = 0.0
    """The log-variance of every third component, on which a query lies."""
    stray: float = 0.0
    """Where the last component lies."""
    broad: float = 0.0
    """What is added to every log-variance."""
    heavy: float = 0.0
    """What is added to every log-weight, and a quarter of it once more to the first."""

    def __str__(self) -> str:
        given = self._asdict().items()
        return "-".join(f"{k}{v}".replace("torch.", "") for k, v in given if v != self._field_defaults.get(k))


CASES = (
    Case(1, 1, 1),
    Case(1, 2, 10),
    Case(3, 5, 2, problems=3),
    Case(33, 70, 10, lanes=4, groups=8, split=64, component_range=64, query_range=20),
    Case(70, 260, 4, lanes=32, groups=2, split=64, component_range=128, query_range=33),
    Case(20, 150, 8, problems=2, split=64, component_range=64, query_range=16),
    Case(6, 300, 10, lanes=4, groups=8, split=300),  # several tiles of a split
    Case(17, 40, 16, estimator="mws"),
    Case(37, 37, 10, estimator="mss", lanes=4, groups=4, query_range=13),
    Case(21, 90, 5, estimator="mss", offset=69, component_range=64, query_range=8),
    Case(19, 19, 3, estimator="mss_legacy", query_range=7),
    Case(30, 66, 10, weighted=True, problems=2, component_range=64, query_range=16),
    Case(9, 70, 10, far=40.0, component_range=64, query_range=4),
    Case(9, 9, 4, estimator="mss", far=500.0, query_range=3),
    Case(70, 70, 4, narrow=-60.0, query_range=35),
    Case(40, 40, 18, narrow=-60.0),
    Case(6, 70, 19, component_range=64, query_range=4),
    Case(35, 67, 20, estimator="mss", offset=3, split=64, component_range=64, query_range=32),
    Case(5, 30, 33, far=30.0, weighted=True),
    # Numbers at the ends of a float's range, or beyond them.
    Case(4, 4340, 10, far=40.0),  # ranges of two chunks of components, of which the last is short
    Case(4, 70, 18, far=math.inf, component_range=64),
    Case(4, 70, 10, far=math.inf),
    Case(4, 70, 3, far=math.inf, dtype=torch.float64),
    Case(4, 9, 18, far=1e12),
    Case(4, 9, 3, far=1e12, broad=52.0),
    Case(4, 9, 3, far=1e25),
    Case(4, 9, 18, far=1e25),
    Case(9, 9, 3, narrow=-100.0),
    Case(4, 9, 18, stray=1e30),
    Case(4, 9, 3, stray=1e200, dtype=torch.float64),
    Case(4, 9, 3, weighted=True, heavy=200.0),
    Case(4, 9, 3, weighted=True, heavy=-200.0),
    Case(4, 40, 3, weighted=True, heavy=-85.0, split=128),
    Case(4, 9, 18, weighted=True, heavy=80.0),
    Case(4, 9, 3, weighted=True, heavy=650.0, dtype=torch.float64),
    Case(4, 40, 3, weighted=True, heavy=-706.0, dtype=torch.float64),
    Case(12, 20, 3, estimator="mss", dtype=torch.float64, query_range=5),
    Case(34, 70, 10, weighted=True, dtype=torch.float64, split=64, component_range=64, query_range=33),
)


def inputs(case: Case) -> tuple[list[Tensor | None], Tensor | None]:
    generator = torch.Generator().manual_seed(case.queries + 100 * case.components + case.D)

    def normal(*size: int) -> Tensor:
        return torch.randn(size, generator=generator, dtype=torch.float64)

    mu, logvar = (normal(case.problems, case.components, case.D) for _ in range(2))
    logvar = 0.7 * logvar - 1.5
    z = normal(case.problems, case.queries, case.D)
    z[:, ::2] += case.far
    if case.narrow:
        logvar[:, ::3] = case.narrow
        z[:, ::3] = mu[:, ::3].to(case.dtype).double()
    logvar += case.broad
    if case.stray:
        mu[:, -1] = case.stray
    weight = normal(case.problems, case.components) + case.heavy if case.weighted else None
    if weight is not None:
        weight[:, 0] += case.heavy / 4
    return [None if t is None else t.to(case.dtype) for t in (z, mu, logvar, weight)], weight


def plain(case: Case, *tensors: Tensor | None) -> tuple[Tensor, Tensor]:
    return reference.aggregate_posterior(*tensors, case.estimator, N, case.offset)


def in_range(expected: Tensor, dtype: torch.dtype) -> Tensor:
    """With infinities for what the dtype cannot hold."""
    return torch.where(expected.abs() > torch.finfo(dtype).max, expected * math.inf, expected)


def assert_close(case: Case, name: str, ours: Tensor, expected: Tensor, eager: Tensor, exponent: float = 1.0) -> None:
    """Allows twice what plain PyTorch is off by, and 16 ulp of the largest value.

    An exponential with a large exponent has a relative error of its ulps: 2 more of them, for gradients.
    """
    expected = in_range(expected, case.dtype)
    difference = (ours.double() - expected).abs()
    difference[ours.double() == expected] = 0  # equal infinities
    finite = expected.isfinite() & eager.isfinite()
    largest = max(1.0, float(expected[finite].abs().max()) if bool(finite.any()) else 1.0)
    eager_error = float((eager.double() - expected)[finite].abs().max()) if bool(finite.any()) else 0.0
    allowed = 2 * eager_error + (14 + 2 * exponent) * torch.finfo(case.dtype).eps * largest
    worst = float(difference.nan_to_num(math.inf).max())
    assert worst <= allowed, f"{name}: off by {worst:.3g}, allowed {allowed:.3g}"


def groups(case: Case) -> list[slice]:
    """Rows that are compared by themselves: near ones would be nothing beside far ones."""
    return [slice(0, None, 2), slice(1, None, 2)] if case.far and case.queries > 1 else [slice(None)]


def bits(log_qz: Tensor) -> float:
    """The largest exponent of a responsibility; float32 is trusted with 256."""
    finite = log_qz[log_qz.isfinite()]
    most = 256.0 if log_qz.dtype == torch.float32 else math.inf
    return min(most, max(1.0, float(finite.abs().max()) / math.log(2))) if finite.numel() else 1.0


def derivatives(case: Case, tensors: list[Tensor | None], grads: tuple[Tensor, ...]) -> list[Tensor]:
    """Gradients of the reference, with zero for NaN: zero densities and components without a share have no gradient."""
    values = plain(case, *tensors)
    grads = tuple(torch.where(in_range(v, case.dtype).isneginf(), 0, g) for v, g in zip(values, grads, strict=True))
    z = tensors[0]
    assert z is not None
    leaves = [None if t is None else t.detach().requires_grad_() for t in (z.masked_fill(z.isinf(), 0), *tensors[1:])]
    wanted = torch.autograd.grad(plain(case, *leaves), [t for t in leaves if t is not None], grads)
    return [torch.where(t.isnan(), 0, t) for t in wanted]


def forward(case: Case, mode: str, tensors: list[Tensor | None]) -> tuple[Tensor, Tensor]:
    z = tensors[0]
    assert z is not None
    log_qz, marginals = torch.full_like(z[..., 0], math.nan).contiguous(), torch.full_like(z, math.nan)
    sizes = (case.lanes, case.groups, case.split)
    run = harness.library("aggregate_posterior", mode)
    run.call("aggregate_forward", *tensors, *arguments(case), *sizes, log_qz, marginals)
    return log_qz, marginals


def backward(
    case: Case, mode: str, tensors: list[Tensor | None], values: tuple[Tensor, Tensor], grads: tuple[Tensor, ...]
) -> list[Tensor]:
    """Gradients of the tensors that there are."""
    z, mu, logvar, weight = tensors
    out = [torch.full_like(t, math.nan) for t in (z, mu, logvar, weight) if t is not None]
    ranges = (case.component_range, case.query_range)
    missing = [None] if weight is None else []
    run = harness.library("aggregate_posterior", mode)
    run.call("aggregate_backward", *tensors, *arguments(case), *ranges, *values, *grads, *out, *missing)
    return out


def arguments(case: Case) -> tuple[int, ...]:
    shape = (case.problems, case.queries, case.components, case.D)
    return (*shape, TYPES[case.dtype], ESTIMATORS[case.estimator], N, case.offset)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_aggregate_posterior(case: Case, mode: str, order: str) -> None:
    tensors, _ = inputs(case)
    wide = [None if t is None else t.double() for t in tensors]
    log_qz, marginals = forward(case, mode, tensors)
    expected, eager = plain(case, *wide), plain(case, *tensors)
    for name, ours, right, eagers in zip(("log_qz", "marginals"), (log_qz, marginals), expected, eager, strict=True):
        for rows in groups(case):
            assert_close(case, name, ours[:, rows], right[:, rows], eagers[:, rows])

    generator = torch.Generator().manual_seed(1)
    grads = tuple(torch.randn(t.shape, generator=generator, dtype=torch.float64).to(case.dtype) for t in expected)
    out = backward(case, mode, tensors, (log_qz, marginals), grads)
    expected_gradients = derivatives(case, wide, tuple(g.double() for g in grads))
    eager_gradients = derivatives(case, tensors, grads)
    for rows in groups(case):
        ours, right, eagers = (t[:, rows] for t in (out[0], expected_gradients[0], eager_gradients[0]))
        assert_close(case, "gradient of z", ours, right, eagers, exponent=bits(log_qz[:, rows]))
    names = ("mu", "logvar", "log_weight")
    for name, ours, right, eagers in zip(names, out[1:], expected_gradients[1:], eager_gradients[1:], strict=False):
        assert_close(case, f"gradient of {name}", ours, right, eagers, exponent=bits(log_qz))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("D", [3, 18], ids=["registers", "wide"])
def test_one_extreme_logvar_concerns_no_other_component(D: int, dtype: torch.dtype) -> None:
    """Its density is zero, and that of its stand-in, for which plain PyTorch has gradients."""
    case = Case(9, 70, D, weighted=True, dtype=dtype)
    for value in (1e30, -160.0, -800.0, -2000.0, -1e30, -1e38):
        tensors, _ = inputs(case)
        tensors[2][0, 5, 1] = value
        values = forward(case, "plain", tensors)
        grads = values[0].sign(), values[1].sign()
        out = backward(case, "plain", tensors, values, grads)
        stand_in = [t.clone() for t in tensors]
        stand_in[2][0, 5, 1] = max(-70.0, min(value, 1e6))
        wide = [t.double() for t in stand_in]
        for ours, right, eager in zip(values, plain(case, *wide), plain(case, *stand_in), strict=True):
            assert_close(case, f"value at {value}", ours, right, eager)
        expected = derivatives(case, wide, (grads[0].double(), grads[1].double()))
        for ours, right, eager in zip(out, expected, derivatives(case, stand_in, grads), strict=True):
            assert_close(case, f"gradient at {value}", ours, right, eager, exponent=bits(values[0]))


@pytest.mark.parametrize("narrow", [-60.0, -100.0, -150.0])
@pytest.mark.parametrize("D", [3, 18], ids=["registers", "wide"])
def test_a_query_beside_a_narrow_component(D: int, narrow: float) -> None:
    case = Case(9, 70, D)
    for sigmas in (0.7, 6.0, 14.0):
        tensors, _ = inputs(case)
        tensors[1][0, 5], tensors[2][0, 5], tensors[0][0, 3] = 0, narrow, sigmas * math.exp(0.5 * narrow)
        values = forward(case, "plain", tensors)
        wide = [None if t is None else t.double() for t in tensors]
        for ours, right in zip(values, plain(case, *wide), strict=True):
            torch.testing.assert_close(ours.double(), right, rtol=4e-6, atol=4e-6)
        grads = torch.ones_like(values[0]), torch.ones_like(values[1])
        out = backward(case, "plain", tensors, values, grads)
        expected = derivatives(case, wide, (grads[0].double(), grads[1].double()))
        for ours, right, special in zip(out, expected, (3, 5, 5), strict=True):
            for rows in ([special], [j for j in range(ours.shape[1]) if j != special]):
                largest = max(1.0, float(right[:, rows].abs().max()))
                assert float((ours.double() - right)[:, rows].abs().max()) <= 5e-5 * largest


@pytest.mark.parametrize("D", [3, 18])
def test_components_whose_precision_overflows_in_float64(D: int) -> None:
    """A problem that is 2^-1000 times as large has the same responsibilities."""
    case = Case(9, 70, D, dtype=torch.float64)
    (z, mu, logvar, _), _ = inputs(case)
    z[0, 0] = mu[0, 7] + 6 * torch.exp(0.5 * logvar[0, 7])
    small = [z * 2.0**-1000, mu * 2.0**-1000, logvar - 2000 * math.log(2), None]
    values = forward(case, "plain", small)
    right = plain(case, z, mu, logvar, None)
    torch.testing.assert_close(values[0], right[0] + 1000 * D * math.log(2), rtol=1e-13, atol=1e-12)
    torch.testing.assert_close(values[1], right[1] + 1000 * math.log(2), rtol=1e-13, atol=1e-12)
    grads = torch.ones_like(values[0]), torch.ones_like(values[1])
    out = backward(case, "plain", small, values, grads)
    expected = derivatives(case, [z, mu, logvar, None], grads)
    for ours, right_gradient, scale in zip(out, expected, (2.0**-1000, 2.0**-1000, 1.0), strict=True):
        assert float((ours * scale - right_gradient).abs().max()) <= 1e-11 * float(right_gradient.abs().max())


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("D", [3, 18], ids=["registers", "wide"])
def test_a_query_that_is_not_a_number_stays_in_its_row(D: int, dtype: torch.dtype) -> None:
    case = Case(9, 70, D, weighted=True, dtype=dtype)
    bad = torch.arange(9) == 5
    for nan in NANS:
        tensors, _ = inputs(case)
        clean = forward(case, "plain", tensors)
        tensors[0][0, 5, 1] = nan.to(dtype)
        log_qz, marginals = forward(case, "plain", tensors)
        assert torch.equal(log_qz[0].isnan(), bad)
        assert torch.equal(log_qz[0, ~bad], clean[0][0, ~bad])
        assert marginals.isnan().nonzero().tolist() == [[0, 5, 1]]
        gradient = backward(case, "plain", tensors, (log_qz, marginals), (log_qz.sign(), marginals.sign()))[0]
        assert gradient[0, 5, 1].isnan()
        assert gradient[0, ~bad].isfinite().all()


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("D", [3, 18], ids=["registers", "wide"])
def test_a_component_that_is_not_a_number_concerns_every_query(D: int, dtype: torch.dtype) -> None:
    case = Case(9, 70, D, weighted=True, dtype=dtype)
    for argument in (1, 2, 3):
        for nan in NANS:
            tensors, _ = inputs(case)
            tensors[argument][(0, 5, 1)[: 3 if argument < 3 else 2]] = nan.to(dtype)
            log_qz, marginals = forward(case, "plain", tensors)
            assert log_qz.isnan().all()
            assert marginals.isnan().all(1).tolist() == [[argument == 3 or d == 1 for d in range(D)]]
            out = backward(case, "plain", tensors, (log_qz, marginals), (log_qz.sign(), marginals.sign()))
            assert out[0].isnan().all()


@pytest.mark.parametrize("split", [0, 64])
@pytest.mark.parametrize("dtype", TYPES)
def test_no_dimensions(dtype: torch.dtype, split: int, mode: str) -> None:
    """Every density is one; what is left are the weights."""
    weight = torch.randn(1, 70, generator=torch.Generator().manual_seed(1), dtype=dtype)
    nothing, log_qz = torch.empty(1, 3, 0, dtype=dtype), torch.full((1, 3), math.nan, dtype=dtype)
    run = harness.library("aggregate_posterior", mode)
    shape = (1, 3, 70, 0, TYPES[dtype], ESTIMATORS["uniform"], N, 0)
    run.call("aggregate_forward", nothing, nothing, nothing, weight, *shape, 4, 8, split, log_qz, nothing)
    torch.testing.assert_close(log_qz, weight.logsumexp(-1, keepdim=True).expand(1, 3))


ELBO_CASES: tuple[tuple[Case, str], ...] = (
    (Case(1, 2, 3, estimator="uniform"), "none"),
    (Case(37, 37, 10, problems=2, estimator="mss"), "mean"),
    (Case(37, 37, 10, estimator="mws"), "none"),
    (Case(12, 20, 10, problems=2, estimator="mss", offset=5), "sum"),
    (Case(150, 150, 2, estimator="mss", split=128), "mean"),
    (Case(20, 70, 10, split=64), "none"),
    (Case(9, 9, 18, estimator="mss"), "mean"),
    (Case(5, 5, 4, estimator="mss", dtype=torch.float64), "sum"),
)


@pytest.mark.parametrize(("case", "reduction"), ELBO_CASES, ids=str)
def test_elbo_decomposition(case: Case, reduction: str, mode: str, order: str) -> None:
    (z, mu, logvar, _), _ = inputs(case)
    if case.queries == case.components:
        own, components = [z, mu, logvar], []
    else:
        own, components = [z, z.flip(-1).contiguous(), (0.1 * z - 1).contiguous()], [mu, logvar]
    run = harness.library("aggregate_posterior", mode)
    reductions = ("none", "mean", "sum")
    settings = (TYPES[case.dtype], ESTIMATORS[case.estimator], N, case.offset, reductions.index(reduction))
    shape = (case.problems, case.queries, case.components, case.D)
    rows = [torch.full_like(z[..., 0], math.nan).contiguous(), torch.full_like(z, math.nan)]
    fields = torch.full((7, *(z.shape[:-1] if reduction == "none" else z.shape[:-2])), math.nan, dtype=case.dtype)
    absent: list[Any] = [] if components else [None, None]
    run.call("elbo_forward", *own, *components, *absent, *shape, *settings, case.split, *rows, fields)

    def decomposition(*tensors: Tensor) -> tuple[Tensor, ...]:
        given = tensors if len(tensors) == 5 else (*tensors, None, None)
        return reference.elbo_decomposition(*given, case.estimator, N, case.offset, reduction)

    def everything(tensors: list[Tensor], grads: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        leaves = [t.detach().requires_grad_() for t in tensors]
        values = decomposition(*leaves)
        kept = [f for f in range(7) if f != 4]  # a missing gradient is zero
        return list(values), list(torch.autograd.grad([values[f] for f in kept], leaves, [grads[f] for f in kept]))

    grads = torch.randn(fields.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(case.dtype)
    expected, expected_gradients = everything([t.double() for t in (*own, *components)], grads.double())
    eager, eager_gradients = everything([*own, *components], grads)
    for f in range(7):
        assert_close(case, f"field {f}", fields[f], expected[f].detach(), eager[f].detach())
    out = [torch.full_like(t, math.nan) for t in (z, mu, mu)]
    mine = [torch.full_like(t, math.nan) for t in (z, z)] if components else []
    run.call(
        "elbo_backward", *own, *components, *absent, *shape, *settings, *rows, grads, 0b1101111, *out, *mine, *absent
    )
    ours = [out[0], *mine, *out[1:]] if components else out
    for i, (got, right, eagers) in enumerate(zip(ours, expected_gradients, eager_gradients, strict=True)):
        assert_close(case, f"gradient {i}", got, right, eagers, exponent=bits(rows[0]))
