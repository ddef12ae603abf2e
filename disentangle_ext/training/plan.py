"""What one call is to do: which runs, in which folders, and how."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from disentangle_ext._errors import MistakeError
from disentangle_ext._extras import require
from disentangle_ext._files import write_atomically
from disentangle_ext.engine.device import AUTO
from disentangle_ext.engine.stack import is_number, real_options
from disentangle_ext.objectives import OBJECTIVES
from disentangle_ext.runs.checkpoint import checkpoints_in
from disentangle_ext.runs.config import TrainConfig, read_yaml, resolve
from disentangle_ext.runs.folder import CONFIG, RunFolder

__all__ = ["SHEET", "Job", "Plan", "Several", "variants"]

SHEET = "stack.yaml"
"""The file in the folder of several runs: how they were asked for, the settings that all share, and those of each."""

_FREE = ("seed", "optimizer", "betas", "lr", "lr_schedule", "lr_warmup", "discriminator_betas")
"""What may differ in a stack beside the real numbers of the objective: data order, noise and optimiser are each run's
own."""

_STACKABLE = {"compilation": ("eager",), "precision": ("fp32", "bf16")}
"""Settings of which a stack knows only some values."""


class Job(NamedTuple):
    """One run to train."""

    config: TrainConfig
    folder: RunFolder

    def is_in_folder(self) -> bool:
        """Whether the folder holds this run, rather than none yet.

        Raises:
            MistakeError: if it holds a run of another configuration that has been trained.
        """
        path = self.folder.path / CONFIG
        if not self.folder.is_run:
            return False
        name = self.first_difference(stored := resolve(read_yaml(path), source=f"train: {path}").plain())
        if name and (self.folder.is_done or checkpoints_in(self.folder.checkpoints)):
            raise MistakeError(
                f"train: --resume: {name} is {stored.get(name, 'absent')} in {path}, and must be "
                f"{self.config.plain().get(name, 'absent')}: the folder holds another run"
            )
        return not name

    def first_difference(self, other: Mapping[str, Any]) -> str | None:
        """Find a setting that is not as in ``other``, as a file holds it; None where there is none.

        Files of data may have moved.
        """
        own = self.config.plain()
        moved = {name for name, value in self.config.flat().items() if isinstance(value, Path)}
        return next((name for name in {**other, **own} if other.get(name) != own.get(name) and name not in moved), None)


@dataclass(frozen=True)
class Several:
    """The folder that holds the run folders of one call, and how they were asked for."""

    folder: Path
    stack: int | None
    vary: tuple[str, ...]

    def check(self, *, overwrite: bool) -> None:
        """Refuse a folder that holds something else.

        Raises:
            FileExistsError: if it holds a run, or other runs and ``overwrite`` is not given.
        """
        if (self.folder / CONFIG).is_file():
            raise FileExistsError(
                f"train: --output-dir {self.folder} holds a run: give another for the runs of a stack"
            )
        if (self.folder / SHEET).is_file() and not overwrite and any(self.folder.glob(f"*/{CONFIG}")):
            raise FileExistsError(
                f"train: --output-dir {self.folder} holds a stack: give --resume to go on with it, or another "
                "--output-dir, or --overwrite to replace it"
            )

    def replaced(self, jobs: Sequence[Job]) -> list[RunFolder]:
        """Find the runs that :data:`SHEET` names and that are none of ``jobs``; none where it cannot be read."""
        try:
            named = read_yaml(self.folder / SHEET).get("runs")
        except MistakeError:
            return []
        kept = {job.folder.path.name for job in jobs}
        held = sorted(path.parent for path in self.folder.glob(f"*/{CONFIG}"))
        return [RunFolder(path) for path in held if isinstance(named, dict) and path.name in named.keys() - kept]

    def write(self, jobs: Sequence[Job]) -> None:
        """Write :data:`SHEET`."""
        yaml = require("yaml", extra="train", what="--vary")
        every = {job.folder.path.name: job.config.plain() for job in jobs}
        first, *others = every.values()
        shared = {key: value for key, value in first.items() if all(each.get(key) == value for each in others)}
        own = {name: {k: v for k, v in each.items() if k not in shared} for name, each in every.items()}
        content = {"stack": self.stack, "vary": list(self.vary), "shared": shared, "runs": own}
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self.folder / SHEET, yaml.safe_dump(content, sort_keys=False, allow_unicode=True).encode())


@dataclass(frozen=True)
class Plan:
    """Runs to train in one call.

    Args:
        jobs: configurations and folders. In a stack ``seed``, optimiser, learning rate and its schedule may differ, and
            the options of the objective that are real numbers.
        stacked: train all jobs at once, as one :class:`engine.stack.Stack`, rather than one after the other.
        resume: go on with the unfinished runs in the folders, from the beginning where there is no checkpoint yet.
        overwrite: replace what runs have left in the folders, and remove the other runs of a set that is replaced.
        device: see :func:`engine.device.choose_device`. It is no setting of a run, which can go on elsewhere, but not
            bit for bit; env.json records it.
        tensorboard: write the lines of metrics.jsonl as scalars for TensorBoard, too.
        several: the folder around those of several runs.

    Raises:
        MistakeError: without a job, for jobs that share a folder, and for settings that must be the same in a stack.
    """

    jobs: tuple[Job, ...]
    stacked: bool = False
    resume: bool = False
    overwrite: bool = False
    device: str = AUTO
    tensorboard: bool = False
    several: Several | None = None

    def __post_init__(self) -> None:
        folders = [job.folder.path for job in self.jobs]
        if not folders or len(set(folders)) < len(folders):
            given = ", ".join(map(str, folders)) or "none"
            raise MistakeError(f"train: runs must have different folders, and be at least one, got {given}")
        if self.stacked:
            check_alike([job.config for job in self.jobs])

    @property
    def folder(self) -> Path:
        """What --output-dir names: the run folder, or the folder around several."""
        return self.several.folder if self.several else self.jobs[0].folder.path

    @property
    def gives_up(self) -> bool:
        """Whether a run whose loss is not finite is given up, so that the others go on."""
        return self.several is not None or len(self.jobs) > 1

    @property
    def groups(self) -> list[tuple[Job, ...]]:
        """Jobs that take their steps at once, in the order in which they are trained."""
        return [self.jobs] if self.stacked else [(job,) for job in self.jobs]


def check_alike(configs: Sequence[TrainConfig]) -> None:
    """Refuse settings that must be the same in the runs of a stack.

    Raises:
        MistakeError: "train: stack: latent_dim must be the same in every run, got 6, 10".
    """
    free = {*_FREE, *(real_options(OBJECTIVES[configs[0].model]) & configs[0].objective_options.keys())}
    for name in {name: None for config in configs for name in config.flat()}:
        values = [config.flat().get(name) for config in configs]
        is_mapped = name in free and (name in _FREE or all(map(is_number, values)))
        if any(value != values[0] for value in values) and not is_mapped:
            got = ", ".join(dict.fromkeys(map(str, values)))
            raise MistakeError(f"train: stack: {name} must be the same in every run, got {got}")
    for name, known in _STACKABLE.items():
        value = getattr(configs[0], name)
        if value not in known:
            raise MistakeError(f"train: stack: {name} must be {' or '.join(map(repr, known))}, got {value!r}")


def variants(
    seed: int, stack: int | None, vary: Sequence[str], configure: Callable[[Mapping[str, Any]], TrainConfig]
) -> dict[str, TrainConfig]:
    """Configure every combination of what varies, by the name of its folder; none if nothing does.

    Args:
        seed: the first seed of ``stack``.
        stack: number of seeds; None: one.
        vary: each "option=value,value,..".
        configure: makes a configuration from the options that vary.

    Raises:
        MistakeError: for an option or a value that does not exist, and for flags that mean nothing.
    """
    if stack is None and not vary:
        return {}
    if stack is not None and stack < 1:
        raise MistakeError(f"train: --stack must be at least 1, got {stack}")
    axes = dict(map(_axis, vary))
    if len(axes) < len(vary):
        raise MistakeError(f"train: --vary must name each option once, got {' '.join(vary)}")
    if stack is not None and (stack > 1 or not vary):
        if "seed" in axes:
            raise MistakeError(f"train: --stack {stack} and --vary seed both choose the seeds: give one of them")
        axes["seed"] = [str(seed + k) for k in range(stack)]
    runs = {}
    for values in itertools.product(*axes.values()):
        chosen = dict(zip(axes, values))
        name = "-".join(f"{option.replace('_', '-')}-{value}" for option, value in chosen.items())
        runs[name] = configure({option: _value(option, value) for option, value in chosen.items()})
    return runs


def _axis(text: str) -> tuple[str, list[str]]:
    """Read an option and its values from "option=value,value"."""
    name, _, values = text.partition("=")
    option, each = name.replace("-", "_"), values.split(",")
    if not all(value.strip(". ") and "/" not in value for value in each) or len(set(each)) < len(each):
        raise MistakeError(f"train: --vary must be OPTION=VALUE,VALUE,.. with different values, got {text!r}")
    return option, each


def _value(option: str, text: str) -> Any:
    yaml = require("yaml", extra="train", what="--vary")
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        raise MistakeError(f"train: --vary: {option} must be values between commas, got {text!r}") from None
