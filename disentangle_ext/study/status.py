"""How far a study is."""

from __future__ import annotations

import math
import os
import time
from collections import Counter
from collections.abc import Iterable
from enum import Enum
from pathlib import Path
from typing import NamedTuple

from disentangle_ext.runs.folder import CONFIG, DONE, EVALUATION, FAILED, LOCK, RunFolder
from disentangle_ext.study.plan import Study

__all__ = ["State", "Status", "counted", "duration", "state_of", "status"]


class State(Enum):
    """How a run stands."""

    DONE = "done"
    FAILED = "failed"
    RUNNING = "running"
    STOPPED = "stopped"
    """Begun, and no process works on it: ``run`` goes on with it."""
    WAITING = "waiting"


class Status(NamedTuple):
    """How a study stands."""

    counts: dict[State, int]
    rate: float | None
    """Models trained in an hour, by the last of them, whenever they are scored; None before the second."""

    @property
    def hours_left(self) -> float | None:
        """Hours until the last run is finished at this rate."""
        left = sum(self.counts[each] for each in (State.RUNNING, State.STOPPED, State.WAITING))
        return left / self.rate if self.rate else None


_RECENT = 50
"""Runs from which the rate is taken."""


def counted(count: int, noun: str) -> str:
    """A number of things: "1 run", "12,600 runs"."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def duration(hours: float) -> str:
    """Hours, or minutes, rounded up, where it is less than one hour: "1.5 hours", "2 minutes"."""
    minutes = math.ceil(60 * hours)
    return counted(minutes, "minute") if minutes < 60 else f"{hours:,.1f} hours"


def status(study: Study) -> Status:
    """Count the runs by their state; a look at three files for each."""
    names = study.plan.column("run").to_pylist()
    folders = [study.run_folder(name) for name in names]
    counts = Counter(state_of(folder) for folder in folders)
    return Status({state: counts[state] for state in State}, _rate(folder.path / DONE for folder in folders))


def state_of(folder: RunFolder) -> State:
    """How a run stands: it is done when it is scored, too."""
    try:
        files = set(os.listdir(folder.path))
    except OSError:
        return State.WAITING
    if DONE in files and EVALUATION in files:
        return State.DONE
    if LOCK in files and folder.is_locked:
        return State.RUNNING
    if FAILED in files and DONE not in files:
        return State.FAILED
    return State.STOPPED if CONFIG in files else State.WAITING


def _rate(paths: Iterable[Path]) -> float | None:
    """Files an hour, from the times at which the last were written until now."""
    ends = []
    for path in paths:
        try:
            ends.append(path.stat().st_mtime)
        except OSError:
            continue
    last = sorted(ends)[-_RECENT:]
    if len(last) < 2:
        return None
    return 3600 * (len(last) - 1) / max(time.time() - last[0], 1e-3)
