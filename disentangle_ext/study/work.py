"""The work on one run of a study: train it, encode it, score it. It may be called again at any time, anywhere."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

from disentangle_ext._errors import MistakeError
from disentangle_ext._exit_codes import ExitCode, describe_error
from disentangle_ext._extras import require
from disentangle_ext._files import WriteError
from disentangle_ext.engine.device import AUTO, blame_device, cpu_threads, keep_freed_memory
from disentangle_ext.engine.meter import NonFiniteLossError
from disentangle_ext.metrics.suite import SUITE, Failure, check_metric
from disentangle_ext.runs.codes import scored_rows
from disentangle_ext.runs.config import resolve
from disentangle_ext.runs.folder import EVALUATION, LockedError, RunFolder
from disentangle_ext.scoring.inputs import open_run
from disentangle_ext.scoring.scores import read_scores, score, write_scores
from disentangle_ext.training.fit import train
from disentangle_ext.training.interrupt import Interrupt, Interrupted

__all__ = ["LOCKED", "Task", "last_lines", "missing_metrics", "score_run", "work"]

LOCKED = 69
"""How the work on a run ends on which another process works; EX_UNAVAILABLE of BSD's sysexits.h."""


class Task(NamedTuple):
    """What a worker needs to know of a run, wherever it is: two paths on a file system that all workers share."""

    name: str
    folder: str
    """The run folder."""
    log: str
    """The file that takes what the run prints; removed when it is finished."""
    settings: Mapping[str, Any]
    """Its configuration, as the flat mapping of config.yaml."""
    metrics: tuple[str, ...]
    """The metrics that it is scored by, beside those that its evaluation.json has already."""
    device: str = AUTO
    again: bool = False
    """Compute metrics again that evaluation.json has."""


def work(task: Task) -> int:
    """Train the run of a task to its end, from where it stands, and score it.

    A run that is finished and scored returns at once; so does one that was given up.

    Returns:
        How it ended, as a command would: 0 finished, 2 a mistake in its settings, 5 a loss that is not finite, 74 input
        or output failed, 75 stopped by a signal, 1 a mistake of ours, and :data:`LOCKED`.
    """
    with _printing_to(Path(task.log)):
        code = _exit_code(task)
    if code == ExitCode.FINISHED:
        Path(task.log).unlink(missing_ok=True)
    return code


def _exit_code(task: Task) -> int:
    folder = RunFolder(task.folder)
    try:
        config = resolve(task.settings, source="study")
        if folder.failure is not None:
            return ExitCode.NON_FINITE
        keep_freed_memory()
        with _threads(config.threads):
            if not folder.is_done:
                outcome = train(config, folder.path, resume=True, device=task.device)
                if outcome.stopped_by is not None:
                    return ExitCode.STOPPED
            elif not folder.is_tidy:  # it was killed between its last step and the end of its checkpoints
                with folder.lock():
                    folder.finish()
            with Interrupt():
                score_run(folder, task.metrics, again=task.again)
        return ExitCode.FINISHED
    except LockedError as error:
        print(error, file=sys.stderr)
        return LOCKED
    except MistakeError as error:
        print(error, file=sys.stderr)
        return ExitCode.MISTAKE
    except NonFiniteLossError as error:
        print(error, file=sys.stderr)
        return ExitCode.NON_FINITE
    except OSError as error:
        print(describe_error("study", error), file=sys.stderr)
        return ExitCode.CANNOT_WRITE if isinstance(error, WriteError) else ExitCode.of(error)
    except Interrupted as error:
        print(f"stopped by {error.number.name}", file=sys.stderr)
        return ExitCode.STOPPED
    except RuntimeError as error:
        if (reason := blame_device(error)) is None:
            traceback.print_exc()
            return 1
        print(reason, file=sys.stderr)
        return ExitCode.MISTAKE
    except Exception:  # a mistake of ours in one run does not end the others
        traceback.print_exc()
        return 1


def score_run(folder: RunFolder, metrics: tuple[str, ...], *, again: bool = False) -> None:
    """Score a finished run by the metrics that its evaluation.json does not have yet.

    The scores are those of ``evaluate`` with its defaults. A metric of factors leaves the reason in the place of its
    score where the data set has none.

    Args:
        folder: the run folder.
        metrics: names of :data:`metrics.suite.SUITE`.
        again: compute all of them.

    Raises:
        LockedError: if another process works on the run.
        MistakeError: if its files are damaged, or its data set is not there.
        WriteError: if the folder cannot be written.
    """
    if not (again or missing_metrics(folder, metrics)):
        return
    with folder.lock():
        kept = read_scores(folder.path / EVALUATION, "study: the scores of a run")
        wanted = [name for name in metrics if again or name not in kept]
        run = open_run(folder.path)
        names = run.data.factor_names or None
        given = ["codes", "logvar", *(["factors"] if names else [])]
        lacking = _lacking(wanted, given)
        codes = run.codes(scored_rows(len(run.data), 0), progress=_silent)
        scores = score(
            f"{run.config.model} on {run.config.data}: {len(codes.rows):,} images, {codes.mu.shape[1]} latents",
            codes.mu,
            codes.factors if names else None,
            logvar=codes.logvar,
            metrics=[name for name in wanted if name not in lacking],
            factor_names=names,
            periods=run.data.periods,
            progress=_silent,
        )
        results = {**scores.results, **lacking}
        seconds = {**dict.fromkeys(lacking, 0.0), **scores.seconds}
        write_scores(folder.path / EVALUATION, kept, scores._replace(results=results, seconds=seconds))


def _lacking(metrics: Sequence[str], given: Collection[str]) -> dict[str, Failure]:
    """The metrics that take what is not given, and why they have no score."""
    found = {}
    for name in metrics:
        check_metric("study: --metrics", name)
        if absent := [each for each in SUITE[name].inputs if each not in given]:
            found[name] = Failure(f"{name} needs {' and '.join(absent)}, which the data set does not have")
    return found


def missing_metrics(folder: RunFolder, metrics: Sequence[str]) -> list[str]:
    """The metrics that the evaluation.json of a run does not have.

    Raises:
        MistakeError: if the file is damaged.
    """
    kept = read_scores(folder.path / EVALUATION, "study: the scores of a run")
    return [name for name in metrics if name not in kept]


def last_lines(log: Path, count: int = 3) -> str:
    """The last lines that a run printed, in one."""
    try:
        text = log.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return "; ".join(line.strip() for line in text.splitlines()[-count:] if line.strip())


def _silent(done: int, total: int) -> None:
    pass


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Compute with ``count`` threads, in torch as in NumPy: the scores depend on it in their last bits."""
    threadpoolctl = require("threadpoolctl", extra="study", what="study")
    with cpu_threads(count), threadpoolctl.threadpool_limits(count or None):
        yield


@contextmanager
def _printing_to(path: Path) -> Iterator[None]:
    """Let everything that the process prints go to a file, what C code prints included."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", buffering=1, encoding="utf-8") as file, redirect_stdout(file), redirect_stderr(file):
        kept = [(number, os.dup(number)) for number in (1, 2)]
        for number, _ in kept:
            os.dup2(file.fileno(), number)
        try:
            yield
        finally:
            for number, before in kept:
                os.dup2(before, number)
                os.close(before)
