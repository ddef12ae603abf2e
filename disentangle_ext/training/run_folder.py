"""The folder a run is written to: which files it holds, and how each is written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from disentangle_ext._files import append_line, remove, write_atomically
from disentangle_ext.report import PICTURES
from disentangle_ext.training.environment import changes, environment, in_words

CONFIG = "config.yaml"
ENVIRONMENT = "env.json"
METRICS = "metrics.jsonl"
MODEL = "model.safetensors"
SCORES = "scores.json"
EXACT_ELBO = "exact_elbo.json"
CODES = "codes.safetensors"
EVALUATION = "evaluation.json"
DONE = "DONE"
CHECKPOINTS = "checkpoints"
TENSORBOARD = "tensorboard"

_PICTURES = tuple(picture.file for picture in PICTURES.values())
_FILES = (CONFIG, ENVIRONMENT, METRICS, MODEL, *_PICTURES, SCORES, EXACT_ELBO, CODES, EVALUATION, DONE)


class RunFolder:
    """One run on disk.

    Args:
        path: the folder; made when the run starts.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    @property
    def is_run(self) -> bool:
        return (self.path / CONFIG).is_file()

    @property
    def is_done(self) -> bool:
        return (self.path / DONE).is_file()

    @property
    def checkpoints(self) -> Path:
        return self.path / CHECKPOINTS

    def check(self, *, overwrite: bool = False) -> None:
        """Whether a run may start here.

        Args:
            overwrite: it may replace what a run has left.

        Raises:
            FileExistsError: if it holds a run and ``overwrite`` is not given, or files that are no run's.
        """
        if self.is_run and not overwrite:
            state = "a finished run" if self.is_done else "an unfinished run"
            advice = "" if self.is_done else "--resume to go on with it, or "
            raise FileExistsError(
                f"train: --output-dir {self.path} holds {state}: give {advice}another --output-dir, "
                "or --overwrite to replace it"
            )
        if not self.is_run and (self.path.is_file() or (self.path.is_dir() and any(self.path.iterdir()))):
            raise FileExistsError(
                f"train: --output-dir {self.path} must be a new or empty folder, or one that holds a run"
            )

    def start(
        self, config: str, *, overwrite: bool = False, device: torch.device | None = None, world_size: int = 1
    ) -> None:
        """Make the folder and write its configuration, before the first step.

        Args:
            config: the text of config.yaml.
            overwrite: remove what a run has left there.
            device: what the run computes on, for env.json; default: the CPU.
            world_size: how many processes share its batches, for the same.

        Raises:
            FileExistsError: as :meth:`check`.
            WriteError: if the disk is full, and so on.
        """
        self.check(overwrite=overwrite)
        if self.is_run:
            self._clear()
        self.path.mkdir(parents=True, exist_ok=True)
        write_atomically(self.path / CONFIG, config.encode())  # first: by it a folder is known as a run's
        self.checkpoints.mkdir(exist_ok=True)
        self.write_json(ENVIRONMENT, environment(device, world_size))

    def resume(self, step: int, device: torch.device | None = None, world_size: int = 1) -> list[str]:
        """What is not as it was when the run was last at work, in words; env.json keeps it under "resumed".

        Args:
            step: where the run goes on.
            device: as for :meth:`start`.
            world_size: as for :meth:`start`.
        """
        now = environment(device, world_size)
        try:
            content = json.loads((self.path / ENVIRONMENT).read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):  # the run was ended while it began
            self.write_json(ENVIRONMENT, now)
            return []
        resumed = content.pop("resumed", [])
        last = {name: value for each in (content, *resumed) for name, value in each.items() if name != "step"}
        new = changes(last, now)
        if new:
            self.write_json(ENVIRONMENT, {**content, "resumed": [*resumed, {"step": step, **new}]})
        return in_words(last, new)

    def _clear(self) -> None:
        # Only what a run writes, by name: a person's own notes in the folder stay. CONFIG goes last, so that a
        # clearing that was cut short is still recognised as a run.
        self._drop_checkpoints()
        for path in (self.path / TENSORBOARD).glob("events.out.tfevents.*"):
            path.unlink()
        for name in reversed(_FILES):
            (self.path / name).unlink(missing_ok=True)

    def _drop_checkpoints(self) -> None:
        for pattern in ("step-*.safetensors", ".step-*"):
            for path in self.checkpoints.glob(pattern):
                remove(path)
        if self.checkpoints.is_dir() and not any(self.checkpoints.iterdir()):
            self.checkpoints.rmdir()

    def write_json(self, name: str, content: Any) -> None:
        write_atomically(self.path / name, (json.dumps(content, indent=2) + "\n").encode())

    def append_metrics(self, row: dict[str, Any]) -> None:
        """One line of metrics.jsonl, on its way to the disk when this returns."""
        append_line(self.path / METRICS, json.dumps(row))

    def read_metrics(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl; a last line that was cut short is left out."""
        path = self.path / METRICS
        rows = []
        for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
            try:
                rows.append(json.loads(line))
            except ValueError:
                break
        return rows

    def forget_metrics_after(self, step: int) -> None:
        """Drop the lines that a resumed run will write again."""
        kept = [json.dumps(row) + "\n" for row in self.read_metrics() if row["step"] <= step]
        write_atomically(self.path / METRICS, "".join(kept).encode())

    def finish(self) -> None:
        """Mark the run as complete and remove its checkpoints: model.safetensors holds the weights.

        Called again, it removes what was left of them when the first call was ended.
        """
        if not self.is_done:
            write_atomically(self.path / DONE, b"")
        self._drop_checkpoints()
