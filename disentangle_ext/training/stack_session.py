"""Several runs from their configurations to finished folders: as one stack, or one after the other."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Literal, NamedTuple

from disentangle_ext._extras import require
from disentangle_ext.data import load_data
from disentangle_ext.models import VAEOutput
from disentangle_ext.objectives import OBJECTIVES
from disentangle_ext.training.checkpoint import KEPT, Checkpoint, checkpoints_by_step, read_checkpoint
from disentangle_ext.training.config import TrainConfig, to_yaml
from disentangle_ext.training.device import AUTO, choose_device, deterministic
from disentangle_ext.training.fast import MARGIN
from disentangle_ext.training.interrupt import Interrupt, Phase
from disentangle_ext.training.loop import NonFiniteLossError, Trainer
from disentangle_ext.training.progress import Progress, show_progress
from disentangle_ext.training.run_folder import TENSORBOARD, RunFolder
from disentangle_ext.training.session import Outcome, Run, build_trainer, complete, cpu_threads, restore, train
from disentangle_ext.training.stack import Stack, is_number, real_options
from disentangle_ext.training.tensorboard import Scalars, require_tensorboard, scalars

_FREE = ("seed", "optimizer", "betas", "lr", "lr_schedule", "lr_warmup", "discriminator_betas")
"""What may differ beside the real numbers of the objective: every run has its own data order, noise and optimiser."""

_STACKABLE = {"compilation": ("eager",), "precision": ("fp32", "bf16")}
"""Settings of which a stack knows only some values."""

_WARM_UP, _ROUNDS, _SECONDS = 2, 7, 10.0


class StackOutcome(NamedTuple):
    """How a call of :func:`train_stack` ended."""

    runs: list[Outcome]
    """In the order of the configurations."""
    failed: dict[Path, str]
    """The runs that were given up because a loss was not finite, and which it was."""

    @property
    def stopped_by(self) -> signal.Signals | None:
        """What the runs were interrupted by."""
        return next((run.stopped_by for run in self.runs if run.stopped_by), None)


def train_stack(
    configs: Sequence[TrainConfig],
    output_dirs: Sequence[Path | str],
    *,
    stacked: bool | Literal["auto"] = True,
    resume: bool = False,
    overwrite: bool = False,
    device: str = AUTO,
    tensorboard: bool = False,
    on_phase: Callable[[Phase], object] = lambda phase: None,
) -> StackOutcome:
    """Train several models that differ in seed and hyper-parameters; each has a run folder as :func:`train` makes it.

    Stacked, all take a step at once, see :class:`training.stack.Stack`: the same steps as alone, up to rounding. A run
    whose loss is infinite or NaN is given up, its checkpoints stay, and the others go on. A signal acts as in
    :func:`train`, and saves a checkpoint of each.

    Args:
        configs: of the runs. In a stack ``seed``, optimiser, learning rate and its schedule may differ, and the options
            of the objective that are real numbers.
        output_dirs: the run folders, one for each.
        stacked: whether they are trained as a stack, or one after the other; "auto": whatever is faster for some steps.
        resume: go on with those that are not finished, in a stack from the last step of which all have a checkpoint.
        overwrite: replace the runs in the folders.
        device: as for :func:`train`.
        tensorboard: as for :func:`train`, in each of the folders.
        on_phase: told what the runs do from now on.

    Raises:
        FileExistsError: as :func:`train`, before anything is written.
        ImportError, WriteError, Interrupted: as :func:`train`.
        ValueError: as :func:`train`; for settings that must be the same in a stack, with their values; for folders that
            are not one for each run; on ``resume``, if there is no step of which all have a checkpoint.
    """
    if not configs or len({Path(each) for each in output_dirs}) != len(configs):
        raise ValueError(
            f"train_stack: output_dirs must be {len(configs)} different folders, one for each of the configs (at least "
            f"one), got {', '.join(map(str, output_dirs)) or 'none'}"
        )
    call = _Call(resume, overwrite, device, tensorboard, on_phase)
    folders = [RunFolder(each) for each in output_dirs]
    if stacked is True:
        check_configs(configs)
    elif stacked == "auto":
        on_phase(Phase.MEASURING)
        stacked, line = choose_stacking(configs, device=device)
        print(line, flush=True)
    if not resume:
        for folder in folders:
            folder.check(overwrite=overwrite)
    for folder in folders:
        if resume and folder.is_done:
            folder.finish()  # what is left of its checkpoints, where it was ended as it removed them
    pending = [not (folder.is_done or folder.failure) if resume else True for folder in folders]
    todo = [(config, folder) for config, folder, wanted in zip(configs, folders, pending) if wanted]
    way = _train_stacked if stacked and todo else _train_in_turn
    outcomes = way(todo, call)
    runs = [outcomes.get(folder.path) or _found(config, folder) for config, folder in zip(configs, folders)]
    return StackOutcome(runs, {each.path: each.failure for each in folders if each.failure})


def _found(config: TrainConfig, folder: RunFolder) -> Outcome:
    """That of a run which this call did not train."""
    saved = max(checkpoints_by_step(folder.checkpoints), default=0)
    return Outcome(folder, config.max_steps if folder.is_done else saved, None)


def check_configs(configs: Sequence[TrainConfig]) -> None:
    """Raise for settings that must be the same in the runs of a stack.

    Raises:
        ValueError: "train: stack: latent_dim must be the same in every run, got 6, 10".
    """
    free = {*_FREE, *(real_options(OBJECTIVES[configs[0].model]) & configs[0].objective_options.keys())}
    for name in {name: None for config in configs for name in config.flat()}:
        values = [config.flat().get(name) for config in configs]
        if any(value != values[0] for value in values) and not (name in free and _mappable(name, values)):
            got = ", ".join(dict.fromkeys(map(str, values)))
            raise ValueError(f"train: stack: {name} must be the same in every run, got {got}")
    for name, known in _STACKABLE.items():
        value = getattr(configs[0], name)
        if value not in known:
            raise ValueError(f"train: stack: {name} must be {' or '.join(map(repr, known))}, got {value!r}")


def _mappable(name: str, values: Sequence[Any]) -> bool:
    return name in _FREE or all(is_number(value) for value in values)


def choose_stacking(configs: Sequence[TrainConfig], *, device: str = AUTO) -> tuple[bool, str]:
    """Whether a stack takes less time than its runs one after the other, and a line that says what was measured.

    Some steps of both are taken, in turns, with trainers that are thrown away: the runs start from the state that they
    would have started from without.
    """
    try:
        check_configs(configs)
    except ValueError as error:
        return False, f"stack: one after the other: {error}"
    first, where = configs[0], choose_device(device)
    with Interrupt() as interrupt, cpu_threads(first.threads), deterministic(first.deterministic, where):
        data = load_data(first.data, **first.data_options, device=where)
        alone, stack = build_trainer(first, data), Stack([build_trainer(each, data) for each in configs])
        ways: dict[str, Callable[[], float]] = {
            "alone": lambda: float(alone.update().kl.detach()[0]),  # read back: an accelerator is waited for
            "stacked": lambda: float(stack.update()[0].kl[0]),
        }
        taken = _seconds(ways)
        interrupt.check()
    one_by_one = len(configs) * taken["alone"]
    pays = taken["stacked"] < (1 - MARGIN) * one_by_one
    return pays, (
        f"stack: a step of {len(configs)} models takes {1e3 * taken['stacked']:.1f} ms stacked and "
        f"{1e3 * one_by_one:.1f} ms one after the other; chosen: {'stacked' if pays else 'one after the other'}"
    )


def _seconds(ways: Mapping[str, Callable[[], float]]) -> dict[str, float]:
    """Those of the fastest call of each: what else the machine does makes calls slower, never faster."""
    for call in ways.values():
        for _ in range(_WARM_UP):
            call()
    taken: dict[str, list[float]] = {name: [] for name in ways}
    end = time.perf_counter() + _SECONDS
    for count in range(_ROUNDS):
        if count >= 3 and time.perf_counter() > end:
            break
        for name, call in ways.items():
            start = time.perf_counter()
            call()
            taken[name].append(time.perf_counter() - start)
    return {name: min(times) for name, times in taken.items()}


Todo = Sequence[tuple[TrainConfig, RunFolder]]


class _Call(NamedTuple):
    """What is asked of one call."""

    resume: bool
    overwrite: bool
    device: str
    tensorboard: bool
    on_phase: Callable[[Phase], object]


def _begin(todo: Todo, call: _Call) -> list[bool]:
    """Start the folders of runs that have none yet; which were begun before."""
    begun = [call.resume and folder.is_run for _, folder in todo]
    where = choose_device(call.device)
    for (config, folder), is_begun in zip(todo, begun):
        if not is_begun:
            with deterministic(config.deterministic, where):  # env.json asks CUDA for a name, which starts it
                folder.start(to_yaml(config), overwrite=call.overwrite, device=where)
    return begun


def _train_in_turn(todo: Todo, call: _Call) -> dict[Path, Outcome]:
    options: dict[str, Any] = {"device": call.device, "tensorboard": call.tensorboard, "on_phase": call.on_phase}
    outcomes = {}
    with Interrupt():  # between the runs; each has its own
        _begin(todo, call)
        for config, folder in todo:
            print(f"{folder.path.name}:", flush=True)
            try:
                outcomes[folder.path] = train(config, folder.path, resume=True, **options)
            except NonFiniteLossError as error:
                folder.fail(str(error))
                continue
            if not folder.is_done:
                break
    return outcomes


def _train_stacked(todo: Todo, call: _Call) -> dict[Path, Outcome]:
    require("safetensors", extra="train", what="train_stack")
    if call.tensorboard:
        require_tensorboard()
    first, where = todo[0][0], choose_device(call.device)
    with Interrupt() as interrupt, cpu_threads(first.threads), deterministic(first.deterministic, where):
        call.on_phase(Phase.LOADING)
        data = load_data(first.data, **first.data_options, device=where)
        trainers = [build_trainer(config, data) for config, _ in todo]
        with interrupt.deferred():
            members = _update(todo, trainers, call, interrupt)
        outcomes = {
            folder.path: Outcome(folder, trainer.step, None, interrupt.requested)
            for (_, folder), trainer in zip(todo, trainers)
        }
        if not interrupt.requested:
            call.on_phase(Phase.SCORING)
            for each in members:
                outcomes[each.folder.path] = complete(each.config, each.trainer, data, each.folder, interrupt)
    return outcomes


def _update(todo: Todo, trainers: Sequence[Trainer], call: _Call, interrupt: Interrupt) -> list[_Member]:
    """Start the folders or go on from them, and train; the runs that are left."""
    first, folders = todo[0][0], [folder for _, folder in todo]
    begun = _begin(todo, call)
    seconds = [
        restore(trainer, folder, checkpoint, resumed=is_begun)
        for trainer, folder, checkpoint, is_begun in zip(trainers, folders, _common_checkpoints(folders), begun)
    ]
    call.on_phase(Phase.TRAINING)
    with ExitStack() as stack:
        progress = stack.enter_context(show_progress(first.max_steps, trainers[0].step))
        events = [folder.path / TENSORBOARD if call.tensorboard else None for folder in folders]
        writers = [stack.enter_context(scalars(each, trainers[0].step)) for each in events]
        members = [_Member(*each) for each in zip(todo, trainers, writers, seconds)]
        return _Loop(members, first, progress).until(first.max_steps, interrupt)


def _common_checkpoints(folders: Sequence[RunFolder]) -> list[Checkpoint] | list[None]:
    """Those of the last step of which every run has one that can be read; None for the beginning.

    The beginning counts as the oldest checkpoint of a run until so many are there that it would be removed.

    Raises:
        ValueError: if there is no such step.
    """
    files = [checkpoints_by_step(folder.checkpoints) for folder in folders]
    steps = [own.keys() | ({0} if len(own) < KEPT else set()) for own in files]
    for step in sorted(set.intersection(*map(set, steps)), reverse=True):
        with suppress(ValueError):  # a damaged file: the step before it may do
            common = [read_checkpoint(own[step]) for own in files] if step else [None] * len(files)
            for folder, own in zip(folders, files):
                later = [each for each in own if each > step]
                if later:
                    print(f"{folder.path.name}: back from step {max(later)} to {step}, the last that all runs share")
                for each in later:
                    own[each].unlink()  # its lines of metrics are to be written again, and so is the file
            return common
    there = "; ".join(f"{folder.path.name} {sorted(own)}" for folder, own in zip(folders, steps))
    raise ValueError(
        f"train: --resume: the runs of the stack have no readable checkpoint of the same step ({there}): go on with "
        "each alone, by --resume and the --output-dir of the run"
    )


class _Member:
    """One run of a stack, which keeps its last line of metrics."""

    def __init__(
        self, run: tuple[TrainConfig, RunFolder], trainer: Trainer, scalars: Scalars, seconds: float
    ) -> None:
        self.config, self.folder = run
        self.trainer = trainer
        self.output: VAEOutput | None = None
        self.row: Mapping[str, Any] = {}
        self._run = Run(self.config, trainer, self.folder, self, scalars, seconds)

    def read(self) -> None:
        assert self.output is not None
        self._run.log(self.trainer.read(self.output))

    def save(self) -> None:
        self._run.save()

    def advance(self, step: int) -> None:
        pass

    def log(self, row: Mapping[str, Any]) -> None:
        self.row = row


class _Loop:
    """Updates of a stack, which goes on without the runs whose loss is not finite."""

    def __init__(self, members: Sequence[_Member], config: TrainConfig, progress: Progress) -> None:
        self._members = list(members)
        self._config = config
        self._progress = progress
        self._stack = Stack([each.trainer for each in members])

    def until(self, max_steps: int, interrupt: Interrupt) -> list[_Member]:
        """Update until ``max_steps`` or an interrupt, and leave a checkpoint in either case; the runs that are left."""
        config = self._config
        while self._members and self._stack.step < max_steps and not interrupt.requested:
            for member, output in zip(self._members, self._stack.update()):
                member.output = output
            step = self._stack.step
            if step % config.log_every == 0 or step == max_steps:
                self._each(_Member.read)
                if self._members:
                    self._show(step)
            self._progress.advance(step)
            if step % config.checkpoint_every == 0 and step < max_steps:
                self._each(_Member.save)
        self._each(_Member.save)
        return self._members

    def _each(self, act: Callable[[_Member], None]) -> None:
        left = []
        for member in self._members:
            try:
                act(member)
            except NonFiniteLossError as error:
                member.folder.fail(str(error))
            else:
                left.append(member)
        if left and len(left) < len(self._members):
            self._stack = Stack([each.trainer for each in left])
        self._members = left

    def _show(self, step: int) -> None:
        losses = {each.folder.path.name: each.row["loss"] for each in self._members}
        speed = sum(each.row["images_per_second"] for each in self._members)
        self._progress.log({"step": step, **losses, "images_per_second": speed})
