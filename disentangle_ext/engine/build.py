"""A configuration becomes a trainer: model, objective and optimisers before the first step."""

from __future__ import annotations

import os
import shutil
import sys
from typing import Any

import torch
from torch.distributed import ProcessGroup

from disentangle_ext._errors import MistakeError
from disentangle_ext.data import GroundTruthData
from disentangle_ext.engine.descent import adam, descent_of
from disentangle_ext.engine.randomness import seeded_initialisation
from disentangle_ext.engine.trainer import Trainer
from disentangle_ext.models import build_vae
from disentangle_ext.objectives import OBJECTIVES, AdversarialObjective, Objective
from disentangle_ext.runs.config import TrainConfig
from disentangle_ext.runs.options import options_of

_AUTOCAST = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
_MEMORY_FORMATS = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}


def build_trainer(config: TrainConfig, data: GroundTruthData, process_group: ProcessGroup | None = None) -> Trainer:
    """Build model, objective and optimisers on the device of the data set.

    Raises:
        MistakeError: for options that the network or the objective refuses, for compilation without a compiler, for a
            graph of what none can hold, and for a batch that the processes of the group cannot share.
    """
    if config.compilation == "inductor" and (reason := missing_compiler()):
        raise MistakeError(f"train: compilation 'inductor': {reason}")
    memory_format, device = _MEMORY_FORMATS[config.memory_format], data.device
    with seeded_initialisation(config.seed):
        model = build_vae(
            config.network,
            data.image_shape,
            config.latent_dim,
            likelihood=config.likelihood,
            **config.network_options,
        )
        objective = build_objective(config, data)  # which may draw weights too, after those of the model
    model = model.to(device=device, memory_format=memory_format)  # type: ignore[call-overload]
    objective = objective.to(device)
    adversary = None
    if isinstance(objective, AdversarialObjective):
        adversary = adam(objective.adversary_parameters(), config, lr=objective.lr, betas=objective.betas)
    return Trainer(
        model,
        objective,
        data,
        descent=descent_of([*model.parameters(), *objective.likelihood_parameters()], config),
        adversary=adversary,
        batch_size=config.batch_size,
        seed=config.seed,
        autocast=_AUTOCAST[config.precision],
        memory_format=memory_format,
        compile=config.compilation == "inductor",
        graph=config.compilation == "graph",
        process_group=process_group,
    )


def build_objective(config: TrainConfig, data: GroundTruthData) -> Objective:
    """Build the objective from its own options and from what it asks for of the run."""
    make = OBJECTIVES[config.model]
    of_the_run: dict[str, Any] = {
        "dataset_size": len(data),
        "factor_names": data.factor_names,
        "latent_dim": config.latent_dim,
        "likelihood": config.likelihood,
    }
    wanted = {option.name for option in options_of(make)}
    return make(**{name: value for name, value in of_the_run.items() if name in wanted}, **config.objective_options)


def missing_compiler() -> str:
    """Say which compiler torch.compile would not find; "" where it finds one."""
    name = os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")
    return "" if shutil.which(name) else f"there is no C++ compiler {name}; the variable CXX can name another"
