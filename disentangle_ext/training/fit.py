"""Training: from a plan to finished run folders."""

from __future__ import annotations

import signal
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import torch
from torch.distributed import ProcessGroup

from disentangle_ext._errors import MistakeError
from disentangle_ext._extras import require
from disentangle_ext.data import GroundTruthData, load_data
from disentangle_ext.engine.build import build_trainer
from disentangle_ext.engine.device import AUTO, choose_device, cpu_threads, deterministic, fastest_precision
from disentangle_ext.engine.ranks import Ranks
from disentangle_ext.engine.trainer import Trainer
from disentangle_ext.runs.checkpoint import Checkpoint, checkpoints_by_step, common_checkpoints
from disentangle_ext.runs.config import TrainConfig, to_yaml
from disentangle_ext.runs.folder import LOCK, TENSORBOARD, RunFolder
from disentangle_ext.training.finish import Scores, finish
from disentangle_ext.training.interrupt import Interrupt, Phase
from disentangle_ext.training.loop import Run, begin, loop, warn
from disentangle_ext.training.plan import Job, Plan
from disentangle_ext.training.progress import require_tensorboard, scalars, show_progress

__all__ = ["Outcome", "Outcomes", "train", "train_plan"]


class Outcome(NamedTuple):
    """How a run stands when the call ends."""

    folder: RunFolder
    step: int
    """Updates done."""
    scores: Scores | None
    """None if this call did not finish the run."""
    stopped_by: signal.Signals | None = None
    """The signal that interrupted the run."""


class Outcomes(NamedTuple):
    """How a call with several runs ended."""

    runs: list[Outcome]
    """One for each job, in their order."""
    failed: dict[Path, str]
    """The folders of the runs that were given up because a loss was not finite, and which loss it was."""

    @property
    def stopped_by(self) -> signal.Signals | None:
        """The signal that interrupted the runs."""
        return next((run.stopped_by for run in self.runs if run.stopped_by), None)


def train(
    config: TrainConfig,
    output_dir: Path | str,
    *,
    resume: bool = False,
    overwrite: bool = False,
    device: str = AUTO,
    tensorboard: bool = False,
    process_group: ProcessGroup | None = None,
) -> Outcome:
    """Train, picture and score one model: :func:`train_plan` for a plan of one job."""
    job = Job(config, RunFolder(output_dir))
    plan = Plan((job,), resume=resume, overwrite=overwrite, device=device, tensorboard=tensorboard)
    return train_plan(plan, process_group=process_group).runs[0]


def train_plan(
    plan: Plan,
    *,
    on_phase: Callable[[Phase], object] = lambda phase: None,
    process_group: ProcessGroup | None = None,
) -> Outcomes:
    """Train, picture and score the models of a plan.

    Ctrl-C, SIGTERM and SIGUSR1 save a checkpoint of each run after the step at hand, and this returns; a plan with
    ``resume=True`` goes on from it. Before the first step and after the last they raise at once. A second signal acts
    as it would have without us. Of several runs, one whose loss is infinite or NaN is given up, its checkpoints stay,
    and the others go on.

    Args:
        plan: see :class:`training.plan.Plan`.
        on_phase: told what the runs do from now on.
        process_group: the processes that train one model together, see :class:`Trainer`; all of them call this. The
            first writes the folder, scores and pictures alone, while the others return.

    Raises:
        FileExistsError: if a folder holds a run and neither ``resume`` nor ``overwrite`` is given, or other files.
        MistakeError: for options that a data set, network or objective refuses, for a device that there is not, for a
            missing extra, and for a run that another process trains; nothing is written then.
        NonFiniteLossError: if the loss of a single run is infinite or NaN; the checkpoints before it stay.
        WriteError: if the disk is full, and so on; the checkpoints stay.
        Interrupted: for a signal while no step is at hand.
        ElsewhereError: if another process raises one of these.
    """
    ranks = Ranks(process_group)
    where = ranks.agree(lambda: _ready(plan, ranks))
    todo = ranks.from_first(lambda: _unfinished(plan))
    call = _Call(plan, on_phase, ranks, where)
    with Interrupt() as interrupt, ExitStack() as locks:
        on_phase(Phase.LOADING)
        # Everything is built before anything is written, so that a mistake in one run leaves no folder of another.
        groups = ranks.agree(lambda: _build(call, todo))
        # Another process may have finished a run meanwhile.
        todo = ranks.from_first(lambda: _claim(plan, todo, locks))
        groups = [left for built in groups if (left := [each for each in built if each.job.folder.path in todo])]
        fastest = fastest_precision(where)
        if any(each.job.config.precision != fastest for built in groups for each in built):
            print(f"Networks are fastest with --precision {fastest} on this {where.type.upper()}.", flush=True)
        outcomes: dict[Path, Outcome] = {}
        for built in groups:
            if not interrupt.requested:
                outcomes.update(_train(call, built, interrupt))
            built.clear()  # a trained model is not kept in memory for those that follow
    found = [outcomes.get(job.folder.path) or _found(job) for job in plan.jobs]
    given_up = {job.folder.path: job.folder.failure for job in plan.jobs if plan.gives_up}
    return Outcomes(found, {path: reason for path, reason in given_up.items() if reason})


class _Call(NamedTuple):
    plan: Plan
    on_phase: Callable[[Phase], object]
    ranks: Ranks
    device: torch.device


class _Built(NamedTuple):
    """A job that is ready to begin."""

    job: Job
    trainer: Trainer


def _ready(plan: Plan, ranks: Ranks) -> torch.device:
    """Choose the device, and check that all is there that will be needed in a while."""
    if len(plan.jobs) > 1 and ranks.group:
        raise MistakeError(f"train: --stack and --vary train in one process, not {ranks.world}: leave torchrun out")
    require("safetensors", extra="train", what="train")
    if plan.tensorboard:
        require_tensorboard()
    where = choose_device(plan.device, ranks.place)
    if where.type == "cuda" and ranks.group:
        torch.cuda.set_device(where)
    return where


def _unfinished(plan: Plan) -> set[Path]:
    """Find the folders of the runs that are to be trained.

    Raises:
        FileExistsError: see :func:`train_plan`.
    """
    folders = [job.folder for job in plan.jobs]
    if plan.resume:
        return {each.path for each in folders if not (each.is_done or (plan.gives_up and each.failure))}
    if plan.several:
        plan.several.check(overwrite=plan.overwrite)
    for folder in folders:
        folder.check(overwrite=plan.overwrite)
    return {folder.path for folder in folders}


def _claim(plan: Plan, todo: set[Path], locks: ExitStack) -> set[Path]:
    """Lock the folders, begin new runs, tidy up finished and replaced ones; say which are left to train."""
    jobs = [job for job in plan.jobs if job.folder.path in todo or (job.folder.is_done and not job.folder.is_tidy)]
    if plan.several and (jobs or (plan.several.folder / LOCK).exists()):
        locks.enter_context(RunFolder(plan.several.folder).lock())
    replaced = plan.several.replaced(plan.jobs) if plan.several and plan.overwrite else []
    for folder in [*(job.folder for job in jobs), *replaced]:
        locks.enter_context(folder.lock())
    left = _unfinished(plan) & todo
    if not plan.resume:
        for folder in replaced:
            folder.discard()
        for job in jobs:
            job.folder.clear()
        if plan.several:
            plan.several.write(plan.jobs)
    for job in plan.jobs:
        if not (plan.resume and job.is_in_folder()):
            job.folder.start(to_yaml(job.config))
        elif job.folder.is_done:
            job.folder.finish()
    return left


def _build(call: _Call, todo: set[Path]) -> list[list[_Built]]:
    loaded: dict[str, GroundTruthData] = {}

    def data_of(config: TrainConfig) -> GroundTruthData:
        key = repr((config.data, config.data_options))
        if key not in loaded:
            loaded[key] = load_data(config.data, **config.data_options, device=call.device)
        return loaded[key]

    def build(job: Job) -> _Built:
        with deterministic(job.config.deterministic, call.device):
            return _Built(job, build_trainer(job.config, data_of(job.config), call.ranks.group))

    jobs = [[job for job in group if job.folder.path in todo] for group in call.plan.groups]
    return [[build(job) for job in group] for group in jobs if group]


def _train(call: _Call, built: list[_Built], interrupt: Interrupt) -> dict[Path, Outcome]:
    """Train one group from its first step, or its newest checkpoint, to its scores."""
    first, ranks = built[0].job.config, call.ranks
    if call.plan.several and not call.plan.stacked:
        print(f"{built[0].job.folder.path.name}:", flush=True)
    with cpu_threads(first.threads), deterministic(first.deterministic, call.device):
        with interrupt.deferred():
            with ExitStack() as writers:
                runs = _begin(call, built, writers)
                call.on_phase(Phase.TRAINING)
                show = writers.enter_context(show_progress(first.max_steps, runs[0].trainer.step))
                left = loop(runs, interrupt, show, give_up=call.plan.gives_up)
            stopped_by = ranks.begin_vote(lambda: interrupt.requested)()
        outcomes = {run.job.folder.path: Outcome(run.job.folder, run.trainer.step, None, stopped_by) for run in runs}
        if stopped_by or not ranks.is_first:
            return outcomes
        call.on_phase(Phase.SCORING)
        for run in left:
            scores = finish(run.job, run.trainer, interrupt)
            outcomes[run.job.folder.path] = Outcome(run.job.folder, run.trainer.step, scores)
    return outcomes


def _begin(call: _Call, built: list[_Built], writers: ExitStack) -> list[Run]:
    """Go on from the newest checkpoint that all runs of a group have, or start at the first step."""
    plan, ranks = call.plan, call.ranks
    folders = [each.job.folder.checkpoints for each in built]
    checkpoints = ranks.from_first(lambda: common_checkpoints(folders, warn=warn))

    def start(each: _Built, checkpoint: Checkpoint | None) -> Run:
        seconds = begin(each.job, each.trainer, checkpoint)
        events = each.job.folder.path / TENSORBOARD if plan.tensorboard and ranks.is_first else None
        add = ranks.agree(lambda: writers.enter_context(scalars(events, each.trainer.step)))
        return Run(each.job, each.trainer, add, seconds)

    return [start(each, checkpoint) for each, checkpoint in zip(built, checkpoints)]


def _found(job: Job) -> Outcome:
    """How a run stands that this call did not train."""
    saved = max(checkpoints_by_step(job.folder.checkpoints), default=0)
    return Outcome(job.folder, job.config.max_steps if job.folder.is_done else saved, None)
