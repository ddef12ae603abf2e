"""The loop: updates, lines of metrics and checkpoints of one run, or of several that take a step at once."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from disentangle_ext._errors import MistakeError
from disentangle_ext.engine.group import Group
from disentangle_ext.engine.meter import TOTAL, NonFiniteLossError
from disentangle_ext.engine.trainer import Trainer
from disentangle_ext.models import VAEOutput
from disentangle_ext.runs.checkpoint import Checkpoint, checkpoints_by_step, save_checkpoint
from disentangle_ext.runs.folder import CONFIG
from disentangle_ext.training.interrupt import Interrupt
from disentangle_ext.training.plan import Job
from disentangle_ext.training.progress import Progress, Scalars

__all__ = ["Run", "begin", "loop", "warn"]


def begin(job: Job, trainer: Trainer, checkpoint: Checkpoint | None) -> float:
    """Go on in a run folder from a checkpoint; return the seconds trained so far.

    Args:
        job: the run.
        trainer: its trainer; takes the state of the checkpoint.
        checkpoint: where the run goes on; None: at the first step.

    Raises:
        MistakeError: for a checkpoint of another configuration.
    """
    ranks, folder = trainer.ranks, job.folder

    def load() -> None:
        if checkpoint is not None:
            _check_config(checkpoint, job)
            trainer.load(checkpoint)

    def write() -> None:
        if changed := folder.note_environment(trainer.step, trainer.device, ranks.world):
            warn(f"{', '.join(changed)}: the run goes on, but not bit for bit as it would have")
        newest = max(checkpoints_by_step(folder.checkpoints), default=0)
        if newest > trainer.step:
            print(f"{folder.path.name}: back from step {newest} to {trainer.step}")
        folder.go_back_to(trainer.step)

    ranks.agree(load)
    ranks.first(write)
    return float(checkpoint.state["seconds"]) if checkpoint else 0.0


class Run:
    """One run in training: what it writes, and the time it has taken.

    Args:
        job: its configuration and folder.
        trainer: its model, objective and optimisers.
        scalars: told every line of metrics.
        seconds: trained before this call.
    """

    def __init__(self, job: Job, trainer: Trainer, scalars: Scalars, seconds: float) -> None:
        self.job = job
        self.trainer = trainer
        self.output: VAEOutput | None = None
        """What the model made of the last batch."""
        self.row: dict[str, Any] = {}
        """The last line of metrics."""
        self._scalars = scalars
        self._saved = trainer.step or None
        self._read = time.monotonic()
        self._begun = self._read - seconds
        self._read_step = trainer.step

    def log(self) -> None:
        """Write a line of metrics.

        Raises:
            NonFiniteLossError: if a term was not finite since the last line.
        """
        assert self.output is not None
        terms, now, step = self.trainer.read(self.output), time.monotonic(), self.trainer.step
        images = (step - self._read_step) * self.job.config.batch_size
        self.row = {
            "step": step,
            "seconds": round(now - self._begun, 3),
            "images_per_second": round(images / max(now - self._read, 1e-9), 1),
            "lr": self.trainer.descent.optimizer.param_groups[0]["lr"],
            **terms,
        }
        self._read, self._read_step = now, step

        def write() -> None:
            self.job.folder.append_metrics(self.row)
            self._scalars(self.row)

        self.trainer.ranks.first(write)

    def save(self) -> None:
        """Write a checkpoint, where the newest is of another step.

        Raises:
            NonFiniteLossError: instead of a checkpoint that nothing can go on from.
        """
        if self._saved == self.trainer.step:
            return
        checkpoint = self.trainer.checkpoint()
        checkpoint.state["seconds"] = time.monotonic() - self._begun
        checkpoint.state["config"] = self.job.config.plain()
        self.trainer.ranks.first(lambda: save_checkpoint(self.job.folder.checkpoints, checkpoint))
        self._saved = checkpoint.step


def loop(runs: Sequence[Run], interrupt: Interrupt, progress: Progress, *, give_up: bool) -> Sequence[Run]:
    """Update until the last step or an interrupt, and leave a checkpoint of each run in either case.

    Args:
        runs: runs of one length, which take their steps at once.
        interrupt: asked before each step.
        progress: told every step and every line of metrics.
        give_up: go on without a run whose loss is not finite, as :data:`runs.folder.FAILED` notes in any case.

    Returns:
        The runs that were not given up.

    Raises:
        NonFiniteLossError: if a loss is not finite, without ``give_up``.
    """
    config, ranks = runs[0].job.config, runs[0].trainer.ranks
    group = Group([run.trainer for run in runs])

    def each(act: Callable[[Run], object]) -> None:
        nonlocal runs, group
        failed = [run for run in runs if not _goes_on(act, run, give_up)]
        runs = [run for run in runs if run not in failed]
        if failed and runs:
            group = group.without([run.trainer for run in failed])

    stopped_by = ranks.begin_vote(lambda: interrupt.requested)()
    while runs and group.step < config.max_steps and not stopped_by:
        vote = ranks.begin_vote(lambda: interrupt.requested)
        for run, output in zip(runs, group.update()):
            run.output = output
        if group.step % config.log_every == 0 or group.step == config.max_steps:
            each(Run.log)
            if runs:
                progress.log(_one_row(runs))
        progress.advance(group.step)
        if group.step % config.checkpoint_every == 0 and group.step < config.max_steps:
            each(Run.save)
        stopped_by = vote()
    each(Run.save)
    return runs


def warn(line: str) -> None:
    """Tell the person something that does not stop the run."""
    print(f"train: {line}", file=sys.stderr, flush=True)


def _goes_on(act: Callable[[Run], object], run: Run, give_up: bool) -> bool:
    try:
        act(run)
    except NonFiniteLossError as error:
        if run.trainer.ranks.is_first:
            run.job.folder.fail(str(error))
        if not give_up:
            raise
        return False
    return True


def _one_row(runs: Sequence[Run]) -> Mapping[str, Any]:
    """The line of a single run, or the losses of several."""
    if len(runs) == 1:
        return runs[0].row
    losses = {run.job.folder.path.name: run.row[TOTAL] for run in runs}
    speed = sum(run.row["images_per_second"] for run in runs)
    return {"step": runs[0].row["step"], **losses, "images_per_second": speed}


def _check_config(checkpoint: Checkpoint, job: Job) -> None:
    """Refuse a checkpoint of another configuration: config.yaml was edited after it."""
    then, now = checkpoint.state.get("config"), job.config.plain()
    if not isinstance(then, dict):
        raise MistakeError(
            f"train: --resume: the checkpoint of step {checkpoint.step} in {job.folder.path} has no config"
        )
    if checkpoint.step > job.config.max_steps:
        step, last = checkpoint.step, job.config.max_steps
        raise MistakeError(
            f"train: --resume: {job.folder.path} has a checkpoint of step {step}, after max_steps {last}"
        )
    if name := job.first_difference(then):
        raise MistakeError(
            f"train: --resume: {name} is {now.get(name, 'absent')} in {job.folder.path / CONFIG}, and was "
            f"{then.get(name, 'absent')} at the checkpoint of step {checkpoint.step}: put it back, or start "
            "another run with another --output-dir"
        )
