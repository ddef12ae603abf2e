"""The runs that ``--stack`` and ``--vary`` ask for: their settings, their folders, and the file that names them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from disentangle_ext._extras import require
from disentangle_ext._files import write_atomically
from disentangle_ext._names import choose
from disentangle_ext.training.config import TrainConfig, resolve, to_yaml
from disentangle_ext.training.device import AUTO
from disentangle_ext.training.interrupt import Phase
from disentangle_ext.training.run_folder import CONFIG, RunFolder
from disentangle_ext.training.stack_session import StackOutcome, check_configs, choose_stacking, train_stack

STACK = "stack.yaml"
"""The file in the folder of a stack: the settings that its runs share, and ``stack``, ``vary`` and ``stacked``."""

Count = int | Literal["auto"]


@dataclass(frozen=True)
class Variants:
    """Several runs in one folder."""

    config: TrainConfig
    """Of all, but for what varies."""
    stack: Count | None
    vary: tuple[str, ...]
    stacked: bool | Literal["auto"]
    """Whether they are trained as a stack; "auto": to be measured."""
    runs: dict[str, TrainConfig]
    """By the name of their folder."""


def variants(config: TrainConfig, stack: Count | None, vary: Sequence[str], stacked: bool | None) -> Variants | None:
    """The runs that the flags ask for, every combination of what varies; None if they ask for a single one.

    Args:
        config: what is not varied.
        stack: number of seeds from ``config.seed``; "auto" and None: one.
        vary: each "option=value,value,..".
        stacked: what was chosen before, on resuming.

    Raises:
        ValueError: for an option or a value that does not exist, and for flags that mean nothing.
    """
    if stack is None and not vary:
        return None
    if stack == "auto" and not vary:
        raise ValueError("train: --stack auto needs --vary, which says what the runs are: --vary seed=0,1,2,3")
    if isinstance(stack, int) and stack < 1:
        raise ValueError(f"train: --stack must be at least 1, or auto, got {stack}")
    axes = dict(_axis(each, config) for each in vary)
    if len(axes) < len(vary):
        raise ValueError(f"train: --vary must name each option once, got {' '.join(vary)}")
    if isinstance(stack, int) and (stack > 1 or not vary):
        if "seed" in axes:
            raise ValueError(f"train: --stack {stack} and --vary seed both choose the seeds: give one of them")
        axes["seed"] = [str(config.seed + k) for k in range(stack)]
    runs = {}
    for values in itertools.product(*axes.values()):
        chosen = dict(zip(axes, values))
        name = "-".join(f"{option.replace('_', '-')}-{value}" for option, value in chosen.items())
        runs[name] = resolve({**config.flat(), **{option: _value(option, value) for option, value in chosen.items()}})
    way: bool | Literal["auto"] = stacked if stacked is not None else "auto" if stack == "auto" else True
    return Variants(config, stack, tuple(vary), way, runs)


def _axis(text: str, config: TrainConfig) -> tuple[str, list[str]]:
    """An option and its values, from "option=value,value"."""
    name, _, values = text.partition("=")
    option, each = name.replace("-", "_"), values.split(",")
    choose("train: --vary: option", option, config.flat())
    if not all(value.strip(". ") and "/" not in value for value in each) or len(set(each)) < len(each):
        raise ValueError(f"train: --vary must be OPTION=VALUE,VALUE,.. with different values, got {text!r}")
    return option, each


def _value(option: str, text: str) -> Any:
    yaml = require("yaml", extra="train", what="--vary")
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        raise ValueError(f"train: --vary: {option} must be values between commas, got {text!r}") from None


def train_variants(
    variants: Variants,
    folder: Path,
    *,
    resume: bool,
    overwrite: bool,
    device: str = AUTO,
    tensorboard: bool = False,
    on_phase: Callable[[Phase], object] = lambda phase: None,
) -> StackOutcome:
    """Train the runs in folders of ``folder``, which :data:`STACK` there names for ``--resume``.

    Raises:
        FileExistsError: if there are runs already, and neither ``resume`` nor ``overwrite`` is given.
        ValueError: as :func:`train_stack`.
    """
    stacked = variants.stacked
    if stacked is True:
        check_configs(list(variants.runs.values()))
    if not resume:
        _check(folder, variants, overwrite)
    if stacked == "auto":
        on_phase(Phase.MEASURING)
        stacked, line = choose_stacking(list(variants.runs.values()), device=device)
        print(line, flush=True)
    if not resume:
        yaml = require("yaml", extra="train", what="--stack")
        asked = {"stack": variants.stack, "vary": list(variants.vary), "stacked": stacked}
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / STACK, (yaml.safe_dump(asked, sort_keys=False) + to_yaml(variants.config)).encode())
    folders = [folder / name for name in variants.runs]
    return train_stack(
        list(variants.runs.values()),
        folders,
        stacked=stacked,
        resume=resume,
        overwrite=overwrite,
        device=device,
        tensorboard=tensorboard,
        on_phase=on_phase,
    )


def _check(folder: Path, variants: Variants, overwrite: bool) -> None:
    if (folder / CONFIG).is_file():
        raise FileExistsError(f"train: --output-dir {folder} holds a run: give another for the runs of a stack")
    if (folder / STACK).is_file() and not overwrite and any(folder.glob(f"*/{CONFIG}")):
        raise FileExistsError(
            f"train: --output-dir {folder} holds a stack: give --resume to go on with it, or another --output-dir, "
            "or --overwrite to replace it"
        )
    for name in variants.runs:
        RunFolder(folder / name).check(overwrite=overwrite)
