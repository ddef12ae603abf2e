"""Train a model: ``python -m disentangle_ext.train --model beta_tcvae --data dsprites_like --output-dir runs/a``.

Exit codes (:class:`training.exit_codes.ExitCode`): 0 finished, 2 a mistake in the call, 5 a loss or weights that are
not finite, 69 a process of a distributed run was lost, 74 input or output failed, 75 stopped by SIGTERM or SIGUSR1,
130 interrupted by Ctrl-C. After the last three ``--resume`` goes on, and with 75 the run asks to be queued again.
"""

from __future__ import annotations

import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from disentangle_ext.report.pictures import describe
from disentangle_ext.training import distributed
from disentangle_ext.training.checkpoint import checkpoints_in
from disentangle_ext.training.command_line import PROGRAM, Request, parse
from disentangle_ext.training.device import AUTO, blame_device
from disentangle_ext.training.exit_codes import ExitCode, describe_error
from disentangle_ext.training.interrupt import Interrupted, Phase
from disentangle_ext.training.loop import NonFiniteLossError
from disentangle_ext.training.memory import keep_freed_memory
from disentangle_ext.training.ranks import Ranks
from disentangle_ext.training.run_folder import SCORES, RunFolder
from disentangle_ext.training.session import Outcome, train
from disentangle_ext.training.variants import STACK, Variants, train_variants

REPORT = "python -m disentangle_ext.report"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line, on every process that torchrun starts, and return its exit code."""
    return distributed.run(lambda ranks: _main(sys.argv[1:] if argv is None else argv, ranks))


def _main(argv: Sequence[str], ranks: Ranks) -> int:
    try:
        request = ranks.from_first(lambda: _request(argv, ranks.world))
    except (ValueError, ImportError) as error:
        print(error, file=sys.stderr)
        return ExitCode.MISTAKE
    keep_freed_memory()
    phases = [Phase.LOADING]
    try:
        if request.variants is not None:
            return _train_variants(request, request.variants, phases.append)
        outcome = train(
            request.config,
            request.output_dir,
            resume=request.resume,
            overwrite=request.overwrite,
            fast=request.fast,
            device=request.device,
            tensorboard=request.tensorboard,
            on_phase=phases.append,
            process_group=ranks.group,
        )
    except (ValueError, ImportError) as error:
        print(error, file=sys.stderr)
        return ExitCode.MISTAKE
    except OSError as error:  # a run that is in the way, a folder that cannot be written, a disk that is full
        code = ExitCode.of(error)
        advice = f". {_how_to_go_on(request, phases)}" if code is ExitCode.CANNOT_WRITE else ""
        print(f"{describe_error('train', error)}{advice}", file=sys.stderr)
        return code
    except NonFiniteLossError as error:
        if ranks.is_first:
            print(f"{error}; {_last_good(request.output_dir)}. Try another run with a lower --lr", file=sys.stderr)
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
            how = _how_to_go_on(request, phases)
            print(f"Stopped by {number.name} {phases[-1].value}. {how}", file=sys.stderr)
        return _code_of(number)
    return _say(request, outcome)


def _request(argv: Sequence[str], world: int) -> Request:
    request = parse(argv)
    if request.variants is not None and world > 1:
        raise ValueError(f"train: --stack and --vary train in one process, not {world}: leave torchrun out")
    return request


def _say(request: Request, outcome: Outcome) -> ExitCode:
    if outcome.stopped_by is not None:
        by = outcome.stopped_by.name
        print(f"Stopped after step {outcome.step} of {request.config.max_steps} by {by}. To go on:")
        print(f"  {_resume(request)}", flush=True)
        return _code_of(outcome.stopped_by)
    _say_finished(outcome)
    return ExitCode.FINISHED


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


def _train_variants(request: Request, variants: Variants, on_phase: Callable[[Phase], object]) -> ExitCode:
    outcome = train_variants(
        variants,
        request.output_dir,
        resume=request.resume,
        overwrite=request.overwrite,
        device=request.device,
        tensorboard=request.tensorboard,
        on_phase=on_phase,
    )
    for run in outcome.runs:
        if run.folder.is_done:
            _say_finished(run)
    for path, reason in outcome.failed.items():
        print(f"{path.name}: {reason}; {_last_good(path)}", file=sys.stderr)
    if outcome.stopped_by is not None:
        step = max(run.step for run in outcome.runs if run.stopped_by)
        print(f"Stopped after step {step} of {request.config.max_steps} by {outcome.stopped_by.name}. To go on:")
        print(f"  {_resume(request)}", flush=True)
        return _code_of(outcome.stopped_by)
    return ExitCode.NON_FINITE if outcome.failed else ExitCode.FINISHED


def _code_of(number: signal.Signals) -> ExitCode:
    return ExitCode.INTERRUPTED if number == signal.SIGINT else ExitCode.STOPPED


def _how_to_go_on(request: Request, phases: Sequence[Phase]) -> str:
    is_begun = request.resume or any(phase.is_begun for phase in phases)  # of several runs one may be
    is_run = RunFolder(request.output_dir).is_run or (request.output_dir / STACK).is_file()
    if is_begun or (not request.overwrite and is_run):
        return f"To go on: {_resume(request)}"
    return "To start again: the same command"


def _resume(request: Request) -> str:
    """The command that goes on, on the same device: elsewhere it is not exact."""
    device = "" if request.device == AUTO else f" --device {request.device}"
    tensorboard = " --tensorboard" if request.tensorboard else ""
    return f"{PROGRAM} --resume --output-dir {shlex.quote(str(request.output_dir))}{device}{tensorboard}"


def _last_good(folder: Path) -> str:
    paths = checkpoints_in(RunFolder(folder).checkpoints)
    return f"the last checkpoint from before it is {paths[-1]}" if paths else "there is no checkpoint from before it"


if __name__ == "__main__":
    sys.exit(main())
