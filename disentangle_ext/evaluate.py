"""Evaluate a trained model: ``python -m disentangle_ext.evaluate runs/a --exact-elbo``.

Exit codes: 0 finished, 2 a mistake in the call, 130 interrupted.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from disentangle_ext._extras import require
from disentangle_ext.data import load_data
from disentangle_ext.load import load
from disentangle_ext.metrics import ExactElboResult, exact_elbo
from disentangle_ext.training.config import TrainConfig, read_yaml, resolve
from disentangle_ext.training.finish import encode_rows
from disentangle_ext.training.run_folder import CONFIG, EXACT_ELBO, RunFolder

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
        if not request.exact_elbo:
            raise ValueError("evaluate: nothing is asked for: give --exact-elbo")
        _exact_elbo(request)
    except (ValueError, ImportError) as error:
        print(error, file=sys.stderr)
        return 2
    except OSError as error:  # no such run, a folder that cannot be written
        print(error if error.errno is None else f"evaluate: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("evaluate: interrupted", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=PROGRAM, description="Evaluate a trained model.", allow_abbrev=False)
    parser.add_argument("run", metavar="RUN", type=Path, help="the folder of a finished run of disentangle_ext.train")
    group = parser.add_argument_group("the KL term of the ELBO taken apart")
    group.add_argument(
        "--exact-elbo",
        action="store_true",
        help="mutual information, total correlation and dimension-wise KL under the posteriors of the whole data set, "
        f"beside the minibatch estimates: printed, and written to RUN/{EXACT_ELBO}",
    )
    group.add_argument("--queries", type=int, default=10_000, help="images to draw a sample for (default: 10000)")
    group.add_argument("--batch-size", type=int, help="images in a minibatch (default: that of the run)")
    group.add_argument("--seed", type=int, default=0, help="decides which images, and the noise (default: 0)")
    return parser


def _exact_elbo(request: argparse.Namespace) -> None:
    folder = RunFolder(request.run)
    model = load(folder.path)
    if not folder.is_run:
        raise ValueError(f"evaluate: RUN must be a folder with a {CONFIG}, which names the data set, got {folder.path}")
    where = folder.path / CONFIG
    config = resolve(read_yaml(where, source="evaluate"), source=f"evaluate: {where}")
    data = load_data(config.data, **config.data_options)
    begun = time.perf_counter()
    with _bars() as bar:
        mu, logvar = encode_rows(model, data, torch.arange(len(data)), progress=bar("images"))
        encoded = time.perf_counter()
        result = exact_elbo(
            mu,
            logvar,
            queries=request.queries,
            batch_size=config.batch_size if request.batch_size is None else request.batch_size,
            seed=request.seed,
            progress=bar("queries"),
        )
    _print_table(result, config, encoded - begun, time.perf_counter() - encoded)
    folder.write_json(EXACT_ELBO, result.as_dict())
    print(f"Written: {folder.path / EXACT_ELBO}")


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


def _print_table(result: ExactElboResult, config: TrainConfig, encoding: float, computing: float) -> None:
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
    require("rich.console", extra="train", what="disentangle_ext.evaluate").Console().print(table)
    print(
        f"exact: {settings['queries']:,} queries against all images, with the standard error of their mean; "
        f"{computing:.1f} s after {encoding:.1f} s of encoding\n"
        f"{', '.join(result.estimates)}: mean of {settings['batches']} minibatches of {settings['batch_size']}, "
        "with the standard deviation of one"
    )


if __name__ == "__main__":
    sys.exit(main())
