"""What a person sees while a model trains, and the same as scalars for TensorBoard."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from disentangle_ext._extras import require
from disentangle_ext._files import WriteError

__all__ = ["Progress", "Scalars", "require_tensorboard", "scalars", "show_progress"]

_REDRAW = 0.1
"""Seconds between two drawings of the bar: one costs about as much as a small tensor op."""

_LEFT_OUT = ("step", "seconds", "images_per_second", "lr")


class Progress:
    """A bar with the terms of the loss below it on a terminal; one line for each line of metrics elsewhere.

    Args:
        live: the display of rich, or None for lines.
        max_steps: where the run ends.
        step: where it begins.
    """

    def __init__(self, live: Any, max_steps: int, step: int) -> None:
        self._live = live
        self._max_steps = max_steps
        self._terms = ""
        self._drawn = 0.0
        if live is not None:
            rich = require("rich.progress", extra="train", what="train")
            self._bar = rich.Progress(
                rich.TextColumn("step {task.completed:.0f}/{task.total:.0f}"),
                rich.BarColumn(bar_width=24),
                rich.TimeRemainingColumn(),
                rich.TextColumn("{task.fields[speed]}"),
            )
            self._task = self._bar.add_task("", total=max_steps, completed=step, speed="")
            self._draw()

    def advance(self, step: int) -> None:
        """Show that ``step`` updates are done."""
        if self._live is not None and time.monotonic() - self._drawn > _REDRAW:
            self._bar.update(self._task, completed=step)
            self._draw()

    def log(self, row: Mapping[str, Any]) -> None:
        """Show a line of metrics."""
        speed, terms = f"{row['images_per_second']:,.0f} images/s", describe(row)
        if self._live is None:
            print(f"step {row['step']}/{self._max_steps}  {terms}  {speed}", flush=True)
            return
        self._bar.update(self._task, completed=row["step"], speed=speed)
        self._terms = terms
        self._draw()

    def _draw(self) -> None:
        self._drawn = time.monotonic()
        group = require("rich.console", extra="train", what="train").Group
        self._live.update(group(self._bar, self._terms), refresh=True)


def describe(row: Mapping[str, Any]) -> str:
    """The terms of one line of metrics, in nats."""
    return "  ".join(f"{name} {round(value, 2) + 0.0:.2f}" for name, value in row.items() if name not in _LEFT_OUT)


@contextmanager
def show_progress(max_steps: int, step: int) -> Iterator[Progress]:
    """Show a bar on a terminal, lines elsewhere, for a run from ``step`` to ``max_steps``."""
    console = require("rich.console", extra="train", what="train").Console()
    if not console.is_terminal:
        yield Progress(None, max_steps, step)
        return
    # The loop redraws: a thread of rich's would take the interpreter from it at moments of its own choosing.
    with require("rich.live", extra="train", what="train").Live(console=console, auto_refresh=False) as live:
        yield Progress(live, max_steps, step)


class Scalars(Protocol):
    """What is told every line of metrics."""

    def __call__(self, row: Mapping[str, Any]) -> object: ...


def require_tensorboard() -> None:
    """Raise now rather than after the data has been loaded.

    Raises:
        MissingExtraError: without the ``tensorboard`` extra.
    """
    require("tensorboard", extra="tensorboard", what="--tensorboard")


@contextmanager
def scalars(folder: Path | None, step: int) -> Iterator[Scalars]:
    """Write lines of metrics to an event file in ``folder``, or, for None, to nowhere.

    TensorBoard's own writer writes in a thread, where an error is nobody's. A line of metrics is rare and small, so
    this one writes at once. Its file name has no host in it: a folder of runs can be published.

    Args:
        folder: where the file goes.
        step: updates done; what a run has written of later ones is struck out.

    Raises:
        WriteError: if the disk is full, and so on.
    """
    if folder is None:
        yield lambda row: None
        return
    records = require("tensorboard.summary.writer.record_writer", extra="tensorboard", what="--tensorboard")
    events = require("tensorboard.compat.proto.event_pb2", extra="tensorboard", what="--tensorboard")
    summaries = require("tensorboard.compat.proto.summary_pb2", extra="tensorboard", what="--tensorboard")

    def write(**content: Any) -> None:
        try:
            writer.write(events.Event(wall_time=time.time(), **content).SerializeToString())
            writer.flush()
        except OSError as error:
            raise WriteError(folder, error) from error

    def add(row: Mapping[str, Any]) -> None:
        values = [summaries.Summary.Value(tag=name, simple_value=row[name]) for name in row if name != "step"]
        write(step=row["step"], summary=summaries.Summary(value=values))

    try:
        folder.mkdir(exist_ok=True)
        file = open(folder / f"events.out.tfevents.{time.time_ns():020d}", "xb", buffering=0)  # noqa: SIM115
    except OSError as error:
        raise WriteError(folder, error) from error
    with file:
        writer = records.RecordWriter(file)
        write(file_version="brain.Event:2")
        write(step=step + 1, session_log=events.SessionLog(status=events.SessionLog.START))
        yield add
