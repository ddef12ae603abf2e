"""The command line of training: flags, configuration file and presets become one plan."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, NamedTuple

from disentangle_ext._errors import MistakeError
from disentangle_ext._exit_codes import ExitCode, describe_codes
from disentangle_ext._extras import require
from disentangle_ext.data import DATASETS
from disentangle_ext.engine.device import AUTO
from disentangle_ext.models import NETWORKS
from disentangle_ext.objectives import OBJECTIVES
from disentangle_ext.runs.config import Settings, TrainConfig, part_options, read_yaml, resolve
from disentangle_ext.runs.folder import CONFIG, RunFolder
from disentangle_ext.runs.options import REQUIRED, Option, coerce
from disentangle_ext.runs.presets import PRESETS, recipe
from disentangle_ext.training.plan import SHEET, Job, Plan, Several, variants

PROGRAM = "python -m disentangle_ext.train"

_SWITCHES = ("quick", "tensorboard")

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
    resume: bool = False
    """go on with the run or runs in --output-dir from their last checkpoints"""
    overwrite: bool = False
    """replace the run that --output-dir holds, or with --vary or --stack all runs of the call before, also those that
    are none of the new ones"""
    device: str = AUTO
    """cpu, cuda, cuda:N, or auto: cuda where there is one. --resume may name another, but then is not exact"""
    tensorboard: bool = False
    """write every line of metrics.jsonl to RUN/tensorboard, too"""
    stack: int | None = None
    """train this many runs that differ in their seed, from --seed on, as one stack that takes a step at once, each in a
    run folder of its own in --output-dir"""
    vary: tuple[str, ...] = ()
    """OPTION=VALUE,VALUE,.. of runs that differ in this option, trained one after the other; several: every
    combination. With --stack K each has K seeds, and all are one stack, which can vary the optimizer, lr, its schedule,
    and what of the model is a real number"""


class _Stated(NamedTuple):
    """The settings that a call states beside its flags, from the weakest to the strongest."""

    below: dict[str, Any]
    is_quick: bool
    preset: str | None
    above: dict[str, Any]

    def settings(self, names: Mapping[str, Any] = MappingProxyType({})) -> dict[str, Any]:
        """All settings, for another model, data set or network if ``names`` has one."""
        above = {**self.above, **names}
        return {**self.below, **recipe(self.is_quick, self.preset, above, self.below), **above}


def parse(argv: Sequence[str]) -> Plan:
    """Read the command line.

    Later wins: defaults, --quick or --preset, --config, flags. With --resume the settings of the runs stand below all
    of them, and what differs from them is an error, because a run that changes on the way cannot be repeated.

    Raises:
        MistakeError: for settings that are unknown, missing, out of range or in conflict.
        SystemExit: after --help, and for flags that do not parse.
    """
    early = _peek(argv)
    file = read_yaml(early.config) if early.config else {}
    switches = {name: coerce(file.pop(name, False), bool, f"train: {name}") for name in _SWITCHES}
    named = coerce(file.pop("preset", None), str | None, "train: preset")
    device = coerce(file.pop("device", AUTO), str, "train: device")
    defaults = Flags(output_dir=_path(file.pop("output_dir", None)), preset=named, device=device, **switches)
    stored = None if early.help or not early.resume else _stored(early.output_dir or defaults.output_dir)
    if stored and stored.several:
        defaults = dataclasses.replace(defaults, stack=stored.several.stack, vary=stored.several.vary)
    below = stored.jobs[0].config.plain() if stored else _SHOWN if early.help else {}
    chosen = {name: value for name in ("model", "data", "network") if (value := getattr(early, name))}
    stated = _Stated(below, early.quick or defaults.quick, early.preset or named, {**file, **chosen})
    base = resolve(stated.settings(), source=f"train: {early.config}" if early.config else "train")
    if sum(each.partition("=")[0] == "--vary" for each in argv) > 1:
        raise MistakeError("train: --vary must be given once, with all options after it: --vary beta=1,4 lr=1e-4,1e-3")
    flags, values = _parse_flags(argv, defaults, base)
    if flags.resume and flags.overwrite:
        raise MistakeError("train: --resume goes on with a run and --overwrite replaces it: give one of them")
    if flags.output_dir is None:
        raise MistakeError("train: --output-dir is not given: the folder that the run is written to")
    config = resolve(values)
    if stored:
        if (flags.stack, flags.vary) != (defaults.stack, defaults.vary):
            raise MistakeError("train: --resume: the runs are those that were begun: leave --stack and --vary out")
        _compare(config, stored, flags.output_dir)
        return dataclasses.replace(stored, device=flags.device, tensorboard=flags.tensorboard)
    return _plan(flags, flags.output_dir, config, base, stated)


def _plan(flags: Flags, folder: Path, config: TrainConfig, base: TrainConfig, stated: _Stated) -> Plan:
    """The runs that are asked for; ``base`` is the configuration before the flags."""
    before = base.flat()
    explicit = {name: value for name, value in config.flat().items() if before.get(name, REQUIRED) != value}

    def configure(chosen: Mapping[str, Any]) -> TrainConfig:
        names = {name: str(chosen[name]) for name in ("model", "data", "network") if name in chosen}
        if not names:
            return resolve({**config.flat(), **chosen})
        source = f"train: --vary {' '.join(f'{name}={value}' for name, value in names.items())}"
        return resolve({**stated.settings(names), **explicit, **chosen}, source=source)

    runs = variants(config.seed, flags.stack, flags.vary, configure)
    jobs = tuple(Job(each, RunFolder(folder / name)) for name, each in runs.items())
    return Plan(
        jobs or (Job(config, RunFolder(folder)),),
        stacked=flags.stack is not None,
        overwrite=flags.overwrite,
        device=flags.device,
        tensorboard=flags.tensorboard,
        several=Several(folder, flags.stack, flags.vary) if jobs else None,
    )


def _peek(argv: Sequence[str]) -> argparse.Namespace:
    """The flags that decide which other flags there are."""
    parser = argparse.ArgumentParser(prog=PROGRAM, add_help=False, allow_abbrev=False)
    for name in ("model", "data", "network"):
        parser.add_argument(f"--{name}")
    parser.add_argument("--config", type=Path)
    parser.add_argument("--preset")
    parser.add_argument("--output-dir", "--output_dir", type=Path)
    for name in ("quick", "resume"):
        parser.add_argument(f"--{name}", action="store_true")
    parser.add_argument("--help", "-h", action="store_true")
    return parser.parse_known_args(argv)[0]


def _path(value: Any) -> Path | None:
    return None if value is None else Path(str(value))


def _stored(folder: Path | None) -> Plan:
    """Read the runs to go on with."""
    if folder is None:
        raise MistakeError("train: --resume needs --output-dir: the folder of the run to go on with")
    if (folder / SHEET).is_file():
        return _read_sheet(folder)
    path = folder / CONFIG
    if not path.is_file():
        raise MistakeError(f"train: --resume: {folder} is no run folder: it has no {CONFIG}")
    return Plan((Job(resolve(read_yaml(path), source=f"train: {path}"), RunFolder(folder)),), resume=True)


def _read_sheet(folder: Path) -> Plan:
    """Read what :meth:`Several.write` wrote."""
    path = folder / SHEET
    content = read_yaml(path)
    shared, runs = content.get("shared"), content.get("runs")
    if not (
        isinstance(shared, dict) and isinstance(runs, dict) and all(isinstance(own, dict) for own in runs.values())
    ):
        raise MistakeError(f"train: --resume: {path} must hold the mappings 'shared' and 'runs'")
    stack = coerce(content.get("stack"), int | None, f"train: {path}: stack")
    vary = coerce(content.get("vary", []), tuple[str, ...], f"train: {path}: vary")
    configs = {name: resolve({**shared, **own}, source=f"train: {path}: {name}") for name, own in runs.items()}
    jobs = tuple(Job(config, RunFolder(folder / name)) for name, config in configs.items())
    return Plan(jobs, stack is not None, resume=True, several=Several(folder, stack, vary))


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


def _compare(config: TrainConfig, stored: Plan, folder: Path) -> None:
    """Refuse settings that differ from those of the runs to go on with, in what all of them share."""
    new, (old, *others) = config.plain(), [job.config.plain() for job in stored.jobs]
    path = folder / (SHEET if stored.several else CONFIG)
    for key in {**old, **new}:
        is_shared = all(each.get(key) == old.get(key) for each in others)
        if is_shared and new.get(key) != old.get(key):
            flag = "--" + key.replace("_", "-")
            raise MistakeError(
                f"train: --resume: {flag} is {old.get(key, 'absent')} in {path}, and now {new.get(key, 'absent')}: "
                "leave it as it was, or start another run with another --output-dir"
            )
