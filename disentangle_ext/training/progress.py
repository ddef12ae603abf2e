"""What a person sees while a model trains."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from disentangle_ext._extras import require

# How often a bar may be redrawn, in seconds: an update of it costs about as much as a small tensor op.
_REDRAW = 0.1


class Progress(Protocol):
    """Told about every step and every line of metrics."""

    def advance(self, step: int) -> None: ...

    def log(self, row: Mapping[str, Any]) -> None: ...


def describe(row: Mapping[str, Any]) -> str:
    """The terms of one line of metrics, in nats."""
    left_out = ("step", "seconds", "images_per_second", "lr")
    return "  ".join(f"{name} {round(value, 2) + 0.0:.2f}" for name, value in row.items() if name not in left_out)


class PlainProgress:
    """One line for each line of metrics, for logs and pipes."""

    def __init__(self, max_steps: int) -> None:
        self._max_steps = max_steps

    def advance(self, step: int) -> None:
        pass

    def log(self, row: Mapping[str, Any]) -> None:
        speed = f"{row['images_per_second']:,.0f} images/s"
        print(f"step {row['step']}/{self._max_steps}  {describe(row)}  {speed}", flush=True)


class BarProgress:
    """A bar, and the terms of the loss on the lines below it."""

    def __init__(self, live: Any, bar: Any, max_steps: int, step: int) -> None:
        self._live = live
        self._bar = bar
        self._task = bar.add_task("", total=max_steps, completed=step, speed="")
        self._terms = ""
        self._drawn = 0.0
        self._draw()

    def advance(self, step: int) -> None:
        now = time.monotonic()
        if now - self._drawn > _REDRAW:
            self._bar.update(self._task, completed=step)
            self._drawn = now
            self._draw()

    def log(self, row: Mapping[str, Any]) -> None:
        speed = f"{row['images_per_second']:,.0f} images/s"
        self._bar.update(self._task, completed=row["step"], speed=speed)
        self._terms = describe(row)
        self._draw()

    def _draw(self) -> None:
        group = require("rich.console", extra="train", what="show_progress").Group
        self._live.update(group(self._bar, self._terms), refresh=True)


@contextmanager
def show_progress(max_steps: int, step: int) -> Iterator[Progress]:
    """A bar on a terminal, lines elsewhere.

    Args:
        max_steps: where the run ends.
        step: where it begins.
    """
    if not sys.stdout.isatty():
        yield PlainProgress(max_steps)
        return
    progress = require("rich.progress", extra="train", what="show_progress")
    live = require("rich.live", extra="train", what="show_progress")
    bar = progress.Progress(
        progress.TextColumn("step {task.completed:.0f}/{task.total:.0f}"),
        progress.BarColumn(bar_width=24),
        progress.TimeRemainingColumn(),
        progress.TextColumn("{task.fields[speed]}"),
    )
    # The loop redraws: a thread of rich's would take the interpreter from it at moments of its own choosing.
    with live.Live(auto_refresh=False) as screen:
        yield BarProgress(screen, bar, max_steps, step)
