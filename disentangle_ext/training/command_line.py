"""The command line of training: flags, configuration file and presets become one request."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from disentangle_ext._extras import require
from disentangle_ext._names import choose
from disentangle_ext.data import DATASETS
from disentangle_ext.models import NETWORKS
from disentangle_ext.objectives import OBJECTIVES
from disentangle_ext.presets import PRESETS, quick
from disentangle_ext.training.config import Settings, TrainConfig, part_options, read_yaml, resolve
from disentangle_ext.training.device import AUTO
from disentangle_ext.training.exit_codes import ExitCode, describe_codes
from disentangle_ext.training.fast import CHOICES
from disentangle_ext.training.options import Option, coerce, options_of
from disentangle_ext.training.run_folder import CONFIG
from disentangle_ext.training.variants import STACK, Count, Variants, variants

PROGRAM = "python -m disentangle_ext.train"

_SWITCHES = ("quick", "fast", "tensorboard")

# What --help describes when nothing is chosen.
_SHOWN = {"model": "beta_tcvae", "data": "dsprites_like"}


@dataclass(frozen=True)
class Flags:
    """What is asked of this one call, and not a setting of the run."""

    output_dir: Path | None = None
    """run folder to write; required"""
    config: Path | None = None
    """YAML file of settings, named as the flags; flags override it"""
    preset: str | None = None
    """a published recipe, model included: paper/MODEL, or locatello/MODEL for the study's; other flags override it"""
    quick: bool = False
    """a recipe for a demonstration in about a minute; other flags override it"""
    fast: bool = False
    """measure a few steps, take the fastest of precision, memory_format and compilation, and record it in config.yaml.
    It may take bf16; what you state of the three stays: --fast --precision fp32. --resume keeps what was recorded"""
    resume: bool = False
    """go on with the run in --output-dir from its last checkpoint"""
    overwrite: bool = False
    """replace the run that --output-dir holds"""
    device: str = AUTO
    """cpu, cuda, cuda:N, or auto: cuda where there is one. --resume may name another, but then is not exact"""
    tensorboard: bool = False
    """write every line of metrics.jsonl to RUN/tensorboard, too; TensorBoard puts the host's name into file names"""
    stack: Count | None = None
    """train this many runs that differ in their seed, from --seed on, as one stack, each in a run folder of its own in
    --output-dir; auto, with --vary: measure a few steps and train as a stack or one after the other, whatever is faster
    """
    vary: tuple[str, ...] = ()
    """OPTION=VALUE,VALUE,.. of runs that differ in this option; several: every combination; with --stack K: each with K
    seeds. As one stack, which can vary seed, optimizer, lr, its schedule, and what of the model is a real number"""


@dataclass(frozen=True)
class Request:
    """A run to start or to go on with."""

    config: TrainConfig
    output_dir: Path
    resume: bool
    overwrite: bool
    fast: tuple[str, ...] = ()
    """Settings to choose by measuring."""
    device: str = AUTO
    tensorboard: bool = False
    variants: Variants | None = None
    """Several runs instead of one."""


def parse(argv: Sequence[str]) -> Request:
    """Read the command line.

    Later wins: defaults, --quick or --preset, --config, flags. With --resume the run's own config.yaml stands below
    all of them, and what differs from it is an error, because a run that changes on the way cannot be repeated.

    Raises:
        ValueError: for settings that are unknown, missing, out of range or in conflict.
        SystemExit: after --help, and for flags that do not parse.
    """
    early = _peek(argv)
    file = read_yaml(early.config) if early.config else {}
    switches = {name: coerce(file.pop(name, False), bool, f"train: {name}") for name in _SWITCHES}
    named = coerce(file.pop("preset", None), str | None, "train: preset")
    device = coerce(file.pop("device", AUTO), str, "train: device")
    defaults = Flags(output_dir=_path(file.pop("output_dir", None)), preset=named, device=device, **switches)
    stored = {} if early.help or not early.resume else _stored(early.output_dir or defaults.output_dir)
    stacked = stored.pop("stacked", None)
    defaults = dataclasses.replace(defaults, stack=stored.pop("stack", None), vary=tuple(stored.pop("vary", ())))
    chosen = {name: value for name in ("model", "data", "network") if (value := getattr(early, name))}
    below = {**(_SHOWN if early.help else {}), **stored}
    above = {**file, **chosen}
    preset = _recipe(early.quick or defaults.quick, early.preset or named, below, above)
    stated = {**below, **preset, **above}
    base = resolve(stated, source=f"train: {early.config}" if early.config else "train")
    if sum(each.partition("=")[0] == "--vary" for each in argv) > 1:
        raise ValueError("train: --vary must be given once, with all options after it: --vary beta=1,4 lr=1e-4,1e-3")
    flags, values = _parse_flags(argv, defaults, base)
    if flags.resume and flags.overwrite:
        raise ValueError("train: --resume goes on with a run and --overwrite replaces it: give one of them")
    if flags.output_dir is None:
        raise ValueError("train: --output-dir is not given: the folder that the run is written to")
    config = resolve(values)
    if flags.resume:
        _compare(config, resolve(stored, source=f"train: {_settings(flags.output_dir)}"), flags.output_dir)
        if (flags.stack, flags.vary) != (defaults.stack, defaults.vary):
            raise ValueError("train: --resume: the runs are those that were begun: leave --stack and --vary out")
    several = variants(config, flags.stack, flags.vary, stacked)
    if several and flags.fast:
        raise ValueError("train: --fast chooses for a single run: leave it out with --stack and --vary")
    fast = _free(early, file) if flags.fast else ()
    return Request(
        config, flags.output_dir, flags.resume, flags.overwrite, fast, flags.device, flags.tensorboard, several
    )


def _peek(argv: Sequence[str]) -> argparse.Namespace:
    """The flags that decide which other flags there are."""
    parser = argparse.ArgumentParser(prog=PROGRAM, add_help=False, allow_abbrev=False)
    for name in ("model", "data", "network"):
        parser.add_argument(f"--{name}")
    parser.add_argument("--config", type=Path)
    parser.add_argument("--preset")
    parser.add_argument("--output-dir", "--output_dir", type=Path)
    for name in CHOICES:
        parser.add_argument(f"--{name.replace('_', '-')}", *([f"--{name}"] if "_" in name else []))
    for name in ("quick", "fast", "resume"):
        parser.add_argument(f"--{name}", action="store_true")
    parser.add_argument("--help", "-h", action="store_true")
    return parser.parse_known_args(argv)[0]


def _recipe(is_quick: bool, name: str | None, below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """The settings of --quick or --preset, between those of the run to go on with and those that are stated."""
    if is_quick and name is not None:
        raise ValueError("train: --quick and --preset are both recipes: give one of them")
    if is_quick:
        names = {"network": "conv", **below, **above}
        return quick(names.get("model"), names.get("data"), names["network"])
    if name is None:
        return {}
    preset = PRESETS[choose("train: preset", name, PRESETS)]
    if above.get("model", preset["model"]) != preset["model"]:
        raise ValueError(f"train: --preset {name} is for model {preset['model']}, got model {above['model']}")
    network = preset.get("network", "conv")
    another = above.get("network", network) != network
    foreign = {option.name for option in options_of(NETWORKS[network])} if another else set()
    return {key: value for key, value in preset.items() if key not in foreign}


def _free(early: argparse.Namespace, file: dict[str, Any]) -> tuple[str, ...]:
    """What --fast may choose."""
    free = tuple(name for name in CHOICES if name not in file and getattr(early, name) is None)
    if not free:
        raise ValueError(f"train: --fast has nothing to choose: {', '.join(CHOICES)} are all given")
    return free


def _path(value: Any) -> Path | None:
    return None if value is None else Path(str(value))


def _stored(folder: Path | None) -> dict[str, Any]:
    """The settings of the run to go on with."""
    if folder is None:
        raise ValueError("train: --resume needs --output-dir: the folder of the run to go on with")
    if not _settings(folder).is_file():
        raise ValueError(f"train: --resume: {folder} is no run folder: it has no {CONFIG}")
    return read_yaml(_settings(folder))


def _settings(folder: Path) -> Path:
    """The file that states them, for a run or for several."""
    return folder / (STACK if (folder / STACK).is_file() else CONFIG)


def _parse_flags(argv: Sequence[str], defaults: Flags, base: TrainConfig) -> tuple[Flags, dict[str, Any]]:
    """The whole command line, with ``base`` as the defaults: flags of the call, and settings as one mapping."""
    tyro = require("tyro", extra="train", what="disentangle_ext.train")
    settings = Settings(**{each.name: getattr(base, each.name) for each in dataclasses.fields(Settings)})
    parts = zip(("objective", "network", "data"), part_options(base.model, base.network, base.data))
    flat = base.flat()
    options = [_group(name, each, flat) for name, each in parts if each]
    groups: list[tuple[str, type, Any]] = [("flags", Flags, defaults), ("settings", Settings, settings), *options]
    everything: type[Any] = dataclasses.make_dataclass(
        "Everything", [(name, Annotated[kind, tyro.conf.arg(name="")], value) for name, kind, value in groups]
    )
    # tyro has no flag that leaves a switch as it is, and a job that is queued again repeats its flags.
    switches = {name: True for name in _SWITCHES if getattr(defaults, name)}
    switches.update({name: value for name, value in flat.items() if isinstance(value, bool)})
    asked = [f"--{'' if value else 'no-'}{name}".replace("_", "-") for name, value in switches.items()]
    parsed = tyro.cli(
        everything,
        args=[each for each in argv if each.replace("_", "-") not in asked],
        prog=PROGRAM,
        description=_description(base),
        config=(tyro.conf.FlagCreatePairsOff,),
    )
    values = dataclasses.asdict(parsed.settings)
    for name, _, _ in options:
        values.update(dataclasses.asdict(getattr(parsed, name)))
    return parsed.flags, values


def _group(name: str, options: list[Option], values: dict[str, Any]) -> tuple[str, type, Any]:
    """A dataclass of options, and its instance with the values they have so far."""
    tyro = require("tyro", extra="train", what="disentangle_ext.train")
    fields = [(each.name, Annotated[each.type, tyro.conf.arg(help=each.help)]) for each in options]
    kind: type[Any] = dataclasses.make_dataclass(name.capitalize(), fields, frozen=True)
    return name, kind, kind(**{each.name: values[each.name] for each in options})


def _description(base: TrainConfig) -> str:
    return "\n\n".join(
        [
            "Train a model, picture it and score it.",
            f"models: {', '.join(sorted(OBJECTIVES))}",
            f"data sets: {', '.join(sorted(DATASETS))}",
            f"presets: {', '.join(sorted(PRESETS))}",
            f"networks: {', '.join(sorted(NETWORKS))}",
            f"The options below are those of --model {base.model} --data {base.data} --network {base.network}; "
            "another choice may have others.",
            describe_codes(*(code for code in ExitCode if code is not ExitCode.INCOMPLETE)),
        ]
    )


def _compare(config: TrainConfig, stored: TrainConfig, folder: Path) -> None:
    new, old = config.flat(), stored.flat()
    for key in {**old, **new}:
        if new.get(key) != old.get(key):
            flag = "--" + key.replace("_", "-")
            raise ValueError(
                f"train: --resume: {flag} is {old.get(key, 'absent')} in {_settings(folder)}, and now "
                f"{new.get(key, 'absent')}: leave it as it was, or start another run with another --output-dir"
            )
