"""A small study of fake runs, and run folders written by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from disentangle_ext.runs.config import resolve, to_yaml
from disentangle_ext.study.execute import tasks_of
from disentangle_ext.study.grid import read_grid
from disentangle_ext.study.plan import Study, write_plan
from studies.simulated_study import fake_work

GRID = """
base: {data: digits, max_steps: 40}
grid: [{model: beta_vae, beta: [1, 16, 4]}, {model: vae}]
seeds: 2
metrics: [mig, sap, downstream]
"""


def study(folder: Path, *, finished: int | None = None) -> Study:
    """Plan eight runs, and fake the first of them."""
    folder.mkdir()
    (folder / "grid.yaml").write_text(GRID)
    planned = write_plan(folder / "study", read_grid(str(folder / "grid.yaml")))
    for task in tasks_of(planned)[:finished]:
        assert fake_work(task) == 0
    return planned


def run(
    folder: Path,
    metrics: dict[str, Any] | None = None,
    *,
    terms: dict[str, float] | None = None,
    is_done: bool = True,
    **settings: Any,
) -> Path:
    """Write a run folder: its configuration, a line of metrics.jsonl, and what ``evaluate`` leaves if it is scored."""
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(to_yaml(resolve({"model": "beta_vae", "data": "digits", **settings})))
    row = {"step": 1, "seconds": 0.1, "images_per_second": 9.0, "lr": 1e-4, **(terms or {})}
    (folder / "metrics.jsonl").write_text('{"step": 0, "loss": 99}\n' + json.dumps(row) + "\n")
    if metrics is not None:
        (folder / "evaluation.json").write_text(json.dumps({"metrics": metrics}))
    if is_done:
        (folder / "DONE").touch()
    return folder
