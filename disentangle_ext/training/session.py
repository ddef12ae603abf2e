"""One run from a configuration to a finished folder."""

from __future__ import annotations

import dataclasses
import signal
import sys
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.distributed import ProcessGroup

from disentangle_ext._extras import require
from disentangle_ext._names import choose
from disentangle_ext.data import GroundTruthData, load_data
from disentangle_ext.models import build_vae
from disentangle_ext.objectives import OBJECTIVES, AdversarialObjective, Objective
from disentangle_ext.training.checkpoint import Checkpoint, last_checkpoint, save_checkpoint, save_tensors
from disentangle_ext.training.config import TrainConfig, read_yaml, to_yaml
from disentangle_ext.training.device import AUTO, choose_device, deterministic
from disentangle_ext.training.fast import CHOICES, choose_fastest, missing_compiler
from disentangle_ext.training.finish import Scores, finish
from disentangle_ext.training.interrupt import Interrupt, Phase
from disentangle_ext.training.loop import Descent, Trainer
from disentangle_ext.training.options import options_of
from disentangle_ext.training.progress import Progress, show_progress
from disentangle_ext.training.randomness import seeded_initialisation
from disentangle_ext.training.ranks import Ranks
from disentangle_ext.training.run_folder import CONFIG, MODEL, TENSORBOARD, RunFolder
from disentangle_ext.training.schedule import Schedule
from disentangle_ext.training.tensorboard import Scalars, require_tensorboard, scalars


class Outcome(NamedTuple):
    """How a call of :func:`train` ended."""

    folder: RunFolder
    step: int
    """Updates done."""
    scores: Scores | None
    """None if the run was interrupted, or was finished before the call."""
    stopped_by: signal.Signals | None = None
    """What the run was interrupted by."""


_AUTOCAST = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
_MEMORY_FORMATS = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}


def train(
    config: TrainConfig,
    output_dir: Path | str,
    *,
    resume: bool = False,
    overwrite: bool = False,
    fast: Collection[str] = (),
    device: str = AUTO,
    tensorboard: bool = False,
    on_phase: Callable[[Phase], object] = lambda phase: None,
    process_group: ProcessGroup | None = None,
) -> Outcome:
    """Train, picture and score a model.

    Ctrl-C, SIGTERM and SIGUSR1 save a checkpoint after the step at hand, and this returns; ``resume=True`` goes on from
    it. Before the first step and after the last they raise at once. A second signal acts as it would have without us.

    Args:
        config: see :func:`training.config.resolve`.
        output_dir: the run folder.
        resume: go on with the unfinished run in it, from the beginning if it has no checkpoint yet.
        overwrite: replace what a run has left in it.
        fast: settings to choose by measuring, of those in :data:`training.fast.CHOICES`; the choice is in the folder's
            config.yaml, and ``resume`` takes it from there.
        device: see :func:`training.device.choose_device`. No setting of the run, which can go on elsewhere, but not bit
            for bit; env.json records it.
        tensorboard: write the lines of metrics.jsonl as scalars for TensorBoard, too.
        on_phase: told what the run does from now on.
        process_group: of the processes that train the model together, see :class:`Trainer`; all of them call this. The
            first writes the folder, scores and pictures alone, while the others return.

    Raises:
        FileExistsError: if the folder holds a run and neither ``resume`` nor ``overwrite`` is given, or other files.
        ValueError: for options that the data set, the network or the objective refuses, a device that there is not, or
            a name in ``fast`` that cannot be chosen; nothing is written then.
        ImportError: without an extra that is needed.
        NonFiniteLossError: if the loss is infinite or NaN; the checkpoints before it stay.
        WriteError: if the disk is full, and so on; the checkpoints stay.
        Interrupted: for a signal while no step is at hand.
        ElsewhereError: if another process raises one of these.
    """
    folder, ranks = RunFolder(output_dir), Ranks(process_group)
    call = _Call(folder, resume, overwrite, fast, tensorboard, on_phase, ranks)
    where = ranks.agree(lambda: _check(call, device))
    if ranks.from_first(lambda: _is_over(call)):
        return Outcome(folder, config.max_steps, None)
    with Interrupt() as interrupt, cpu_threads(config.threads), deterministic(config.deterministic, where):
        on_phase(Phase.LOADING)
        data = ranks.agree(lambda: load_data(config.data, **config.data_options, device=where))
        return _train(config, data, call, interrupt)


class _Call(NamedTuple):
    """What is asked of one call."""

    folder: RunFolder
    resume: bool
    overwrite: bool
    fast: Collection[str]
    tensorboard: bool
    on_phase: Callable[[Phase], object]
    ranks: Ranks


def _check(call: _Call, device: str) -> torch.device:
    """Whether all is there that will be needed in a while; the device."""
    for name in call.fast:
        choose("train: setting to choose by measuring", name, CHOICES)
    if call.fast and call.ranks.group and not call.resume:
        raise ValueError(f"train: --fast measures one process, not {call.ranks.world}: state {', '.join(call.fast)}")
    require("safetensors", extra="train", what="train")
    if call.tensorboard:
        require_tensorboard()
    where = choose_device(device, call.ranks.place)
    if where.type == "cuda" and call.ranks.group:
        torch.cuda.set_device(where)
    return where


def _is_over(call: _Call) -> bool:
    """Whether there is nothing to go on with; what is left of its checkpoints is removed then."""
    if not (call.resume and call.folder.is_done):
        return False
    call.folder.finish()
    return True


def _train(config: TrainConfig, data: GroundTruthData, call: _Call, interrupt: Interrupt) -> Outcome:
    folder, ranks = call.folder, call.ranks
    config = ranks.from_first(lambda: _decide(config, data, call))
    trainer = ranks.agree(lambda: build_trainer(config, data, ranks.group))
    events = folder.path / TENSORBOARD if call.tensorboard and ranks.is_first else None
    with interrupt.deferred():
        seconds = _begin(trainer, config, call)
        call.on_phase(Phase.TRAINING)
        with show_progress(config.max_steps, trainer.step) as progress, scalars(events, trainer.step) as add:
            Run(config, trainer, folder, progress, add, seconds).until(config.max_steps, interrupt)
        stopped_by = ranks.begin_vote(lambda: interrupt.requested)()
    if stopped_by:
        return Outcome(folder, trainer.step, None, stopped_by)
    if not ranks.is_first:
        return Outcome(folder, trainer.step, None)
    call.on_phase(Phase.SCORING)
    return complete(config, trainer, data, folder, interrupt)


def complete(
    config: TrainConfig, trainer: Trainer, data: GroundTruthData, folder: RunFolder, interrupt: Interrupt
) -> Outcome:
    """Write weights, scores and pictures of a run whose last step is done."""
    interrupt.check()
    model = trainer.model.eval()
    save_tensors(folder.path / MODEL, model.state_dict(), {"vae": model.architecture})
    scores = finish(model, data, trainer.objective, folder, config)
    interrupt.check()
    folder.finish()
    return Outcome(folder, trainer.step, scores)


def _decide(config: TrainConfig, data: GroundTruthData, call: _Call) -> TrainConfig:
    """The configuration with what --fast chooses, or has chosen when the run began."""
    if not call.fast:
        return config
    if call.resume:
        recorded = read_yaml(call.folder.path / CONFIG)
        return dataclasses.replace(config, **{name: recorded[name] for name in call.fast if name in recorded})
    call.folder.check(overwrite=call.overwrite)
    call.on_phase(Phase.MEASURING)
    config, line = choose_fastest(config, call.fast, lambda way: build_trainer(way, data))
    print(line, flush=True)
    return config


def _begin(trainer: Trainer, config: TrainConfig, call: _Call) -> float:
    """Start a run folder, or go on from its last checkpoint if it has one; the seconds trained so far."""
    folder, ranks = call.folder, call.ranks

    def start() -> Checkpoint | None:
        if call.resume:
            return last_checkpoint(folder.checkpoints, warn=_warn)
        folder.start(to_yaml(config), overwrite=call.overwrite, device=trainer.device, world_size=ranks.world)
        return None

    return restore(trainer, folder, ranks.from_first(start), resumed=call.resume)


def restore(trainer: Trainer, folder: RunFolder, checkpoint: Checkpoint | None, *, resumed: bool) -> float:
    """Go on from a checkpoint, if there is one; the seconds trained so far."""
    if checkpoint is not None:
        trainer.load(checkpoint)

    def note() -> None:
        if resumed and (changed := folder.resume(trainer.step, trainer.device, trainer.ranks.world)):
            _warn(f"{', '.join(changed)}: the run goes on, but not bit for bit as it would have")
        folder.forget_metrics_after(trainer.step)

    trainer.ranks.first(note)
    return float(checkpoint.state["seconds"]) if checkpoint else 0.0


def _warn(line: str) -> None:
    print(f"train: {line}", file=sys.stderr, flush=True)


@contextmanager
def cpu_threads(count: int) -> Iterator[None]:
    """Part of the configuration, because sums in another order differ in their last bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def build_trainer(config: TrainConfig, data: GroundTruthData, process_group: ProcessGroup | None = None) -> Trainer:
    """Model, objective and optimiser before the first step, on the device of the data set.

    Raises:
        ValueError: for options that the network or the objective refuses, for compilation without a compiler, and for a
            graph of what none can hold, or a batch that the processes of the group cannot share.
    """
    if config.compilation == "inductor" and (reason := missing_compiler()):
        raise ValueError(f"train: compilation 'inductor': {reason}")
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
        autocast=_AUTOCAST[config.precision],
        memory_format=memory_format,
        compile=config.compilation == "inductor",
        graph=config.compilation == "graph",
        process_group=process_group,
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


class Run:
    """The loop with its clock: updates, lines of metrics, checkpoints."""

    def __init__(
        self,
        config: TrainConfig,
        trainer: Trainer,
        folder: RunFolder,
        progress: Progress,
        scalars: Scalars,
        seconds: float,
    ) -> None:
        self._config = config
        self._trainer = trainer
        self._folder = folder
        self._progress = progress
        self._scalars = scalars
        self._saved = trainer.step or None
        self._begun = time.monotonic() - seconds
        self._read = time.monotonic()
        self._read_step = trainer.step

    def until(self, max_steps: int, interrupt: Interrupt) -> None:
        """Update until ``max_steps`` or an interrupt, and leave a checkpoint in either case."""
        trainer, config = self._trainer, self._config
        stopped_by = trainer.ranks.begin_vote(lambda: interrupt.requested)()
        while trainer.step < max_steps and not stopped_by:
            vote = trainer.ranks.begin_vote(lambda: interrupt.requested)
            output = trainer.update()
            if trainer.step % config.log_every == 0 or trainer.step == max_steps:
                self.log(trainer.read(output))
            self._progress.advance(trainer.step)
            if trainer.step % config.checkpoint_every == 0 and trainer.step < max_steps:
                self.save()
            stopped_by = vote()
        if self._saved != trainer.step:  # a run that goes on into its scores has nothing new to save
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
        self._trainer.ranks.first(lambda: self._write(row))

    def _write(self, row: dict[str, Any]) -> None:
        self._folder.append_metrics(row)
        self._scalars(row)
        self._progress.log(row)

    def save(self) -> None:
        """A checkpoint."""
        checkpoint = self._trainer.checkpoint()
        checkpoint.state["seconds"] = time.monotonic() - self._begun
        self._trainer.ranks.first(lambda: save_checkpoint(self._folder.checkpoints, checkpoint))
        self._saved = checkpoint.step
