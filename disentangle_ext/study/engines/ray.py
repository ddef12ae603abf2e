"""The engine of a Ray cluster: a remote task for every run, placed by Ray wherever there is room."""

from __future__ import annotations

import logging
import signal
import socket
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from disentangle_ext._errors import MistakeError
from disentangle_ext._exit_codes import ExitCode
from disentangle_ext._extras import require
from disentangle_ext.engine.device import AUTO
from disentangle_ext.study.engines import Ended, Work, cpus_of, goes_on, is_abnormal, log
from disentangle_ext.study.work import Task
from disentangle_ext.training.interrupt import SIGNALS

__all__ = ["Ray"]

_IN_FLIGHT = 1000
"""Tasks that Ray knows of at once: enough to fill a cluster, or to make it grow, and soon cancelled."""

_POLL = 0.5
"""Seconds after which a signal to the study is seen at the latest."""

_PATIENCE = 5.0
"""Seconds for the head of the cluster to answer. Ray itself would try for minutes."""


class _Flying(NamedTuple):
    """A task that Ray knows of."""

    task: Task
    attempt: int


class Ray:
    """Tasks of a Ray cluster, whose machines all see the folder of the study and have this package.

    A run takes as many CPUs as it has threads. Every attempt is a task of its own, which Ray does not retry, so that
    there is one count of attempts, whether a process is killed, a machine is lost, or the work breaks.

    Args:
        address: HOST:PORT of the head of the cluster, or "auto": that of this machine, or the one that the environment
            variable RAY_ADDRESS names.
        gpus_per_run: how many GPUs a run takes, or which share of one. With 0 a run that may choose takes the CPU.
    """

    def __init__(self, address: str = "auto", gpus_per_run: float = 0.0) -> None:
        self._address = address
        self._gpus = gpus_per_run

    def run(self, work: Work, tasks: Sequence[Task], is_stopped: Callable[[], bool]) -> Iterator[Ended]:
        """Do the work on every task, see :meth:`Engine.run`.

        Raises:
            MistakeError: if there is no cluster at the address.
        """
        with _connected(self._address) as ray:
            self._warn(ray, tasks)
            yield from self._run(ray, work, tasks, is_stopped)

    def _run(self, ray: Any, work: Work, tasks: Sequence[Task], is_stopped: Callable[[], bool]) -> Iterator[Ended]:
        # Said here, not in options(): with GPUs Ray then ends a worker after every run, which gives back its memory.
        remote = ray.remote(num_gpus=self._gpus, max_retries=0)(work)
        waiting = deque(_Flying(task, 1) for task in tasks)
        flying: dict[Any, _Flying] = {}
        is_asked = False
        while flying or (waiting and not is_stopped()):
            while waiting and len(flying) < _IN_FLIGHT and not is_stopped():
                task, attempt = waiting.popleft()
                reference = remote.options(name=task.name, num_cpus=cpus_of(task)).remote(self._placed(task))
                flying[reference] = _Flying(task, attempt)
            if is_stopped() and not is_asked:
                is_asked = True  # once: a run takes a second signal for the wish to end at once
                for reference in flying:
                    ray.cancel(reference)  # the worker's main thread sees it as SIGINT
            for reference in _ended(ray, list(flying)):
                task, attempt = flying.pop(reference)
                code = _code_of(ray, reference, task)
                if is_stopped() and code is None:
                    continue
                code = ExitCode.STOPPED if code is None else code
                if is_stopped() or not goes_on(code, attempt):
                    yield Ended(task, code, attempt)
                else:
                    waiting.append(_Flying(task, attempt + is_abnormal(code)))

    def _placed(self, task: Task) -> Task:
        """The task, on the CPU if Ray is not asked for a GPU: Ray hides those of a machine from nobody."""
        return task._replace(device="cpu") if task.device == AUTO and not self._gpus else task

    def _warn(self, ray: Any, tasks: Sequence[Task]) -> None:
        """Say that runs wait for a machine which the cluster does not have yet; it may be one that grows."""
        cpus = max(map(cpus_of, tasks), default=1)
        nodes = [each["Resources"] for each in ray.nodes() if each["Alive"]]
        if not any(each.get("CPU", 0) >= cpus and each.get("GPU", 0) >= self._gpus for each in nodes):
            need = f"{cpus} CPUs and {self._gpus:g} GPUs"
            print(f"study: no machine of the Ray cluster has {need}: runs wait until one comes", file=sys.stderr)


@contextmanager
def _connected(address: str) -> Iterator[Any]:
    ray = require("ray", extra="ray", what="study --engine ray")
    _check(address)
    with _same_handlers():
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except (OSError, RuntimeError, ValueError) as error:
            raise MistakeError(f"study: --address {address}: {' '.join(str(error).split())}") from None
    try:
        yield ray
    finally:
        ray.shutdown()  # ends the workers of this call, those of a run that is still at work too


def _check(address: str) -> None:
    """Raise unless somebody listens at HOST:PORT."""
    host, _, port = address.rpartition(":")
    if address == "auto":
        return
    if not (host and port.isdecimal()):
        raise MistakeError(f"study: --address must be auto or HOST:PORT, got {address}")
    try:
        socket.create_connection((host, int(port)), timeout=_PATIENCE).close()
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise MistakeError(f"study: --address {address}: no Ray cluster answers there: {reason}") from None


@contextmanager
def _same_handlers() -> Iterator[None]:
    """Keep the handlers of the signals that stop a study, in whose place ray.init puts its own."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    kept = {each: signal.getsignal(each) for each in SIGNALS}
    try:
        yield
    finally:
        for each, handler in kept.items():
            signal.signal(each, handler)


def _ended(ray: Any, references: list[Any]) -> list[Any]:
    """The tasks that have ended, as soon as one has."""
    first, others = ray.wait(references, num_returns=1, timeout=_POLL)
    if not (first and others):
        return list(first)
    return first + ray.wait(others, num_returns=len(others), timeout=0)[0]


def _code_of(ray: Any, reference: Any, task: Task) -> int | None:
    """How a task ended; None if it was cancelled before it began."""
    errors = ray.exceptions
    try:
        return int(ray.get(reference))
    except errors.TaskCancelledError:
        return None
    except errors.RayTaskError as error:
        log(task, str(error))
        return ExitCode.INCOMPLETE
    except errors.RayError as error:  # the process, or its machine, is gone; Ray does not know the signal
        log(task, " ".join(str(error).split()))
        return -signal.SIGKILL
