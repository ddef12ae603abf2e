"""Work on tasks that ends in every way there is, for engines: a process finds these by the name of this module."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

from disentangle_ext._exit_codes import ExitCode
from disentangle_ext.runs.checkpoint import checkpoints_in
from disentangle_ext.runs.folder import RunFolder
from disentangle_ext.study.work import Task, work
from disentangle_ext.training.interrupt import Interrupt
from tests.study.engines.light import begin


def finishes(task: Task) -> int:
    begin(task)
    return ExitCode.FINISHED


def says_its_device(task: Task) -> int:
    """Two at a time, so that neither of two workers does the work of both."""
    begin(task)
    (Path(task.folder) / task.device).touch()
    runs = Path(task.folder).parent
    while len(list(runs.glob("*/c*"))) % 4:
        time.sleep(0.01)
    return ExitCode.FINISHED


def is_killed_once(task: Task) -> int:
    if begin(task) == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return ExitCode.FINISHED


def is_always_killed(task: Task) -> int:
    begin(task)
    Path(task.log).parent.mkdir(exist_ok=True)
    Path(task.log).write_text("step 40/60\nout of memory, I think\n")
    os.kill(os.getpid(), signal.SIGKILL)
    return ExitCode.FINISHED


def is_at_work_elsewhere(task: Task) -> int:
    """The real work on a run whose folder another process holds."""
    with RunFolder(task.folder).lock():
        return work(task)


def breaks(task: Task) -> int:
    begin(task)
    raise RuntimeError("a mistake of ours")


def is_stopped_once(task: Task) -> int:
    return ExitCode.STOPPED if begin(task) == 1 else ExitCode.FINISHED


def cannot_write(task: Task) -> int:
    begin(task)
    Path(task.log).parent.mkdir(exist_ok=True)
    Path(task.log).write_text("study: cannot write here: No space left on device\n")
    return ExitCode.CANNOT_WRITE


def waits_to_be_stopped(task: Task) -> int:
    """Ends as a run does that is asked to stop."""
    with Interrupt() as interrupt, interrupt.deferred():
        begin(task)
        end = time.monotonic() + 60
        while interrupt.requested is None and time.monotonic() < end:
            time.sleep(0.01)
    return ExitCode.FINISHED if interrupt.requested is None else ExitCode.STOPPED


def trains_and_is_killed(task: Task) -> int:
    """The real work, killed as soon as there is a checkpoint, the first time."""
    return _disturbed(task, signal.SIGKILL)


def trains_and_the_first_is_killed(task: Task) -> int:
    """The same for the run with seed 0 alone."""
    return trains_and_is_killed(task) if task.settings["seed"] == 0 else work(task)


def trains_and_is_terminated(task: Task) -> int:
    """The real work, ended by SIGTERM as soon as there is a checkpoint, the first time."""
    return _disturbed(task, signal.SIGTERM)


def trains_until_its_time_is_over(task: Task) -> int:
    """The real work, with the signal that SLURM sends before it ends a job as soon as there is a checkpoint."""
    return _disturbed(task, signal.SIGUSR1)


def _disturbed(task: Task, number: signal.Signals) -> int:
    checkpoints = RunFolder(task.folder).checkpoints

    def send() -> None:
        while not checkpoints_in(checkpoints):
            time.sleep(0.001)
        Path(task.folder).with_suffix(".disturbed").touch()
        os.kill(os.getpid(), number)

    if not RunFolder(task.folder).is_run:
        threading.Thread(target=send, daemon=True).start()
    return work(task)
