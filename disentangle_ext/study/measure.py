"""What a study will cost: a short run of each kind is trained, scored and weighed."""

from __future__ import annotations

import dataclasses
import json
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from disentangle_ext._exit_codes import ExitCode
from disentangle_ext.engine.device import AUTO
from disentangle_ext.engine.stack import real_options
from disentangle_ext.objectives import OBJECTIVES
from disentangle_ext.runs.config import TrainConfig
from disentangle_ext.runs.folder import METRICS, RunFolder
from disentangle_ext.study.run import Run, variations
from disentangle_ext.study.status import counted, duration
from disentangle_ext.study.work import Task, last_lines, work

__all__ = ["Cost", "Kind", "kinds_of", "lines", "measure", "total"]

_STEPS = 30
"""Updates of a short run. The last third is timed, when the memory is there that a step needs."""

_FREE = ("seed", "lr", "lr_schedule", "lr_warmup", "betas")
"""Settings that change no time and no size, beside the real numbers of the objective."""


class Kind(NamedTuple):
    """Runs that cost the same: they differ in their seed and in real numbers."""

    name: str
    """Objective and data set."""
    example: TrainConfig
    runs: int


class Cost(NamedTuple):
    """What one run costs."""

    step: float
    """Seconds of an update."""
    rest: float
    """Seconds of all else: reading the data, the first updates, pictures, codes and scores."""
    size: int
    """Bytes on disk when it is finished."""
    files: int

    def seconds(self, config: TrainConfig) -> float:
        """Seconds of a whole run."""
        return self.step * config.max_steps + self.rest


def kinds_of(runs: Iterable[Run]) -> list[Kind]:
    """Count the runs of every kind."""
    counts: dict[str, int] = {}
    examples: dict[str, TrainConfig] = {}
    for run in runs:
        free = {*_FREE, *real_options(OBJECTIVES[run.config.model])}
        key = json.dumps({name: value for name, value in run.config.plain().items() if name not in free})
        counts[key] = counts.get(key, 0) + 1
        examples.setdefault(key, run.config)
    names = [
        f"{each.objective} on {each.data_set}" for each in variations([each.plain() for each in examples.values()])
    ]
    return [Kind(name, example, counts[key]) for name, (key, example) in zip(names, examples.items())]


def measure(
    kinds: Sequence[Kind],
    metrics: tuple[str, ...],
    *,
    device: str = AUTO,
    show: Callable[[int, int], object] = lambda done, total: None,
) -> list[Cost | str]:
    """Train and score a short run of each kind in a temporary folder.

    Args:
        kinds: what to measure.
        metrics: what a run is scored by.
        device: see :func:`engine.device.choose_device`.
        show: called with the number of kinds done and their total.

    Returns:
        The costs, or why there are none: a data set that is not in the cache, for example.

    Raises:
        KeyboardInterrupt: if a signal stopped the run at work.
    """
    costs: list[Cost | str] = []
    for count, kind in enumerate(kinds):
        show(count, len(kinds))
        with tempfile.TemporaryDirectory() as folder:
            costs.append(_measure(kind.example, metrics, device, Path(folder)))
    show(len(kinds), len(kinds))
    return costs


def _measure(config: TrainConfig, metrics: tuple[str, ...], device: str, folder: Path) -> Cost | str:
    steps = min(_STEPS, config.max_steps)
    short = dataclasses.replace(config, max_steps=steps, log_every=max(1, steps // 3), checkpoint_every=steps)
    task = Task("measured", str(folder / "run"), str(folder / "log"), short.plain(), metrics, device)
    begun = time.perf_counter()
    code = work(task)
    if code == ExitCode.STOPPED:
        raise KeyboardInterrupt  # the work has taken the signal, which is meant for all kinds
    if code != ExitCode.FINISHED:
        return last_lines(folder / "log", 1)
    seconds = time.perf_counter() - begun
    last = RunFolder(task.folder).read_metrics()[-1]
    step = config.batch_size / last["images_per_second"]
    paths = [path for path in Path(task.folder).rglob("*") if path.is_file()]
    log = (Path(task.folder) / METRICS).stat().st_size // 3
    size = sum(path.stat().st_blocks * 512 for path in paths) + log * (config.max_steps // config.log_every)
    return Cost(step, seconds - step * steps, size, len(paths))


def total(kinds: Sequence[Kind], costs: Sequence[Cost | str]) -> str:
    """Hours and disk of all runs, in words."""
    known = [(kind, cost) for kind, cost in zip(kinds, costs) if isinstance(cost, Cost)]
    hours = sum(kind.runs * cost.seconds(kind.example) for kind, cost in known) / 3600
    gigabytes = sum(kind.runs * cost.size for kind, cost in known) / 1e9
    files = sum(kind.runs * cost.files for kind, cost in known)
    runs = sum(kind.runs for kind, _ in known)
    return f"{counted(runs, 'run')}: {duration(hours)} of one worker, {gigabytes:,.2f} GB, {files:,} files"


def lines(kinds: Sequence[Kind], costs: Sequence[Cost | str]) -> list[str]:
    """A line for every kind."""
    width = max(len(kind.name) for kind in kinds)
    return [f"  {kind.name:<{width}}  {kind.runs:>7,} runs  {_words(kind, cost)}" for kind, cost in zip(kinds, costs)]


def _words(kind: Kind, cost: Cost | str) -> str:
    if isinstance(cost, str):
        return f"unknown: {cost}"
    steps = f"{kind.example.max_steps:,} steps of {cost.step * 1e3:.1f} ms"
    return f"{steps}, {cost.rest:.1f} s for the rest, {cost.size / 1e6:.2f} MB each"
