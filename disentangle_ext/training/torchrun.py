"""Joining the processes that torchrun starts, and leaving them."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from datetime import timedelta

import torch
import torch.distributed as dist
from torch.distributed.elastic.multiprocessing.errors import record

from disentangle_ext._exit_codes import ExitCode
from disentangle_ext.engine.ranks import ElsewhereError, Ranks

__all__ = ["run"]

TIMEOUT = timedelta(minutes=5)
"""How long a process waits for the others: longer than any of them takes to load data, compile or write a checkpoint,
and at most what is lost where a machine falls silent, whose connections nobody closes."""


def run(work: Callable[[Ranks], int]) -> int:
    """Do ``work`` on every process that torchrun has started, or on this one alone; return the exit code.

    An exception that ends one process ends them all: those that wait for it learn of it from their connections, or from
    torchrun, which ends them and prints the traceback of the first that failed.
    """
    if "RANK" not in os.environ or os.environ.get("WORLD_SIZE", "1") == "1":
        return work(Ranks())
    return record(_together)(work) or ExitCode.FINISHED


def _together(work: Callable[[Ranks], int]) -> int:
    # Outside of training a signal ends nothing: torchrun passes on what others have sent to this process too, and ends
    # in earnest, after 30 s, those that do not hear of the end of another from their connections.
    for each in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(each, signal.SIG_IGN)
    try:
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() and dist.is_nccl_available() else "gloo"
        dist.init_process_group(backend, timeout=TIMEOUT)
    except (RuntimeError, ValueError) as error:  # the environment describes no group, or the others do not come
        print(f"train: cannot join the other processes: {_first_line(error)}", file=sys.stderr)
        return ExitCode.MISTAKE if isinstance(error, ValueError) else ExitCode.INCOMPLETE
    ranks = Ranks(dist.group.WORLD)
    try:
        with _quiet(not ranks.is_first):
            code = work(ranks)
    except ElsewhereError as error:
        code = error.code
    except RuntimeError as error:
        if not _is_of_connection(error):
            raise
        line = f"process {ranks.rank} of {ranks.world} has lost the others ({_first_line(error)})"
        print(f"train: {line}; --resume goes on from the last checkpoint", file=sys.stderr, flush=True)
        return ExitCode.INCOMPLETE
    dist.destroy_process_group()
    return code


@contextmanager
def _quiet(enabled: bool) -> Iterator[None]:
    """Print nothing to the standard output."""
    if not enabled:
        yield
        return
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
        yield


def _is_of_connection(error: BaseException) -> bool:
    """Whether a backend raised an error. Gloo raises RuntimeErrors with a path in its sources, and one without."""
    signs = ("gloo", "Application timeout caused pair closure")
    is_gloo = isinstance(error, RuntimeError) and any(sign in str(error) for sign in signs)
    return isinstance(error, dist.DistError) or is_gloo


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
