"""The CUDA kernels of permute_dims, run on the CPU: exactly the permutations of the reference."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from disentangle_ext.ops import reference
from tests.cuda import harness
from tests.ops.cases import dtypes

pytestmark = pytest.mark.builds

# Leading dimensions, rows, D, and the longest run; zero is the one that the kernel chooses.
ONE_RUN = (((), 1, 3, 0), ((), 2, 2, 0), ((3,), 3, 1, 0), ((), 64, 2, 0), ((2, 3), 31, 5, 0), ((), 257, 3, 0))
# A last run that is full, ragged, a single row, and left without a partner once and twice.
MERGED = (((), 128, 2, 64), ((2,), 150, 3, 64), ((), 65, 3, 64), ((), 300, 1, 64), ((3,), 21, 3, 4), ((), 5, 2, 1))

shapes = pytest.mark.parametrize("shape", [*ONE_RUN, *MERGED], ids=str)
KINDS = {torch.uint8: 256, torch.int16: 2**15, torch.float32: 2**24, torch.float64: 2**53, torch.complex128: 2**53}


def keys(*leading: int) -> Tensor:
    return torch.randint(-(2**63), 2**63 - 1, (*leading, 2), generator=torch.Generator().manual_seed(5))


def values(*size: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Numbers that tell the elements apart, as far as the dtype goes."""
    count = torch.Size(size).numel()
    return (torch.arange(count) % KINDS[dtype]).to(dtype).view(size)


def move(mode: str, z: Tensor, key: Tensor, run: int, inverse: bool = False) -> Tensor:
    *leading, rows, D = z.shape
    problems = torch.Size(leading).numel()
    out = torch.full_like(z, 77)
    options = problems, rows, D, problems * D // (key.numel() // 2), run, inverse, z.element_size()
    harness.library("permute_dims", mode).call("permute_dims", *options, key, z, out)
    return out


@shapes
def test_equals_the_reference(shape, mode, order):
    leading, rows, D, run = shape
    z = values(*leading, rows, D)
    for key in (keys(), keys(*leading)):
        assert torch.equal(move(mode, z, key, run), reference.permute_dims(z, key))


@shapes
def test_backward_is_the_inverse(shape, mode):
    leading, rows, D, run = shape
    z, key = values(*leading, rows, D), keys(*leading)
    assert torch.equal(move(mode, reference.permute_dims(z, key), key, run, inverse=True), z)


@dtypes(*KINDS)
def test_elements_of_every_size(dtype, mode):
    for run in (0, 16):
        z = values(2, 37, 3, dtype=dtype)
        out = move(mode, z, keys(), run)
        assert torch.equal(out, reference.permute_dims(z, keys()))
        assert torch.equal(move(mode, out, keys(), run, inverse=True), z)


@pytest.mark.parametrize("rows", [1024, 4095, 4096, 4097])
def test_the_longest_runs(rows, mode):
    """Three counters for some threads, and one row more than a block sorts."""
    z = values(rows, 2)
    assert torch.equal(move(mode, z, keys(), 0), reference.permute_dims(z, keys()))


@pytest.mark.parametrize("run", [1, 64, 128, 512])
def test_merging_keeps_the_order_of_equal_keys(run, mode):
    columns, rows = 2, 300
    keys = torch.randint(0, 20, (columns, rows), generator=torch.Generator().manual_seed(5))
    sort = [part.sort(stable=True) for part in keys.split(run, -1)]
    sorted_keys = torch.cat([s.values for s in sort], -1)
    places = torch.cat([s.indices + i * run for i, s in enumerate(sort)], -1).int()
    merged_keys, merged = torch.zeros_like(keys), torch.zeros_like(places)
    call = harness.library("permute_dims", mode).call
    call("merge_runs", columns, rows, run, sorted_keys, places, merged_keys, merged)
    expected = torch.cat(
        [part.argsort(stable=True) + i * 2 * run for i, part in enumerate(keys.split(2 * run, -1))], -1
    )
    assert torch.equal(merged.long(), expected)
    assert torch.equal(merged_keys, keys.gather(-1, expected))
