"""``make model-table``: the MIG of the unsupervised objectives on the quick form of ``dsprites_like``.

Three seeds each, none of which a recipe was chosen on. Every run is a row of bench/results/model_table.csv as soon as
it is finished. Started again, this goes on where it stopped, in the middle of a run if need be; rows of another recipe,
torch or package version are measured anew.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import hashlib
import io
import json
import statistics
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

import disentangle_ext
from bench.cpu_harness import machine
from bench.harness import RESULTS as FOLDER
from bench.harness import Row, commit, markdown, read
from disentangle_ext.presets import quick
from disentangle_ext.training.command_line import parse
from disentangle_ext.training.config import TrainConfig, to_yaml
from disentangle_ext.training.memory import keep_freed_memory
from disentangle_ext.training.run_folder import CONFIG, SCORES, write_atomically
from disentangle_ext.training.session import train

RESULTS = FOLDER / "model_table.csv"
RUNS = Path(__file__).parents[1] / "runs" / "model_table"
DATA = "dsprites_like"
SEEDS = (10, 11, 12)
VARIANTS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("beta_vae", {"beta": 1.0}),
    ("beta_vae", {}),
    ("annealed_vae", {}),
    ("factor_vae", {}),
    ("beta_tcvae", {}),
    ("info_vae", {}),
    ("dip_vae_i", {}),
    ("dip_vae_ii", {}),
)
"""Models, and what differs from --quick: a beta-VAE with beta 1 is the VAE that the others have to beat."""
IDENTITY = ("model", "settings", "seed", "recipe", "torch", "disentangle_ext")
COLUMNS = (*IDENTITY, "steps", "mig", "cpu_seconds", "machine", "commit")


@dataclass(frozen=True)
class Run:
    """One model to train."""

    model: str
    seed: int
    changes: dict[str, Any] = field(default_factory=dict)
    """Settings that differ from --quick."""

    def recipe(self) -> dict[str, Any]:
        """All that is stated: a new option of the package, which has its default here, makes no new recipe."""
        return {**quick(self.model, DATA, "conv"), **self.changes}

    def config(self) -> TrainConfig:
        flags = [f"--{name.replace('_', '-')}={value}" for name, value in self.changes.items()]
        call = ["--model", self.model, "--data", DATA, "--quick", "--seed", str(self.seed), *flags]
        return parse([*call, "--output-dir", "unused"]).config

    def identity(self) -> Row:
        """The columns that are known before the run: by them a row is found again."""
        recipe = self.recipe()
        own = [name for name in self.config().objective_options if name in recipe]
        return {
            "model": self.model,
            "settings": ", ".join(f"{name} {recipe[name]:g}" for name in own),
            "seed": str(self.seed),
            "recipe": hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:8],
            "torch": str(torch.__version__),
            "disentangle_ext": disentangle_ext.__version__,
        }


class Clock(io.TextIOBase):
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


def measure(run: Run, runs: Path) -> Row:
    """Train a model, or go on with it, and read its score.

    Raises:
        KeyboardInterrupt: after Ctrl-C; the run can be gone on with.
    """
    identity, config = run.identity(), run.config()
    folder = runs / f"{run.model}-{identity['recipe']}-{run.seed}"
    spent = folder.with_suffix(".cpu")
    known = (folder / CONFIG).is_file()
    resume = known and (folder / CONFIG).read_text(encoding="utf-8") == to_yaml(config)
    if not resume:
        spent.unlink(missing_ok=True)
    runs.mkdir(parents=True, exist_ok=True)
    clock = Clock(spent)
    with contextlib.redirect_stdout(clock):
        outcome = train(config, folder, resume=resume, overwrite=not resume)
    if not outcome.folder.is_done:
        raise KeyboardInterrupt
    scores = json.loads((folder / SCORES).read_text(encoding="utf-8"))
    measured = {"steps": config.max_steps, "mig": f"{scores['mig']['score']:.4f}"}
    where = {"machine": machine(), "commit": commit()}
    return {**identity, **{k: str(v) for k, v in measured.items()}, "cpu_seconds": f"{clock.seconds():.1f}", **where}


def measure_all(wanted: Iterable[Run], results: Path = RESULTS, runs: Path = RUNS) -> None:
    """A row for every run, those that are in the file as they are; rows that are not wanted are dropped."""
    by_run = {tuple(row[name] for name in IDENTITY): row for row in read(results)}
    rows: list[Row] = []
    todo = list(wanted)
    known = [by_run.get(tuple(run.identity()[name] for name in IDENTITY)) for run in todo]
    dropped = len(by_run) - sum(row is not None for row in known)
    if dropped:
        print(f"of another recipe or version, and dropped from {results.name}: {dropped} rows")
    for place, (run, row) in enumerate(zip(todo, known, strict=True)):
        if row is None:
            row = measure(run, runs)
            print(f"{run.model} ({row['settings']}), seed {run.seed}: MIG {row['mig']}, {row['cpu_seconds']} CPU s")
        rows.append(row)
        later = [other for other in known[place + 1 :] if other is not None]
        write(results, [*rows, *later])


def write(path: Path, rows: list[Row]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, text.getvalue().encode())


def wanted_runs() -> list[Run]:
    return [Run(model, seed, changes) for seed in SEEDS for model, changes in VARIANTS]


def table(rows: list[Row]) -> str:
    """The rows as Markdown: a line for each model and its settings."""
    if not rows:
        return "Not measured yet.\n"
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["model"], row["settings"]), []).append(row)
    header = ("`--model`", "settings", "MIG, median", "MIG, range", "CPU seconds")
    lines = []
    for (model, settings), own in groups.items():
        scores = [float(row["mig"]) for row in own]
        seconds = statistics.median(float(row["cpu_seconds"]) for row in own)
        extremes = f"{min(scores):.2f} to {max(scores):.2f}"
        lines.append((f"`{model}`", settings, f"{statistics.median(scores):.2f}", extremes, f"{seconds:.0f}"))
    seeds = ", ".join(sorted({row["seed"] for row in rows}, key=int))
    where = sorted({f"{row['machine']}, torch {row['torch']}, {row['commit']}" for row in rows})
    note = f"Seeds {seeds}; medians of a run's CPU time; {'; '.join(where)}."
    return "\n".join([*markdown(header, lines), "", note]) + "\n"


def main() -> None:
    from bench import tables  # which has the table of this module among its own

    parser = argparse.ArgumentParser(prog="python -m bench.model_table", description=__doc__)
    parser.add_argument("--table-only", action="store_true", help="write the table, measure nothing")
    if not parser.parse_args().table_only:
        keep_freed_memory()
        measure_all(wanted_runs())
    tables.write_pages()
    print(table(read(RESULTS)))


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("stopped: `make model-table` goes on from here")
