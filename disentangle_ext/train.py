"""Train a model: ``python -m disentangle_ext.train --model beta_tcvae --data dsprites_like --output-dir runs/a``.

Exit codes (:class:`_exit_codes.ExitCode`): 0 finished, 2 a mistake in the call, 5 a loss or weights that are not
finite, 74 input or output failed, 75 stopped by SIGTERM or SIGUSR1, 130 interrupted by Ctrl-C, 141 printed into a pipe
that is closed. After the last four ``--resume`` goes on, and with 75 the run asks to be queued again.
"""

from __future__ import annotations

import shlex
import shutil
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from disentangle_ext._errors import MistakeError
from disentangle_ext._exit_codes import ExitCode, describe_error
from disentangle_ext._files import WriteError
from disentangle_ext._program import launch, outcome
from disentangle_ext.engine.device import AUTO, blame_device, keep_freed_memory
from disentangle_ext.engine.meter import NonFiniteLossError
from disentangle_ext.engine.ranks import Ranks
from disentangle_ext.report.pictures import describe
from disentangle_ext.runs.checkpoint import checkpoints_in
from disentangle_ext.runs.folder import SCORES, RunFolder
from disentangle_ext.training import torchrun
from disentangle_ext.training.command_line import PROGRAM, parse
from disentangle_ext.training.fit import Outcome, Outcomes, train_plan
from disentangle_ext.training.interrupt import Interrupted, Phase
from disentangle_ext.training.plan import SHEET, Plan

REPORT = "python -m disentangle_ext.report"

COMPARED = ("mig", "elbo", "reconstruction", "kl")
"""Scores of training that mean the same in every run."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line, on every process that torchrun starts, and return its exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    return outcome("train", lambda: torchrun.run(lambda ranks: _main(arguments, ranks)))


def _main(argv: Sequence[str], ranks: Ranks) -> int:
    try:
        plan = ranks.from_first(lambda: parse(argv))
    except MistakeError as error:
        print(error, file=sys.stderr)
        return ExitCode.MISTAKE
    keep_freed_memory()
    phases = [Phase.LOADING]
    try:
        return _say(plan, train_plan(plan, on_phase=phases.append, process_group=ranks.group))
    except MistakeError as error:
        print(error, file=sys.stderr)
        return ExitCode.MISTAKE
    except OSError as error:  # a run that is in the way, a folder that cannot be written, a disk that is full
        # What cannot be written lies in a folder that was made by then: it has vanished, it was not named wrongly.
        code = ExitCode.CANNOT_WRITE if isinstance(error, WriteError) else ExitCode.of(error)
        advice = "" if code == ExitCode.MISTAKE else f". {_how_to_go_on(plan, phases)}"
        print(f"{describe_error('train', error)}{advice}", file=sys.stderr)
        return code
    except NonFiniteLossError as error:
        if ranks.is_first:
            print(f"{error}; {_last_good(plan.folder)}. Try another run with a lower --lr", file=sys.stderr)
        return ExitCode.NON_FINITE
    except RuntimeError as error:
        reason = blame_device(error)
        if reason is None:
            raise
        print(reason, file=sys.stderr)
        return ExitCode.MISTAKE
    except KeyboardInterrupt as error:
        number = error.number if isinstance(error, Interrupted) else signal.SIGINT
        if ranks.is_first:
            print(f"Stopped by {number.name} {phases[-1].value}. {_how_to_go_on(plan, phases)}", file=sys.stderr)
        return _code_of(number)


def _say(plan: Plan, outcomes: Outcomes) -> ExitCode:
    for run in outcomes.runs:
        if run.folder.is_done:
            _say_finished(run)
    for path, reason in outcomes.failed.items():
        print(f"{path.name}: {reason}; {_last_good(path)}", file=sys.stderr)
    if outcomes.stopped_by is not None:
        step = max(run.step for run in outcomes.runs if run.stopped_by)
        last = max(job.config.max_steps for job in plan.jobs)
        print(f"Stopped after step {step} of {last} by {outcomes.stopped_by.name}. To go on:")
        print(f"  {_resume(plan)}", flush=True)
        return _code_of(outcomes.stopped_by)
    _say_compared(plan)
    return ExitCode.NON_FINITE if outcomes.failed else ExitCode.FINISHED


def _say_finished(outcome: Outcome) -> None:
    folder = outcome.folder
    if outcome.scores is None:
        print(f"{folder.path} is finished: there is nothing to go on with.")
        return
    if outcome.scores.mig is not None:
        print(f"MIG {outcome.scores.mig:.3f} ({outcome.scores.points:,} points; parts in {folder.path / SCORES})")
    if outcome.scores.own is not None:
        print(outcome.scores.own)
    if outcome.scores.not_drawn:
        print("\n".join(describe(outcome.scores.not_drawn)), file=sys.stderr)
        print(f"To draw again:\n  {REPORT} {shlex.quote(str(folder.path))}", file=sys.stderr)
    print(f"Run folder: {folder.path}")


def _say_compared(plan: Plan) -> None:
    """Print the scores of several runs for each value of what varies."""
    from disentangle_ext.study.summary import as_text, summary_of

    done = [(job.config, job.folder.path) for job in plan.jobs if job.folder.is_done]
    if plan.several is None or len(done) < 2:
        return
    lines, problems = summary_of(done)
    for problem in problems:
        print(problem, file=sys.stderr)
    print(as_text(lines, width=shutil.get_terminal_size((100, 24)).columns, metrics=COMPARED), end="")


def _code_of(number: signal.Signals) -> ExitCode:
    return ExitCode.INTERRUPTED if number == signal.SIGINT else ExitCode.STOPPED


def _how_to_go_on(plan: Plan, phases: Sequence[Phase]) -> str:
    is_begun = plan.resume or any(phase.is_begun for phase in phases)  # of several runs one may be
    is_there = RunFolder(plan.folder).is_run or (plan.folder / SHEET).is_file()
    if is_there and (is_begun or not plan.overwrite):
        return f"To go on: {_resume(plan)}"
    return "Nothing is left to go on with" if plan.resume else "To start again: the same command"


def _resume(plan: Plan) -> str:
    """The command that goes on, on the same device: elsewhere it is not exact."""
    device = "" if plan.device == AUTO else f" --device {plan.device}"
    tensorboard = " --tensorboard" if plan.tensorboard else ""
    return f"{PROGRAM} --resume --output-dir {shlex.quote(str(plan.folder))}{device}{tensorboard}"


def _last_good(folder: Path) -> str:
    paths = checkpoints_in(RunFolder(folder).checkpoints)
    return f"the last checkpoint from before it is {paths[-1]}" if paths else "there is no checkpoint from before it"


if __name__ == "__main__":
    launch(main)
