"""The engine of one machine: a process for every run, so that one that is killed costs no other."""

from __future__ import annotations

import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import forkserver
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any, NamedTuple

import torch
import torch.multiprocessing as mp

from disentangle_ext._exit_codes import ExitCode
from disentangle_ext.engine.device import AUTO
from disentangle_ext.study.engines import Ended, Work, goes_on, is_abnormal
from disentangle_ext.study.work import Task
from disentangle_ext.training.interrupt import SIGNALS

__all__ = ["Local"]

# Imported once, by the process that all others are forked from. The first optimiser imports torch._dynamo.
_PRELOADED = ["torch._dynamo", "disentangle_ext.study.work", "disentangle_ext.metrics", "disentangle_ext.report"]

_POLL = 0.5
"""Seconds after which a signal to the study is seen at the latest."""


class _Running(NamedTuple):
    """A process at work."""

    process: BaseProcess
    task: Task
    attempt: int
    place: int
    """Which of the workers it is."""


class Local:
    """Processes on this machine. Workers whose tasks may choose their device share its GPUs in turn.

    Args:
        workers: how many runs are at work at once.
        gpus: how many GPUs there are; default: those that torch sees.
    """

    def __init__(self, workers: int, gpus: int | None = None) -> None:
        self._workers = workers
        self._gpus = torch.cuda.device_count() if gpus is None else gpus

    def run(self, work: Work, tasks: Sequence[Task], is_stopped: Callable[[], bool]) -> Iterator[Ended]:
        """Do the work on every task, see :meth:`Engine.run`."""
        waiting = deque((task, 1) for task in tasks)
        running: dict[int, _Running] = {}
        free = deque(range(min(self._workers, len(tasks))))
        is_asked = False
        _start_server()
        try:
            while running or (waiting and not is_stopped()):
                while waiting and free and not is_stopped():
                    begun = self._begin(work, *waiting.popleft(), free.popleft())
                    running[begun.process.sentinel] = begun
                if is_stopped() and not is_asked:
                    is_asked = True  # once: a run takes a second signal for the wish to end at once
                    for each in running.values():
                        each.process.terminate()
                ended = [key for key in wait(list(running), timeout=_POLL) if isinstance(key, int)]
                for process, task, attempt, place in map(running.pop, ended):
                    free.append(place)
                    code = _code_of(process)
                    if is_stopped() or not goes_on(code, attempt):
                        yield Ended(task, code, attempt)
                    else:
                        waiting.append((task, attempt + is_abnormal(code)))
        finally:
            for each in running.values():
                each.process.kill()

    def _begin(self, work: Work, task: Task, attempt: int, place: int) -> _Running:
        server: Any = mp.get_context("forkserver")
        device = f"cuda:{place % self._gpus}" if task.device == AUTO and self._gpus > 1 else task.device
        process = server.Process(target=_process, args=(work, task._replace(device=device)))
        process.start()
        return _Running(process, task, attempt, place)


def _start_server() -> None:
    """Start the process that all others are forked from, deaf to the signals that stop a study.

    They go to the whole group of processes from a terminal and from ``timeout``, and without the server nothing would
    be known of its children.
    """
    forkserver.set_forkserver_preload(_PRELOADED)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _process(work: Work, task: Task) -> None:
    # A run takes a second signal for the wish to end at once, so it gets the study's alone, not that of the group too.
    os.setpgid(0, 0)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    sys.exit(work(task))


def _code_of(process: BaseProcess) -> int:
    process.join()
    code = process.exitcode
    assert code is not None
    return ExitCode.STOPPED if code == -signal.SIGTERM else code
