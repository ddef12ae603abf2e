"""The journal of a job: what is done, what is begun again, and what is given up."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
import submitit

from disentangle_ext._exit_codes import ExitCode
from disentangle_ext.study.engines.block import Block, Entry
from disentangle_ext.training.interrupt import Interrupt
from tests.study.engines.light import behaves, calls, fakes

KILLED = -signal.SIGKILL


def cut_off(task: Any) -> int:
    """Leaves the journal as a process does that is killed, the first three times."""
    behaves(task)
    if task.name == "cut-off" and calls(task) <= 3:
        raise KeyboardInterrupt
    return ExitCode.FINISHED


def test_a_job_that_is_killed_goes_on_where_it_was_and_gives_up_the_third_time(tmp_path: Path) -> None:
    block = Block(cut_off, fakes(tmp_path, "first", "cut-off", "last"), tmp_path / "journal")
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            block()
    block.checkpoint().function()
    tries = [Entry("cut-off", n, code) for n in (1, 2, 3) for code in (None, KILLED)]
    around = [[Entry(name, 1, None), Entry(name, 1, ExitCode.FINISHED)] for name in ("first", "last")]
    assert block.entries() == [*around[0], *tries, *around[1]]
    assert [calls(each) for each in block.tasks] == [1, 3, 1]
    assert block.left() == []


def test_work_that_breaks_is_tried_again_and_a_full_disk_is_not(tmp_path: Path) -> None:
    block = Block(behaves, fakes(tmp_path, "breaks", "full-disk"), tmp_path / "journal")
    block()
    assert [each for each in block.entries() if each.is_last] == [
        Entry("breaks", 3, ExitCode.INCOMPLETE),
        Entry("full-disk", 1, ExitCode.CANNOT_WRITE),
    ]
    assert [calls(each) for each in block.tasks] == [3, 1]


def test_a_line_that_is_being_written_is_not_read(tmp_path: Path) -> None:
    block = Block(behaves, fakes(tmp_path, "a", "b"), tmp_path / "journal")
    assert block.left() == block.tasks
    block()
    whole = (tmp_path / "journal").read_text()
    (tmp_path / "journal").write_text(whole[:-3])
    assert [each.run for each in block.entries()] == ["a", "a", "b"]
    assert block.left() == block.tasks[1:]


class RequeuedError(Exception):
    """What the handler of submitit does."""


def _requeue(number: int, frame: object) -> None:
    raise RequeuedError


@pytest.mark.parametrize(
    ("sent", "end"), [(signal.SIGUSR1, RequeuedError), (signal.SIGTERM, SystemExit), (signal.SIGINT, SystemExit)]
)
def test_a_job_is_queued_again_at_the_end_of_its_time_and_not_when_it_is_cancelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sent: signal.Signals, end: type[BaseException]
) -> None:
    def is_stopped(task: Any) -> int:
        with Interrupt() as interrupt, interrupt.deferred():
            signal.raise_signal(signal.SIGCONT)  # which SLURM sends first
            signal.raise_signal(sent)
        assert interrupt.requested == sent
        return ExitCode.STOPPED

    monkeypatch.setattr(submitit.JobEnvironment, "USR_SIG", "USR1")
    kept = {each: signal.getsignal(each) for each in (signal.SIGUSR1, signal.SIGCONT)}
    signal.signal(signal.SIGUSR1, _requeue)
    signal.signal(signal.SIGCONT, lambda *_: None)
    block = Block(is_stopped, fakes(tmp_path, "a"), tmp_path / "journal")
    try:
        with pytest.raises(end):
            block()
    finally:
        for each, handler in kept.items():
            signal.signal(each, handler)
    assert block.entries() == [Entry("a", 1, None), Entry("a", 1, ExitCode.STOPPED)]
