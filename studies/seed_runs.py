"""Quick runs that differ in their seed, as rows of a CSV: what is finished is kept, what was interrupted goes on.

A row is written as soon as its run is finished. Started again, a command goes on where it stopped, in the middle of a
run if need be; rows of another recipe, torch or package version are measured anew.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

import disentangle_ext
from bench.rows import Row, commit, machine, read
from disentangle_ext._files import write_atomically
from disentangle_ext.runs.config import TrainConfig, resolve, to_yaml
from disentangle_ext.runs.folder import CONFIG, SCORES
from disentangle_ext.runs.presets import quick
from disentangle_ext.training.fit import train

__all__ = ["IDENTITY", "RUNS", "Run", "columns", "measure", "measure_all"]

RUNS = Path(__file__).resolve().parents[1] / "runs"
IDENTITY = ("model", "settings", "seed", "recipe", "torch", "disentangle_ext")
"""The columns that are known before the run: by them a row is found again."""
_SPENT = ("cpu_seconds", "machine", "commit")

Score = Callable[[Mapping[str, Any]], Row]
"""Takes the content of scores.json to columns of a row."""


@dataclass(frozen=True)
class Run:
    """One model to train."""

    model: str
    data: str
    seed: int
    changes: dict[str, Any] = field(default_factory=dict)
    """Settings that differ from --quick."""

    def recipe(self) -> dict[str, Any]:
        """All that is stated: a new option of the package, which has its default here, makes no new recipe."""
        return {**quick(self.model, self.data, "conv"), **self.changes}

    def config(self) -> TrainConfig:
        return resolve({"model": self.model, "data": self.data, "seed": self.seed, **self.recipe()})

    def identity(self) -> Row:
        recipe = self.recipe()
        own = {name: recipe[name] for name in self.config().objective_options if name in recipe}
        return {
            "model": self.model,
            "settings": ", ".join(f"{k} {v if isinstance(v, str) else format(v, 'g')}" for k, v in own.items()),
            "seed": str(self.seed),
            "recipe": hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:8],
            "torch": str(torch.__version__),
            "disentangle_ext": disentangle_ext.__version__,
        }

    def folder(self, runs: Path) -> Path:
        return runs / f"{self.model}-{self.identity()['recipe']}-{self.seed}"


class _Clock(io.TextIOBase):
    """Takes what training prints and at every line notes the CPU seconds of the run, whose process may be killed.

    Args:
        path: what earlier processes spent on the run, and where this one's is added.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._before = float(path.read_text()) if path.is_file() else 0.0
        self._start = time.process_time()

    def write(self, text: str) -> int:
        write_atomically(self._path, str(self.seconds()).encode())
        return len(text)

    def seconds(self) -> float:
        return self._before + time.process_time() - self._start


def columns(measured: Sequence[str]) -> tuple[str, ...]:
    """The columns of a CSV of such runs."""
    return (*IDENTITY, "steps", *measured, *_SPENT)


def measure(run: Run, runs: Path, score: Score) -> Row:
    """Train a model, or go on with it, and read its scores.

    Raises:
        KeyboardInterrupt: after Ctrl-C; the run can be gone on with.
    """
    config, folder = run.config(), run.folder(runs)
    spent = folder.with_suffix(".cpu")
    known = (folder / CONFIG).is_file()
    resume = known and (folder / CONFIG).read_text(encoding="utf-8") == to_yaml(config)
    if not resume:
        spent.unlink(missing_ok=True)
    runs.mkdir(parents=True, exist_ok=True)
    clock = _Clock(spent)
    with contextlib.redirect_stdout(clock):
        outcome = train(config, folder, resume=resume, overwrite=not resume, device="cpu")
    if not outcome.folder.is_done:
        raise KeyboardInterrupt
    measured = score(json.loads((folder / SCORES).read_text(encoding="utf-8")))
    where = dict(zip(_SPENT, (f"{clock.seconds():.1f}", machine(), commit()), strict=True))
    return {**run.identity(), "steps": str(config.max_steps), **measured, **where}


def measure_all(wanted: Sequence[Run], results: Path, runs: Path, measured: Sequence[str], score: Score) -> list[Row]:
    """A row for every run, those that are in the file as they are; rows that are not wanted are dropped.

    Args:
        wanted: the runs.
        results: the CSV.
        runs: the folder of the runs' folders.
        measured: the columns that ``score`` gives.
        score: what of a run's scores is measured.
    """
    by_run = {tuple(row[name] for name in IDENTITY): row for row in read(results)}
    rows: list[Row] = []
    known = [by_run.get(tuple(run.identity()[name] for name in IDENTITY)) for run in wanted]
    dropped = len(by_run) - sum(row is not None for row in known)
    if dropped:
        print(f"of another recipe or version, and dropped from {results.name}: {dropped} rows")
    for place, (run, row) in enumerate(zip(wanted, known, strict=True)):
        if row is None:
            row = measure(run, runs, score)
            values = ", ".join(f"{name} {row[name]}" for name in (*measured, "cpu_seconds"))
            print(f"{run.model} ({row['settings']}), seed {run.seed}: {values}", flush=True)
        rows.append(row)
        later = [other for other in known[place + 1 :] if other is not None]
        _write(results, columns(measured), [*rows, *later])
    return rows


def _write(path: Path, names: Sequence[str], rows: Sequence[Row]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, text.getvalue().encode())
