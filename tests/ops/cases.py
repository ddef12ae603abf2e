"""Inputs that ops get wrong: sizes around the edges of blocks, one row, one dimension, stacks, strides."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from disentangle_ext import ops
from disentangle_ext.ops import reference


class Shape(NamedTuple):
    """Leading dimensions, rows, latent dimensions."""

    leading: tuple[int, ...]
    batch: int
    D: int

    def __str__(self) -> str:
        return "x".join(str(n) for n in (*self.leading, self.batch, self.D))


BATCHES = (1, 2, 3, 31, 64, 257)
DIMS = (1, 2, 10, 33, 128)
STACKS = (Shape((2,), 1, 33), Shape((2,), 31, 10), Shape((2, 3), 1, 1), Shape((2, 3), 3, 2), Shape((2, 3), 64, 10))
NASTY = (*(Shape((), batch, D) for batch, D in itertools.product(BATCHES, DIMS)), *STACKS)
# The reference holds a number for every pair of rows and dimension: what it has in no time, and the rest of the table with
# fewer rows where they are long.
QUICK = tuple(shape for shape in NASTY if shape.batch * shape.D < 257 * 33)
LARGE = (Shape((), 257, 33), Shape((), 131, 128))
# A few of every kind, for what does not need the whole table.
SOME = (
    Shape((), 1, 1),
    Shape((), 2, 128),
    Shape((), 3, 2),
    Shape((), 31, 33),
    Shape((), 257, 10),
    Shape((2, 3), 31, 10),
)

LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "transposed": lambda t: t.mT.contiguous().mT,
    "sliced": lambda t: torch.stack([t, t + 1, t], -1).flatten(-2)[..., ::3],
    "expanded": lambda t: t[..., :1, :].expand_as(t),
}


def shapes(table: tuple[Shape, ...]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("shape", table, ids=str)


def layouts() -> pytest.MarkDecorator:
    return pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())


def dtypes(*names: torch.dtype) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("dtype", names, ids=lambda dtype: str(dtype).removeprefix("torch."))


# NaNs differ in their bits, and arithmetic on these may make a number of one that is not the usual one: what PyTorch
# writes, what x86 makes of an invalid operation, what an NVIDIA GPU makes of it, and the nearest to infinity.
FORMATS = {
    torch.float16: (torch.int16, 10),
    torch.bfloat16: (torch.int16, 7),
    torch.float32: (torch.int32, 23),
    torch.float64: (torch.int64, 52),
}


class NaN(NamedTuple):
    """A NaN by its sign and its mantissa: ``mantissa`` takes the number of bits in it."""

    name: str
    negative: bool
    mantissa: Callable[[int], int]

    def __str__(self) -> str:
        return self.name

    def to(self, dtype: torch.dtype, device: torch.device | str = "cpu") -> Tensor:
        """A scalar of these bits."""
        integer, width = FORMATS[dtype]
        bits = torch.iinfo(integer).bits
        infinity = (1 << (bits - 1)) - (1 << width)
        value = infinity + self.mantissa(width) - (1 << (bits - 1) if self.negative else 0)
        return torch.tensor(value, dtype=integer, device=device).view(dtype)


NANS = (
    NaN("quiet", False, lambda width: 1 << (width - 1)),
    NaN("x86", True, lambda width: 1 << (width - 1)),
    NaN("nvidia", False, lambda width: (1 << width) - 1),
    NaN("signalling", False, lambda width: 1),
)


def nans() -> pytest.MarkDecorator:
    return pytest.mark.parametrize("nan", NANS, ids=str)


def normal(*size: int, device: torch.device | str = "cpu", scale: float = 1.0, shift: float = 0.0) -> Tensor:
    """float64 normals, the same on every device."""
    return (torch.randn(size, dtype=torch.float64) * scale + shift).to(device)


def posterior(shape: Shape, device: torch.device | str = "cpu", components: int | None = None) -> list[Tensor]:
    """z, mu, logvar as an encoder might give them, z from the posterior itself where the numbers of rows allow it."""
    rows = shape.batch if components is None else components
    mu = normal(*shape.leading, rows, shape.D, device=device)
    logvar = normal(*shape.leading, rows, shape.D, device=device, scale=0.7, shift=-1.5)
    if rows == shape.batch:
        return [mu + torch.exp(0.5 * logvar) * normal(*mu.shape, device=device), mu, logvar]
    return [normal(*shape.leading, shape.batch, shape.D, device=device), mu, logvar]


def key(device: torch.device | str = "cpu", seed: int = 1234, offset: int = 5) -> Tensor:
    return torch.tensor([seed, offset], dtype=torch.int64, device=device)


def bandwidths(*values: float, device: torch.device | str = "cpu") -> Tensor:
    return torch.tensor(values, dtype=torch.float64, device=device)


# Every op as a function of its differentiable tensors, for what all of them promise alike. ------------------------


class Op(NamedTuple):
    """``function`` and ``reference`` take the tensors of ``inputs``: [leading, rows, D] for the given rows."""

    function: Callable[..., Any]
    reference: Callable[..., Any] | None
    inputs: Callable[[Shape, Any], list[Tensor]]
    raw: str


def _two(shape: Shape, device: Any) -> list[Tensor]:
    return posterior(shape, device)[1:]


def _aggregate_posterior(shape: Shape, device: Any) -> list[Tensor]:
    return posterior(shape, device, components=shape.batch + 3)


def _weighted(shape: Shape, device: Any) -> list[Tensor]:
    z, mu, logvar = _aggregate_posterior(shape, device)
    return [z, mu, logvar, normal(*mu.shape[:-1], device=device)]


def _with_components(shape: Shape, device: Any) -> list[Tensor]:
    return [*posterior(shape, device), *_aggregate_posterior(shape, device)[1:]]


def _samples(shape: Shape, device: Any) -> list[Tensor]:
    more = shape._replace(batch=shape.batch + 2)
    return [normal(*shape.leading, shape.batch, shape.D, device=device), posterior(more, device)[1]]


def _one(shape: Shape, device: Any) -> list[Tensor]:
    return [normal(*shape.leading, shape.batch, shape.D, device=device)]


N = 1000  # data-set size where an estimator wants one

OPS: dict[str, Op] = {
    "rsample_kl": Op(
        lambda mu, logvar: ops.rsample_kl(mu, logvar, key=key(mu.device)),
        lambda mu, logvar: reference.rsample_kl(mu, logvar, key(mu.device)),
        _two,
        "rsample_kl",
    ),
    "rsample_kl_per_dimension": Op(
        lambda mu, logvar: ops.rsample_kl(mu, logvar, key=key(mu.device), per_dimension=True),
        lambda mu, logvar: reference.rsample_kl(mu, logvar, key(mu.device), True),
        _two,
        "rsample_kl",
    ),
    "aggregate_posterior": Op(
        ops.aggregate_posterior,
        reference.aggregate_posterior,
        _aggregate_posterior,
        "aggregate_posterior",
    ),
    "aggregate_posterior_weighted": Op(
        lambda z, mu, logvar, log_weight: ops.aggregate_posterior(z, mu, logvar, log_weight=log_weight),
        reference.aggregate_posterior,
        _weighted,
        "aggregate_posterior",
    ),
    "elbo_decomposition": Op(
        lambda z, mu, logvar: ops.elbo_decomposition(z, mu, logvar, dataset_size=N),
        lambda z, mu, logvar: reference.elbo_decomposition(z, mu, logvar, None, None, "mss", N),
        posterior,
        "elbo_decomposition",
    ),
    "elbo_decomposition_components": Op(
        lambda z, mu, logvar, *components: ops.elbo_decomposition(
            z, mu, logvar, dataset_size=N, components=components, offset=2, reduction="none"
        ),
        lambda *tensors: reference.elbo_decomposition(*tensors, "mss", N, 2, "none"),
        _with_components,
        "elbo_decomposition",
    ),
    "mmd": Op(
        ops.mmd,
        lambda x, y: reference.mmd(x, y, bandwidths(1.0, device=x.device)),
        _samples,
        "mmd",
    ),
    "mmd_laplacian": Op(
        lambda x, y: ops.mmd(x, y, kernel="laplacian", bandwidth=[0.5, 2.0], estimator="biased"),
        lambda x, y: reference.mmd(x, y, bandwidths(0.5, 2.0, device=x.device), "laplacian", 1.0, "biased"),
        _samples,
        "mmd",
    ),
    "permute_dims": Op(
        lambda z: ops.permute_dims(z, key=key(z.device)),
        None,
        _one,
        "permute_dims",
    ),
}


def all_ops(*names: str) -> pytest.MarkDecorator:
    chosen = {name: OPS[name] for name in names or OPS}
    return pytest.mark.parametrize("op", chosen.values(), ids=chosen.keys())


def as_tuple(out: Any) -> tuple[Tensor, ...]:
    return (out,) if isinstance(out, Tensor) else tuple(out)
