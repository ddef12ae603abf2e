"""Joining the processes that torchrun starts, and leaving them so that each ends with one clear word.

torchrun ends all processes once one has ended with an error, and says for each what its exit code was. So those that
end together wait for each other, and a process that is lost is named by those that are left.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from datetime import timedelta

import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from disentangle_ext.training.exit_codes import ExitCode
from disentangle_ext.training.ranks import ElsewhereError, Ranks

__all__ = ["run"]

TIMEOUT = timedelta(minutes=5)
"""How long a process waits for the others: longer than any of them takes to load data, compile or write a checkpoint,
and at most what is lost where a machine falls silent, whose connections nobody closes."""

BEAT = 0.5
"""Seconds between two signs of life."""

PATIENCE = 5.0
"""Seconds without one after which a process is lost, and for which those that end together wait for each other."""


def run(work: Callable[[Ranks], int]) -> int:
    """The exit code of ``work`` on every process that torchrun has started, or on this one alone.

    An exception that ends one process ends them all, with its exit code. A process that is lost is named by the first
    of those left, and they end with :attr:`ExitCode.LOST_PROCESS`.
    """
    if "RANK" not in os.environ or os.environ.get("WORLD_SIZE", "1") == "1":
        return work(Ranks())
    # Where the work does not take a signal itself it comes from torchrun, which passes on what others have sent here
    # too, ends those that another has left, and after 30 s does so in earnest.
    for each in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(each, signal.SIG_IGN)
    try:
        attendance = _join()
    except (RuntimeError, ValueError) as error:
        print(f"train: cannot join the other processes: {_first_line(error)}", file=sys.stderr)
        return ExitCode.MISTAKE if isinstance(error, ValueError) else ExitCode.LOST_PROCESS
    ranks = Ranks(dist.group.WORLD)
    try:
        with _quiet(not ranks.is_first):
            code = work(ranks)
    except ElsewhereError as error:
        code = attendance.code_of(error.rank)
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except Exception as error:
        reason = attendance.account_for(error)
        if reason is None:
            traceback.print_exc()
        code = 1 if reason is None else reason
    return attendance.leave(code)


def _join() -> Attendance:
    """Join the group that the environment describes.

    Raises:
        RuntimeError, ValueError: if it describes none, or the others do not come.
    """
    store, rank, world = next(rendezvous("env://", timeout=TIMEOUT))
    store.set_timeout(TIMEOUT)
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() and dist.is_nccl_available() else "gloo"
    group = PrefixStore("group", store)
    dist.init_process_group(backend, store=group, rank=rank, world_size=world, timeout=TIMEOUT)
    return Attendance(PrefixStore("attendance", store), rank, world)


@contextmanager
def _quiet(enabled: bool) -> Iterator[None]:
    """Print nothing to the standard output."""
    if not enabled:
        yield
        return
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
        yield


def _is_of_connection(error: BaseException) -> bool:
    """Whether an error is one of a backend's. Gloo's are plain RuntimeErrors, most with a path in its sources."""
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error))


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


class Attendance:
    """Which processes are there, and with what exit code others have left, in the store of the group.

    A connection that breaks does not say whose process is gone: the next in a ring breaks as its neighbour gives up.
    So each gives signs of life from a thread, also while it waits for others.

    Args:
        store: that all processes have.
        rank: of this one.
        world: how many there are.
    """

    def __init__(self, store: Store, rank: int, world: int) -> None:
        self._store = store.clone()  # type: ignore[attr-defined]  # a connection of its own, which nobody waits on
        self._rank = rank
        self._world = world
        self._is_over = threading.Event()
        self._beat(0)
        threading.Thread(target=self._live, daemon=True).start()

    def _live(self) -> None:
        count = 0
        with suppress(RuntimeError):  # the store is gone: those that ask for signs of life see that themselves
            while not self._is_over.wait(BEAT):
                count += 1
                self._beat(count)

    def _beat(self, count: int) -> None:
        self._store.set(f"alive/{self._rank}", str(count))

    def _read(self, name: str, rank: int) -> int | None:
        key = f"{name}/{rank}"
        return int(self._store.get(key)) if self._store.check([key]) else None

    def code_of(self, rank: int) -> int:
        """The exit code of a process that is about to leave."""
        with suppress(RuntimeError):
            self._wait(lambda: self._read("left", rank) is not None)
        return self._codes().get(rank, ExitCode.LOST_PROCESS)

    def account_for(self, error: BaseException) -> int | None:
        """The exit code where an error comes of others that do not answer, which the first of those left says; or None.

        What a backend says about its connections has no common form. That others are missing tells it for sure.
        """
        lost = self._lost()
        codes = self._codes()
        own = {rank: code for rank, code in codes.items() if code != ExitCode.LOST_PROCESS}
        there = [rank for rank in range(self._world) if rank not in lost and rank not in own]
        code: int = ExitCode.LOST_PROCESS
        if lost:
            line = f"process {', '.join(map(str, lost))} of {self._world} is lost"
        elif own:
            rank, code = next(iter(own.items()))
            line = f"process {rank} of {self._world} has ended with exit code {code}"
        elif _is_of_connection(error):
            line = f"process {self._rank} of {self._world} has lost the others ({_first_line(error)})"
        else:
            return None
        if self._rank == there[0]:
            print(f"train: {line}; --resume goes on from the last checkpoint", file=sys.stderr, flush=True)
        return code

    def _lost(self) -> list[int]:
        """Those that have not left, and give no sign of life."""
        missing = {rank for rank in range(self._world) if rank != self._rank}

        def is_complete() -> bool:
            for rank in list(missing):
                if self._read("left", rank) is not None or self._read("alive", rank) != before[rank]:
                    missing.discard(rank)
            return not missing

        try:
            before = {rank: self._read("alive", rank) for rank in missing}
            self._wait(is_complete)
        except RuntimeError:  # the store is gone, which is where the first process is
            return [0]
        return sorted(missing)

    def _codes(self) -> dict[int, int]:
        """The exit codes of the others that have left."""
        codes: dict[int, int] = {}
        with suppress(RuntimeError):
            for rank in range(self._world):
                code = self._read("left", rank)
                if code is not None and rank != self._rank:
                    codes[rank] = code
        return codes

    def _wait(self, is_done: Callable[[], bool]) -> None:
        end = time.monotonic() + PATIENCE
        while not is_done() and time.monotonic() < end:
            time.sleep(0.05)

    def leave(self, code: int) -> int:
        """Leave the group: with an error together with the others, or, where they do not come along, alone."""
        with suppress(RuntimeError):
            self._store.set(f"left/{self._rank}", str(int(code)))
        if code == ExitCode.FINISHED:  # what the first process has yet to do it does alone
            is_together = True
        elif code == ExitCode.LOST_PROCESS:  # others may wait for this one's connections to break
            is_together = False
        else:
            self._wait(lambda: len(self._codes()) == self._world - 1)
            is_together = len(self._codes()) == self._world - 1
        self._is_over.set()
        if is_together:
            dist.destroy_process_group()
            return code
        # The end of the interpreter would wait for operations that the others never answer.
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code)
