"""The settings of a run, as one flat mapping in files and one dataclass in code."""

from __future__ import annotations

import dataclasses
import functools
import math
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from disentangle_ext._errors import MistakeError
from disentangle_ext._extras import require
from disentangle_ext._names import choose
from disentangle_ext.data import DATASETS
from disentangle_ext.models import NETWORKS
from disentangle_ext.models.vae import LIKELIHOODS
from disentangle_ext.objectives import OBJECTIVES
from disentangle_ext.runs.options import REQUIRED, Option, coerce, options_of

Precision = Literal["fp32", "bf16", "fp16"]
MemoryFormat = Literal["channels_last", "contiguous"]
Compilation = Literal["eager", "inductor", "graph"]
LRSchedule = Literal["constant", "cosine"]
Optimizer = Literal["adam", "adagrad", "rmsprop"]

DATA_PREFIX = "data_"
"""Begins the options of a data set in files and, as --data-, on the command line."""

_MOST_THREADS = 1024
"""More than any machine has cores. OpenMP ends the process where it cannot start as many as it is asked for."""

# What a run supplies itself, or what is a setting of the whole run and so not of one part.
_OF_THE_RUN = ("image_shape", "latent_dim", "dataset_size", "factor_names", "likelihood", "device")


@dataclass(frozen=True)
class Settings:
    """What every run has, whatever its objective, network and data set.

    Args:
        model: objective to minimise; the list is above.
        data: data set; the list is above.
        seed: decides initial weights, data order and noise.
        network: encoder and decoder: conv (the study's), burgess (Burgess's) or mlp (Chen's).
        latent_dim: number of latents.
        likelihood: p(x|z): bernoulli, gaussian or laplace.
        batch_size: images in a batch.
        max_steps: number of updates.
        optimizer: adam, adagrad (Higgins et al. 2017) or rmsprop; a discriminator has Adam in any case.
        betas: Adam's beta1 and beta2; other optimizers ignore them.
        lr: learning rate.
        lr_schedule: constant, or half a cosine down to 5 %.
        lr_warmup: steps over which the learning rate first rises from zero.
        precision: bf16, fp16: networks in bfloat16 or float16 by autocast; weights, losses and ops stay in float32.
            With fp16 the loss is scaled, and a step whose gradients overflow is left out.
        memory_format: order of images and feature maps in memory.
        compilation: inductor: networks and loss by torch.compile, which needs a C++ compiler; graph: the step as one
            CUDA graph, which needs a CUDA device and optimizer adam.
        threads: CPU threads, 0: as many as torch chooses; networks as small as those of --quick are fastest with 1.
        deterministic: only operations that torch knows to be deterministic, an error where there is none; costs some
            speed on a GPU.
        log_every: steps between two lines of metrics.jsonl.
        checkpoint_every: steps between two checkpoints.
    """

    model: str
    data: str
    seed: int = 0
    network: str = "conv"
    latent_dim: int = 10
    likelihood: str = "bernoulli"
    batch_size: int = 64
    max_steps: int = 300_000
    optimizer: Optimizer = "adam"
    betas: tuple[float, float] = (0.9, 0.999)
    lr: float = 1e-4
    lr_schedule: LRSchedule = "constant"
    lr_warmup: int = 0
    precision: Precision = "fp32"
    memory_format: MemoryFormat = "channels_last"
    compilation: Compilation = "eager"
    threads: int = 0
    deterministic: bool = False
    log_every: int = 100
    checkpoint_every: int = 1000


@dataclass(frozen=True)
class TrainConfig(Settings):
    """Everything that decides what a run computes."""

    objective_options: dict[str, Any] = field(default_factory=dict)
    network_options: dict[str, Any] = field(default_factory=dict)
    data_options: dict[str, Any] = field(default_factory=dict)

    def flat(self) -> dict[str, Any]:
        """The one mapping that config.yaml holds."""
        values = {name: getattr(self, name) for name in core_fields()}
        data = {DATA_PREFIX + name: value for name, value in self.data_options.items()}
        return {**values, **self.objective_options, **self.network_options, **data}

    def plain(self) -> dict[str, Any]:
        """The flat mapping in terms that YAML and JSON know: paths as strings, tuples as lists."""
        return {
            key: str(value) if isinstance(value, Path) else list(value) if isinstance(value, tuple) else value
            for key, value in self.flat().items()
        }


@functools.cache
def core_fields() -> Mapping[str, Option]:
    """The settings that every run has."""
    return {each.name: each for each in options_of(Settings)}


def part_options(model: str, network: str, data: str) -> tuple[list[Option], list[Option], list[Option]]:
    """The options of an objective, a network and a data set, the last with their prefix.

    Raises:
        MistakeError: for an unknown name; the nearest known one is suggested.
    """
    objective = options_of(OBJECTIVES[choose("train: model", model, OBJECTIVES)], without=_OF_THE_RUN)
    net = options_of(NETWORKS[choose("train: network", network, NETWORKS)], without=_OF_THE_RUN)
    images = options_of(DATASETS[choose("train: data set", data, DATASETS)], without=_OF_THE_RUN)
    return objective, net, [dataclasses.replace(each, name=DATA_PREFIX + each.name) for each in images]


def resolve(values: Mapping[str, Any], *, source: str = "train") -> TrainConfig:
    """The configuration that a flat mapping states; what it leaves out keeps its default.

    Args:
        values: settings by name, for example of a configuration file.
        source: who states them; begins an error.

    Raises:
        MistakeError: for a key that does not exist for this model, network and data set (the nearest is suggested), a
            value of the wrong type or out of range, or a setting that is missing.
    """
    core = core_fields()
    for name in ("model", "data"):
        if name not in values:
            known = OBJECTIVES if name == "model" else DATASETS
            raise MistakeError(f"{source}: {name} is not given; there are: {', '.join(sorted(known))}")
    network = values.get("network", core["network"].default)
    parts = part_options(str(values["model"]), str(network), str(values["data"]))
    known_options = {**core, **{option.name: option for part in parts for option in part}}
    for key in values:
        choose(f"{source}: option", key, known_options)
    given = {key: coerce(value, known_options[key].type, f"{source}: {key}") for key, value in values.items()}

    def fill(options: typing.Iterable[Option]) -> dict[str, Any]:
        filled = {option.name: given.get(option.name, option.default) for option in options}
        missing = [name for name, value in filled.items() if value is REQUIRED]
        if missing:
            raise MistakeError(f"{source}: {missing[0]} is not given, and has no default")
        return filled

    config = TrainConfig(
        **fill(core.values()),
        objective_options=fill(parts[0]),
        network_options=fill(parts[1]),
        data_options={name.removeprefix(DATA_PREFIX): value for name, value in fill(parts[2]).items()},
    )
    validate(config, source)
    return config


def validate(config: TrainConfig, source: str = "train") -> None:
    """Check the ranges of what this module knows; networks, objectives and data sets check their own options.

    Raises:
        MistakeError: "train: lr must be greater than 0, got -1.0".
    """
    choose(f"{source}: likelihood", config.likelihood, LIKELIHOODS)
    for name in ("latent_dim", "batch_size", "max_steps", "log_every", "checkpoint_every"):
        if getattr(config, name) < 1:
            raise MistakeError(f"{source}: {name} must be at least 1, got {getattr(config, name)}")
    for name in ("seed", "lr_warmup", "threads"):
        if getattr(config, name) < 0:
            raise MistakeError(f"{source}: {name} must be at least 0, got {getattr(config, name)}")
    if config.threads > _MOST_THREADS:
        raise MistakeError(f"{source}: threads must be at most {_MOST_THREADS}, got {config.threads}")
    if config.seed >= 1 << 63:
        raise MistakeError(f"{source}: seed must be below 2^63, got {config.seed}")
    if not 0 < config.lr < math.inf:
        raise MistakeError(f"{source}: lr must be greater than 0 and finite, got {config.lr}")
    if not all(0 <= beta < 1 for beta in config.betas):
        raise MistakeError(f"{source}: betas must be in [0, 1), got {config.betas}")
    if config.optimizer != "adam" and config.betas != Settings.betas:
        raise MistakeError(
            f"{source}: betas are those of optimizer 'adam': leave them at {Settings.betas} with {config.optimizer!r}, "
            f"got {config.betas}"
        )
    for name, value in config.flat().items():
        if isinstance(value, float) and not math.isfinite(value):
            raise MistakeError(f"{source}: {name} must be finite, got {value}")


def read_yaml(path: Path, *, source: str = "train") -> dict[str, Any]:
    """The mapping in a configuration file, with - and _ alike in its keys.

    Args:
        path: the file.
        source: who reads it; begins an error.

    Raises:
        MistakeError: if there is no such file, or it is no YAML mapping.
    """
    yaml = require("yaml", extra="train", what="read_yaml")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # eight times as fast, where PyYAML was built with libyaml
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=loader)
    except OSError as error:
        raise MistakeError(f"{source}: cannot read configuration file {path}: {error.strerror}") from None
    except RecursionError:
        raise MistakeError(f"{source}: configuration file {path} is no YAML: it is nested too deeply") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise MistakeError(f"{source}: configuration file {path} is no YAML: {' '.join(str(error).split())}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise MistakeError(f"{source}: configuration file {path} must hold a mapping, got a {type(content).__name__}")
    return {str(key).replace("-", "_"): value for key, value in content.items()}


def to_yaml(config: TrainConfig) -> str:
    """The text of a configuration file that states every setting."""
    yaml = require("yaml", extra="train", what="to_yaml")
    return str(yaml.safe_dump(config.plain(), sort_keys=False, allow_unicode=True))
