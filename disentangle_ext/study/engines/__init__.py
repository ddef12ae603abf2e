"""Engines: where the runs of a study are computed. Scheduling and placement are theirs; the work is one function."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Protocol

from disentangle_ext._exit_codes import ExitCode
from disentangle_ext._files import append_line
from disentangle_ext.study.work import Task

__all__ = ["ATTEMPTS", "Ended", "Engine", "Work", "cpus_of", "goes_on", "is_abnormal", "log"]

ATTEMPTS = 3
"""How often a run is begun whose process is killed or breaks, before it is given up."""

Work = Callable[[Task], int]
"""The function that an engine calls for every task; it returns an exit code, see :func:`study.work.work`."""


class Ended(NamedTuple):
    """How the work on a run ended."""

    task: Task
    code: int
    """The exit code, or the number of the signal that killed the process as a negative one; -9 if it is not known."""
    attempts: int = 1


class Engine(Protocol):
    """A pool of workers, or a cluster."""

    def run(self, work: Work, tasks: Sequence[Task], is_stopped: Callable[[], bool]) -> Iterator[Ended]:
        """Do the work on every task, and yield each as it ends.

        A task whose process is killed or breaks is begun again, up to :data:`ATTEMPTS` times in all; it goes on from
        its checkpoint. So is one that was stopped from outside, as often as that happens.

        Args:
            work: the function to call.
            tasks: its arguments.
            is_stopped: whether the study is to stop. Then no task is begun any more, and those at work are asked once,
                by SIGTERM or what the cluster has, to save and to end.
        """
        ...


def is_abnormal(code: int) -> bool:
    """Whether the work was cut off or broke, rather than come to an end of its own."""
    return code < 0 or code == ExitCode.INCOMPLETE


def goes_on(code: int, attempt: int) -> bool:
    """Whether a run that ended is to be begun again: it was stopped from outside, or cut off.

    Args:
        code: see :class:`Ended`.
        attempt: how often it has been begun.
    """
    return code == ExitCode.STOPPED or (is_abnormal(code) and attempt < ATTEMPTS)


def cpus_of(task: Task) -> int:
    """The CPUs that a run takes: one where the number of its threads is left to torch."""
    return max(1, int(task.settings.get("threads", 1)))


def log(task: Task, text: str) -> None:
    """Add what an engine knows of an end to what the run has printed, unless the disk is full: the others go on."""
    path = Path(task.log)
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        append_line(path, text)
