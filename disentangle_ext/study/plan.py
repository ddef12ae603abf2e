"""The folder of a study, and the plan in it: which runs there are."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from disentangle_ext._errors import MistakeError
from disentangle_ext._extras import require
from disentangle_ext._files import is_partial, replacing, write_atomically
from disentangle_ext.runs.folder import RunFolder
from disentangle_ext.study.grid import Grid
from disentangle_ext.study.run import Variation, variations

__all__ = ["GRID", "PLAN", "Planned", "Study", "write_plan"]

PLAN = "plan.parquet"
GRID = "grid.yaml"
_METRICS = b"metrics"
_COLUMNS = ("run", *Variation._fields, "seed", "settings")


class Planned(NamedTuple):
    """A run of the plan."""

    name: str
    settings: dict[str, Any]
    """Its configuration, as the flat mapping of config.yaml."""


@dataclass(frozen=True)
class Study:
    """A study on disk.

    Args:
        folder: the folder that ``plan`` has written.

    Raises:
        MistakeError: if it holds no plan.
    """

    folder: Path

    def __post_init__(self) -> None:
        if not (self.folder / PLAN).is_file():
            raise MistakeError(f"study: STUDY must be a folder that 'study plan' has written, got {self.folder}")

    @cached_property
    def plan(self) -> Any:
        """The plan, a pyarrow.Table: run, data_set, objective, hyperparameter, value, seed, settings (JSON)."""
        parquet = require("pyarrow.parquet", extra="study", what="study")
        arrow = require("pyarrow", extra="study", what="study")
        try:
            plan = parquet.read_table(self.folder / PLAN)
        except (OSError, arrow.ArrowException) as error:
            raise MistakeError(f"study: cannot read {self.folder / PLAN}: {' '.join(str(error).split())}") from None
        absent = [name for name in _COLUMNS if name not in plan.column_names]
        if absent or _METRICS not in (plan.schema.metadata or {}):
            what = f"the columns {', '.join(absent)}" if absent else "the metrics"
            raise MistakeError(f"study: {self.folder / PLAN} lacks {what}: write it again with 'study plan'")
        return plan

    @cached_property
    def runs(self) -> list[Planned]:
        columns = (self.plan.column(name).to_pylist() for name in ("run", "settings"))
        return [Planned(name, json.loads(settings)) for name, settings in zip(*columns)]

    @cached_property
    def metrics(self) -> tuple[str, ...]:
        """The metrics that the grid file asks for."""
        return tuple(json.loads(self.plan.schema.metadata[_METRICS]))

    def run_folder(self, name: str) -> RunFolder:
        return RunFolder(self.folder / "runs" / name)

    def log(self, name: str) -> Path:
        """What a run printed that is not finished."""
        return self.folder / "logs" / f"{name}.log"


def write_plan(folder: Path, grid: Grid) -> Study:
    """Write the plan of a study, or a longer one in the place of another.

    Raises:
        MistakeError: if the folder holds something else, or a run that the new plan does not have.
        WriteError: if the folder cannot be written.
    """
    _check(folder, {run.name for run in grid.runs})
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / PLAN) as temporary:
        require("pyarrow.parquet", extra="study", what="study").write_table(_table(grid), temporary)
    write_atomically(folder / GRID, grid.text.encode())
    return Study(folder)


def _check(folder: Path, names: set[str]) -> None:
    is_empty = not folder.is_dir() or all(map(is_partial, folder.iterdir()))
    if not is_empty and not (folder / PLAN).is_file():
        raise MistakeError(f"study: --output-dir {folder} must be a new or empty folder, or that of a study")
    runs = folder / "runs"
    begun = {path.name for path in runs.iterdir()} if runs.is_dir() else set()
    if lost := sorted(begun - names):
        raise MistakeError(
            f"study: --output-dir {folder} holds {len(lost):,} runs that the new plan does not have, {lost[0]} for "
            "example: give another --output-dir, or a grid that has them"
        )


def _table(grid: Grid) -> Any:
    arrow = require("pyarrow", extra="study", what="study")
    settings: Sequence[Mapping[str, Any]] = [run.config.plain() for run in grid.runs]
    variation = variations(settings)
    columns: dict[str, list[Any]] = {"run": [run.name for run in grid.runs]}
    columns.update({name: [getattr(each, name) for each in variation] for name in variation[0]._fields})
    columns["seed"] = [run.config.seed for run in grid.runs]
    columns["settings"] = [json.dumps(each) for each in settings]
    return arrow.table(columns).replace_schema_metadata({_METRICS: json.dumps(grid.metrics)})
