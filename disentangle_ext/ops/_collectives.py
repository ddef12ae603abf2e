"""What batch-wise ops need of the other ranks of a process group: the rows of the whole batch, with their gradients.

The whole batch is the shards in the order of their ranks. Only public collectives of torch.distributed are used, so any
backend will do.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any
from weakref import WeakKeyDictionary

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import ProcessGroup


def parallel(op: str, group: Any) -> ProcessGroup | None:
    """The group, or None where there are no other ranks: a group of one is none."""
    if group is None:
        return None
    if not isinstance(group, ProcessGroup):
        got = "that of other ranks" if group is dist.GroupMember.NON_GROUP_MEMBER else type(group).__name__
        raise TypeError(f"{op}: process_group must be a ProcessGroup that this rank belongs to, got {got}")
    return group if dist.get_world_size(group) > 1 else None


def agree(op: str, group: ProcessGroup, **arguments: Any) -> None:
    """Raises on every rank unless all call the same op with shards of the same shape and the same settings.

    What comes after it may raise for the arguments that it has seen: it will do so on all ranks, and none waits for
    another. On a CPU each call is compared, the key's value with it. On an accelerator the host would have to wait for
    the device, so there only what the group has not yet agreed on is. A compiled graph compares nothing.
    """
    if torch.compiler.is_compiling():
        return
    mine = {"op": repr(op), **{name: _describe(name, value) for name, value in arguments.items()}}
    signature = repr(mine)
    device = next((value.device for value in arguments.values() if isinstance(value, Tensor)), torch.device("cpu"))
    agreed = _agreed.setdefault(group, set())
    if signature in agreed:
        return
    digest = int.from_bytes(blake2b(signature.encode(), digest_size=7).digest(), "big")
    digests = torch.empty(dist.get_world_size(group), dtype=torch.int64, device=device)
    dist.all_gather(list(digests.split(1)), torch.tensor([digest], device=device), group=group)
    if len(set(digests.tolist())) > 1:
        _refuse(op, group, mine)
    if device.type != "cpu":
        agreed.add(signature)


_agreed: WeakKeyDictionary[ProcessGroup, set[str]] = WeakKeyDictionary()


def _describe(name: str, value: Any) -> str:
    if not isinstance(value, Tensor):
        return repr(value)
    if name == "key" and value.device.type == "cpu":
        return repr(value.tolist())
    # A rank that waits for gradients nobody sends would wait for ever.
    differentiated = torch.is_grad_enabled() and value.requires_grad
    dtype = str(value.dtype).removeprefix("torch.")
    return f"{tuple(value.shape)} {dtype}{' with gradient' if differentiated else ''}"


def _refuse(op: str, group: ProcessGroup, mine: Mapping[str, str]) -> None:
    every: list[Any] = [None] * dist.get_world_size(group)
    dist.all_gather_object(every, mine, group=group)
    names = dict.fromkeys(name for each in every for name in each)
    name = next(name for name in names if len({each.get(name) for each in every}) > 1)
    got: dict[Any, list[int]] = {}
    for rank, each in enumerate(every):
        got.setdefault(each.get(name), []).append(rank)
    listed = "; ".join(f"{text} on rank {', '.join(map(str, ranks))}" for text, ranks in got.items())
    raise ValueError(f"{op}: {name} must be the same on every rank of process_group, got {listed}")


def need_key(op: str, key: Any) -> None:
    """Noise of the whole batch can only be drawn from a key that all ranks have."""
    if key is None:
        raise ValueError(f"{op}: key must be given with a process_group, the same on every rank, got None")


def gather(group: ProcessGroup, *tensors: Tensor) -> list[Tensor]:
    """The rows of all ranks [.., world * B, D] for shards [.., B, D] of one dtype, in one collective.

    The gradient of a shard is the sum of what all ranks have for its rows.
    """
    every = _Gather.apply(torch.cat([t.reshape(-1) for t in tensors]), group)
    parts = every.split([t.numel() for t in tensors], 1)
    return [part.unflatten(1, t.shape).movedim(0, -3).flatten(-3, -2) for part, t in zip(parts, tensors)]


class _Gather(torch.autograd.Function):
    """[n] of each rank to [world, n] on all."""

    @staticmethod
    def forward(shard: Tensor, group: ProcessGroup) -> Tensor:
        every = shard.new_empty(dist.get_world_size(group), len(shard))
        dist.all_gather(list(every.unbind()), shard, group=group)
        return every

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ProcessGroup], output: Tensor) -> None:
        ctx.group = inputs[1]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        # In float32 for half types: there is a rounding for each rank in the sum.
        total = grad.float() if grad.dtype in (torch.float16, torch.bfloat16) else grad.clone()
        total = total.contiguous()
        dist.all_reduce(total, group=ctx.group)
        return total[dist.get_rank(ctx.group)].to(grad.dtype), None


def first_row(group: ProcessGroup, rows: int) -> int:
    """Where the shard of this rank, of so many rows, begins in the whole batch."""
    return dist.get_rank(group) * rows


def other_rows(group: ProcessGroup, rows: int) -> tuple[int, int]:
    """How many rows of the whole batch come before the shard of this rank, and how many after it."""
    before = first_row(group, rows)
    return before, (dist.get_world_size(group) - 1) * rows - before


def whole_batch(op: str, process_group: ProcessGroup | None, **shards: Tensor) -> list[Tensor]:
    """:func:`gather` of what all ranks agree on; without other ranks, the shards as they are."""
    if (group := parallel(op, process_group)) is None:
        return list(shards.values())
    agree(op, group, **shards)
    return gather(group, *shards.values())
