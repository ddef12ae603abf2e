"""The command line of training: flags, configuration file and presets become one plan."""

from __future__ import annotations

import argparse
import dataclasses
import shutil
import textwrap
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from disentangle_ext._errors import MistakeError
from disentangle_ext._exit_codes import ExitCode, describe_codes
from disentangle_ext._program import Parser
from disentangle_ext.data import DATASETS
from disentangle_ext.engine.device import AUTO
from disentangle_ext.models import NETWORKS
from disentangle_ext.objectives import OBJECTIVES
from disentangle_ext.runs.config import TrainConfig, core_fields, part_options, read_yaml, resolve
from disentangle_ext.runs.folder import CONFIG, RunFolder
from disentangle_ext.runs.options import Option, coerce, options_of, placeholder, read_text
from disentangle_ext.runs.presets import PRESETS, recipe
from disentangle_ext.training.plan import SHEET, Job, Plan, Several, variants

PROGRAM = "python -m disentangle_ext.train"

_SWITCHES = ("quick", "tensorboard")

# What --help describes when nothing is chosen.
_SHOWN = {"model": "beta_tcvae", "data": "dsprites_like"}


@dataclass(frozen=True)
class Flags:
    """What is asked of this one call, and not a setting of the run.

    Args:
        output_dir: run folder to write; required.
        config: YAML file of settings, named as the flags; flags override it.
        preset: a published recipe, model included: paper/MODEL, or locatello/MODEL for the study's; other flags
            override it.
        quick: a recipe for a demonstration in about a minute; other flags override it.
        resume: go on with the run or runs in --output-dir from their last checkpoints.
        overwrite: replace the run that --output-dir holds, or with --vary or --stack all runs of the call before, also
            those that are none of the new ones.
        device: cpu, cuda, cuda:N, or auto: cuda where there is one. --resume may name another, but then is not exact.
        tensorboard: write every line of metrics.jsonl to RUN/tensorboard, too.
        stack: train this many runs that differ in their seed, from --seed on, as one stack that takes a step at once,
            each in a run folder of its own in --output-dir.
        vary: OPTION=VALUE,VALUE,.. of runs that differ in this option, trained one after the other; several: every
            combination. With --stack K each has K seeds, and all are one stack, which can vary the optimizer, lr, its
            schedule, and what of the model is a real number.
    """

    output_dir: Path | None = None
    config: Path | None = None
    preset: str | None = None
    quick: bool = False
    resume: bool = False
    overwrite: bool = False
    device: str = AUTO
    tensorboard: bool = False
    stack: int | None = None
    vary: tuple[str, ...] = ()


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
        MistakeError: for flags and settings that are unknown, missing, out of range or in conflict.
        SystemExit: after --help.
    """
    argv = [_dashed(each) for each in argv]
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
    stated = _Stated(
        below, defaults.quick if early.quick is None else early.quick, early.preset or named, {**file, **chosen}
    )
    base = resolve(stated.settings(), source=f"train: {early.config}" if early.config else "train")
    if sum(each.partition("=")[0] == "--vary" for each in argv) > 1:
        raise MistakeError("train: --vary must be given once, with all options after it: --vary beta=1,4 lr=1e-4,1e-3")
    given = _read_flags(argv, defaults, base)
    flags = dataclasses.replace(defaults, **{name: given.pop(name) for name in [*given] if hasattr(defaults, name)})
    if flags.resume and flags.overwrite:
        raise MistakeError("train: --resume goes on with a run and --overwrite replaces it: give one of them")
    if flags.output_dir is None:
        raise MistakeError("train: --output-dir is not given: the folder that the run is written to")
    config = resolve({**base.flat(), **given})
    if stored:
        if (flags.stack, flags.vary) != (defaults.stack, defaults.vary):
            raise MistakeError("train: --resume: the runs are those that were begun: leave --stack and --vary out")
        _compare(config, stored, flags.output_dir)
        return dataclasses.replace(stored, device=flags.device, tensorboard=flags.tensorboard)
    return _plan(flags, flags.output_dir, config, given, stated)


def _plan(flags: Flags, folder: Path, config: TrainConfig, given: dict[str, Any], stated: _Stated) -> Plan:
    """The runs that are asked for; ``given`` are the settings that flags state."""

    def configure(chosen: Mapping[str, Any]) -> TrainConfig:
        names = {name: str(chosen[name]) for name in ("model", "data", "network") if name in chosen}
        if not names:
            return resolve({**config.flat(), **chosen})
        source = f"train: --vary {' '.join(f'{name}={value}' for name, value in names.items())}"
        return resolve({**stated.settings(names), **given, **chosen}, source=source)

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
    parser = Parser(prog=PROGRAM, add_help=False)
    for name in ("model", "data", "network"):
        parser.add_argument(f"--{name}")
    parser.add_argument("--config", type=Path)
    parser.add_argument("--preset")
    parser.add_argument("--output-dir", type=Path)
    for name in ("quick", "resume"):
        parser.add_argument(f"--{name}", action=argparse.BooleanOptionalAction)
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


def _read_flags(argv: Sequence[str], defaults: Flags, base: TrainConfig) -> dict[str, Any]:
    """Read the whole command line: the flags that it states, whether they are of the call or settings, by name."""
    names = (f"--model {base.model}", f"--network {base.network}", f"--data {base.data}")
    parts = dict(zip(names, part_options(base.model, base.network, base.data)))
    groups = {"this call": options_of(Flags), "every run": [*core_fields().values()], **parts}
    shown = {**dataclasses.asdict(defaults), **base.flat()}
    parser = Parser(
        prog=PROGRAM,
        usage="%(prog)s --model MODEL --data SET --output-dir FOLDER [OPTION ..]",
        description=_description(base),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
    )
    for title, options in groups.items():
        group = parser.add_argument_group(f"options of {title}")
        for each in options:
            group.add_argument(_flag(each.name), help=_help(each, shown[each.name]), **_shape(each.type))
    kinds = {each.name: each.type for options in groups.values() for each in options}
    stated = vars(parser.read(argv))
    return {name: read_text(value, kinds[name], f"train: {_flag(name)}") for name, value in stated.items()}


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _dashed(argument: str) -> str:
    """Write a flag with dashes, where it is one with underscores."""
    name, equals, value = argument.partition("=")
    return _flag(name[2:]) + equals + value if name.startswith("--") else argument


def _help(option: Option, default: Any) -> str:
    text = " ".join(map(str, default)) if isinstance(default, tuple) else str(default)
    is_none = default is None or default is False or default == ()
    return option.help.replace("%", "%%") + ("" if is_none else f" (default: {text})")


def _shape(kind: Any) -> dict[str, Any]:
    """How an argument of this type looks, for ``add_argument``."""
    if kind is bool:
        return {"action": argparse.BooleanOptionalAction}
    if typing.get_origin(kind) is not tuple:
        return {"metavar": placeholder(kind)}
    first, *others = typing.get_args(kind)
    return {"metavar": placeholder(first), "nargs": "*" if Ellipsis in others else 1 + len(others)}


def _description(base: TrainConfig) -> str:
    width = shutil.get_terminal_size().columns - 2
    return "\n\n".join(
        textwrap.fill(paragraph, width, break_on_hyphens=False, break_long_words=False)
        for paragraph in (
            "Train a model, picture it and score it.",
            f"models: {', '.join(sorted(OBJECTIVES))}",
            f"data sets: {', '.join(sorted(DATASETS))}",
            f"presets: {', '.join(sorted(PRESETS))}",
            f"networks: {', '.join(sorted(NETWORKS))}",
            f"The options below are those of --model {base.model} --data {base.data} --network {base.network}; "
            "another choice may have others.",
            describe_codes(*(code for code in ExitCode if code is not ExitCode.INCOMPLETE)),
        )
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
