"""Loading a trained model from its run folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from disentangle_ext._errors import MistakeError
from disentangle_ext.models import VAE, build_vae
from disentangle_ext.runs.checkpoint import read_tensors
from disentangle_ext.runs.config import TrainConfig, read_yaml, resolve
from disentangle_ext.runs.folder import CONFIG, MODEL, RunFolder


def load(run: str | os.PathLike[str]) -> VAE:
    """Load the trained model of a run, in eval mode and without gradients for its weights.

    >>> model = disentangle_ext.load("runs/a")
    >>> mu, logvar = model.encode(images)

    Args:
        run: a folder that ``python -m disentangle_ext.train`` has finished, or its model.safetensors.

    Raises:
        FileNotFoundError: if there is no such folder, it is no run folder, or the run is not finished.
        MistakeError: if the file is damaged or holds no model of this package.
    """
    return _load(Path(run), "load:")


def load_run(folder: Path, program: str) -> tuple[VAE, TrainConfig]:
    """Load the model and the configuration of a finished run for the program that its folder was given to as RUN.

    Raises:
        MistakeError: if there is no such folder, it is no run folder, the run is not finished, or a file is damaged;
            "evaluate: RUN runs/a does not exist".
    """
    try:
        model = _load(folder, f"{program}: RUN")
    except FileNotFoundError as error:
        raise MistakeError(str(error)) from None
    path = folder / CONFIG
    if not path.is_file():
        raise MistakeError(f"{program}: RUN must be a folder with a {CONFIG}, which names the data set, got {folder}")
    return model, resolve(read_yaml(path, source=program), source=f"{program}: {path}")


def _load(path: Path, where: str) -> VAE:
    if path.is_dir():
        path = _model_in(path, where)
    elif not path.exists():
        raise FileNotFoundError(f"{where} {path} does not exist")
    try:
        tensors, header = read_tensors(path)
    except MistakeError as error:
        raise MistakeError(f"{where} {error}") from None
    if not isinstance(header.get("vae"), dict):
        raise MistakeError(
            f"{where} {path} is no model that disentangle_ext.train has written: its header has no 'vae'"
        )
    try:
        model = _build(header["vae"])
        model.load_state_dict(tensors)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise MistakeError(f"{where} {path} does not fit the network in its header: {error}") from None
    return model.eval().requires_grad_(False)


def _build(header: dict[str, Any]) -> VAE:
    return build_vae(**{**header, "image_shape": tuple(header["image_shape"])})


def _model_in(folder: Path, where: str) -> Path:
    path = folder / MODEL
    if path.is_file():
        return path
    if not (folder / CONFIG).is_file():
        raise FileNotFoundError(f"{where} {folder} {_what_it_is(folder)}")
    if reason := RunFolder(folder).failure:
        raise FileNotFoundError(f"{where} {folder} has no {MODEL}: the run failed ({reason})")
    raise FileNotFoundError(
        f"{where} {folder} has no {MODEL}: the run is not finished, and "
        f"`python -m disentangle_ext.train --resume --output-dir {folder}` goes on with it"
    )


def _what_it_is(folder: Path) -> str:
    """What a folder is in the place of a run folder."""
    runs = sorted(path.parent.name for path in folder.glob(f"*/{CONFIG}"))
    if not runs:
        return f"is no run folder: it has neither {CONFIG} nor {MODEL}"
    more = f" and {len(runs) - _NAMED} more" if len(runs) > _NAMED else ""
    return f"holds runs, give the folder of one: {', '.join(runs[:_NAMED])}{more}"


_NAMED = 8
