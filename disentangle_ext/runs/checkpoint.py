"""Checkpoints: tensors in safetensors, everything else as JSON in the header of the same file.

One file, so that one rename makes a checkpoint appear complete; and nothing in it is ever unpickled.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from disentangle_ext._errors import MistakeError
from disentangle_ext._extras import require
from disentangle_ext._files import WriteError, remove, write_atomically

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
        raise MistakeError(f"{path} is damaged: its contents do not match its checksum")
    return tensors, json.loads(signed["header"])


def _checksum(tensors: Mapping[str, Tensor], text: str) -> str:
    digest = hashlib.sha256(text.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> Path:
    """Write a checkpoint, then remove all but the newest two.

    Raises:
        WriteError: if the disk is full, the folder around ``folder`` has vanished, and so on.
    """
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise WriteError(folder, error) from error
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
    """Find the newest readable checkpoint in ``folder``: :func:`common_checkpoints` for one run."""
    return common_checkpoints([folder], warn=warn)[0]


def common_checkpoints(
    folders: Sequence[Path], *, warn: Callable[[str], object] = lambda line: None
) -> Sequence[Checkpoint | None]:
    """Find the newest step for which every run has a readable checkpoint, or None for each to start over.

    They start over where a run has saved none yet, and none has saved more often than once: they were ended while they
    saved for the first time. Nothing is changed.

    Args:
        folders: the folders of checkpoints, one for each run.
        warn: told in one line where a checkpoint cannot be read.

    Raises:
        MistakeError: if there are checkpoints, and none of the same step that can be read.
    """
    files = [checkpoints_by_step(folder) for folder in folders]
    if not all(files) and all(len(own) < KEPT for own in files):
        return [None] * len(files)
    problem: MistakeError | None = None
    for step in sorted(set.intersection(*map(set, files)), reverse=True):
        try:
            common = [read_checkpoint(own[step]) for own in files]
        except MistakeError as error:
            problem = problem or error
            continue
        if problem:
            warn(f"{problem}; going on from {files[0][step].name}, the one before")
        return common
    if problem and len(folders) == 1:
        raise MistakeError(
            f"train: --resume: {problem}, and there is no other that can be read: start again, with --overwrite"
        )
    there = "; ".join(f"{folder.parent.name} {sorted(own)}" for folder, own in zip(folders, files))
    raise MistakeError(
        f"train: --resume: the runs of the stack have no readable checkpoint of the same step ({there}): go on with "
        "each alone, by --resume and the --output-dir of the run"
    )
