"""Every op once, forward and backward, at sizes that leave tiles ragged: what compute-sanitizer watches."""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from disentangle_ext import _extension, ops

DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
# Rows and columns: less than a warp, prime numbers, several blocks, a stack.
SIZES = ((2, 1), (3, 2), (67, 10), (131, 17), (300, 16), (2, 33, 10))
# What takes other kernels, or other ways through them: rows longer than a tile; runs that are sorted and merged; splits
# of the components, whose sums another kernel finishes; tiles in which every pair of rows counts.
LARGE = {
    "rsample_kl": (1, 5000),
    "permute_dims": (4100, 2),
    "aggregate_posterior": (600, 10),
    "elbo_decomposition": (600, 10),
    "mmd rbf": (1300, 10),
    "mmd energy": (1300, 10),
}


def fewer(rows: Tensor) -> Tensor:
    """The first two thirds, so that the two sides of a problem differ."""
    return rows[..., : -(-2 * rows.shape[-2] // 3), :]


def aggregate_posterior(z: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    z, log_weight = fewer(z), mu[..., 0].detach()
    sums = [ops.aggregate_posterior(z, mu, logvar, log_weight=log_weight)]
    sums += [ops.aggregate_posterior(z, mu, logvar, estimator="mss", dataset_size=1000)]
    return torch.stack([part.float().sum() for both in sums for part in both]).sum()


def decomposition(z: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    parts = ops.elbo_decomposition(z, mu, logvar, dataset_size=1000, estimator="mss")
    return torch.stack([part.float().sum() for part in parts]).sum()


def sample(_: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    (z, kl), (_, per_dimension) = ops.rsample_kl(mu, logvar), ops.rsample_kl(mu, logvar, per_dimension=True)
    return z.float().sum() + kl.float().sum() + per_dimension.float().sum()


def discrepancy(kernel: str) -> Callable[..., Tensor]:
    return lambda z, mu, _: ops.mmd(fewer(z), mu, kernel=kernel, estimator="biased").float().sum()


def shuffle(z: Tensor, _: Tensor, __: Tensor) -> Tensor:
    return ops.permute_dims(z).float().sum()


OPS: dict[str, Callable[..., Tensor]] = {
    "rsample_kl": sample,
    "aggregate_posterior": aggregate_posterior,
    "elbo_decomposition": decomposition,
    "mmd rbf": discrepancy("rbf"),
    "mmd energy": discrepancy("energy"),
    "permute_dims": shuffle,
}


def runs(device: str) -> Iterator[str]:
    cases = [(name, size) for name in OPS for size in (*SIZES, LARGE[name])]
    for (name, size), dtype in itertools.product(cases, DTYPES):
        made = [torch.randn(size).to(device, dtype).requires_grad_() for _ in range(3)]
        value = OPS[name](*made)
        grads = torch.autograd.grad(value, made, allow_unused=True)
        if not all(torch.isfinite(t).all() for t in (value, *grads) if t is not None):
            raise SystemExit(f"{name} {size} {dtype} is not finite")
        yield name


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.sanitize", description=__doc__)
    parser.add_argument("--device", default="cuda")
    device = parser.parse_args().device
    if not _extension.available(device):
        raise SystemExit(f"there are no compiled kernels for {device}: {_extension.describe()['cuda_reason']}")
    torch.manual_seed(0)
    count = sum(1 for _ in runs(device))
    print(f"{count} runs of {len(OPS)} ops, forward and backward")


if __name__ == "__main__":
    main()
