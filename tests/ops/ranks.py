"""Checks that run on the ranks of a process group, beside the same computation in one process."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor
from torch.distributed import ProcessGroup

from tests.processes import context

Check = Callable[[ProcessGroup], None]

WORLDS = (2, 4)


def run(checks: Mapping[str, Check], world: int, folder: Path) -> dict[str, str]:
    """Every check on every rank of a gloo group: its name, and what went wrong, on any of them."""
    context()
    arguments = (checks, world, str(folder))
    mp.start_processes(_rank, args=arguments, nprocs=world, start_method="forkserver")
    outcomes = [torch.load(folder / f"{rank}.pt") for rank in range(world)]
    return {name: "\n".join(filter(None, (outcome[name] for outcome in outcomes))) for name in checks}


def _rank(rank: int, checks: Mapping[str, Check], world: int, folder: str) -> None:
    torch.set_num_threads(1)
    # A file, since a port could be taken; the timeout is what becomes of a hang.
    store = f"file://{folder}/store"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=world, timeout=timedelta(seconds=30))
    outcome = {}
    for name, check in checks.items():
        torch.manual_seed(0)
        try:
            check(dist.group.WORLD)
        except (Exception, pytest.fail.Exception):  # the second is what pytest.raises raises
            outcome[name] = f"rank {rank} of {world}: {traceback.format_exc()}"
        else:
            outcome[name] = ""
    torch.save(outcome, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def own(whole: Tensor, group: ProcessGroup, dim: int = -2) -> Tensor:
    """The shard of this rank."""
    return whole.chunk(dist.get_world_size(group), dim)[dist.get_rank(group)]


def mean_over_ranks(value: Tensor, group: ProcessGroup) -> Tensor:
    """What DistributedDataParallel makes of a gradient."""
    total = value.detach().clone()
    dist.all_reduce(total, group=group)
    return total / dist.get_world_size(group)


def near(ours: Tensor, theirs: Tensor, relative: float = 1e-9) -> None:
    assert ours.shape == theirs.shape
    assert theirs.abs().max() > 0, "nothing to compare"
    error = ((ours - theirs).abs().max() / theirs.abs().max()).item()
    assert error <= relative, f"relative error {error:.2e}"


def assert_as_one_process(
    loss: Callable[..., Tensor], whole: list[Tensor], group: ProcessGroup, relative: float = 1e-9
) -> None:
    """``loss(*tensors, process_group)`` on shards, averaged over ranks, is that on the whole batch; so is its gradient."""
    whole = [t.detach().clone().requires_grad_() for t in whole]
    shards = [own(t, group).detach().clone().requires_grad_() for t in whole]
    value, reference = loss(*shards, process_group=group), loss(*whole, process_group=None)
    near(mean_over_ranks(value, group), reference.detach(), relative)
    world = dist.get_world_size(group)
    for shard, t in zip(torch.autograd.grad(value, shards), torch.autograd.grad(reference, whole)):
        # The gradient of a shard sums over ranks what a parameter would get from its rows; the mean divides it.
        near(shard / world, own(t, group), relative)
