"""Train a model: ``python -m disentangle_ext.train --model beta_tcvae --data dsprites_like --output-dir runs/a``.

Exit codes: 0 finished, 2 a mistake in the call, 5 a loss that is not finite, 130 interrupted and resumable.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence

from disentangle_ext.report.pictures import describe
from disentangle_ext.training.command_line import PROGRAM, Request, parse
from disentangle_ext.training.loop import NonFiniteLossError
from disentangle_ext.training.memory import keep_freed_memory
from disentangle_ext.training.run_folder import SCORES, RunFolder
from disentangle_ext.training.session import Outcome, train
from disentangle_ext.training.variants import STACK, Variants, train_variants

REPORT = "python -m disentangle_ext.report"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    try:
        request = parse(sys.argv[1:] if argv is None else argv)
    except (ValueError, ImportError) as error:
        print(error, file=sys.stderr)
        return 2
    keep_freed_memory()
    try:
        if request.variants is not None:
            return _train_variants(request, request.variants)
        outcome = train(
            request.config,
            request.output_dir,
            resume=request.resume,
            overwrite=request.overwrite,
            fast=request.fast,
        )
    except (ValueError, ImportError) as error:
        print(error, file=sys.stderr)
        return 2
    except OSError as error:  # a run that is in the way, a folder that cannot be written, a disk that is full
        print(error if error.errno is None else f"train: {error}", file=sys.stderr)
        return 2
    except NonFiniteLossError as error:
        print(f"{error}; checkpoints in {request.output_dir} are from before it. Try a lower --lr", file=sys.stderr)
        return 5
    except KeyboardInterrupt:
        # Before there is a run it was still in what comes first, as the measuring of --fast.
        if RunFolder(request.output_dir).is_run or (request.output_dir / STACK).is_file():
            print(_how_to_go_on(request), file=sys.stderr)
        return 130
    return _say(request, outcome)


def _say(request: Request, outcome: Outcome) -> int:
    folder: RunFolder = outcome.folder
    if not folder.is_done:
        print(f"Stopped after step {outcome.step} of {request.config.max_steps}. {_how_to_go_on(request)}")
        return 130
    _say_finished(outcome)
    return 0


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


def _train_variants(request: Request, variants: Variants) -> int:
    outcome = train_variants(variants, request.output_dir, resume=request.resume, overwrite=request.overwrite)
    for run in outcome.runs:
        if run.folder.is_done:
            _say_finished(run)
    for path, reason in outcome.failed.items():
        print(f"{path.name}: {reason}; checkpoints in {path} are from before it", file=sys.stderr)
    if outcome.is_interrupted:
        step = max(run.step for run in outcome.runs)
        print(f"Stopped after step {step} of {request.config.max_steps}. {_how_to_go_on(request)}")
        return 130
    return 5 if outcome.failed else 0


def _how_to_go_on(request: Request) -> str:
    return f"To go on:\n  {PROGRAM} --resume --output-dir {shlex.quote(str(request.output_dir))}"


if __name__ == "__main__":
    sys.exit(main())
