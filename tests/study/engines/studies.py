"""Small studies for the tests of engines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from disentangle_ext.runs.folder import EVALUATION, MODEL
from disentangle_ext.study.grid import read_grid
from disentangle_ext.study.plan import Study, write_plan

_TINY = (
    "base: {{data: digits, quick: true, network: mlp, width: 16, max_steps: {steps}, log_every: 20,"
    " checkpoint_every: {every}}}\n"
    "grid: [{{model: vae}}]\n"
    "seeds: {seeds}\n"
    "metrics: [mig]\n"
)


def plan_tiny(folder: Path, *, steps: int = 60, every: int = 20, seeds: int = 2) -> Study:
    """A study of runs that take a second."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "grid.yaml").write_text(_TINY.format(steps=steps, every=every, seeds=seeds))
    return write_plan(folder / "study", read_grid(str(folder / "grid.yaml")))


def results(study: Study) -> dict[str, Any]:
    """The scores of every run without their seconds, and the bytes of its weights."""
    found = {}
    for run in study.runs:
        path = study.run_folder(run.name).path
        metrics = json.loads((path / EVALUATION).read_text())["metrics"]
        found[run.name] = {name: {**of, "seconds": None} for name, of in metrics.items()}, (path / MODEL).read_bytes()
    return found
