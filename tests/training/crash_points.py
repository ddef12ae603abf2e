"""Kills a run before, in the middle of and after each of its file operations, and goes on with what is left.

``python tests/training/crash_points.py FOLDER EVERY ARGUMENT ..`` prints what went wrong, a line each, and how many
points there were. It forks: a process that is killed runs no handler, and starting one takes seconds.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from disentangle_ext import train
from disentangle_ext.report import PICTURES
from disentangle_ext.training import finish  # noqa: F401  # imported before the forks, with all that it needs

OPERATIONS = ("open", "write", "fsync", "replace", "mkdir", "unlink", "rmdir", "truncate", "ftruncate")
WHEN = ("before", "middle", "after")


class Killer:
    """Counts the operations that change files, and kills the process at one of them."""

    def __init__(self, at: int = -1, when: str = "") -> None:
        self.count = 0
        self.names: list[str] = []
        self._at, self._when = at, when
        for name in OPERATIONS:
            setattr(os, name, self._watch(name, getattr(os, name)))

    def _watch(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            if name == "open" and not arguments[1] & (os.O_WRONLY | os.O_RDWR):
                return function(*arguments, **options)
            is_it, self.count = self.count == self._at, self.count + 1
            self.names.append(name)
            if is_it and self._when == "before":
                os._exit(9)
            if is_it and self._when == "middle":
                if name == "write":
                    function(arguments[0], arguments[1][: len(arguments[1]) // 2])
                os._exit(9)
            try:
                return function(*arguments, **options)
            finally:
                if is_it:
                    os._exit(9)

        return call


def forked(work: Callable[[], int]) -> int:
    """Do work in a process of its own; return its exit code."""
    pid = os.fork()
    if pid == 0:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        try:
            os._exit(work())
        finally:
            os._exit(99)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def left(folder: Path) -> dict[str, Any]:
    """The files of a run, or of several, without what says how fast they were."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.name == "metrics.jsonl":
            rows = [json.loads(line) for line in path.read_text().splitlines()]
            found[name] = [{k: v for k, v in row.items() if k not in ("seconds", "images_per_second")} for row in rows]
        else:
            found[name] = path.read_bytes() if path.is_file() else None
    return found


def points(folder: Path, call: list[str], every: int) -> Iterator[tuple[int, str]]:
    """Every so many places in the operations of a run; a write has a middle, too."""
    counted = folder / "count"

    def count() -> int:
        prepare(folder, folder / "counted", call)
        killer = Killer()
        code = train.main([*call, "--output-dir", str(folder / "counted")])
        counted.write_text(json.dumps(killer.names))
        return code

    assert forked(count) == 0
    names = json.loads(counted.read_text())
    every_point = [(k, when) for k, name in enumerate(names) for when in WHEN if when != "middle" or name == "write"]
    yield from every_point[::every]


def prepare(folder: Path, run: Path, call: list[str]) -> None:
    """Put a finished run in the place of one that is to be overwritten."""
    if "--overwrite" in call:
        shutil.copytree(folder / "whole", run)


def problem(run: Path, call: list[str], whole: dict[str, Any], at: int, when: str) -> str:
    """What is wrong with the run that was killed there and has gone on, or ""."""

    def killed() -> int:
        Killer(at, when)
        return train.main([*call, "--output-dir", str(run)])

    if forked(killed) != 9:
        return "was not killed"
    is_begun = (run / "config.yaml").is_file() or (run / "stack.yaml").is_file()
    again = ["--resume"] if is_begun else call
    if code := forked(lambda: train.main([*again, "--output-dir", str(run)])):
        return f"ended with {code} by {' '.join(again[:1])}"
    now = left(run)
    return ", ".join(sorted(name for name in {**whole, **now} if whole.get(name, "") != now.get(name, "")))


def main() -> int:
    folder, every, call = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
    torch.set_num_threads(1)
    PICTURES.clear()
    train.main([*call, "--output-dir", str(folder / "whole")])  # in this process, which so has all that forks need
    whole, done = left(folder / "whole"), 0
    for at, when in points(folder, call, every):
        run = folder / "run"
        prepare(folder, run, call)
        wrong, done = problem(run, call, whole, at, when), done + 1
        if wrong:
            print(f"killed {when} operation {at}: {wrong}")
        shutil.rmtree(run, ignore_errors=True)
    print(f"{done} points")
    return 0


if __name__ == "__main__":
    sys.exit(main())
