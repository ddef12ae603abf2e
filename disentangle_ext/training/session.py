"""One run from a configuration to a finished folder."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from disentangle_ext._extras import require
from disentangle_ext._names import choose
from disentangle_ext.data import GroundTruthData, load_data
from disentangle_ext.models import build_vae
from disentangle_ext.objectives import OBJECTIVES, AdversarialObjective, Objective
from disentangle_ext.training.checkpoint import Checkpoint, last_checkpoint, save_checkpoint, save_tensors
from disentangle_ext.training.config import TrainConfig, read_yaml, to_yaml
from disentangle_ext.training.fast import CHOICES, choose_fastest, missing_compiler
from disentangle_ext.training.finish import Scores, finish
from disentangle_ext.training.interrupt import Interrupt
from disentangle_ext.training.loop import Descent, Trainer
from disentangle_ext.training.options import options_of
from disentangle_ext.training.progress import Progress, show_progress
from disentangle_ext.training.randomness import seeded_initialisation
from disentangle_ext.training.run_folder import CONFIG, MODEL, RunFolder
from disentangle_ext.training.schedule import Schedule


class Outcome(NamedTuple):
    """How a call of :func:`train` ended."""

    folder: RunFolder
    step: int
    """Updates done."""
    scores: Scores | None
    """None if the run was interrupted, or was finished before the call."""


_MEMORY_FORMATS = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}


def train(
    config: TrainConfig,
    output_dir: Path | str,
    *,
    resume: bool = False,
    overwrite: bool = False,
    fast: Collection[str] = (),
) -> Outcome:
    """Train, picture and score a model.

    Ctrl-C saves a checkpoint and returns; ``resume=True`` goes on from it.

    Args:
        config: see :func:`training.config.resolve`.
        output_dir: the run folder.
        resume: go on with the unfinished run in it, from the beginning if it has no checkpoint yet.
        overwrite: replace what a run has left in it.
        fast: settings to choose by measuring, of those in :data:`training.fast.CHOICES`; the choice is in the folder's
            config.yaml, and ``resume`` takes it from there.

    Raises:
        FileExistsError: if the folder holds a run and neither ``resume`` nor ``overwrite`` is given, or other files.
        ValueError: for options that the data set, the network or the objective refuses, or a name in ``fast`` that
            cannot be chosen; nothing is written then.
        NonFiniteLossError: if the loss is infinite or NaN; the checkpoints before it stay.
    """
    for name in fast:
        choose("train: setting to choose by measuring", name, CHOICES)
    folder = RunFolder(output_dir)
    if resume and folder.is_done:
        return Outcome(folder, config.max_steps, None)
    with cpu_threads(config.threads):
        return _train(config, folder, resume, overwrite, fast)


def _train(
    config: TrainConfig, folder: RunFolder, resume: bool, overwrite: bool, fast: Collection[str]
) -> Outcome:
    require("safetensors", extra="train", what="train")  # needed in a while at the latest: better to hear of it now
    data = load_data(config.data, **config.data_options)
    if resume and fast:
        recorded = read_yaml(folder.path / CONFIG)
        config = dataclasses.replace(config, **{name: recorded[name] for name in fast if name in recorded})
    elif fast:
        folder.check(overwrite=overwrite)
        config, line = choose_fastest(config, fast, lambda way: build_trainer(way, data))
        print(line, flush=True)
    trainer = build_trainer(config, data)
    if resume:
        checkpoint = last_checkpoint(folder.checkpoints)
    else:
        folder.start(to_yaml(config), overwrite=overwrite)
        checkpoint = None
    seconds = restore(trainer, folder, checkpoint)
    with Interrupt() as interrupt, show_progress(config.max_steps, trainer.step) as progress:
        Run(config, trainer, folder, progress, seconds).until(config.max_steps, interrupt)
    if interrupt.requested:
        return Outcome(folder, trainer.step, None)
    return complete(config, trainer, data, folder)


def complete(config: TrainConfig, trainer: Trainer, data: GroundTruthData, folder: RunFolder) -> Outcome:
    """Write weights, scores and pictures of a run whose last step is done."""
    model = trainer.model.eval()
    save_tensors(folder.path / MODEL, model.state_dict(), {"vae": model.architecture})
    scores = finish(model, data, trainer.objective, folder, config)
    folder.finish()
    return Outcome(folder, trainer.step, scores)


@contextmanager
def cpu_threads(count: int) -> Iterator[None]:
    """Part of the configuration, because sums in another order differ in their last bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def build_trainer(config: TrainConfig, data: GroundTruthData) -> Trainer:
    """Model, objective and optimiser before the first step.

    Raises:
        ValueError: for options that the network or the objective refuses, and for compilation without a compiler.
    """
    if config.compilation == "inductor" and (reason := missing_compiler()):
        raise ValueError(f"train: compilation 'inductor': {reason}")
    memory_format = _MEMORY_FORMATS[config.memory_format]
    with seeded_initialisation(config.seed):
        model = build_vae(
            config.network,
            data.image_shape,
            config.latent_dim,
            likelihood=config.likelihood,
            **config.network_options,
        )
        objective = build_objective(config, data)  # which may draw weights too, after those of the model
    model = model.to(memory_format=memory_format)  # type: ignore[call-overload]
    adversary = None
    if isinstance(objective, AdversarialObjective):
        optimizer = _adam(objective.adversary_parameters(), objective.lr, objective.betas)
        adversary = Descent(optimizer, _schedule(config, objective.lr))
    return Trainer(
        model,
        objective,
        data,
        optimizer=_optimizer([*model.parameters(), *objective.likelihood_parameters()], config),
        learning_rate=_schedule(config, config.lr),
        adversary=adversary,
        batch_size=config.batch_size,
        seed=config.seed,
        autocast=torch.bfloat16 if config.precision == "bf16" else None,
        memory_format=memory_format,
        compile=config.compilation == "inductor",
    )


def build_objective(config: TrainConfig, data: GroundTruthData) -> Objective:
    """The objective, given what it asks for of the run beside its own options."""
    make = OBJECTIVES[config.model]
    of_the_run: dict[str, Any] = {
        "dataset_size": len(data),
        "factor_names": data.factor_names,
        "latent_dim": config.latent_dim,
        "likelihood": config.likelihood,
    }
    wanted = {option.name for option in options_of(make)}
    return make(**{name: value for name, value in of_the_run.items() if name in wanted}, **config.objective_options)


def _optimizer(parameters: list[nn.Parameter], config: TrainConfig) -> torch.optim.Optimizer:
    if config.optimizer == "adagrad":
        return torch.optim.Adagrad(parameters, lr=config.lr)
    if config.optimizer == "rmsprop":
        return torch.optim.RMSprop(parameters, lr=config.lr)
    return _adam(parameters, config.lr, config.betas)


def _adam(parameters: list[nn.Parameter], lr: float, betas: tuple[float, float]) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=lr, betas=betas, eps=1e-8, fused=True)


def _schedule(config: TrainConfig, lr: float) -> Schedule:
    return Schedule(lr, config.lr_schedule, config.lr_warmup, config.max_steps)


def restore(trainer: Trainer, folder: RunFolder, checkpoint: Checkpoint | None) -> float:
    """Go on from a checkpoint, if there is one; the seconds trained so far."""
    if checkpoint is not None:
        trainer.load(checkpoint)
    folder.forget_metrics_after(trainer.step)
    return float(checkpoint.state["seconds"]) if checkpoint else 0.0


class Run:
    """The loop with its clock: updates, lines of metrics, checkpoints."""

    def __init__(
        self, config: TrainConfig, trainer: Trainer, folder: RunFolder, progress: Progress, seconds: float
    ) -> None:
        self._config = config
        self._trainer = trainer
        self._folder = folder
        self._progress = progress
        self._begun = time.monotonic() - seconds
        self._read = time.monotonic()
        self._read_step = trainer.step

    def until(self, max_steps: int, interrupt: Interrupt) -> None:
        """Update until ``max_steps`` or an interrupt, and leave a checkpoint in either case."""
        trainer, config = self._trainer, self._config
        while trainer.step < max_steps and not interrupt.requested:
            output = trainer.update()
            if trainer.step % config.log_every == 0 or trainer.step == max_steps:
                self.log(trainer.read(output))
            self._progress.advance(trainer.step)
            if trainer.step % config.checkpoint_every == 0 and trainer.step < max_steps:
                self.save()
        self.save()

    def log(self, terms: dict[str, float]) -> None:
        """A line of metrics."""
        now, step = time.monotonic(), self._trainer.step
        images = (step - self._read_step) * self._config.batch_size
        row = {
            "step": step,
            "seconds": round(now - self._begun, 3),
            "images_per_second": round(images / max(now - self._read, 1e-9), 1),
            "lr": self._trainer.optimizer.param_groups[0]["lr"],
            **terms,
        }
        self._read, self._read_step = now, step
        self._folder.append_metrics(row)
        self._progress.log(row)

    def save(self) -> None:
        """A checkpoint."""
        checkpoint = self._trainer.checkpoint()
        checkpoint.state["seconds"] = time.monotonic() - self._begun
        save_checkpoint(self._folder.checkpoints, checkpoint)
