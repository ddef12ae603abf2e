"""The folder a run is written to: which files it holds, and how each is written."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from disentangle_ext._errors import MistakeError
from disentangle_ext._extras import require
from disentangle_ext._files import WriteError, append_line, is_partial, remove, remove_partial_files, write_atomically
from disentangle_ext.runs.environment import changes, environment, in_words

CONFIG = "config.yaml"
ENVIRONMENT = "env.json"
METRICS = "metrics.jsonl"
MODEL = "model.safetensors"
SCORES = "scores.json"
EXACT_ELBO = "exact_elbo.json"
CODES = "codes.safetensors"
EVALUATION = "evaluation.json"
DONE = "DONE"
FAILED = "FAILED"
CHECKPOINTS = "checkpoints"
TENSORBOARD = "tensorboard"

LOCK = ".lock"

PICTURE_FILES = {
    "traversals": "traversals.png",
    "reconstructions": "reconstructions.png",
    "samples": "samples.png",
    "factors": "factors.png",
    "sweeps": "sweeps.png",
    "animation": "animation.gif",
    "losses": "losses.png",
}

_FILES = (
    CONFIG,
    ENVIRONMENT,
    METRICS,
    MODEL,
    *PICTURE_FILES.values(),
    SCORES,
    EXACT_ELBO,
    CODES,
    EVALUATION,
    FAILED,
    DONE,
)


@dataclass(frozen=True)
class RunFolder:
    """One run on disk.

    Args:
        path: the folder; made when the run starts.
    """

    path: Path

    def __init__(self, path: Path | str) -> None:
        object.__setattr__(self, "path", Path(path))

    @property
    def is_run(self) -> bool:
        return (self.path / CONFIG).is_file()

    @property
    def is_done(self) -> bool:
        return (self.path / DONE).is_file()

    @property
    def failure(self) -> str | None:
        """Why the run was given up in a stack that went on without it."""
        path = self.path / FAILED
        return path.read_text(encoding="utf-8") if path.is_file() and not self.is_done else None

    def fail(self, reason: str) -> None:
        """Note that a stack goes on without the run; its checkpoints stay."""
        write_atomically(self.path / FAILED, reason.encode())

    @property
    def checkpoints(self) -> Path:
        return self.path / CHECKPOINTS

    def check(self, *, overwrite: bool = False) -> None:
        """Raise unless a run may start here.

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
        if not self.is_run and (self.path.is_file() or self._holds_something):
            raise FileExistsError(
                f"train: --output-dir {self.path} must be a new or empty folder, or one that holds a run"
            )

    @property
    def _holds_something(self) -> bool:
        """Whether there is more here than a process leaves that was killed before it wrote :data:`CONFIG`."""
        return self.path.is_dir() and any(path.name != LOCK and not is_partial(path) for path in self.path.iterdir())

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Make the folder if need be, and keep every other process from training in it meanwhile.

        Raises:
            MistakeError: if another process does.
            WriteError: if the folder cannot be written.
        """
        filelock = require("filelock", extra="train", what="train")
        self.path.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(self.path / LOCK)
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            raise MistakeError(f"train: --output-dir {self.path}: another process is training there") from None
        except OSError as error:
            raise WriteError(self.path / LOCK, error) from error
        try:
            remove_partial_files(self.path)
            remove_partial_files(self.checkpoints)
            yield
        finally:
            remove(self.path / LOCK)  # while it is held: whoever waits for the file that is gone takes another
            lock.release()

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
        """Say in words what has changed since the run was last at work; env.json keeps it under "resumed".

        Args:
            step: where the run goes on.
            device: as for :meth:`start`.
            world_size: as for :meth:`start`.
        """
        now = environment(device, world_size)
        content = self._read_environment()
        if content is None:
            self.write_json(ENVIRONMENT, now)
            return []
        resumed = content.pop("resumed", [])
        last = {name: value for each in (content, *resumed) for name, value in each.items() if name != "step"}
        new = changes(last, now)
        if new:
            self.write_json(ENVIRONMENT, {**content, "resumed": [*resumed, {"step": step, **new}]})
        return in_words(last, new)

    def _read_environment(self) -> dict[str, Any] | None:
        """Read env.json; None where there is none, or what a person has made of it is no record of a run."""
        try:
            content = json.loads((self.path / ENVIRONMENT).read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):  # the run was ended while it began
            return None
        resumed = content.get("resumed", []) if isinstance(content, dict) else None
        is_record = isinstance(resumed, list) and all(isinstance(each, dict) for each in resumed)
        return content if is_record else None

    def _clear(self) -> None:
        # Only what a run writes, by name: a person's own notes in the folder stay. CONFIG goes last, so that a
        # clearing that was cut short is still recognised as a run.
        self._drop_checkpoints()
        for path in (self.path / TENSORBOARD).glob("events.out.tfevents.*"):
            path.unlink()
        for name in reversed(_FILES):
            (self.path / name).unlink(missing_ok=True)

    def _drop_checkpoints(self) -> None:
        for pattern in ("step-*.safetensors", ".step-*.partial"):
            for path in self.checkpoints.glob(pattern):
                remove(path)
        if self.checkpoints.is_dir() and not any(self.checkpoints.iterdir()):
            self.checkpoints.rmdir()

    def write_json(self, name: str, content: Any) -> None:
        write_atomically(self.path / name, (json.dumps(content, indent=2) + "\n").encode())

    def append_metrics(self, row: dict[str, Any]) -> None:
        """Append a line to metrics.jsonl; it is on its way to the disk when this returns."""
        append_line(self.path / METRICS, json.dumps(row))

    def read_metrics(self) -> list[dict[str, Any]]:
        """Read the lines of metrics.jsonl up to the first that is none: it was cut short, or edited."""
        path = self.path / METRICS
        rows = []
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []:
            try:
                row = json.loads(line)
            except ValueError:
                break
            if not (isinstance(row, dict) and isinstance(row.get("step"), int)):
                break
            rows.append(row)
        return rows

    def forget_metrics_after(self, step: int) -> None:
        """Drop the lines that a resumed run will write again."""
        kept = [json.dumps(row) + "\n" for row in self.read_metrics() if row["step"] <= step]
        write_atomically(self.path / METRICS, "".join(kept).encode())

    def finish(self) -> None:
        """Mark the run as complete and remove its checkpoints: model.safetensors holds the weights.

        Called again, it removes what was left of them when the first call was ended.
        """
        remove(self.path / FAILED)
        if not self.is_done:
            write_atomically(self.path / DONE, b"")
        self._drop_checkpoints()
        remove(self.path / LOCK)
