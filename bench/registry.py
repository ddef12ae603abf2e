"""Every case of every op."""

from __future__ import annotations

from collections.abc import Iterator

from bench import bench_aggregate_posterior, bench_elbo_decomposition, bench_mmd, bench_permute_dims, bench_rsample_kl
from bench.harness import BOTH, Case

# What matters most first: where the time runs out, the rest is left.
BENCHES = (bench_aggregate_posterior, bench_elbo_decomposition, bench_mmd, bench_rsample_kl, bench_permute_dims)


def cases(device: str, only: str = "", quick: bool = False) -> Iterator[Case]:
    """Cases of the ops whose name contains ``only``; of the two sizes that are named first, if it is to be quick."""
    for bench in BENCHES:
        sizes = bench.SIZES[device][:2] if quick else None
        yield from (case for case in bench.cases(device, sizes) if only in case.op)


def small_cases(device: str, only: str = "") -> Iterator[Case]:
    """Forward and backward at 64 x 10, where calls cost more than arithmetic."""
    yield from (case for bench in BENCHES if only in (case := bench.case(device, 64, BOTH)).op)
