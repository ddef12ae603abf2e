"""A run of a study: its configuration, and the name that follows from it."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from disentangle_ext.runs.config import DATA_PREFIX, TrainConfig
from disentangle_ext.runs.presets import SWEEPS

__all__ = ["Run", "Variation", "text", "variations"]

_DIGITS = 12
"""Hexadecimal digits of the hash in a name: two of a million different runs share them once in 500 studies, and
``plan`` would see it."""


@dataclass(frozen=True)
class Run:
    """One model to train.

    Args:
        config: everything that decides what the run computes.
    """

    config: TrainConfig

    @cached_property
    def name(self) -> str:
        """The name of the run folder: data set, objective, its hyper-parameter, seed, and a hash of all settings.

        It follows from the configuration alone, so that the same run has the same name in two studies, and a changed
        default makes another run. Of a path the last part counts alone, since files of data may move.
        """
        flat, plain = self.config.flat(), self.config.plain()
        canonical = {key: flat[key].name if isinstance(flat[key], Path) else value for key, value in plain.items()}
        digest = hashlib.sha256(json.dumps(canonical, sort_keys=True).encode()).hexdigest()[:_DIGITS]
        sweep = SWEEPS.get(self.config.model)
        strength = [f"{sweep[0]}-{plain[sweep[0]]:g}"] if sweep else []
        parts = [self.config.data, self.config.model, *strength, f"seed-{self.config.seed}", digest]
        return "-".join(part.replace("_", "-") for part in parts)


class Variation(NamedTuple):
    """How a run differs from the others of a study, beside its seed."""

    data_set: str
    """The data set, with those of its options that vary: "dsprites effect=color"."""
    objective: str
    hyperparameter: str
    """The names of the settings that vary among the runs of the objective on one data set, with commas between them."""
    value: str
    """Their values, likewise."""


def variations(settings: Sequence[Mapping[str, Any]]) -> list[Variation]:
    """Find what varies among runs.

    Args:
        settings: for each run the flat mapping of its configuration, see :meth:`TrainConfig.plain`.
    """
    of_data = _varied(settings, lambda each: each["data"], lambda key: key.startswith(DATA_PREFIX))
    data_sets = [" ".join([each["data"], *_pairs(each, of_data[each["data"]])]) for each in settings]
    places = dict(zip(map(id, settings), data_sets))
    of_place = _varied(settings, lambda each: (each["model"], places[id(each)]), lambda key: key not in _FIXED)
    of_model: dict[str, dict[str, None]] = defaultdict(dict)
    for (model, _), names in of_place.items():
        of_model[model].update(names)
    return [
        Variation(data_set, each["model"], ",".join(names), ",".join(text(each.get(name)) for name in names))
        for each, data_set, names in zip(settings, data_sets, (of_model[each["model"]] for each in settings))
    ]


_FIXED = ("model", "data", "seed")


def _varied(
    settings: Sequence[Mapping[str, Any]], group: Callable[[Mapping[str, Any]], Any], wanted: Callable[[str], bool]
) -> dict[Any, dict[str, None]]:
    """The wanted settings that take several values in each group, in their order."""
    first: dict[Any, Mapping[str, Any]] = {}
    varied: dict[Any, dict[str, None]] = defaultdict(dict)
    for each in settings:
        name = group(each)
        known = first.setdefault(name, each)
        if each is not known:
            for key in known.keys() | each.keys():
                if known.get(key) != each.get(key) and wanted(key):
                    varied[name][key] = None
    return defaultdict(dict, {name: dict.fromkeys(sorted(keys)) for name, keys in varied.items()})


def _pairs(settings: Mapping[str, Any], names: Mapping[str, None]) -> list[str]:
    return [f"{name.removeprefix(DATA_PREFIX)}={text(settings.get(name))}" for name in names]


def text(value: Any) -> str:
    """A value in words: numbers without a trailing .0."""
    if isinstance(value, float):
        short = f"{value:g}"
        return short if float(short) == value else repr(value)
    return str(value)
