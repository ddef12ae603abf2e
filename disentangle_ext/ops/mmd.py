"""Maximum mean discrepancy between two samples, and the permutation test built on it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from disentangle_ext._errors import describe
from disentangle_ext._extension import available
from disentangle_ext._names import choose
from disentangle_ext.ops import _checks, _collectives, _library, reference
from disentangle_ext.ops.permute_dims import permute_dims
from disentangle_ext.ops.rng import check_generator

MMD_ESTIMATORS = ("unbiased", "biased", "linear")
CONVENTIONS = ("infovae", "wae", "wae_rbf")
_WAE_SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
_MEDIAN_ROWS = 1000
_EXPONENT = 1.0

Bandwidth = float | Sequence[float] | Tensor | str


def mmd(
    x: Tensor,
    y: Tensor,
    *,
    kernel: str = "rbf",
    bandwidth: Bandwidth = 1.0,
    exponent: float | None = None,
    estimator: str = "unbiased",
    convention: str | None = None,
    process_group: ProcessGroup | None = None,
) -> Tensor:
    r"""Squared maximum mean discrepancy between the samples x and y.

    .. math:: \mathrm{MMD}^2(X, Y) = E\, k(x, x') + E\, k(y, y') - 2 E\, k(x, y)

    The three sums are kept in float64 and subtracted once; no pair matrix is formed. Gradients flow to x and y.

    Args:
        x, y: [.., M, D] and [.., N, D].
        kernel: with d2 the squared distance and h the bandwidth, "rbf" exp(-d2 / (2 h^2)), "rq"
            (1 + d2 / (2 a h^2))^-a with a the ``exponent``, "imq" the same with a = 1, "laplacian" exp(-d / h),
            "energy" -d (without a bandwidth). The last two have zero gradient between equal points.
        bandwidth: h; several of them (a sequence, or a tensor [K] or [.., K]) sum their kernels; "median" is
            sqrt(median d2 / 2) over at most 1,000 evenly spaced rows of x and y together. It is not differentiated.
            Where it is a tensor that cannot be read (on an accelerator, compiled, mapped), h <= 0 gives NaN.
        exponent: a of "rq", 1 by default; the other kernels have none.
        estimator: "unbiased" leaves out the pairs of a point with itself (it can be negative); "biased" is the
            V-statistic; "linear" averages over M / 2 disjoint pairs, M = N even.
        convention: the exact loss of a paper or its program, in place of all of the above. "infovae": rbf with
            h = D / sqrt(2), biased, the program of Zhao et al. 2017. "wae": imq summed over h = sqrt(s D) for s in
            (.1, .2, .5, 1, 2, 5, 10), unbiased, the program of Tolstikhin et al. 2018 with a standard normal prior.
            "wae_rbf": rbf with h = sqrt(D), unbiased, as in the same paper's ports.
        process_group: ranks that each hold an equal shard of x and of y. Every rank gets the value for all rows, and a
            gradient whose mean over ranks is that of one process. A ``bandwidth`` must be the same on every rank.

    Returns:
        MMD^2 [..], a scalar without leading dimensions; float32 for half inputs.

    Raises:
        ValueError, TypeError: shapes, dtypes or devices do not fit; an unknown kernel, estimator or convention;
            ``bandwidth`` or ``exponent`` not positive, or given to a kernel without one; too few rows for the
            estimator; ranks whose shapes, dtypes or settings differ (raised on each of them).

    Gretton et al. 2012, "A kernel two-sample test"; Szekely and Rizzo 2013 for the energy distance.
    """
    op = "mmd"
    takes_exponent = isinstance(kernel, str) and kernel == "rq"
    if process_group is None and convention is None and (exponent is None or takes_exponent):
        value = _library.eager(op, x, y, kernel, bandwidth, _EXPONENT if exponent is None else exponent, estimator)
        if value is not None:
            return value
    if (group := _collectives.parallel(op, process_group)) is not None:
        settings = {"kernel": kernel, "bandwidth": bandwidth, "exponent": exponent, "estimator": estimator}
        _collectives.agree(op, group, x=x, y=y, convention=convention, **settings)
    _checks.floating(op, "x", x, 2)
    x, y = _library.under_autocast(x, y)
    _checks.rows_like(op, "y", y, "x", x)
    if group is not None:
        x, y = _collectives.gather(group, x, y)
    choose(f"{op}: kernel", kernel, reference.KERNELS)
    choose(f"{op}: estimator", estimator, MMD_ESTIMATORS)
    if convention is not None:
        choose(f"{op}: convention", convention, CONVENTIONS)
        set_besides = exponent is not None or not _is_default(bandwidth)
        if set_besides or (kernel, estimator) != ("rbf", "unbiased"):
            raise ValueError(f"{op}: convention={convention!r} sets kernel, bandwidth, exponent and estimator itself")
        kernel, bandwidth, estimator = _convention(convention, x.shape[-1])
    exponent = _exponent(op, exponent, kernel)
    _check_rows(op, estimator, x.shape[-2], y.shape[-2])
    h = _bandwidth(op, bandwidth, kernel, x, y)
    # The linear estimator costs O(M): there is nothing to fuse.
    if estimator == "linear" or not available(x.device.type):
        return reference.mmd(x, y, h, kernel, exponent, estimator)
    with_grad = _library.transformed() or (torch.is_grad_enabled() and (x.requires_grad or y.requires_grad))
    number = reference.KERNELS.index(kernel)
    return _Mmd.call(x, y, h, number, exponent, estimator == "biased", with_grad)[0]


class MMDTest(NamedTuple):
    """A permutation test: the MMD^2 of the samples, and the p-value of "x and y have the same distribution"."""

    statistic: Tensor
    p_value: float


def mmd_test(
    x: Tensor,
    y: Tensor,
    *,
    permutations: int = 1000,
    generator: torch.Generator | None = None,
    kernel: str = "rbf",
    bandwidth: Bandwidth = "median",
    exponent: float | None = None,
    estimator: str = "unbiased",
) -> MMDTest:
    """Tests whether x [M, D] and y [N, D] come from one distribution, by permuting the pooled sample.

    ``p = (1 + #{permuted MMD^2 >= MMD^2}) / (1 + permutations)``, valid at any sample size. The kernel is evaluated
    once per pair, in blocks of rows; every permutation is a column of one matrix product with it.

    Args:
        permutations: how many; p is at least 1 / (1 + permutations).
        generator: for the permutations; the default generator if None.
        kernel, bandwidth, exponent, estimator: as in :func:`mmd` ("linear" is not offered); "median" by default.

    Returns:
        :class:`MMDTest` with ``statistic`` and ``p_value``, without gradients. Both are NaN where a value of x or y is
        NaN or infinite.

    Raises:
        ValueError, TypeError: as :func:`mmd`; leading dimensions; ``permutations`` below 1.

    Gretton et al. 2012, "A kernel two-sample test".
    """
    op = "mmd_test"
    _checks.floating(op, "x", x, 2)
    x, y = _library.under_autocast(x, y)
    _checks.rows_like(op, "y", y, "x", x)
    if x.dim() != 2:
        raise ValueError(f"{op}: x must have the shape [M, D], got {_checks.shape(x)}")
    if x.is_meta:
        raise ValueError(f"{op}: x must have values for a p-value, got a tensor on the meta device")
    _checks.integer(op, "permutations", permutations)
    if permutations < 1:
        raise ValueError(f"{op}: permutations must be at least 1, got {permutations}")
    choose(f"{op}: kernel", kernel, reference.KERNELS)
    choose(f"{op}: estimator", estimator, MMD_ESTIMATORS[:2])
    if generator is not None:
        check_generator(op, generator, "x", x)
    exponent = _exponent(op, exponent, kernel)
    _check_rows(op, estimator, x.shape[-2], y.shape[-2])
    with torch.no_grad():
        h = _bandwidth(op, bandwidth, kernel, x, y)
        pooled = torch.cat([x, y]).double()
        values = _permuted_mmd(pooled, x.shape[0], h, kernel, exponent, estimator, permutations, generator)
        statistic, permuted = values[0], values[1:]
        # Equal up to rounding counts as equal: the identity is among the permutations.
        at_least = permuted >= statistic - 1e-12 * (1 + statistic.abs())
        p_value = torch.where(statistic.isnan(), statistic, (1 + at_least.sum()).double() / (1 + permutations))
        return MMDTest(statistic.to(_library.compute_dtype(x)), float(p_value))


def _permuted_mmd(
    pooled: Tensor,
    m: int,
    bandwidth: Tensor,
    kernel: str,
    exponent: float,
    estimator: str,
    permutations: int,
    generator: torch.Generator | None,
) -> Tensor:
    """MMD^2 with the first m rows as x, then for each permutation; [1 + permutations]."""
    n = pooled.shape[0] - m
    member = (torch.arange(m + n, device=pooled.device) < m).to(pooled.dtype)[:, None]
    in_x = torch.cat([member, permute_dims(member.expand(-1, permutations), generator=generator)], 1)
    xx, total_x, total = pooled.new_zeros(permutations + 1), pooled.new_zeros(permutations + 1), pooled.new_zeros(())
    rows = max(1, (1 << 20) // (m + n))
    for first in range(0, m + n, rows):
        block = slice(first, first + rows)
        k = reference.kernel_of(reference.squared_distance(pooled[block], pooled), kernel, bandwidth, exponent)
        xx += (in_x[block] * (k @ in_x)).sum(0)
        total_x += (in_x[block] * k.sum(1, keepdim=True)).sum(0)
        total += k.sum()
    xy = total_x - xx
    yy = total - 2 * xy - xx
    if estimator == "biased":
        return xx / m**2 + yy / n**2 - 2 * xy / (m * n)
    at_zero = reference.kernel_of(pooled.new_zeros(()), kernel, bandwidth, exponent)
    return (xx - m * at_zero) / (m * (m - 1)) + (yy - n * at_zero) / (n * (n - 1)) - 2 * xy / (m * n)


def _convention(name: str, D: int) -> tuple[str, Bandwidth, str]:
    if name == "infovae":
        return "rbf", D / math.sqrt(2), "biased"
    if name == "wae":
        return "imq", [math.sqrt(s * D) for s in _WAE_SCALES], "unbiased"
    return "rbf", math.sqrt(D), "unbiased"


def _check_rows(op: str, estimator: str, m: int, n: int) -> None:
    if estimator == "linear" and (m != n or m % 2 or m == 0):
        raise ValueError(f"{op}: the linear estimator needs x and y with the same even number of rows, got {m} and {n}")
    least = 1 if estimator == "biased" else 2
    if min(m, n) < least:
        raise ValueError(f"{op}: the {estimator} estimator needs at least {least} rows in x and y, got {m} and {n}")


def _is_default(bandwidth: Bandwidth) -> bool:
    return isinstance(bandwidth, (int, float)) and bandwidth == 1


def _exponent(op: str, value: Any, kernel: str) -> float:
    if value is None:
        return _EXPONENT
    if kernel != "rq":
        raise ValueError(f"{op}: the {kernel} kernel has no exponent, got {describe(value)}")
    return _checks.positive(op, "exponent", value)


def _bandwidth(op: str, value: Any, kernel: str, x: Tensor, y: Tensor) -> Tensor:
    """The bandwidth as float64 [K] or [.., K] on the device of x, without a sync."""
    if kernel == "energy":
        if not _is_default(value) and not (op == "mmd_test" and isinstance(value, str) and value == "median"):
            raise ValueError(f"{op}: the energy kernel has no bandwidth, got {describe(value)}")
        value = 1.0
    if isinstance(value, str):
        choose(f"{op}: bandwidth", value, ["median"])
        return _median_bandwidth(x, y)
    if isinstance(value, Tensor):
        return _checked_tensor(op, value, x)
    values = _numbers(op, value)
    if x.device.type == "cpu":
        return torch.tensor(values, dtype=torch.float64)
    # Made on the device: a CUDA graph cannot capture a copy from the host.
    return torch.cat([torch.full((1,), v, dtype=torch.float64, device=x.device) for v in values])


def _numbers(op: str, bandwidth: Any) -> list[float]:
    """A number or a sequence of them as a list."""
    if _checks.real_number(bandwidth):
        return [_checks.positive(op, "bandwidth", bandwidth)]
    if not isinstance(bandwidth, Sequence) or isinstance(bandwidth, bytes):
        raise TypeError(
            f"{op}: bandwidth must be a number, a sequence, a Tensor or 'median', got {describe(bandwidth)}"
        )
    if not bandwidth:
        raise ValueError(f"{op}: bandwidth must have at least one number, got {bandwidth!r}")
    return [_checks.positive(op, f"bandwidth[{i}]", each) for i, each in enumerate(bandwidth)]


def _checked_tensor(op: str, value: Tensor, x: Tensor) -> Tensor:
    _checks.dense(op, "bandwidth", value)
    if value.is_complex() or value.dtype == torch.bool:
        raise TypeError(f"{op}: bandwidth must be a tensor of real numbers, got {value.dtype}")
    if value.requires_grad:
        raise ValueError(f"{op}: bandwidth is not differentiated: pass bandwidth.detach()")
    if value.device != x.device:
        raise ValueError(f"{op}: bandwidth must be on the device of x ({x.device}), got {value.device}")
    value = value.double().reshape(1) if value.dim() == 0 else value.double()
    if value.numel() == 0 or value.shape[:-1] != x.shape[: value.dim() - 1] or value.dim() > x.dim() - 1:
        raise ValueError(
            f"{op}: bandwidth must have the shape [K], or [.., K] with leading dimensions of x {_checks.shape(x)}, "
            f"got {_checks.shape(value)}"
        )
    readable = value.device.type == "cpu" and not _library.transformed() and not torch.compiler.is_compiling()
    if readable and not bool((usable := (value > 0) & value.isfinite()).all()):
        bad = value[~usable][0].item()
        raise ValueError(f"{op}: bandwidth must be positive and finite, got a tensor with {bad} in it")
    return value


def _median_bandwidth(x: Tensor, y: Tensor) -> Tensor:
    """sqrt(median d2 / 2) over pairs of distinct rows, [.., 1]; 1 where all rows are equal."""
    pooled = torch.cat([x, y], -2).detach()
    n = pooled.shape[-2]
    if n > _MEDIAN_ROWS:
        pooled = pooled[..., torch.linspace(0, n - 1, _MEDIAN_ROWS, device=x.device).round().long(), :]
        n = _MEDIAN_ROWS
    i, j = torch.triu_indices(n, n, 1, device=x.device)
    d2 = (pooled[..., i, :].double() - pooled[..., j, :].double()).square().sum(-1)
    h = (d2.median(-1, keepdim=True).values / 2).sqrt()
    return torch.where(h > 0, h, torch.ones_like(h))


class _Mmd(_library.Op):
    """The gradient comes out of the forward sweep."""

    @staticmethod
    def forward(
        x: Tensor, y: Tensor, bandwidth: Tensor, kernel: int, exponent: float, biased: bool, with_grad: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        return _library.raw("mmd")(x, y, bandwidth, kernel, exponent, biased, with_grad)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
        ctx.save_for_backward(inputs[0], inputs[1], output[1], output[2])
        ctx.mark_non_differentiable(output[1], output[2])

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        return *_library.raw("mmd_backward")(grad, *ctx.saved_tensors), None, None, None, None, None


_library.register_vmap("mmd")
_library.register_vmap("mmd_backward")


@_library.register_fake("mmd")
def _(
    x: Tensor, y: Tensor, bandwidth: Tensor, kernel: int, exponent: float, biased: bool, with_grad: bool
) -> tuple[Tensor, Tensor, Tensor]:
    dtype = _library.compute_dtype(x)
    grads = [x.new_empty(t.shape if with_grad else (0,), dtype=dtype) for t in (x, y)]
    return x.new_empty(x.shape[:-2], dtype=dtype), grads[0], grads[1]


@_library.register_fake("mmd_backward")
def _(grad: Tensor, x: Tensor, y: Tensor, grad_x: Tensor, grad_y: Tensor) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape), y.new_empty(y.shape)
