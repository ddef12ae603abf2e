"""The folder a run is written to: which files it holds, and how each is written."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from disentangle_ext._errors import MistakeError
from disentangle_ext._extras import require
from disentangle_ext._files import WriteError, append_line, is_partial, remove, remove_partial_files, write_atomically
from disentangle_ext.runs.checkpoint import checkpoints_by_step
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


_PATIENCE = 0.5
"""Seconds to wait for a lock: whoever asks whether a run is at work holds it for an instant."""


class LockedError(MistakeError):
    """Another process works on the run."""


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
        """Why the run was given up."""
        path = self.path / FAILED
        return path.read_text(encoding="utf-8") if path.is_file() and not self.is_done else None

    def fail(self, reason: str) -> None:
        """Note that the run is given up; its checkpoints stay."""
        write_atomically(self.path / FAILED, reason.encode())

    def forget_failure(self) -> None:
        """Let the run be tried again."""
        remove(self.path / FAILED)

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
            state, advice = "an unfinished run", "--resume to go on with it, or "
            if self.is_done or self.failure:
                state, advice = "a finished run" if self.is_done else f"a run that failed ({self.failure})", ""
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

    @property
    def is_locked(self) -> bool:
        """Whether a process works on the run; so it seems where we may not open its lock."""
        if not (self.path / LOCK).exists():
            return False
        filelock = require("filelock", extra="train", what="study")
        lock = filelock.FileLock(self.path / LOCK)
        try:
            with lock.acquire(timeout=0):
                return False
        except (filelock.Timeout, OSError):
            return True

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Make the folder if need be, and keep every other process from training in it meanwhile.

        Raises:
            LockedError: if another process does.
            WriteError: if the folder cannot be written.
        """
        filelock = require("filelock", extra="train", what="train")
        self.path.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(self.path / LOCK)
        try:
            lock.acquire(timeout=_PATIENCE)
        except filelock.Timeout:
            raise LockedError(f"train: --output-dir {self.path}: another process is training there") from None
        except OSError as error:
            raise WriteError(self.path / LOCK, error) from error
        try:
            remove_partial_files(self.path)
            remove_partial_files(self.checkpoints)
            yield
        finally:
            remove(self.path / LOCK)  # while it is held: whoever waits for the file that is gone takes another
            lock.release()

    def clear(self) -> None:
        """Remove what a run has left, but for its configuration, by which the folder is still known as a run's.

        Only what a run writes goes, by name: a person's own notes in the folder stay. DONE goes first, since a run
        that is cleared in part is not finished.
        """
        for name in reversed(_FILES):
            (self.path / name).unlink(missing_ok=True)
        self._drop_checkpoints()
        for path in (self.path / TENSORBOARD).glob("events.out.tfevents.*"):
            path.unlink()

    def discard(self) -> None:
        """Remove a run whose lock is held, and the folders that hold nothing else then."""
        self.clear()
        (self.path / CONFIG).unlink()
        remove(self.path / LOCK)
        for path in (self.path / TENSORBOARD, self.path):
            with suppress(OSError):  # it holds what is no run's
                path.rmdir()

    def start(self, config: str) -> None:
        """Write the configuration of a run that begins, in the place of another if there is one.

        Args:
            config: the text of config.yaml.

        Raises:
            WriteError: if the disk is full, and so on.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        write_atomically(self.path / CONFIG, config.encode())
        self.checkpoints.mkdir(exist_ok=True)

    def note_environment(self, step: int, device: torch.device | None = None, world_size: int = 1) -> list[str]:
        """Write env.json; say in words what is not as it was when the run was last at work, which it lists, too.

        Args:
            step: where the run goes on.
            device: what the run computes on; default: the CPU.
            world_size: how many processes share its batches.

        Raises:
            WriteError: if the disk is full, and so on.
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
        except (FileNotFoundError, ValueError):  # the run begins, or was ended while it began
            return None
        resumed = content.get("resumed", []) if isinstance(content, dict) else None
        is_record = isinstance(resumed, list) and all(isinstance(each, dict) for each in resumed)
        return content if is_record else None

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

    def go_back_to(self, step: int) -> None:
        """Forget what a run that goes on from ``step`` will write again: metrics, checkpoints, and that it failed."""
        remove(self.path / FAILED)
        kept = [json.dumps(row) + "\n" for row in self.read_metrics() if row["step"] <= step]
        write_atomically(self.path / METRICS, "".join(kept).encode())
        for later, path in checkpoints_by_step(self.checkpoints).items():
            if later > step:
                remove(path)

    @property
    def is_tidy(self) -> bool:
        """Whether a finished run has left nothing behind that :meth:`finish` removes."""
        return not any((self.path / name).exists() for name in (FAILED, CHECKPOINTS, LOCK))

    def finish(self) -> None:
        """Mark the run as complete and remove its checkpoints: model.safetensors holds the weights.

        Called again, it removes what was left of them when the first call was ended.
        """
        if not self.is_done:
            write_atomically(self.path / DONE, b"")
        remove(self.path / FAILED)
        self._drop_checkpoints()
