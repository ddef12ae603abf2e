"""Evaluate a trained model, or codes of any other.

Examples:
    python -m disentangle_ext.evaluate runs/a
    python -m disentangle_ext.evaluate runs/a --metrics mig dci --bootstrap 100
    python -m disentangle_ext.evaluate runs/a --exact-elbo
    python -m disentangle_ext.evaluate --codes codes.npy --factors factors.npy

Exit codes: 0 finished, 1 a metric that was named could not be computed, 2 a mistake in the call, 74 input or output
failed, 130 interrupted, 141 printed into a pipe that is closed.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from disentangle_ext._errors import MistakeError
from disentangle_ext._exit_codes import ExitCode
from disentangle_ext._files import WriteError
from disentangle_ext._program import launch, outcome
from disentangle_ext.metrics import exact_elbo
from disentangle_ext.metrics._problem import check_names
from disentangle_ext.metrics.suite import choose_metrics
from disentangle_ext.runs.codes import scored_rows
from disentangle_ext.runs.folder import EVALUATION, EXACT_ELBO
from disentangle_ext.scoring.command_line import parse
from disentangle_ext.scoring.inputs import ScoredRun, open_run, periods_of, read_table
from disentangle_ext.scoring.scores import Scores, check_output, read_scores, score, write_scores, write_terms
from disentangle_ext.scoring.tables import bars, print_scores, print_terms


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    elsewhere = "; --output FILE.json writes into another folder"
    return outcome("evaluate", lambda: _evaluate(parse(argv, __doc__)), unwritten=elsewhere)


def _evaluate(request: argparse.Namespace) -> ExitCode:
    if request.run is None:
        return _score_arrays(request)
    run = open_run(request.run)
    output = request.output or run.folder.path / EVALUATION
    check_output(output)
    not_kept = None if output.parent.resolve() == run.folder.path.resolve() else _say_not_kept
    if request.exact_elbo:
        beside = request.output and request.output.with_name(f"{request.output.stem}_{EXACT_ELBO}")
        _take_apart(request, run, beside or run.folder.path / EXACT_ELBO, not_kept)
    if request.exact_elbo and request.metrics is None:
        return ExitCode.FINISHED
    return _score_run(request, run, output, not_kept)


def _score_run(
    request: argparse.Namespace, run: ScoredRun, output: Path, not_kept: Callable[[WriteError], object] | None
) -> ExitCode:
    kept = read_scores(output)
    rows = scored_rows(len(run.data), request.seed, request.points)
    names = run.data.factor_names or None
    given = ["codes", "logvar", "factors"] if names else ["codes", "logvar"]
    metrics = choose_metrics("evaluate: --metrics", request.metrics, given)
    with bars() as bar:
        codes = run.codes(rows, progress=bar("images"), not_kept=not_kept)
        scores = score(
            f"{_title(run)}: {len(codes.rows):,} images, {codes.mu.shape[1]} latents",
            codes.mu,
            codes.factors if names else None,
            run=run.folder.path,
            logvar=codes.logvar,
            metrics=metrics,
            factor_names=names,
            periods=run.data.periods,
            seed=request.seed,
            bootstrap=request.bootstrap,
            progress=bar("metrics"),
        )
    print_scores(scores, intervals=request.bootstrap > 0)
    return _finish(request, scores, output, kept)


def _score_arrays(request: argparse.Namespace) -> ExitCode:
    kept = {} if request.output is None else read_scores(request.output)
    codes, factors = read_table(request.codes, request.factors)
    given = ["codes"] if factors is None else ["codes", "factors"]
    metrics = choose_metrics("evaluate: --metrics", request.metrics, given)
    if factors is not None:
        check_names("evaluate", request.factor_names, factors.shape[1], "--factor-names")
    periods = periods_of(request.cyclic, factors, request.factor_names)
    with bars() as bar:
        scores = score(
            f"{request.codes.name}: {' x '.join(map(str, codes.shape))}",
            codes,
            factors,
            metrics=metrics,
            factor_names=request.factor_names,
            periods=periods,
            seed=request.seed,
            bootstrap=request.bootstrap,
            progress=bar("metrics"),
        )
    print_scores(scores, intervals=request.bootstrap > 0)
    return _finish(request, scores, request.output, kept)


def _finish(request: argparse.Namespace, scores: Scores, output: Path | None, kept: dict[str, object]) -> ExitCode:
    if output is not None:
        write_scores(output, kept, scores)
        print(f"Written: {output}")
    # Of all metrics some do not fit every data set; one that was named was wanted.
    return ExitCode.INCOMPLETE if request.metrics is not None and scores.some_failed else ExitCode.FINISHED


def _take_apart(
    request: argparse.Namespace, run: ScoredRun, output: Path, not_kept: Callable[[WriteError], object] | None
) -> None:
    """Print the terms of the KL, and write them to ``output``."""
    size = len(run.data)
    batch_size = run.config.batch_size if request.batch_size is None else request.batch_size
    if not 2 <= batch_size <= size:
        raise MistakeError(
            f"evaluate: --batch-size must be from 2 to the {size} images of the data set, got {batch_size}"
        )
    begun = time.perf_counter()
    with bars() as bar:
        codes = run.codes(torch.arange(size), progress=bar("images"), not_kept=not_kept)
        encoded = time.perf_counter()
        result = exact_elbo(
            codes.mu,
            codes.logvar,
            queries=request.queries,
            batch_size=batch_size,
            seed=request.seed,
            progress=bar("queries"),
        )
    title = f"{_title(run)}: {size:,} images, {codes.mu.shape[1]} latents"
    print_terms(result, title, encoding=encoded - begun, computing=time.perf_counter() - encoded)
    write_terms(output, title, run.folder.path, result)
    print(f"Written: {output}")


def _title(run: ScoredRun) -> str:
    return f"{run.config.model} on {run.config.data}"


def _say_not_kept(error: WriteError) -> None:
    print(f"evaluate: the codes are not kept: {error}", file=sys.stderr)


if __name__ == "__main__":
    launch(main)
