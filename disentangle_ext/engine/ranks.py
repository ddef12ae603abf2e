"""What the processes of a group that trains one model share out and decide together."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import ProcessGroup
from torch.nn.parallel import DistributedDataParallel

from disentangle_ext._exit_codes import ExitCode

__all__ = ["ElsewhereError", "Ranks"]

T = TypeVar("T")


class ElsewhereError(RuntimeError):
    """Another process could not go on, and raises the reason there: here there is nothing to add.

    Attributes:
        code: the exit code of that process.
    """

    def __init__(self, rank: int, world: int, code: int) -> None:
        super().__init__(f"train: process {rank} of {world} could not go on, and says why")
        self.code = code


class Ranks:
    """The processes of a group; a process alone is a group of one, for which nothing is sent anywhere.

    All processes make the same calls in the same order. Rank 0, the first, is the one that writes and speaks.

    Args:
        group: the processes, with a backend for the CPU, as "cpu:gloo,cuda:nccl"; or None for a process alone.
    """

    def __init__(self, group: ProcessGroup | None = None) -> None:
        is_alone = group is None or dist.get_world_size(group) == 1
        self.group = None if is_alone else group
        self.rank = 0 if is_alone else dist.get_rank(group)
        self.world = 1 if is_alone else dist.get_world_size(group)

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    @property
    def place(self) -> int | None:
        """The number of this process on its machine, as torchrun counts them; None for a process alone."""
        return int(os.environ.get("LOCAL_RANK", self.rank)) if self.group else None

    def shard(self, rows: Tensor, parts: int = 1) -> Tensor:
        """The rows of a batch that are this process's, an equal share of each of ``parts`` equal parts of it."""
        if self.group is None:
            return rows
        return torch.cat([part.chunk(self.world)[self.rank] for part in rows.chunk(parts)])

    def gather(self, tensor: Tensor) -> Tensor:
        """Stack the tensors of all processes, which have one shape: [world, ..]."""
        if self.group is None:
            return tensor[None]
        every = tensor.new_empty(self.world, *tensor.shape)
        dist.all_gather(list(every.unbind()), tensor.contiguous(), group=self.group)
        return every

    def mean(self, tensor: Tensor) -> Tensor:
        """Average the tensors of all processes."""
        return tensor if self.group is None else self.gather(tensor).mean(0)

    def averaging(self, compute: Callable[..., Any], optimizer: torch.optim.Optimizer) -> Callable[..., Any]:
        """``compute``, with the gradients of what an optimiser trains averaged over processes in each backward pass.

        The first call broadcasts rank 0's parameters; :meth:`averaging` itself does not communicate.
        """
        if self.group is None:
            return compute

        @cache
        def module() -> DistributedDataParallel:
            computation = _Computation(compute, optimizer)
            return DistributedDataParallel(computation, process_group=self.group, gradient_as_bucket_view=True)

        return lambda *inputs: module()(*inputs)

    def agree(self, work: Callable[[], T]) -> T:
        """The result of ``work``, where every process has one.

        Raises:
            ElsewhereError: where ``work`` raised on another process, whose rank is below that of any here.
        """
        if self.group is None:
            return work()
        problem: BaseException | None = None
        result: Any = None
        try:
            result = work()
        except (Exception, SystemExit) as error:
            problem = error
        codes = self.gather(torch.tensor(0 if problem is None else _code_of(problem)))
        failed = codes.nonzero().flatten().tolist()
        if not failed:
            return result
        if problem is not None and failed[0] == self.rank:
            raise problem
        raise ElsewhereError(failed[0], self.world, max(0, int(codes[failed[0]]))) from problem

    def first(self, work: Callable[[], object]) -> None:
        """Do ``work`` on the first process; the others wait for it, and stop if it fails.

        Raises:
            ElsewhereError: where it raised on the first process, which this is not.
        """
        self.agree(work if self.is_first else lambda: None)

    def from_first(self, work: Callable[[], T]) -> T:
        """The result that ``work`` has on the first process.

        Raises:
            ElsewhereError: as :meth:`first`.
        """
        if self.group is None:
            return work()
        result: list[Any] = [None]

        def compute() -> None:
            result[0] = work()

        self.first(compute)
        source = dist.get_global_rank(self.group, 0)
        dist.broadcast_object_list(result, src=source, group=self.group, device=torch.device("cpu"))
        return result[0]

    def begin_vote(self, read: Callable[[], signal.Signals | None]) -> Callable[[], signal.Signals | None]:
        """Ask every process for the signal that it has got. The answer is one of theirs, the same everywhere.

        The question travels while other work is done: waiting for it would cost about as much as a small op.

        Args:
            read: the signal here, read now by one of several processes, and by a process alone when it is waited for.

        Returns:
            What waits for the answer.
        """
        if self.group is None:
            return read
        ballot = torch.tensor(int(read() or 0))
        sent = dist.all_reduce(ballot, dist.ReduceOp.MAX, group=self.group, async_op=True)

        def answer() -> signal.Signals | None:
            sent.wait()
            return signal.Signals(int(ballot)) if ballot else None

        return answer


def _code_of(problem: BaseException) -> int:
    """The exit code of a process that ends with ``problem``, and -1 for one that ends well but before its time."""
    if isinstance(problem, SystemExit):
        return problem.code if isinstance(problem.code, int) and problem.code else -1
    return ExitCode.of(problem)


class _Computation(nn.Module):
    """Anything that reaches into modules, as a module whose parameters are those of an optimiser, and no others."""

    def __init__(self, compute: Callable[..., Any], optimizer: torch.optim.Optimizer) -> None:
        super().__init__()
        self.trained = nn.ParameterList(each for group in optimizer.param_groups for each in group["params"])
        self._compute = compute

    def forward(self, *inputs: Any) -> Any:
        return self._compute(*inputs)
