"""The runs of one job: done one after the other, with a journal that outlives the job."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from disentangle_ext._exit_codes import ExitCode
from disentangle_ext._extras import require
from disentangle_ext._files import append_line
from disentangle_ext.study.engines import Work, goes_on
from disentangle_ext.study.work import Task
from disentangle_ext.training.interrupt import SIGNALS

__all__ = ["Block", "Entry"]


class Entry(NamedTuple):
    """A line of the journal: a run was begun, or ended."""

    run: str
    attempt: int
    code: int | None
    """How it ended, see :class:`Ended`; None: it was begun."""

    @property
    def is_last(self) -> bool:
        """Whether the run is not to be begun again."""
        return self.code is not None and not goes_on(self.code, self.attempt)


class Block:
    """What a job of submitit calls; the same call goes on after the job was queued again.

    Args:
        work: the work on a run.
        tasks: the runs.
        journal: a file of this block alone, for what became of them.
    """

    def __init__(self, work: Work, tasks: Sequence[Task], journal: Path) -> None:
        self.tasks = list(tasks)
        self._work = work
        self._journal = journal

    def __call__(self) -> None:
        """Do the work that is left."""
        self.close()
        attempts = {each.run: each.attempt + (each.code != ExitCode.STOPPED) for each in self.entries()}
        with _signals() as received:
            for task in self.left():
                attempt = attempts.get(task.name, 1)
                while not (entry := self._attempt(task, attempt)).is_last:
                    if entry.code == ExitCode.STOPPED:
                        _end(received())
                    attempt += 1

    def checkpoint(self) -> Any:
        """What submitit is to call when the job is queued again: the same, since the journal says where it stands."""
        return require("submitit.helpers", extra="slurm", what="study").DelayedSubmission(self)

    def entries(self) -> list[Entry]:
        """The lines of the journal, but for one that is being written."""
        text = self._journal.read_text(encoding="utf-8") if self._journal.exists() else ""
        return [Entry(*json.loads(line)) for line in text.splitlines(keepends=True) if line.endswith("\n")]

    def left(self) -> list[Task]:
        """The tasks that are not at their end."""
        over = {each.run for each in self.entries() if each.is_last}
        return [task for task in self.tasks if task.name not in over]

    def close(self) -> None:
        """Note that the run at work was killed, if the job is over and its end is not known."""
        last = self.entries()[-1:]
        if last and last[0].code is None:
            self._note(last[0]._replace(code=-signal.SIGKILL))

    def _attempt(self, task: Task, attempt: int) -> Entry:
        self._note(Entry(task.name, attempt, None))
        try:
            code = int(self._work(task))
        except Exception:
            traceback.print_exc()
            code = ExitCode.INCOMPLETE
        return self._note(Entry(task.name, attempt, code))

    def _note(self, entry: Entry) -> Entry:
        append_line(self._journal, json.dumps(entry))
        return entry


@contextmanager
def _signals() -> Iterator[Callable[[], list[int]]]:
    """Take note of the signals that come, whatever handler a run has for them; call what is yielded for their list."""
    reader, writer = os.pipe()
    for each in (reader, writer):
        os.set_blocking(each, False)
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)

    def received() -> list[int]:
        try:
            return [number for number in os.read(reader, 4096) if number in SIGNALS]
        except BlockingIOError:
            return []

    try:
        yield received
    finally:
        signal.set_wakeup_fd(before)
        os.close(reader)
        os.close(writer)


def _end(received: list[int]) -> None:
    """End the job when its run was stopped, and has saved.

    SIGTERM is what SLURM sends to a job that is cancelled, or preempted: it queues the latter again itself. Before the
    time is over it sends the signal of submitit, whose handler queues the job again; it is in its place, now that the
    run is over, and is called as if the signal had come between two runs.
    """
    environment = require("submitit.core.job_environment", extra="slurm", what="study").JobEnvironment
    ours = getattr(signal, f"SIG{environment.USR_SIG}")
    if received and received[0] != ours:
        sys.exit(ExitCode.STOPPED)
    try:
        signal.raise_signal(ours)
    except subprocess.CalledProcessError:  # SLURM has done it itself, or does not let us: whoever waits submits it
        sys.exit(ExitCode.STOPPED)
