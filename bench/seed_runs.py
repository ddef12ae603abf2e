"""Training runs that differ in their seed, as rows of a CSV: what is finished is kept, what was interrupted goes on."""

from __future__ import annotations

import csv
import hashlib
import json
import resource
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

import disentangle_ext
from bench.harness import Row, read
from disentangle_ext.training.command_line import parse
from disentangle_ext.training.config import TrainConfig, to_yaml

__all__ = ["IDENTITY", "ROOT", "Run", "collect", "write"]

ROOT = Path(__file__).resolve().parents[1]
IDENTITY = ("seed", "steps", "torch", "disentangle_ext", "recipe")
"""The columns that every such CSV has: by them a row is found again."""
_INTERRUPTED = 130


@dataclass(frozen=True)
class Run:
    """One call of disentangle_ext.train."""

    arguments: tuple[str, ...]
    """Without --output-dir."""
    folder: Path

    @property
    def call(self) -> list[str]:
        return [*self.arguments, "--output-dir", str(self.folder)]

    @property
    def config(self) -> TrainConfig:
        return parse(self.call).config

    @property
    def identity(self) -> Row:
        config = self.config
        recipe = hashlib.sha256(to_yaml(replace(config, seed=0)).encode()).hexdigest()[:8]
        versions = str(torch.__version__), disentangle_ext.__version__
        return dict(zip(IDENTITY, (str(config.seed), str(config.max_steps), *versions, recipe), strict=True))

    def train(self) -> None:
        """Train, go on with what was interrupted, or leave what is finished as it is.

        Raises:
            KeyboardInterrupt: if the run was interrupted.
            SystemExit: if it failed.
        """
        call, config = self.call, self.folder / "config.yaml"
        if config.is_file():
            same = config.read_text(encoding="utf-8") == to_yaml(self.config)
            call.append("--resume" if same else "--overwrite")
            if not same:
                self._clock.unlink(missing_ok=True)
        command = [sys.executable, "-m", "disentangle_ext.train", *call]
        before = _children()
        finished = subprocess.run(command, cwd=ROOT, check=False, stdout=subprocess.DEVNULL)
        self._clock.write_text(f"{self.cpu_seconds + _children() - before}\n")
        if finished.returncode == _INTERRUPTED:
            raise KeyboardInterrupt
        if finished.returncode:
            raise SystemExit(f"{' '.join(command)} ended with exit code {finished.returncode}")

    @property
    def _clock(self) -> Path:
        return self.folder.with_name(f"{self.folder.name}.cpu_seconds")

    @property
    def cpu_seconds(self) -> float:
        """User and system time of all calls that the run took, from imports to pictures."""
        return float(self._clock.read_text()) if self._clock.is_file() else 0.0

    @property
    def scores(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.folder / "scores.json").read_text(encoding="utf-8"))
        return content

    @property
    def seconds(self) -> float:
        """On the clock, of the training alone."""
        last = (self.folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[-1]
        return float(json.loads(last)["seconds"])


def _children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def collect(path: Path, wanted: Sequence[Row]) -> list[Row]:
    """The rows of a CSV that are of these recipes and versions."""
    known = read(path)
    rows = [row for row in known if any(want.items() <= row.items() for want in wanted)]
    if len(rows) < len(known):
        print(f"{len(known) - len(rows)} rows of {path.name} are of another recipe or version: measuring anew")
    return rows


def write(path: Path, columns: Sequence[str], rows: Sequence[Row]) -> None:
    """Replace a CSV."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    with open(partial, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    partial.replace(path)
