"""Work on tasks that ends in every way there is, without an import of torch: a new process for each of them is quick.

Workers find these functions by the name of this module.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple


class Fake(NamedTuple):
    """What engines know of a task, in a class that a worker can make without this package."""

    name: str
    folder: str
    log: str
    settings: Mapping[str, Any]
    metrics: tuple[str, ...] = ()
    device: str = "auto"
    again: bool = False


def fakes(folder: Path, *names: str, **settings: Any) -> list[Any]:
    """Tasks with these names; :func:`behaves` does what they say."""
    settings = {"threads": 1, **settings}
    return [Fake(name, str(folder / name), str(folder / "logs" / f"{name}.log"), settings) for name in names]


def calls(task: Any) -> int:
    """How often the work on a task has been begun."""
    return len(list(Path(task.folder).glob("call-*")))


def begin(task: Any) -> int:
    """Note that the work on a task is begun, and say for which time."""
    Path(task.folder).mkdir(parents=True, exist_ok=True)
    number = calls(task) + 1
    (Path(task.folder) / f"call-{number}").touch()
    return number


def behaves(task: Fake) -> int:
    """Ends as the name of the task says."""
    number = begin(task)
    if task.name == "killed" or (task.name == "killed-once" and number == 1):
        os.kill(os.getpid(), signal.SIGKILL)
    if task.name == "breaks":
        raise RuntimeError("a mistake of ours")
    if task.name == "full-disk":
        return 74
    if task.name == "stopped-once" and number == 1:
        return 75
    if task.name.startswith("waits"):
        return _wait()
    (Path(task.folder) / "device").write_text(task.device)
    return 0


def _wait() -> int:
    """Ends as a run does that is asked to stop, in the thread that takes signals."""
    asked = threading.Event()
    kept = {each: signal.signal(each, lambda *_: asked.set()) for each in (signal.SIGINT, signal.SIGTERM)}
    end = time.monotonic() + 60
    while not asked.is_set() and time.monotonic() < end:
        time.sleep(0.01)
    for each, handler in kept.items():
        signal.signal(each, handler)
    return 75 if asked.is_set() else 0
