"""Evaluate a trained model, or codes of any other.

Examples:
    python -m disentangle_ext.evaluate runs/a
    python -m disentangle_ext.evaluate runs/a --metrics mig dci --bootstrap 100
    python -m disentangle_ext.evaluate runs/a --exact-elbo
    python -m disentangle_ext.evaluate --codes codes.npy --factors factors.npy

Exit codes: 0 finished, 1 a metric that was named could not be computed, 2 a mistake in the call, 74 input or output
failed, 130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from disentangle_ext._exit_codes import ExitCode, describe_error
from disentangle_ext._extras import require
from disentangle_ext._files import write_atomically
from disentangle_ext._names import choose
from disentangle_ext.data import GroundTruthData, load_data
from disentangle_ext.metrics import ExactElboResult, exact_elbo
from disentangle_ext.metrics.suite import SUITE, Failure, Result, score_all
from disentangle_ext.models import VAE
from disentangle_ext.runs.codes import Codes, codes_of, scored_rows
from disentangle_ext.runs.config import TrainConfig, read_yaml, resolve
from disentangle_ext.runs.folder import CONFIG, EVALUATION, EXACT_ELBO, RunFolder
from disentangle_ext.runs.load import load

PROGRAM = "python -m disentangle_ext.evaluate"

TERMS = {
    "mutual_information": "mutual information",
    "total_correlation": "total correlation",
    "dimwise_kl": "dimension-wise KL",
    "kl": "sum: KL",
}

Bar = Callable[[str], Callable[[int, int], None]]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    request = _parser().parse_args(argv)
    try:
        return _evaluate(request)
    except (ValueError, TypeError, ImportError) as error:
        print(error, file=sys.stderr)
        return ExitCode.MISTAKE
    except OSError as error:  # no such run, a folder that cannot be written
        print(describe_error("evaluate", error), file=sys.stderr)
        return ExitCode.of(error)
    except KeyboardInterrupt:
        print("evaluate: interrupted", file=sys.stderr)
        return ExitCode.INTERRUPTED


def _evaluate(request: argparse.Namespace) -> int:
    _check_numbers(request)
    for name in request.metrics or ():
        if "," in name:
            raise ValueError(f"evaluate: --metrics takes names with spaces between them, got {name!r}")
        choose("evaluate: --metrics", name, tuple(SUITE))
    if request.run is None:
        return _evaluate_arrays(request)
    for name in ("codes", "factors", "factor_names", "cyclic"):
        if getattr(request, name) is not None:
            raise ValueError(
                f"evaluate: --{name.replace('_', '-')} is for codes without a RUN: give the one or the other"
            )
    run = _open(request.run)
    return (_exact_elbo(request, run) if request.exact_elbo else 0) or (
        _evaluate_run(request, run) if request.metrics is not None or not request.exact_elbo else 0
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description=__doc__,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    slow = ", ".join(name for name, entry in SUITE.items() if entry.slow)
    parser.add_argument("run", metavar="RUN", type=Path, nargs="?", help="the folder of a finished run")
    parser.add_argument("--seed", type=int, default=0, help="decides which images, and all that is drawn (default: 0)")
    group = parser.add_argument_group("scores")
    group.add_argument(
        "--metrics",
        nargs="+",
        metavar="NAME",
        help=f"which: {', '.join(SUITE)} (default: all{f' but {slow}, which take minutes' if slow else ''})",
    )
    group.add_argument("--codes", metavar="FILE.npy", type=Path, help="[N, D], in the place of a RUN")
    group.add_argument("--factors", metavar="FILE.npy", type=Path, help="[N, K], the classes of the factors")
    group.add_argument("--factor-names", nargs="+", metavar="NAME", help="of the K factors")
    group.add_argument(
        "--cyclic",
        nargs="+",
        metavar="NAME",
        help="factors on a circle, whose classes 0 to n - 1 make a turn; metrics of symmetries need all to be. A RUN's "
        "data set knows its own",
    )
    group.add_argument("--points", type=int, default=10_000, help="images of a RUN to score (default: 10000)")
    group.add_argument("--bootstrap", type=int, default=0, help="resamples for intervals of the scores (default: none)")
    group.add_argument(
        "--output",
        metavar="FILE.json",
        type=Path,
        help=f"where to write scores and parts (default: RUN/{EVALUATION}); scores of the same name that the file "
        "holds are replaced, others stay",
    )
    group = parser.add_argument_group("the KL term of the ELBO taken apart")
    group.add_argument(
        "--exact-elbo",
        action="store_true",
        help="mutual information, total correlation and dimension-wise KL under the posteriors of the whole data set, "
        f"beside the minibatch estimates: printed, and written to RUN/{EXACT_ELBO}",
    )
    group.add_argument("--queries", type=int, default=10_000, help="images to draw a sample for (default: 10000)")
    group.add_argument("--batch-size", type=int, help="images in a minibatch (default: that of the run)")
    return parser


class _Run(NamedTuple):
    folder: RunFolder
    model: VAE
    config: TrainConfig
    data: GroundTruthData

    def codes(self, rows: Tensor, bar: Bar) -> Codes:
        return codes_of(self.folder, self.model, self.data, rows, progress=bar("images"))


def _open(path: Path) -> _Run:
    folder = RunFolder(path)
    try:
        model = load(folder.path)
    except (FileNotFoundError, ValueError) as error:
        raise ValueError(str(error).replace("load:", "evaluate: RUN", 1)) from None
    if not folder.is_run:
        raise ValueError(f"evaluate: RUN must be a folder with a {CONFIG}, which names the data set, got {folder.path}")
    where = folder.path / CONFIG
    config = resolve(read_yaml(where, source="evaluate"), source=f"evaluate: {where}")
    return _Run(folder, model, config, load_data(config.data, **config.data_options))


def _evaluate_run(request: argparse.Namespace, run: _Run) -> int:
    output = request.output or run.folder.path / EVALUATION
    kept = _read_scores(output)
    with _bars() as bar:
        codes = run.codes(scored_rows(len(run.data), request.seed, request.points), bar)
        names = run.data.factor_names or None
        factors = codes.factors if names else None
        results, seconds = _score(request, bar, codes.mu, factors, codes.logvar, names, run.data.periods)
    title = f"{run.config.model} on {run.config.data}: {len(codes.rows):,} images, {codes.mu.shape[1]} latents"
    _print_scores(title, results, seconds)
    _write_scores(output, kept, title, results, seconds)
    return _exit_code(request, results)


def _evaluate_arrays(request: argparse.Namespace) -> int:
    if request.codes is None:
        raise ValueError("evaluate: nothing is asked for: give a RUN, or --codes and --factors")
    if request.exact_elbo:
        raise ValueError("evaluate: --exact-elbo needs a RUN; for posteriors of your own call metrics.exact_elbo")
    kept = {} if request.output is None else _read_scores(request.output)
    codes = _read_array("--codes", request.codes)
    factors = None if request.factors is None else _read_array("--factors", request.factors)
    periods = _periods(request, factors)
    with _bars() as bar:
        results, seconds = _score(request, bar, codes, factors, None, request.factor_names, periods)
    title = f"{request.codes.name}: {' x '.join(map(str, codes.shape))}"
    _print_scores(title, results, seconds)
    if request.output is not None:
        _write_scores(request.output, kept, title, results, seconds)
    return _exit_code(request, results)


def _read_array(flag: str, path: Path) -> np.ndarray:
    try:
        array = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise ValueError(f"evaluate: {flag} {path} does not exist") from None
    except (ValueError, EOFError):  # numpy takes what it does not know for a pickle, and advises to allow it
        raise ValueError(
            f"evaluate: {flag} must be an array saved by numpy.save, without objects, got {path}"
        ) from None
    if not isinstance(array, np.ndarray):
        raise ValueError(f"evaluate: {flag} must be an array saved by numpy.save, got an archive: {path}")
    return array


def _check_numbers(request: argparse.Namespace) -> None:
    if request.seed < 0:
        raise ValueError(f"evaluate: --seed must be at least 0, got {request.seed}")
    if request.points < 2:
        raise ValueError(f"evaluate: --points must be at least 2, got {request.points}")
    if request.bootstrap < 0 or request.bootstrap == 1:
        raise ValueError(f"evaluate: --bootstrap must be 0, or 2 at least, got {request.bootstrap}")


def _periods(request: argparse.Namespace, factors: np.ndarray | None) -> dict[str, int]:
    """How many classes make a turn, of the factors of --cyclic."""
    if request.cyclic is None:
        return {}
    if factors is None or factors.ndim != 2 or 0 in factors.shape:
        raise ValueError("evaluate: --cyclic needs --factors, [N, K]")
    names = request.factor_names or [f"factor_{k}" for k in range(factors.shape[1])]
    for name in request.cyclic:
        choose("evaluate: --cyclic", name, names)
    largest = {name: float(column.max()) for name, column in zip(names, factors.T)}
    return {name: int(largest[name]) + 1 for name in request.cyclic}


@contextmanager
def _named_as_flags(function: str, flags: Mapping[str, str]) -> Iterator[None]:
    """Errors that name a function and its argument name this program and its flag."""
    try:
        yield
    except (ValueError, TypeError) as error:
        message = str(error)
        for argument, flag in flags.items():
            message = message.replace(f"{function}: {argument} ", f"evaluate: {flag} ", 1)
        message = message.replace(f"{function}: ", "evaluate: ", 1)
        raise (ValueError if isinstance(error, ValueError) else TypeError)(message) from None


# Where the codes are those of a run, there are no flags for them.
_ARRAYS = {"codes and factors": "--codes and --factors", "codes": "--codes", "factors": "--factors"}
_NAMES = {"factor_names": "--factor-names", "metrics:": "--metrics"}
_QUERIES = {"queries": "--queries", "batch_size": "--batch-size"}


def _score(
    request: argparse.Namespace,
    bar: Bar,
    codes: Any,
    factors: Any,
    logvar: Any,
    names: Sequence[str] | None,
    periods: Mapping[str, int],
) -> tuple[dict[str, Result], dict[str, float]]:
    """Results, and the seconds that each took."""
    update = bar("metrics")
    times: list[float] = []

    def show(name: str, done: int, total: int) -> None:
        times.append(time.perf_counter())
        update(done, total)

    with _named_as_flags("score_all", _NAMES if request.codes is None else {**_ARRAYS, **_NAMES}):
        results = score_all(
            codes,
            factors,
            logvar=logvar,
            metrics=request.metrics,
            factor_names=names,
            periods=periods,
            seed=request.seed,
            bootstrap=request.bootstrap,
            progress=show,
        )
    return results, {name: end - start for name, start, end in zip(results, times, times[1:])}


def _exit_code(request: argparse.Namespace, results: Mapping[str, Result]) -> ExitCode:
    # Of all metrics some do not fit every data set; one that was named was wanted.
    failed = request.metrics is not None and any(isinstance(result, Failure) for result in results.values())
    return ExitCode.INCOMPLETE if failed else ExitCode.FINISHED


def _read_scores(path: Path) -> dict[str, Any]:
    """The scores that a file holds: none if it is not there."""
    if not path.parent.is_dir():  # said before the scores take their minutes
        raise ValueError(f"evaluate: --output must be in a folder that exists, got {path}")
    try:
        scores = json.loads(path.read_bytes())["metrics"]
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError):
        scores = None
    if not isinstance(scores, dict):
        raise ValueError(f"evaluate: --output must be a new file, or one that evaluate has written, got {path}")
    return scores


def _write_scores(
    path: Path,
    kept: Mapping[str, Any],
    title: str,
    results: Mapping[str, Result],
    seconds: Mapping[str, float],
) -> None:
    """Writes the results and, of the scores ``kept`` from before, those of other names."""
    content = {
        name: {"of": title, **result.as_dict(), "seconds": round(seconds[name], 3)} for name, result in results.items()
    }
    write_atomically(path, (json.dumps({"metrics": {**kept, **content}}, indent=2) + "\n").encode())
    print(f"Written: {path}")


def _print_scores(title: str, results: Mapping[str, Result], seconds: Mapping[str, float]) -> None:
    rich = require("rich.table", extra="train", what="disentangle_ext.evaluate")
    box = require("rich.box", extra="train", what="disentangle_ext.evaluate").SIMPLE_HEAD
    table = rich.Table(box=box)
    table.add_column("metric")
    table.add_column("score", justify="right")
    intervals = any(not isinstance(result, Failure) and result.interval for result in results.values())
    if intervals:
        table.add_column("95 %", justify="right")
    table.add_column("s", justify="right")
    table.add_column("")
    for name, result in results.items():
        if isinstance(result, Failure):
            cells = [name, "none", *([""] if intervals else []), f"{seconds[name]:.1f}", result.reason]
        else:
            low_high = f"{result.interval.low:.3f} to {result.interval.high:.3f}" if result.interval else ""
            cells = [name, f"{result.score:.3f}", *([low_high] if intervals else []), f"{seconds[name]:.1f}", ""]
        table.add_row(*(_plain(cell) for cell in cells))
    print(title)
    _console().print(table)


def _plain(text: str) -> Any:
    """Text in which brackets are brackets, not markup."""
    return require("rich.text", extra="train", what="disentangle_ext.evaluate").Text(text)


def _console() -> Any:
    return require("rich.console", extra="train", what="disentangle_ext.evaluate").Console()


def _exact_elbo(request: argparse.Namespace, run: _Run) -> int:
    begun = time.perf_counter()
    with _bars() as bar:
        codes = run.codes(torch.arange(len(run.data)), bar)
        encoded = time.perf_counter()
        with _named_as_flags("exact_elbo", _QUERIES):
            result = exact_elbo(
                codes.mu,
                codes.logvar,
                queries=request.queries,
                batch_size=run.config.batch_size if request.batch_size is None else request.batch_size,
                seed=request.seed,
                progress=bar("queries"),
            )
    _print_terms(result, run.config, encoded - begun, time.perf_counter() - encoded)
    run.folder.write_json(EXACT_ELBO, result.as_dict())
    print(f"Written: {run.folder.path / EXACT_ELBO}")
    return 0


@contextmanager
def _bars() -> Iterator[Bar]:
    """Bars on a terminal, beside what is printed; nothing elsewhere."""
    rich = require("rich.progress", extra="train", what="disentangle_ext.evaluate")
    console = require("rich.console", extra="train", what="disentangle_ext.evaluate").Console(stderr=True)
    columns = (rich.TextColumn("{task.description}"), rich.BarColumn(), rich.MofNCompleteColumn())
    with rich.Progress(*columns, rich.TimeRemainingColumn(), console=console, disable=not console.is_terminal) as bars:

        def bar(description: str) -> Callable[[int, int], None]:
            task: Any = bars.add_task(description, total=None)
            return lambda done, total: bars.update(task, completed=done, total=total)

        yield bar


def _print_terms(result: ExactElboResult, config: TrainConfig, encoding: float, computing: float) -> None:
    settings = result.settings
    rich = require("rich.table", extra="train", what="disentangle_ext.evaluate")
    box = require("rich.box", extra="train", what="disentangle_ext.evaluate").SIMPLE_HEAD
    title = f"{config.model} on {config.data}: {settings['num_points']:,} images, {settings['latent_dim']} latents"
    table = rich.Table(title=title, title_style="", title_justify="left", box=box)
    table.add_column("nats")
    for name in ("exact", "s.e.", *(name for each in result.estimates for name in (each, "s.d."))):
        table.add_column(name, justify="right")
    for name, label in TERMS.items():
        exact = result.exact[name]
        estimates = [number for terms in result.estimates.values() for number in (terms[name].mean, terms[name].sd)]
        table.add_row(label, *(f"{number:.3f}" for number in (exact.mean, exact.standard_error, *estimates)))
    _console().print(table)
    print(
        f"exact: {settings['queries']:,} queries against all images, with the standard error of their mean; "
        f"{computing:.1f} s after {encoding:.1f} s of encoding\n"
        f"{', '.join(result.estimates)}: mean of {settings['batches']} minibatches of {settings['batch_size']}, "
        "with the standard deviation of one"
    )


if __name__ == "__main__":
    sys.exit(main())
