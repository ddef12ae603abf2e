"""Checkpoints: tensors in safetensors, everything else as JSON in the header of the same file.

One file, so that one rename makes a checkpoint appear complete; and nothing in it is ever unpickled.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from disentangle_ext._extras import require
from disentangle_ext._files import remove, write_atomically

FORMAT = 1
KEPT = 2
"""Checkpoints that stay on disk: the newest, and the one before in case the newest cannot be read."""


class Checkpoint(NamedTuple):
    """The state of a run after ``step`` updates."""

    step: int
    tensors: dict[str, Tensor]
    state: dict[str, Any]


def save_tensors(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Write tensors and a JSON header to one safetensors file, atomically."""
    safetensors = require("safetensors.torch", extra="train", what="save_tensors")
    # The format knows no strides: channels-last weights are stored in the plain order.
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    text = {key: json.dumps(value) for key, value in header.items()}
    write_atomically(path, safetensors.save(plain, metadata=text))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What :func:`save_tensors` wrote.

    Raises:
        ValueError: "...: model.safetensors is damaged or no safetensors file: ...".
        FileNotFoundError: if there is no such file.
    """
    safetensors = require("safetensors", extra="train", what="read_tensors")
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            header = {key: json.loads(value) for key, value in (file.metadata() or {}).items()}
            return {name: file.get_tensor(name) for name in file.keys()}, header  # noqa: SIM118
    except (safetensors.SafetensorError, ValueError) as error:
        raise ValueError(f"{path} is damaged or no safetensors file: {error}") from None


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
    """The files of the checkpoints in ``folder``, the newest last."""
    return sorted(folder.glob("step-*.safetensors"))


def checkpoints_by_step(folder: Path) -> dict[int, Path]:
    """The same by their steps."""
    return {int(path.stem.removeprefix("step-")): path for path in checkpoints_in(folder)}


def read_checkpoint(path: Path) -> Checkpoint:
    """What :func:`save_checkpoint` wrote.

    Raises:
        ValueError: for a file that is damaged or of another format.
    """
    tensors, header = read_tensors(path)
    if header.get("format") != FORMAT:
        raise ValueError(f"{path} has format {header.get('format')}, and this version reads {FORMAT}")
    return Checkpoint(header["step"], tensors, header["state"])


def last_checkpoint(folder: Path, *, warn: Callable[[str], object] = lambda line: None) -> Checkpoint | None:
    """The newest checkpoint in ``folder`` that can be read, or None where there is none.

    Args:
        folder: where they are.
        warn: told in one line if it is not the newest of all.

    Raises:
        ValueError: if there are checkpoints, and none can be read.
    """
    problem: ValueError | None = None
    for path in reversed(checkpoints_in(folder)):
        try:
            checkpoint = read_checkpoint(path)
        except ValueError as error:
            problem = problem or error
            continue
        if problem:
            warn(f"{problem}; going on from {path.name}, the one before")
        return checkpoint
    if problem:
        raise problem
    return None


def optimizer_state(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The state of an optimiser as named tensors and JSON."""
    state = optimizer.state_dict()
    tensors: dict[str, Tensor] = {}
    plain: dict[str, dict[str, Any]] = {}
    for index, entries in state["state"].items():
        for key, value in entries.items():
            if isinstance(value, Tensor):
                tensors[f"{index}.{key}"] = value
            else:
                plain.setdefault(str(index), {})[key] = value
    return tensors, {"plain": plain, "groups": [{"lr": group["lr"]} for group in state["param_groups"]]}


def load_optimizer_state(
    optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], state: Mapping[str, Any]
) -> None:
    """Undo :func:`optimizer_state`."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    entries: dict[int, dict[str, Any]] = {int(index): dict(plain) for index, plain in state["plain"].items()}
    for name, tensor in tensors.items():
        index, _, key = name.partition(".")
        parameter = parameters[int(index)]
        if tensor.shape == parameter.shape:
            # The fused step walks parameter and moments side by side in memory: they must have the same strides.
            tensor = torch.empty_like(parameter).copy_(tensor)
        entries.setdefault(int(index), {})[key] = tensor
    groups = optimizer.state_dict()["param_groups"]
    for group, saved in zip(groups, state["groups"], strict=True):
        group.update(saved)
    optimizer.load_state_dict({"state": entries, "param_groups": groups})
