"""The engine of a SLURM cluster: one array of jobs by submitit, each job with a block of runs."""

from __future__ import annotations

import math
import os
import signal
import sys
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from disentangle_ext._errors import MistakeError
from disentangle_ext._exit_codes import ExitCode
from disentangle_ext._extras import require
from disentangle_ext.study.engines import ATTEMPTS, Ended, Work, cpus_of, log
from disentangle_ext.study.engines.block import Block
from disentangle_ext.study.work import Task

__all__ = ["Resources", "Submitit"]

_MOST_JOBS = 1000
"""The jobs of an array. SLURM's MaxArraySize is 1,001 if nobody has changed it, and indices are below that."""

_SIGNAL = "USR1"
"""What SLURM sends before the time is over. submitit's own choice, USR2, would end a run in the middle of a step."""

_SECONDS_TO_SAVE = 120
_UNLIMITED = 10**6
"""How often submitit queues a job again whose time is over: runs go on from their checkpoints, so always."""

_POLL = 0.5
"""Seconds after which a signal to the study is seen at the latest."""

_LONGEST = 10.0
"""The longest that progress in the jobs goes unseen."""


@dataclass(frozen=True)
class Resources:
    """What a job is given; None leaves it to the cluster.

    Attributes:
        timeout_min: minutes after which a job is ended and queued again.
        cpus_per_task: CPUs of a job; default: as many as the run with most threads has.
        array_parallelism: jobs at work at once.
        slurm: any other options of sbatch, as written there without the dashes; True for one that takes no value.
    """

    partition: str | None = None
    timeout_min: int = 240
    gpus_per_node: int | None = None
    cpus_per_task: int | None = None
    mem_gb: float | None = None
    array_parallelism: int | None = None
    slurm: Mapping[str, str | bool] = field(default_factory=dict)


@dataclass
class _Queued:
    """A block, and its job."""

    block: Block
    job: Any = None
    told: set[str] = field(default_factory=set)
    """Runs whose end was told."""
    known: int = 0
    """Lines of the journal when the job was submitted."""
    barren: int = 0
    """Jobs, one after the other, that died before they began a run."""


class Submitit:
    """Jobs of a SLURM cluster, or processes of this machine that stand for them.

    The runs of a block are done one after the other. A job that is preempted, or whose time is over, lets its run save
    and is queued again; one that died is submitted again, and one that was cancelled is not. A stop of the study leaves
    the jobs of SLURM in the queue, and ends those of this machine.

    Args:
        folder: takes what submitit writes, and the journals of the blocks; all machines of the cluster see it.
        cluster: "slurm", or "local".
        block: runs in a job; default: as few as an array of 1,000 jobs allows.
        resources: what a job is given.
    """

    def __init__(
        self, folder: Path, *, cluster: str = "slurm", block: int | None = None, resources: Resources | None = None
    ) -> None:
        self._folder = folder
        self._is_local = cluster == "local"
        self._block = block
        self._resources = resources or Resources()

    def run(self, work: Work, tasks: Sequence[Task], is_stopped: Callable[[], bool]) -> Iterator[Ended]:
        """Do the work on every task, see :meth:`Engine.run`.

        Raises:
            MistakeError: if the cluster refuses the jobs.
        """
        waiting = deque(map(_Queued, self._blocks(work, tasks)))
        executor = self._executor(tasks)
        width = (self._resources.array_parallelism or os.cpu_count() or 1) if self._is_local else len(waiting)
        queued: list[_Queued] = []
        is_asked, pause = False, _POLL / 5
        while queued or (waiting and not is_stopped()):
            if not is_stopped():
                queued += _submit(executor, [waiting.popleft() for _ in range(min(width - len(queued), len(waiting)))])
            elif not self._is_local:
                _say_what_stays(self._folder, queued)
                return
            elif not is_asked:
                is_asked = True
                for each in queued:
                    each.job.cancel()
            for each in list(queued):
                is_over = each.job.done()  # before the journal is read: all that the job wrote is then seen
                if is_over:
                    queued.remove(each)
                    each.block.close()
                yield from _news(each)
                if is_over and each.block.left():
                    yield from _over(each, waiting, is_stopped())
            _wait(is_stopped, pause)
            pause = min(1.2 * pause, _POLL if self._is_local else _LONGEST)

    def _blocks(self, work: Work, tasks: Sequence[Task]) -> list[Block]:
        size = self._block or max(1, math.ceil(len(tasks) / _MOST_JOBS))
        parts = [tasks[first : first + size] for first in range(0, len(tasks), size)]
        self._folder.mkdir(parents=True, exist_ok=True)
        return [Block(work, part, self._folder / f"{uuid.uuid4().hex}.jsonl") for part in parts]

    def _executor(self, tasks: Sequence[Task]) -> Any:
        """The executor of submitit, with what a job is given."""
        os.environ["SUBMITIT_PREEMPT_SIGNAL"] = _SIGNAL  # for the processes that stand for jobs
        submitit = require("submitit", extra="slurm", what="study --engine submitit")
        submitit.JobEnvironment.USR_SIG = _SIGNAL  # if it was imported before
        asked = self._resources
        given = {
            "name": "study",
            "timeout_min": asked.timeout_min,
            "gpus_per_node": asked.gpus_per_node,
            "cpus_per_task": asked.cpus_per_task or max(map(cpus_of, tasks), default=1),
            "mem_gb": asked.mem_gb,
            "slurm_partition": asked.partition,
            "slurm_array_parallelism": asked.array_parallelism,
            "slurm_signal_delay_s": _SECONDS_TO_SAVE,
            "slurm_setup": [f"export SUBMITIT_PREEMPT_SIGNAL={_SIGNAL}"],
            "slurm_additional_parameters": {"requeue": True, **asked.slurm},
        }
        with _refusals():
            limits = {"slurm_max_num_timeout": _UNLIMITED, "local_max_num_timeout": _UNLIMITED}
            cluster = "local" if self._is_local else "slurm"
            executor = submitit.AutoExecutor(folder=self._folder, cluster=cluster, **limits)
            executor.update_parameters(**given)
        return executor


def _submit(executor: Any, blocks: list[_Queued]) -> list[_Queued]:
    """Submit blocks, as one array where there are several."""
    if blocks:
        with _refusals():
            jobs = executor.submit_array([each.block for each in blocks])
        for each, job in zip(blocks, jobs):
            each.job, each.known = job, len(each.block.entries())
    return blocks


@contextmanager
def _refusals() -> Iterator[None]:
    """Say in one line why the cluster, or submitit, refuses."""
    errors = require("submitit.core.utils", extra="slurm", what="study")
    try:
        yield
    except (errors.FailedJobError, errors.FailedSubmissionError, OSError, RuntimeError, ValueError, NameError) as error:
        raise MistakeError(f"study: --engine submitit: {' '.join(str(error).split())}") from None


def _news(queued: _Queued) -> Iterator[Ended]:
    """The runs of a block that came to their end since the last look."""
    tasks = {task.name: task for task in queued.block.tasks}
    for each in queued.block.entries():
        if each.is_last and each.code is not None and each.run not in queued.told:
            queued.told.add(each.run)
            yield Ended(tasks[each.run], each.code, each.attempt)


def _over(queued: _Queued, waiting: deque[_Queued], is_stopped: bool) -> Iterator[Ended]:
    """Decide what becomes of the runs that are left when a job is over."""
    entries = queued.block.entries()
    left = queued.block.left()
    queued.barren = 0 if len(entries) > queued.known else queued.barren + 1
    if is_stopped:
        begun = {each.run for each in entries}
        yield from (Ended(task, ExitCode.STOPPED) for task in left if task.name in begun)
    elif str(queued.job.state).startswith("CANCELLED"):
        for task in left:
            log(task, f"the job {queued.job.job_id} was cancelled")
            yield Ended(task, -signal.SIGTERM)
    elif queued.barren < ATTEMPTS:
        waiting.append(queued)
    else:
        for task in left:
            log(task, f"the job {queued.job.job_id} began no run: {_tail(queued.job)}")
            yield Ended(task, ExitCode.INCOMPLETE, ATTEMPTS)


def _tail(job: Any) -> str:
    return "; ".join((job.stderr() or "it printed nothing").strip().splitlines()[-3:])


def _say_what_stays(folder: Path, queued: list[_Queued]) -> None:
    names = " ".join(sorted({each.job.job_id.partition("_")[0] for each in queued}))
    look = f"python -m disentangle_ext.study status {folder.parent}"
    print(f"study: the jobs stay in the queue; look: {look}; cancel: scancel {names}", file=sys.stderr)


def _wait(is_stopped: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not is_stopped() and (left := end - time.monotonic()) > 0:
        time.sleep(min(left, _POLL))
