"""Running a study: its tasks go to an engine, and what becomes of them is noted."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NamedTuple

from disentangle_ext._errors import MistakeError
from disentangle_ext._exit_codes import ExitCode
from disentangle_ext._files import WriteError
from disentangle_ext.engine.device import AUTO
from disentangle_ext.runs.folder import RunFolder
from disentangle_ext.study.engines import ATTEMPTS, Ended, Engine, Work, is_abnormal
from disentangle_ext.study.plan import Study
from disentangle_ext.study.status import State, state_of
from disentangle_ext.study.work import LOCKED, Task, last_lines, missing_metrics, work
from disentangle_ext.training.interrupt import Interrupt

__all__ = ["Result", "execute", "tasks_of"]


class Result(NamedTuple):
    """How a call to an engine ended."""

    asked: int
    """Tasks that were given to the engine."""
    finished: int
    elsewhere: int
    """Runs that another process works on."""
    problems: dict[str, str]
    """Names of runs that are not finished though nobody stopped them, and why."""
    worst: int
    """The exit code of the call, if nothing stopped it."""
    stopped_by: signal.Signals | None

    @property
    def code(self) -> int:
        """The exit code of the call."""
        if self.stopped_by is None:
            return self.worst
        return ExitCode.INTERRUPTED if self.stopped_by == signal.SIGINT else ExitCode.STOPPED


def tasks_of(
    study: Study,
    names: Sequence[str] | None = None,
    *,
    metrics: Sequence[str] | None = None,
    device: str = AUTO,
    again: bool = False,
    retry_failed: bool = False,
) -> list[Task]:
    """The tasks of a study that are left.

    Args:
        study: the study.
        names: its runs to consider; default: all.
        metrics: the metrics to score by; default: those of the grid.
        device: see :func:`engine.device.choose_device`.
        again: compute the metrics again where they are there.
        retry_failed: try again the runs that were given up.
    """
    wanted = None if names is None else set(names)
    left = []
    for run in study.runs:
        if wanted is not None and run.name not in wanted:
            continue
        folder = study.run_folder(run.name)
        state = state_of(folder)
        if state is State.FAILED and retry_failed:
            folder.forget_failure()
        elif state is State.FAILED:
            continue
        chosen = study.metrics if metrics is None else tuple(metrics)
        if state is State.DONE and metrics is None and _is_scored(folder, chosen):
            continue
        path, log = folder.path.absolute(), study.log(run.name).absolute()  # a worker has another current folder
        left.append(Task(run.name, str(path), str(log), run.settings, chosen, device, again))
    return left


def _is_scored(folder: RunFolder, metrics: Sequence[str]) -> bool:
    """Whether a run has all metrics of the grid, to which the plan may have added some since."""
    try:
        return not missing_metrics(folder, metrics)
    except MistakeError:  # which the work on it will say
        return False


def execute(
    study: Study,
    engine: Engine,
    tasks: Sequence[Task],
    *,
    show: Callable[[int, int], object] = lambda done, total: None,
    do: Work = work,
) -> Result:
    """Let an engine do the work on the tasks of a study.

    Ctrl-C, SIGTERM and SIGUSR1 stop it: the runs at work save a checkpoint, and another call goes on with them. Several
    calls may work on one study at once, on machines that share its folder: a run that is at work is left to the other.

    Args:
        study: the study.
        engine: where the work is done.
        tasks: from :func:`tasks_of`.
        show: called with the number of tasks that ended and their total.
        do: the work on one task.
    """
    finished, elsewhere, problems, codes = 0, 0, {}, {int(ExitCode.FINISHED)}
    with Interrupt() as interrupt, interrupt.deferred():
        show(0, len(tasks))
        for count, ended in enumerate(engine.run(do, tasks, lambda: interrupt.requested is not None), 1):
            show(count, len(tasks))
            if ended.code == ExitCode.FINISHED:
                finished += 1
            elif ended.code == LOCKED:
                elsewhere += 1
                codes.add(int(ExitCode.INCOMPLETE))
            elif ended.code != ExitCode.STOPPED:
                problems[ended.task.name] = _note(study, ended)
                codes.add(_code(ended))
    return Result(len(tasks), finished, elsewhere, problems, max(codes), interrupt.requested)


def _note(study: Study, ended: Ended) -> str:
    """Say why a run is not finished, and give up one that broke again and again."""
    folder = study.run_folder(ended.task.name)
    said = last_lines(study.log(ended.task.name)) or "it printed nothing"
    if not is_abnormal(ended.code):
        return folder.failure or said
    how = f"killed by signal {-ended.code}" if ended.code < 0 else "broken"
    often = f" {ended.attempts} times" if ended.attempts > 1 else ""
    reason = f"{how}{often}; the last lines of its log: {said}"
    if ended.attempts >= ATTEMPTS and not folder.is_done and folder.path.is_dir():
        with suppress(WriteError):  # then it is tried again by the next call
            folder.fail(reason)
    return reason


def _code(ended: Ended) -> int:
    """What an end says of the whole: a full disk is told as that, all else as incomplete."""
    return int(ExitCode.CANNOT_WRITE if ended.code == ExitCode.CANNOT_WRITE else ExitCode.INCOMPLETE)
