"""What a run of the study of 12,600 costs on this machine: rows of studies/results/scale_runs.csv.

``python -m studies.scale_costs`` trains short runs of its six objectives by its recipe, on the full ``dsprites_like``
and ``shapes3d_like`` in the place of dSprites and 3D Shapes, and scores one. Processor seconds of one
thread, since the clock tells on a busy machine what others do, too.
"""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from bench.rows import Row, append, commit, machine, read
from disentangle_ext._exit_codes import ExitCode
from disentangle_ext.runs.config import TrainConfig, resolve
from disentangle_ext.runs.folder import METRICS, PICTURE_FILES
from disentangle_ext.runs.presets import PRESETS
from disentangle_ext.study.grid import read_grid
from disentangle_ext.study.work import Task, last_lines, work

RESULTS = Path(__file__).parent / "results" / "scale_runs.csv"
DATA_SETS = ("dsprites_like", "shapes3d_like")
SCORED = ("dsprites_like", "beta_vae")
"""The run that is scored, for all: that depends on the number of codes and of factors alone, if on anything."""

STEPS = (30, 130)
"""Updates of the two runs whose difference is that of the updates alone."""

IDENTITY = ("data_set", "objective")
COLUMNS = (
    *IDENTITY,
    "max_steps",
    "step_cpu_seconds",
    "rest_cpu_seconds",
    "scoring_cpu_seconds",
    "files",
    "bytes",
    "disk_bytes",
    "picture_files",
    "picture_bytes",
    "log_bytes",
    "scoring_files",
    "scoring_bytes",
    "scoring_disk_bytes",
    "machine",
    "commit",
)


class Ran(NamedTuple):
    """A short run."""

    cpu_seconds: float
    sizes: dict[str, tuple[int, int]]
    """The bytes of each file, and those that it takes on the disk."""


def wanted() -> list[tuple[str, str]]:
    """The data sets and objectives to measure."""
    objectives = [name.partition("/")[2] for name in PRESETS if name.startswith("locatello/")]
    return [(data_set, objective) for data_set in DATA_SETS for objective in objectives]


def short_run(config: TrainConfig, steps: int, metrics: Sequence[str] = ()) -> Ran:
    """Train and score a run of a few updates.

    Raises:
        RuntimeError: if it is not finished.
    """
    short = dataclasses.replace(config, max_steps=steps, log_every=max(1, steps // 3), checkpoint_every=steps)
    with tempfile.TemporaryDirectory() as folder:
        path, log = Path(folder) / "run", Path(folder) / "log"
        begun = time.process_time()
        if work(Task("short", str(path), str(log), short.plain(), tuple(metrics), "cpu")) != ExitCode.FINISHED:
            raise RuntimeError(last_lines(log))
        seconds = time.process_time() - begun
        states = {str(each.relative_to(path)): each.stat() for each in path.rglob("*") if each.is_file()}
        return Ran(seconds, {name: (state.st_size, 512 * state.st_blocks) for name, state in states.items()})


def measure(data_set: str, objective: str, metrics: Sequence[str]) -> Row:
    """Measure a run; ``metrics`` are those of the study."""
    config = resolve({**PRESETS[f"locatello/{objective}"], "data": data_set, "threads": 1})
    short_run(config, 2)  # imports, and memory that is kept
    few, many = (short_run(config, steps) for steps in STEPS)
    step = (many.cpu_seconds - few.cpu_seconds) / (STEPS[1] - STEPS[0])
    sizes = few.sizes
    lines = config.max_steps // config.log_every
    log = sizes[METRICS][0] * lines // 3  # of three lines
    pictures = [size for name, (size, _) in sizes.items() if name in PICTURE_FILES.values()]
    others = [size for name, size in sizes.items() if name != METRICS]
    numbers: dict[str, float | str] = {
        "max_steps": config.max_steps,
        "step_cpu_seconds": f"{step:.4f}",
        "rest_cpu_seconds": f"{few.cpu_seconds - STEPS[0] * step:.1f}",
        "files": len(sizes),
        "bytes": sum(size for size, _ in others) + log,
        "disk_bytes": sum(disk for _, disk in others) + -(-log // _BLOCK) * _BLOCK,
        "picture_files": len(pictures),
        "picture_bytes": sum(pictures),
        "log_bytes": log,
    }
    if (data_set, objective) == SCORED:
        numbers.update(_scoring(short_run(config, STEPS[0], metrics), few))
    return {"data_set": data_set, "objective": objective, **{name: str(value) for name, value in numbers.items()}}


def _scoring(scored: Ran, unscored: Ran) -> dict[str, float | str]:
    """What scores cost beside the training: their time, and their files."""
    added = [size for name, size in scored.sizes.items() if name not in unscored.sizes]
    return {
        "scoring_cpu_seconds": f"{scored.cpu_seconds - unscored.cpu_seconds:.1f}",
        "scoring_files": len(added),
        "scoring_bytes": sum(size for size, _ in added),
        "scoring_disk_bytes": sum(disk for _, disk in added),
    }


_BLOCK = 4096
"""Bytes in which most file systems give out a disk."""


def main() -> None:
    """Measure what has no row yet."""
    metrics = read_grid("locatello").metrics
    known = {tuple(row[name] for name in IDENTITY) for row in read(RESULTS)}
    for data_set, objective in (each for each in wanted() if each not in known):
        row = {**measure(data_set, objective, metrics), "machine": machine(), "commit": commit()}
        append([row], RESULTS, COLUMNS, IDENTITY)
        print(row, flush=True)


if __name__ == "__main__":
    main()
