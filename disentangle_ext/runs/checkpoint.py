"""Checkpoints: tensors in safetensors, everything else as JSON in the header of the same file.

One file, so that one rename makes a checkpoint appear complete; and nothing in it is ever unpickled.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from disentangle_ext._errors import MistakeError
from disentangle_ext._extras import require
from disentangle_ext._files import remove, write_atomically

FORMAT = 2
KEPT = 2
"""Checkpoints that stay on disk: the newest, and the one before in case the newest cannot be read."""

_NAME = re.compile(r"step-(\d{10,})\.safetensors")
_SIGNED = "disentangle_ext"


class Checkpoint(NamedTuple):
    """The state of a run after ``step`` updates."""

    step: int
    tensors: dict[str, Tensor]
    state: dict[str, Any]


def save_tensors(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Write tensors and a JSON header to one safetensors file, atomically, with a checksum of both."""
    safetensors = require("safetensors.torch", extra="train", what="save_tensors")
    # The format knows no strides: channels-last weights are stored in the plain order.
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    text = json.dumps(header)
    # One entry: the format orders several at random, and equal runs shall be equal files.
    signed = json.dumps({"sha256": _checksum(plain, text), "header": text})
    write_atomically(path, safetensors.save(plain, metadata={_SIGNED: signed}))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what :func:`save_tensors` wrote.

    Raises:
        MistakeError: "...: model.safetensors is damaged or no safetensors file: ...".
        FileNotFoundError: if there is no such file.
    """
    safetensors = require("safetensors", extra="train", what="read_tensors")
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            signed = json.loads((file.metadata() or {}).get(_SIGNED, "null"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, ValueError) as error:
        raise MistakeError(f"{path} is damaged or no safetensors file: {error}") from None
    if not isinstance(signed, dict):
        raise MistakeError(f"{path} has no checksum: it was not written by this version of disentangle_ext")
    if signed.get("sha256") != _checksum(tensors, str(signed.get("header"))):
        raise MistakeError(f"{path} is damaged: its checksum is that of other contents")
    return tensors, json.loads(signed["header"])


def _checksum(tensors: Mapping[str, Tensor], text: str) -> str:
    digest = hashlib.sha256(text.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> Path:
    """Write a checkpoint, then remove all but the newest two."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"step-{checkpoint.step:010d}.safetensors"
    header = {"format": FORMAT, "step": checkpoint.step, "state": checkpoint.state}
    save_tensors(path, checkpoint.tensors, header)
    for old in checkpoints_in(folder)[:-KEPT]:
        remove(old)
    return path


def checkpoints_in(folder: Path) -> list[Path]:
    """List the files of the checkpoints in ``folder``, the newest last."""
    return list(checkpoints_by_step(folder).values())


def checkpoints_by_step(folder: Path) -> dict[int, Path]:
    """Map the steps of the checkpoints in ``folder`` to their files, in ascending order."""
    found = {path: _NAME.fullmatch(path.name) for path in folder.glob("step-*.safetensors") if path.is_file()}
    return dict(sorted((int(match[1]), path) for path, match in found.items() if match))


def read_checkpoint(path: Path) -> Checkpoint:
    """Read what :func:`save_checkpoint` wrote.

    Raises:
        MistakeError: for a file that is damaged, of another format, or no checkpoint of the step in its name.
    """
    tensors, header = read_tensors(path)
    if header.get("format") != FORMAT:
        raise MistakeError(f"{path} has format {header.get('format')}, and this version reads {FORMAT}")
    step, state, match = header.get("step"), header.get("state"), _NAME.fullmatch(path.name)
    if not (isinstance(state, dict) and match and step == int(match[1])):
        raise MistakeError(f"{path} is no checkpoint of that step: its header has step {step!r}")
    return Checkpoint(step, tensors, state)


def last_checkpoint(folder: Path, *, warn: Callable[[str], object] = lambda line: None) -> Checkpoint | None:
    """Read the newest checkpoint in ``folder`` that can be read; None where there is none.

    Args:
        folder: where they are.
        warn: told in one line if it is not the newest of all.

    Raises:
        MistakeError: if there are checkpoints, and none can be read.
    """
    problem: MistakeError | None = None
    for path in reversed(checkpoints_in(folder)):
        try:
            checkpoint = read_checkpoint(path)
        except MistakeError as error:
            problem = problem or error
            continue
        if problem:
            warn(f"{problem}; going on from {path.name}, the one before")
        return checkpoint
    if problem:
        raise problem
    return None


def common_checkpoints(
    folders: Sequence[Path], *, warn: Callable[[str], object] = lambda line: None
) -> Sequence[Checkpoint | None]:
    """Find the newest step for which every run has a readable checkpoint, or None for each to start over.

    Newer checkpoints of runs that go back are removed: their lines of metrics are written again, and so are they. Where
    a run has removed none yet, the beginning counts as its oldest checkpoint.

    Args:
        folders: the folders of checkpoints, one for each run.
        warn: told in one line where the newest checkpoint is not taken.

    Raises:
        MistakeError: if there are checkpoints, and none of the same step that can be read.
    """
    if len(folders) == 1:
        return [last_checkpoint(folders[0], warn=warn)]
    files = [checkpoints_by_step(folder) for folder in folders]
    steps = [own.keys() | ({0} if len(own) < KEPT else set()) for own in files]
    for step in sorted(set.intersection(*map(set, steps)), reverse=True):
        with suppress(MistakeError):  # a damaged file: the step before it may do
            common = [read_checkpoint(own[step]) for own in files] if step else [None] * len(files)
            for folder, own in zip(folders, files):
                later = [each for each in own if each > step]
                if later:
                    print(f"{folder.parent.name}: back from step {max(later)} to {step}, the last that all runs share")
                for each in later:
                    own[each].unlink()
            return common
    there = "; ".join(f"{folder.parent.name} {sorted(own)}" for folder, own in zip(folders, steps))
    raise MistakeError(
        f"train: --resume: the runs of the stack have no readable checkpoint of the same step ({there}): go on with "
        "each alone, by --resume and the --output-dir of the run"
    )
